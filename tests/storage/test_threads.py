"""Writers and readers at once: nothing is lost, snapshots are whole batches, a fork finds everything unlocked."""

from __future__ import annotations

import os
import threading

import numpy as np

from tests.storage.build import make_table, read_column, trades_batch


def test_snapshots_see_whole_batches_while_eight_threads_write_and_two_read():
    table = make_table(arena_size=1 << 20)
    writers, batches, size = 8, 60, 40
    is_done = threading.Event()
    problems: list[str] = []

    def write(thread: int) -> None:
        rng = np.random.default_rng(thread)
        for i in range(batches):
            # Every row of a batch carries the batch's number as its price, spread over all symbols; some come late.
            times = np.sort(rng.integers(0, 50, size)) + i * 10
            number = np.full(size, thread * batches + i)
            table.append(trades_batch(np.arange(size) % 5, number, np.ones(size), times))

    def read() -> None:
        while not is_done.is_set():
            with table.snapshot() as snapshot:
                segments = range(len(snapshot.symbols))
                prices = np.concatenate([read_column(snapshot, s, 1) for s in segments]) if segments else []
                counts = np.unique(prices, return_counts=True)[1]
                if (counts != size).any():
                    problems.append(f"half a batch: {counts}")
                if any((np.diff(read_column(snapshot, s, 3)) < 0).any() for s in segments):
                    problems.append("out of order")

    threads = [threading.Thread(target=write, args=(t,)) for t in range(writers)]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers + threads:
        thread.start()
    for thread in threads:
        thread.join()
    is_done.set()
    for thread in readers:
        thread.join()
    assert not problems
    assert table.row_count == writers * batches * size


def test_a_fork_in_the_middle_of_writing_leaves_a_child_that_can_read_and_write():
    table = make_table()
    is_done = threading.Event()

    def write() -> None:
        while not is_done.is_set():
            table.append(trades_batch([1, 2], [1, 1], [1, 1], [1, 2]))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                with table.snapshot() as snapshot:
                    is_whole = int(snapshot.lengths[0]) == int(snapshot.lengths[-1])
                table.append(trades_batch([3], [1], [1], [1]))
                os._exit(0 if is_whole and table.find_segment(3) is not None else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        is_done.set()
        thread.join()
