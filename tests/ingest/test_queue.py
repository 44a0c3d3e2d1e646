"""Single ticks: stored exactly once, in order, whoever drains."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from tests.ingest.fake_table import FakeCatalog, FakeTable, make
from zeptodb.errors import (
    InvalidInputError,
    InvalidTypeError,
    PipelineStoppedError,
    UnknownTableError,
)
from zeptodb.ingest.queue import TickQueue
from zeptodb.storage.batch import ColumnBatch
from zeptodb.types import ColumnType

WAIT_S = 30


def test_ticks_are_stored_when_drained_and_not_before() -> None:
    queue, table = make()
    queue.put(1, 15000, 100)
    queue.put(symbol=1, price=15010, volume=50, timestamp=7)
    assert table.rows == []
    queue.drain()
    assert table.rows == [(1, 15000, 100, "now"), (1, 15010, 50, 7)]
    assert (queue.ticks_ingested, queue.ticks_stored, queue.ticks_dropped) == (2, 2, 0)
    assert queue.last_ingest_latency_ns > 0
    queue.drain()
    assert len(table.rows) == 2


def test_batches_of_the_thread_are_bounded_by_the_configuration_those_of_callers_are_larger() -> None:
    queue, table = make(batch_size=4)
    for i in range(10):
        queue.put(1, i, i)
    stored = threading.Event()
    table.before_append = lambda: stored.set() if len(table.rows) == 8 else None
    queue.start()
    queue.put(1, 10, 10)
    assert stored.wait(WAIT_S)
    queue.stop()
    assert table.batch_sizes[:2] == [4, 4]
    other, table = make(batch_size=4)
    for i in range(5_000):
        other.put(1, i, i)
    other.catch_up()
    assert table.batch_sizes == [4_096, 904]


def test_the_background_thread_stores_without_being_asked() -> None:
    queue, table = make()
    stored = threading.Event()
    table.before_append = stored.set
    queue.start()
    queue.start()
    assert queue.is_running
    for _ in range(3):
        queue.put(1, 1, 1)
        assert stored.wait(WAIT_S)
        queue.catch_up()
        stored.clear()
    queue.stop()
    assert not queue.is_running
    assert len(table.rows) == 3


def test_stop_stores_everything_and_refuses_more_until_start() -> None:
    queue, table = make()
    queue.put(1, 1, 1)
    queue.stop()
    assert len(table.rows) == 1
    with pytest.raises(PipelineStoppedError, match=r"call start\(\)"):
        queue.put(1, 1, 1)
    queue.stop()
    queue.start()
    queue.put(1, 2, 2)
    queue.stop()
    assert len(table.rows) == 2


def test_a_full_queue_makes_the_caller_drain_also_before_start() -> None:
    queue, table = make(capacity=8, batch_size=4)
    for i in range(100):
        queue.put(1, i, i)
    assert len(table.rows) >= 100 - 8
    queue.drain()
    assert [row[1] for row in table.rows] == list(range(100))
    assert queue.ticks_dropped == 0


def test_overflow_drop_drops_the_newest_and_counts() -> None:
    queue, table = make(capacity=8, overflow="drop")
    for i in range(10):
        queue.put(1, i, i)
    queue.drain()
    assert [row[1] for row in table.rows] == list(range(8))
    assert (queue.ticks_ingested, queue.ticks_stored, queue.ticks_dropped) == (8, 8, 2)


def test_tables_are_found_by_any_spelling_and_unknown_ones_refused() -> None:
    queue, table = make()
    queue.put(1, 1, 1, table="Trades")
    with pytest.raises(InvalidTypeError):
        queue.put("a", 1, 1, table="TRADES")
    with pytest.raises(UnknownTableError):
        queue.put(1, 1, 1, table="nope")
    queue.drain()
    assert len(table.rows) == 1


def test_a_table_that_was_dropped_and_made_anew_gets_the_ticks() -> None:
    catalog = FakeCatalog(FakeTable())
    queue = TickQueue(catalog)
    queue.put(1, 1, 1)
    queue.drain()
    catalog.tables["trades"] = FakeTable()
    catalog.version += 1
    queue.put("a", 2, 2)
    queue.drain()
    assert catalog.tables["trades"].rows == [("a", 2, 2, "now")]


def test_ticks_of_several_tables_with_and_without_timestamps_mix() -> None:
    one, two = FakeTable(name="one"), FakeTable(name="two")
    queue = TickQueue(FakeCatalog(one, two))
    for i in range(20):
        queue.put(1, i, i, i if i % 3 else None, table=("one", "two")[i % 2])
    queue.drain()
    assert sorted(row[1] for row in one.rows) == list(range(0, 20, 2))
    assert sorted(row[1] for row in two.rows) == list(range(1, 20, 2))
    for table in (one, two):
        stamped = [row[1] for row in table.rows if row[3] != "now"]
        assert stamped == sorted(stamped)
        assert all(row[3] == ("now" if row[1] % 3 == 0 else row[1]) for row in table.rows)


def test_a_tick_that_no_longer_fits_costs_no_other_and_is_reported_once() -> None:
    queue, table = make()
    queue.put(1, 1, 1)
    table.schema = table.settled(ColumnType.STRING)  # a batch of strings was faster
    with pytest.raises(InvalidTypeError, match="Ticks were accepted but did not fit their table, and were dropped"):
        queue.drain()
    queue.drain()
    assert (queue.ticks_ingested, queue.ticks_stored, queue.ticks_dropped) == (1, 0, 1)
    queue.put("a", 2, 2)
    queue.drain()
    assert table.rows == [("a", 2, 2, "now")]


def test_good_ticks_of_a_bad_batch_are_stored() -> None:
    queue, table = make()
    plain_append = table.append

    def picky(batch: ColumnBatch) -> int:
        prices = batch.columns[1]
        assert isinstance(prices, np.ndarray)
        if 13 in prices:
            raise InvalidInputError("thirteen")
        return plain_append(batch)

    table.append = picky  # type: ignore[method-assign]
    for i in range(20):
        queue.put(1, i, i)
    with pytest.raises(InvalidInputError, match="thirteen"):
        queue.catch_up()
    assert [row[1] for row in table.rows] == [i for i in range(20) if i != 13]
    assert (queue.ticks_stored, queue.ticks_dropped) == (19, 1)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_ticks_survive_an_error_that_is_not_theirs(error: type[BaseException]) -> None:
    queue, table = make(batch_size=4)
    for i in range(10):
        queue.put(1, i, i, table="trades")

    def fail() -> None:
        raise error

    table.before_append = fail
    with pytest.raises(error):
        queue.catch_up()
    table.before_append = lambda: None
    queue.catch_up()
    assert [row[1] for row in table.rows] == list(range(10))


def test_the_thread_survives_an_error_and_the_next_reader_gets_everything(caplog: pytest.LogCaptureFixture) -> None:
    queue, table = make()
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise MemoryError

    table.before_append = fail
    queue.start()
    queue.put(1, 1, 1)
    assert failed.wait(WAIT_S)
    with pytest.raises(MemoryError):
        queue.catch_up()
    table.before_append = lambda: None
    queue.catch_up()
    queue.put(1, 2, 2)
    queue.stop()
    assert [row[1] for row in table.rows] == [1, 2]
    assert "could not store waiting ticks" in caplog.text


@pytest.mark.parametrize("runs", [False, True])
def test_every_tick_of_many_producers_is_stored_once_and_in_its_order(runs: bool) -> None:
    queue, table = make(capacity=512, batch_size=64)
    if runs:
        queue.start()
    ticks_each = 3_000

    def produce(producer: int) -> None:
        for i in range(ticks_each):
            queue.put(producer, i, 0)
            if i % 500 == 0:
                queue.catch_up()

    threads = [threading.Thread(target=produce, args=(p,)) for p in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.stop()
    assert len(table.rows) == 4 * ticks_each
    for producer in range(4):
        assert [row[1] for row in table.rows if row[0] == producer] == list(range(ticks_each))
    assert (queue.ticks_ingested, queue.ticks_stored) == (4 * ticks_each, 4 * ticks_each)


def test_catch_up_waits_for_a_batch_that_another_thread_is_storing() -> None:
    queue, table = make()
    inside, go_on = threading.Event(), threading.Event()

    def block() -> None:
        inside.set()
        assert go_on.wait(WAIT_S)

    table.before_append = block
    queue.start()
    queue.put(1, 1, 1)
    assert inside.wait(WAIT_S)
    seen: list[int] = []
    reader = threading.Thread(target=lambda: (queue.catch_up(), seen.append(len(table.rows))))
    reader.start()
    assert seen == []
    go_on.set()
    reader.join(WAIT_S)
    assert seen == [1]
    queue.stop()


def test_catch_up_does_not_chase_ticks_that_come_later() -> None:
    queue, table = make()
    queue._caller_batch_size = 4

    def another_writer() -> None:
        queue._ticks.extend((queue._targets["trades"], 1, 99, 99, None) * 4)  # as fast as it is drained

    for i in range(10):
        queue.put(1, i, i)
    table.before_append = another_writer
    queue.catch_up()
    assert [row[1] for row in table.rows] == list(range(10))
    assert queue.ticks_ingested == 10 + 12


def test_a_queue_that_nobody_uses_ends_its_thread() -> None:
    queue, _ = make()
    queue.start()
    thread = queue._thread
    assert thread is not None
    reference = weakref.ref(queue)
    del queue
    gc.collect()
    thread.join(WAIT_S)
    assert reference() is None
    assert not thread.is_alive()


def _in_child(queue: TickQueue, table: FakeTable, answers: Any) -> None:
    was_running = queue.is_running
    queue.put(1, 2, 2)
    queue.catch_up()
    before_start = len(table.rows)
    queue.start()
    queue.put(1, 3, 3)
    queue.stop()
    answers.put((was_running, before_start, [row[1] for row in table.rows]))


def test_a_forked_child_has_a_working_queue_without_the_thread() -> None:
    queue, table = make()
    queue.start()
    queue.put(1, 1, 1)
    queue.catch_up()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(queue, table, answers))
    child.start()
    assert answers.get() == (False, 2, [1, 2, 3])
    child.join(WAIT_S)
    assert child.exitcode == 0
    queue.put(1, 4, 4)
    queue.stop()
    assert [row[1] for row in table.rows] == [1, 4]


def test_stats_are_one_object() -> None:
    queue, _ = make()
    queue.put(1, 1, 1)
    queue.drain()
    stats = queue.stats()
    assert (stats.ticks_ingested, stats.ticks_stored, stats.ticks_dropped) == (1, 1, 0)
    assert stats.last_ingest_latency_ns == queue.last_ingest_latency_ns
