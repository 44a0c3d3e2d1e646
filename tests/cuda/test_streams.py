"""Copies beside queries: who waits for what, on the device and on the host, and what happens when copies fail."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.cuda.conftest import emulated
from tests.emulator.driver import EmuDriver, EmulatedMemory
from tests.emulator.streams import EmulatedEvent
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.backends.cuda import image, staging
from zeptodb.backends.cuda.batch import allocate, read_words, wait
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, DeviceError, OutOfDeviceMemoryError, Stream, address_of
from zeptodb.backends.cuda.memory import PinnedMemory
from zeptodb.backends.cuda.staging import SLOTS, StagingRing
from zeptodb.config import PipelineConfig
from zeptodb.pipeline import Pipeline
from zeptodb.storage.history import History
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import TRADES

Make = Callable[..., Pipeline]
ARENA = 64 * 1024
ROWS, SYMBOLS = 900, 3
PRICE, VOLUME = 1, 2
PATIENCE = 20
"""Seconds after which nobody comes any more."""
OF_PRICE = "SELECT sum(price) AS s, max(price) AS m FROM trades WHERE price >= 0"
OF_VOLUME = "SELECT sum(volume) AS s, max(volume) AS m FROM trades WHERE volume >= 0"


class Watched(EmuDriver):
    """Notes what is asked for, in order; holds back whoever waits for uploads until `gate` is set; fails copies."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.log: list[tuple[str, Stream]] = []
        self.gate, self.reached = threading.Event(), threading.Event()
        self.gate.set()
        self.fails = False
        self.refuses = False

    def to_device(self, target: int, source: int, size_bytes: int, *, stream: Stream = Stream.QUERIES) -> None:
        self.log.append(("to device", stream))
        super().to_device(target, source, size_bytes, stream=stream)
        if self.fails and stream is Stream.COPIES:
            self.streams.ask(stream, self._fail)

    def _fail(self) -> None:
        raise DeviceError("emulated GPU 0: a copy failed")

    def launch(
        self,
        kernel: str,
        threads: int,
        arguments: Sequence[DeviceArray | int | float | None],
        *,
        stream: Stream = Stream.QUERIES,
    ) -> None:
        self.log.append((kernel, stream))
        super().launch(kernel, threads, arguments, stream=stream)

    def allocate(self, size_bytes: int) -> EmulatedMemory:
        if self.refuses and self.used_bytes >= ARENA:  # the mirror is there
            raise OutOfDeviceMemoryError("no room")
        return super().allocate(size_bytes)

    def follow(self, stream: Stream, event: EmulatedEvent) -> None:
        self.log.append(("follow", stream))
        super().follow(stream, event)

    def wait(self, event: EmulatedEvent) -> None:
        self.log.append(("wait", event.stream))
        if threading.current_thread().name == "zeptodb-upload":
            self.reached.set()
            assert self.gate.wait(PATIENCE)
        super().wait(event)


@pytest.fixture
def driver(make_pipeline: Make) -> Iterator[Watched]:  # the gate is opened before Pipelines are stopped
    emulated()  # or skipped, where there is no compiler
    made = Watched(is_strict=True)
    yield made
    made.gate.set()


@pytest.fixture
def pipeline(driver: Watched, make_pipeline: Make) -> Pipeline:
    return filled(make_pipeline(driver, config=PipelineConfig(arena_size=ARENA)))


def filled(pipeline: Pipeline) -> Pipeline:
    places = np.arange(ROWS, dtype=np.int64)
    pipeline.ingest_batch(places % SYMBOLS, places * 7, places % 11, places)
    return pipeline


def answer(pipeline: Pipeline, sql: str) -> list[int]:
    result = pipeline.execute(sql)
    assert result.ok(), result.error
    return list(result.rows[0])


def expected(sql: str) -> list[int]:
    values = np.arange(ROWS) * 7 if sql == OF_PRICE else np.arange(ROWS) % 11
    return [int(values.sum()), int(values.max())]


def begin_upload(pipeline: Pipeline, driver: Watched, column: int = VOLUME) -> None:
    """A column is on its way in the background, and stays so until the gate is opened."""
    driver.gate.clear()
    with pipeline.catalog.get("trades").snapshot() as snapshot:
        pipeline.backend.uploads.ask(snapshot, frozenset({column}))
    assert driver.reached.wait(PATIENCE)


def beside(work: Callable[[], Any]) -> Any:
    """What work gives in another thread; a wait that nothing ends is an error."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result(PATIENCE)


# ---- queries and what they bring up --------------------------------------------------------------------------------


def test_a_query_asks_for_all_columns_before_it_waits_for_anything(driver: Watched, pipeline: Pipeline) -> None:
    driver.log.clear()
    sql = "SELECT symbol, sum(price), max(volume) FROM trades WHERE volume >= 0 GROUP BY symbol"
    assert pipeline.execute(sql).ok()
    first_wait = next(place for place, (name, _) in enumerate(driver.log) if name == "wait")
    before = driver.log[:first_wait]
    assert before.count(("to device", Stream.COPIES)) == 2 * SYMBOLS
    assert ("aggregate_tiles", Stream.QUERIES) in before
    first_launch = min(place for place, (name, _) in enumerate(before) if name.startswith("aggregate"))
    assert before[:first_launch].count(("follow", Stream.QUERIES)) == 2


def test_bars_are_found_while_other_columns_come_up(driver: Watched, pipeline: Pipeline) -> None:
    driver.log.clear()
    sql = "SELECT xbar(timestamp, 100) AS t, sum(price), sum(volume) FROM trades WHERE symbol = 1 GROUP BY t"
    assert pipeline.execute(sql).ok()
    search = driver.log.index(("find_bars", Stream.QUERIES))
    before = driver.log[:search]
    assert before.count(("to device", Stream.COPIES)) == 3 * SYMBOLS
    assert before.count(("follow", Stream.QUERIES)) == 1
    assert driver.log.count(("follow", Stream.QUERIES)) == 3


def test_a_query_over_what_is_there_waits_for_its_result_only(driver: Watched, pipeline: Pipeline) -> None:
    answer(pipeline, OF_PRICE)
    driver.log.clear()
    assert answer(pipeline, OF_PRICE) == expected(OF_PRICE)
    assert [entry for entry in driver.log if entry[0] in ("wait", "follow")] == [("wait", Stream.QUERIES)]


def test_a_query_that_ends_early_waits_for_what_it_has_asked_for(driver: Watched, pipeline: Pipeline) -> None:
    driver.refuses = True
    assert answer(pipeline, OF_VOLUME) == expected(OF_VOLUME)
    assert sum(pipeline.backend.host_runs.values()) == 1
    # Late rows move the rows that were to be copied; a copy that came after that would be an error.
    pipeline.ingest_batch([0, 1, 2], [5, 5, 5], [1, 1, 1], [3, 4, 5])
    driver.refuses = False
    assert answer(pipeline, OF_VOLUME) == [expected(OF_VOLUME)[0] + 3, 10]


def test_a_new_mirror_is_written_when_queries_are_done_with_its_memory(driver: Watched, make_pipeline: Make) -> None:
    pipeline = make_pipeline(driver, config=PipelineConfig(arena_size=ARENA), device_memory_limit=ARENA)
    filled(pipeline)
    sql = "CREATE TABLE quotes (symbol INT64, bid INT64, timestamp TIMESTAMP_NS)"
    assert pipeline.execute(sql).ok()
    places = np.arange(6_000, dtype=np.int64)
    pipeline.append("quotes", {"symbol": places % 3, "bid": places, "timestamp": places})
    backend = pipeline.backend
    with pipeline.catalog.get("trades").snapshot() as trades, pipeline.catalog.get("quotes").snapshot() as quotes:
        with backend.image.query():
            prices = backend.image.array(trades, PRICE, 1)
        count, address = len(prices), prices.address
        order, found = allocate(driver, count), allocate(driver, count)
        driver.to_device(order.address, address_of(IN_ORDER), 8 * count)
        driver.launch("gather_words", count, (prices, order, count, found))
        del prices  # the mirror is the image's alone again, and what reads it has not run
        with backend.image.query():
            assert backend.image.bring(quotes, 1, segment=0) is not None
            assert backend.image.stats.evictions == 1
    memory = next(iter(backend.image._mirrors.values())).memory
    assert memory.address <= address < memory.address + memory.size_bytes  # the case that is tested
    assert read_words(driver, found).tolist() == [7 * place for place in range(ROWS) if place % 3 == 1]


IN_ORDER = np.arange(ROWS, dtype=np.int64)


def test_a_new_mirror_is_written_when_queries_are_done_with_what_they_let_go(
    driver: Watched, pipeline: Pipeline
) -> None:
    scratch, result = driver.allocate(2 * ARENA), allocate(driver, 1)
    driver.clear(scratch.address, 8)
    driver.on_device(result.address, scratch.address, 8)
    del scratch
    with pipeline.catalog.get("trades").snapshot() as snapshot, pipeline.backend.image.query():
        assert pipeline.backend.image.bring(snapshot, PRICE) is not None
    assert read_words(driver, result).tolist() == [0]


def test_rows_of_other_memory_are_copied_before_the_snapshot_may_close(driver: Watched, pipeline: Pipeline) -> None:
    values = IN_ORDER.copy()
    nothing = np.zeros((4, 1), dtype=np.int64)
    addresses = nothing.copy()
    addresses[PRICE] = address_of(values)
    snapshot = Snapshot(
        "elsewhere", TRADES, np.zeros(1, np.int64), np.array([ROWS]), addresses, nothing, (None,) * 4, 1, History()
    )  # fmt: skip
    columns = DeviceColumns(driver, pipeline.backend.image, snapshot)
    columns.require(snapshot, (PRICE,))
    values[:] = -1
    address = int(columns.addresses_of(PRICE)[0][0])
    there = DeviceArray(columns._kept[0], address, ROWS, np.dtype(np.int64))
    assert read_words(driver, there).tolist() == IN_ORDER.tolist()


# ---- in the background ---------------------------------------------------------------------------------------------


def test_queries_over_other_columns_run_while_one_comes_up(driver: Watched, pipeline: Pipeline) -> None:
    answer(pipeline, OF_PRICE)
    begin_upload(pipeline, driver)
    driver.log.clear()
    assert beside(lambda: answer(pipeline, OF_PRICE)) == expected(OF_PRICE)
    assert ("follow", Stream.QUERIES) not in driver.log
    assert not driver.streams.are_idle  # the copy has not even run
    assert pipeline.backend.device_runs == 2
    driver.gate.set()
    pipeline.backend.uploads.wait()
    assert pipeline.backend.uploads.columns == 1


def test_a_query_over_rows_on_their_way_comes_after_them_on_the_device(driver: Watched, pipeline: Pipeline) -> None:
    begin_upload(pipeline, driver)
    driver.log.clear()
    assert beside(lambda: answer(pipeline, OF_VOLUME)) == expected(OF_VOLUME)
    assert driver.log.count(("follow", Stream.QUERIES)) == 1
    assert ("to device", Stream.COPIES) not in driver.log  # they are not brought up twice
    assert not pipeline.backend.uploads.columns
    driver.gate.set()
    pipeline.backend.uploads.wait()


def test_an_array_for_others_is_there_when_it_is_handed_out(driver: Watched, pipeline: Pipeline) -> None:
    begin_upload(pipeline, driver)
    found = beside(lambda: pipeline.get_column(1, "volume", device=True))
    assert found.get().tolist() == pipeline.get_column(1, "volume").tolist()


def test_copies_for_others_are_there_when_they_are_handed_out(pipeline: Pipeline) -> None:
    (found,) = pipeline.backend.accelerator.copies((IN_ORDER,))
    assert found.get().tolist() == IN_ORDER.tolist()


def test_a_column_comes_up_in_pieces(driver: Watched, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "PIECE_BYTES", 1000)
    with pipeline.catalog.get("trades").snapshot() as snapshot:
        pipeline.backend.uploads.ask(snapshot, frozenset({PRICE}))
    pipeline.backend.uploads.wait()
    assert not pipeline.backend.uploads.failures
    assert driver.log.count(("to device", Stream.COPIES)) >= 8
    assert pipeline.backend.image.stats.uploaded_bytes == 8 * ROWS
    driver.log.clear()
    assert answer(pipeline, OF_PRICE) == expected(OF_PRICE)
    assert ("to device", Stream.COPIES) not in driver.log


def test_rows_stay_as_they_are_until_they_have_been_copied(driver: Watched, pipeline: Pipeline) -> None:
    begin_upload(pipeline, driver)
    for late in range(3):
        beside(lambda late=late: pipeline.ingest_batch([0, 1, 2], [5, 5, 5], [1, 1, 1], [late] * 3))
    driver.gate.set()
    pipeline.backend.uploads.wait()
    pipeline.ingest_batch([0, 1, 2], [5, 5, 5], [1, 1, 1], [9] * 3)
    driver.synchronize()
    assert answer(pipeline, OF_VOLUME) == [expected(OF_VOLUME)[0] + 12, 10]


def test_an_upload_ends_when_its_copies_have_run(driver: Watched, pipeline: Pipeline) -> None:
    with pipeline.catalog.get("trades").snapshot() as snapshot:
        pipeline.backend.uploads.ask(snapshot, frozenset({VOLUME}))
    pipeline.backend.uploads.wait()
    pipeline.ingest_batch([0, 1, 2], [5, 5, 5], [1, 1, 1], [1] * 3)  # moves the rows that were copied
    driver.synchronize()


def test_memory_that_goes_stays_until_copies_into_it_are_done(driver: Watched, pipeline: Pipeline) -> None:
    begin_upload(pipeline, driver)
    mirrors = pipeline.backend.image._mirrors
    memory = [weakref.ref(mirror.memory) for mirror in mirrors.values()]
    assert memory
    assert pipeline.execute("DROP TABLE trades").ok()
    mirrors.clear()
    gc.collect()
    assert all(reference() is not None for reference in memory)
    driver.gate.set()
    pipeline.backend.uploads.wait()
    gc.collect()
    assert all(reference() is None for reference in memory)


def test_room_that_is_still_copied_into_is_waited_for(driver: Watched, make_pipeline: Make) -> None:
    pipeline = make_pipeline(driver, config=PipelineConfig(arena_size=ARENA), device_memory_limit=ARENA)
    filled(pipeline)
    assert pipeline.execute("CREATE TABLE quotes (symbol INT64, bid INT64, timestamp TIMESTAMP_NS)").ok()
    places = np.arange(6_000, dtype=np.int64)
    pipeline.append("quotes", {"symbol": places % 3, "bid": places, "timestamp": places})
    begin_upload(pipeline, driver)
    found = beside(lambda: pipeline.get_column(0, "bid", "quotes", device=True))
    assert pipeline.backend.image.stats.evictions == 1
    assert found.get().tolist() == places[::3].tolist()
    driver._free_dropped()
    assert driver.used_bytes <= ARENA  # nobody holds what the upload was writing to
    driver.gate.set()
    pipeline.backend.uploads.wait()
    assert not pipeline.backend.uploads.failures


# ---- failures ------------------------------------------------------------------------------------------------------


def test_a_query_whose_copies_fail_says_so_and_the_next_one_brings_them_again(
    driver: Watched, pipeline: Pipeline
) -> None:
    driver.fails = True
    result = pipeline.execute(OF_PRICE)
    assert not result.ok()
    assert "a copy failed" in result.error
    driver.fails = False
    before = pipeline.backend.image.stats.uploaded_bytes
    assert answer(pipeline, OF_PRICE) == expected(OF_PRICE)
    assert pipeline.backend.image.stats.uploaded_bytes == before + 8 * ROWS


def test_what_failed_in_the_background_is_not_believed(driver: Watched, pipeline: Pipeline) -> None:
    driver.fails = True
    begin_upload(pipeline, driver)
    driver.fails = False
    driver.gate.set()
    uploads = pipeline.backend.uploads
    uploads.wait()
    assert list(uploads.failures) == ["emulated GPU 0: a copy failed"]
    assert uploads.columns == 0
    assert answer(pipeline, OF_VOLUME) == expected(OF_VOLUME)
    assert pipeline.backend.image.stats.uploaded_bytes == 2 * 8 * ROWS


def test_a_query_that_comes_after_a_failed_copy_fails(driver: Watched, pipeline: Pipeline) -> None:
    driver.fails = True
    begin_upload(pipeline, driver)
    driver.fails = False
    result = beside(lambda: pipeline.execute(OF_VOLUME))
    assert "a copy failed" in result.error
    driver.gate.set()
    pipeline.backend.uploads.wait()
    assert answer(pipeline, OF_VOLUME) == expected(OF_VOLUME)


def test_columns_that_were_there_before_a_failure_are_brought_again(driver: Watched, pipeline: Pipeline) -> None:
    answer(pipeline, OF_PRICE)
    driver.fails = True
    assert not pipeline.execute(OF_VOLUME).ok()
    driver.fails = False
    assert answer(pipeline, OF_PRICE) == expected(OF_PRICE)


# ---- staging -------------------------------------------------------------------------------------------------------


def test_a_buffer_is_filled_again_when_its_own_copy_is_done(driver: Watched) -> None:
    ring = StagingRing(driver, PinnedMemory(driver, AnonymousMemory()), slot_bytes=4096)
    values = np.arange((SLOTS + 2) * 512, dtype=np.int64)
    there = driver.allocate(values.nbytes)
    ring.to_device(there.address, address_of(values), values.nbytes)
    assert driver.log.count(("wait", Stream.COPIES)) == 2
    assert not driver.streams.are_idle  # the last copies are still to be made
    values[:] = -1  # it is in the buffers
    driver.follow(Stream.QUERIES, driver.record(Stream.COPIES))
    found = read_words(driver, DeviceArray(there, there.address, len(values), np.dtype(np.int64)))
    assert found.tolist() == list(range((SLOTS + 2) * 512))


def test_short_ranges_go_up_packed_and_in_parts(driver: Watched) -> None:
    ring = StagingRing(driver, PinnedMemory(driver, AnonymousMemory()), slot_bytes=1024)
    values = np.arange(400, dtype=np.int64)
    there = driver.allocate(2 * values.nbytes)
    places = np.arange(100, dtype=np.int64)
    ring.scatter(there.address + 64 * places, address_of(values) + 32 * places, np.full(100, 24, dtype=np.int64))
    values[:] = -1
    assert driver.log.count(("scatter_ranges", Stream.COPIES)) == 5
    driver.wait(driver.record(Stream.COPIES))
    found = read_words(driver, DeviceArray(there, there.address, 800, np.dtype(np.int64))).reshape(100, 8)
    assert found[:, :3].tolist() == np.arange(400).reshape(100, 4)[:, :3].tolist()


def test_pageable_columns_come_up_through_few_small_buffers(
    driver: Watched, make_pipeline: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "SLOT_BYTES", 512)
    monkeypatch.setattr(StagingRing.__init__, "__kwdefaults__", {"slot_bytes": 512})
    pipeline = filled(make_pipeline(driver, config=PipelineConfig(arena_size=ARENA), pinned_limit=0))
    for sql in (OF_PRICE, OF_VOLUME):
        assert answer(pipeline, sql) == expected(sql)
    wait(driver)


# ---- older rows after newer ones -----------------------------------------------------------------------------------


def late(pipeline: Pipeline, stamp: int) -> None:
    """One row that displaces those after it; its volume is beyond all others."""
    pipeline.ingest_batch([1], [1], [1_000 + stamp], [stamp])


def test_what_an_older_snapshot_brings_is_not_taken_for_later_rows(driver: Watched, pipeline: Pipeline) -> None:
    image, table = pipeline.backend.image, pipeline.catalog.get("trades")
    with table.snapshot() as old:
        first = int(old.addresses[VOLUME, 1])
        late(pipeline, 100)
        assert answer(pipeline, OF_VOLUME) == [expected(OF_VOLUME)[0] + 1_100, 1_100]
        with image.query():  # a query, or an upload, that had begun before
            assert image.bring(old, VOLUME) is not None
    with table.snapshot():
        late(pipeline, 500)
        with table.snapshot() as latest:
            assert latest.addresses[VOLUME, 1] == first  # the rows lie where the older ones lay
        assert answer(pipeline, OF_VOLUME) == [expected(OF_VOLUME)[0] + 2_600, 1_500]


def test_an_upload_leaves_out_blocks_that_rows_have_left(driver: Watched, pipeline: Pipeline) -> None:
    table, image = pipeline.catalog.get("trades"), pipeline.backend.image
    with table.snapshot() as old:
        late(pipeline, 100)
        assert answer(pipeline, OF_PRICE) == [expected(OF_PRICE)[0] + 1, 7 * (ROWS - 1)]
        copies = image.bring_piece(old, VOLUME)
        assert copies is not None
        assert image.bring_piece(old, VOLUME) is None
        image.finish((copies,))
    before = image.stats.uploaded_bytes
    assert answer(pipeline, OF_VOLUME) == [expected(OF_VOLUME)[0] + 1_100, 1_100]
    assert image.stats.uploaded_bytes == before + 8 * (ROWS // SYMBOLS + 1)
