"""What goes wrong on a device: queries go to the CPU or say what to do, and ingest never notices."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
import pytest

import zeptodb.pipeline
from tests.cuda.conftest import emulated
from tests.cuda.test_rounds import Rounds, assert_equal_rows, rows_of
from tests.emulator.driver import EmuDriver, EmulatedMemory
from zeptodb.backends.cuda import open_device
from zeptodb.backends.cuda.driver import DeviceArray, DeviceError, KernelCompileError, OutOfDeviceMemoryError, Stream
from zeptodb.config import PipelineConfig
from zeptodb.errors import BackendUnavailableError
from zeptodb.pipeline import Pipeline

CONFIG = PipelineConfig(arena_size=64 * 1024)
SQL = "SELECT symbol, count(*), sum(volume), first(price), max(price) FROM trades GROUP BY symbol ORDER BY symbol"
QUERIES = (
    SQL,
    "SELECT symbol, price FROM trades WHERE volume > 50 ORDER BY symbol, timestamp LIMIT 20",
    "SELECT symbol, xbar(timestamp, 50) AS t, sum(price) FROM trades GROUP BY symbol, t ORDER BY symbol, t",
    (
        "SELECT t.symbol, t.timestamp, t.price, q.bid FROM trades t ASOF LEFT JOIN quotes q "
        "ON t.symbol = q.symbol AND t.timestamp >= q.timestamp WHERE t.price < 15"
    ),
)
MakePipeline = Callable[..., Pipeline]


class ShortDriver(EmuDriver):
    """Refuses the allocation number `refused`, and everything after it while `is_full`."""

    refused = -1
    is_full = False
    asked = 0

    def allocate(self, size_bytes: int) -> EmulatedMemory:
        self.asked += 1
        if self.asked == self.refused or (self.is_full and self.asked > self.refused):
            raise OutOfDeviceMemoryError(f"The device has no room for {size_bytes} bytes.")
        return super().allocate(size_bytes)


class BrokenDriver(EmuDriver):
    """A device that has failed: everything raises."""

    def _fail(self, *_: object, **__: object) -> None:
        raise DeviceError("emulated GPU 0: cudaErrorIllegalAddress: an illegal memory access was encountered")

    register = unregister = to_device = to_host = on_device = clear = synchronize = _fail  # type: ignore[assignment]
    launch = allocate = allocate_host = record = follow = wait = _fail  # type: ignore[assignment]


class UncompiledDriver(EmuDriver):
    """Its compiler refuses every kernel."""

    def launch(
        self,
        kernel: str,
        threads: int,
        arguments: Sequence[DeviceArray | int | float | None],
        *,
        stream: Stream = Stream.QUERIES,
    ) -> None:
        self.load_all()

    def load_all(self) -> None:
        raise KernelCompileError('NVRTC 13.0 cannot compile group.cu; use backend="cpu" meanwhile')


def fill(pipeline: Pipeline, *, rows: int = 600, from_ns: int = 0) -> None:
    rng = np.random.default_rng(from_ns + 5)
    times = from_ns + np.sort(rng.integers(0, 400, rows))
    pipeline.ingest_batch(rng.integers(0, 9, rows), rng.integers(1, 90, rows), rng.integers(1, 99, rows), times)


def made(driver: type[EmuDriver]) -> EmuDriver:
    emulated()  # or skipped, where there is no compiler
    return driver()


@pytest.mark.parametrize("sql", QUERIES)
def test_any_allocation_may_fail_and_the_answer_is_the_cpus(sql: str, make_pipeline: MakePipeline) -> None:
    with Pipeline(CONFIG, backend="cpu") as cpu:
        game = Rounds(4, (cpu,))
        game.trades(500, late=False)
        game.quotes(80)
        expected = rows_of(cpu, sql)
    refused = moved = 0
    while refused < 60:
        refused += 1
        driver = made(ShortDriver)
        pipeline = make_pipeline(driver, config=CONFIG)
        game = Rounds(4, (pipeline,))
        game.trades(500, late=False)
        game.quotes(80)
        driver.refused = refused
        assert_equal_rows(rows_of(pipeline, sql), expected, sql)
        if driver.asked < refused:
            break  # the query needs no more
        assert sum(pipeline.backend.host_runs.values()) == 1
        moved += 1
        assert_equal_rows(rows_of(pipeline, sql), expected, sql)
        assert pipeline.backend.device_runs > 0
    assert moved > 3


def test_a_full_device_leaves_queries_to_the_cpu_until_there_is_room(make_pipeline: MakePipeline) -> None:
    driver = made(ShortDriver)
    pipeline = make_pipeline(driver, config=CONFIG)
    driver.is_full = True
    for from_ns in (0, 1_000, 500):
        fill(pipeline, from_ns=from_ns)
        assert sum(row[1] for row in rows_of(pipeline, SQL)) == pipeline.stats().ticks_stored
    assert pipeline.backend.device_runs == 0
    assert all("no room" in reason for reason in pipeline.backend.host_runs)
    driver.is_full = False
    before = rows_of(pipeline, SQL)
    assert pipeline.backend.device_runs == 1
    assert sum(row[1] for row in before) == 1_800


def test_a_failed_device_fails_queries_and_no_ingest(make_pipeline: MakePipeline) -> None:
    driver = made(BrokenDriver)
    pipeline = make_pipeline(driver, config=CONFIG)
    for from_ns in (0, 1_000, 500):
        fill(pipeline, from_ns=from_ns)
        result = pipeline.execute(SQL)
        assert not result.ok()
        assert "emulated GPU 0: cudaErrorIllegalAddress" in result.error
    pipeline.ingest(symbol=1, price=1, volume=1)
    pipeline.drain()
    assert pipeline.stats().ticks_stored == 1_801
    assert pipeline.execute("DROP TABLE trades").ok()


def test_memory_that_a_failed_device_has_locked_goes_all_the_same(make_pipeline: MakePipeline) -> None:
    driver = emulated()
    pipeline = make_pipeline(driver, config=CONFIG)
    fill(pipeline)
    assert rows_of(pipeline, SQL)
    assert driver.registered
    driver.__class__ = BrokenDriver
    assert pipeline.execute("DROP TABLE trades").ok()
    assert pipeline.execute("CREATE TABLE trades (symbol INT64, price INT64, timestamp TIMESTAMP_NS)").ok()


def test_a_kernel_that_does_not_compile_is_said_by_the_query(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(made(UncompiledDriver), config=CONFIG)
    fill(pipeline)
    result = pipeline.execute(SQL)
    assert not result.ok()
    assert KernelCompileError.__name__ in str(result.error_type)
    assert 'cannot compile group.cu; use backend="cpu"' in result.error


def test_warming_up_in_the_background_leaves_errors_to_the_queries(
    make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zeptodb.pipeline, "_warmed_backends", set())
    pipeline = make_pipeline(made(UncompiledDriver), config=CONFIG)
    pipeline.start()
    for thread in threading.enumerate():
        if thread.name == "zeptodb-warm-up":
            thread.join()
    with pytest.raises(KernelCompileError):
        pipeline.warm_up()


def in_child(pipeline: Pipeline, answers: SimpleQueue[object]) -> None:
    rows = 40_000  # more than there are arenas for
    stored = pipeline.ingest_batch(np.ones(rows, np.int64), np.arange(rows), np.arange(rows), np.arange(rows))
    result = pipeline.execute(SQL)
    pipeline.execute("DROP TABLE quotes")
    answers.put((stored, result.error, str(result.error_type), pipeline.stats().ticks_stored))


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_forked_child_ingests_and_is_told_to_use_spawn(make_pipeline: MakePipeline, *, is_busy: bool) -> None:
    pipeline = make_pipeline(emulated(), config=CONFIG)
    assert pipeline.execute("CREATE TABLE quotes (symbol INT64, bid INT64, timestamp TIMESTAMP_NS)").ok()
    fill(pipeline)
    before = rows_of(pipeline, SQL)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=in_child, args=(pipeline, answers))
    if is_busy:  # a query of the parent that runs when the child begins
        with pipeline.backend._lock, pipeline.backend.memory._lock:
            child.start()
    else:
        child.start()
    child.join(60)
    assert child.exitcode == 0
    stored, error, kind, ticks = answers.get()
    assert stored == 40_000
    assert ticks == 40_600
    assert "CUDA does not survive fork()" in error
    assert 'get_context("spawn")' in error
    assert BackendUnavailableError.__name__ in kind
    assert rows_of(pipeline, SQL) == before


def test_a_cupy_that_cannot_be_imported_is_to_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cupy.py").write_text('raise ImportError("libcublas.so.12: cannot open shared object file")')
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("cupy", "zeptodb.backends.cuda.cupy_driver"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(BackendUnavailableError, match=r"libcublas\.so\.12.*pip install 'zeptodb\[cuda13\]'"):
        open_device()
