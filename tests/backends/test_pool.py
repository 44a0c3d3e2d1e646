"""Worker threads: every morsel once, errors and interrupts reach the caller, forks begin anew."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

from zeptodb.backends.cpu.pool import WorkerPool


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("zeptodb-cpu")}


def claim_all(done: list[int], lock: threading.Lock):
    def work(counter: np.ndarray, budget: int) -> None:
        while budget > 0:
            with lock:
                morsel = int(counter[0])
                counter[0] += 1
            if morsel >= 100:
                return
            done.append(morsel)
            budget -= 1

    return work


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_morsel_is_done_once(threads: int) -> None:
    pool = WorkerPool(threads, row_threshold=0)
    for _ in range(20):
        done: list[int] = []
        pool.run(claim_all(done, threading.Lock()), 100, rows=10**9)
        assert sorted(done) == list(range(100))
    pool.close()


def test_small_work_starts_no_thread() -> None:
    pool = WorkerPool(4)
    done: list[int] = []
    before = threading.active_count()
    pool.run(claim_all(done, threading.Lock()), 100, rows=10)
    assert threading.active_count() == before
    assert len(done) == 100


def test_closed_pool_still_works_in_the_caller() -> None:
    before = workers()
    pool = WorkerPool(3, row_threshold=0)
    pool.close()
    done: list[int] = []
    pool.run(claim_all(done, threading.Lock()), 100, rows=10**9)
    assert sorted(done) == list(range(100))
    assert workers() <= before


def test_error_of_a_helper_is_raised_in_the_caller() -> None:
    pool = WorkerPool(2, row_threshold=0)
    caller = threading.get_ident()
    failed = threading.Event()

    def work(counter: np.ndarray, budget: int) -> None:
        if threading.get_ident() != caller:
            failed.set()
            raise MemoryError("no scratch")
        assert failed.wait(30)
        counter[0] += 1

    with pytest.raises(MemoryError, match="no scratch"):
        pool.run(work, 10**6, rows=10**9)
    pool.close()


def test_interrupt_stops_handing_out_and_is_raised_again() -> None:
    pool = WorkerPool(2, row_threshold=0)
    calls = 0

    def work(counter: np.ndarray, budget: int) -> None:
        nonlocal calls
        if threading.current_thread() is threading.main_thread():
            calls += 1
            counter[0] += 1
            if calls == 3:
                signal.raise_signal(signal.SIGINT)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.run(work, 10**6, rows=10**9)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert calls == 3
    done: list[int] = []
    pool.run(claim_all(done, threading.Lock()), 100, rows=10**9)
    assert sorted(done) == list(range(100))
    pool.close()


def test_forked_child_starts_its_own_threads() -> None:
    pool = WorkerPool(2, row_threshold=0)
    pool.run(claim_all([], threading.Lock()), 100, rows=10**9)
    child = os.fork()
    if child == 0:
        done: list[int] = []
        pool.run(claim_all(done, threading.Lock()), 100, rows=10**9)
        os._exit(0 if sorted(done) == list(range(100)) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    pool.close()


def test_configure_changes_the_number_of_threads() -> None:
    before = workers()
    pool = WorkerPool(1, row_threshold=0)
    pool.configure(3)
    pool.run(claim_all([], threading.Lock()), 100, rows=10**9)
    assert len(workers() - before) == 2
    pool.configure(None)
    assert pool.threads >= 1
    pool.close()
