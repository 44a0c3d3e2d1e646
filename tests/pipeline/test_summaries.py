"""Direct queries and SQL with summaries answer as without, while the table changes; EXPLAIN says what they did."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Thread

import numpy as np
import pytest

import zeptodb
from tests.cuda.conftest import emulated
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cuda.backend import CudaBackend
from zeptodb.errors import ConfigError

Make = Callable[..., zeptodb.Pipeline]

STATEMENTS = (
    "SELECT symbol, vwap(price, volume), sum(volume), count(*) FROM trades GROUP BY symbol",
    "SELECT vwap(price, volume), avg(price), min(price), max(volume), first(price), last(price) FROM trades",
    "SELECT count(*), sum(price), first(price), last(volume) FROM trades WHERE symbol = 1",
    "SELECT avg(price) FROM trades WHERE symbol = 1 AND timestamp >= 1000 AND timestamp < 150000",
    (
        "SELECT symbol, xbar(timestamp, 100000) AS bar, first(price), max(price), sum(volume) FROM trades "
        "GROUP BY symbol, bar ORDER BY symbol, bar"
    ),
    "SELECT sum(volume) FROM trades WHERE price > 100",
)


@pytest.fixture(params=["cpu", "emu"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes Pipelines on the CPU, or on an emulated device that has to run whatever it can."""
    if request.param == "emu":

        def backend(_: str, config: zeptodb.PipelineConfig) -> CudaBackend:
            return CudaBackend(emulated(), CpuBackend(threads=config.num_threads, summaries=config.summaries))

        monkeypatch.setattr(zeptodb.pipeline, "_make_backend", backend)
    return lambda **settings: zeptodb.Pipeline(zeptodb.PipelineConfig(**settings))


@pytest.fixture
def pipelines(make: Make) -> tuple[zeptodb.Pipeline, zeptodb.Pipeline]:
    return make(), make(summaries=False)


def compare(pipelines: tuple[zeptodb.Pipeline, zeptodb.Pipeline], rng: np.random.Generator, newest: int) -> None:
    kept, plain = pipelines
    for statement in STATEMENTS:
        assert kept.execute(statement).raise_for_error().rows == plain.execute(statement).raise_for_error().rows
    low, high = sorted(rng.integers(0, newest + 1, 2).tolist())
    for bounds in ((None, None), (low, None), (low, high)):
        for symbol in (0, 1, 99):
            for name in ("vwap", "count", "sum"):
                found, expected = (getattr(p, name)(symbol, from_ns=bounds[0], to_ns=bounds[1]) for p in pipelines)
                np.testing.assert_equal(found, expected)
                assert type(found) is type(expected)


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_the_same_under_appends_late_rows_updates_and_deletes(pipelines, seed: int):
    rng, newest = np.random.default_rng(seed), 0
    for step in range(8):
        rows = int(rng.integers(1, 90_000))
        begin = newest if step % 3 else max(0, newest - rows)
        symbols, prices = rng.integers(0, 3, rows) ** 2, rng.integers(-(2**61), 2**61, rows)
        times = begin + np.sort(rng.integers(0, rows, rows))
        for pipeline in pipelines:
            pipeline.ingest_batch(symbols, prices, 7 + np.arange(rows), times)
        newest = max(newest, begin + rows)
        compare(pipelines, rng, newest)
        if step in (3, 5):
            change = (
                "UPDATE trades SET price = 5 WHERE volume < 100"
                if step == 3
                else "DELETE FROM trades WHERE volume < 500"
            )
            for pipeline in pipelines:
                pipeline.execute(change).raise_for_error()
            compare(pipelines, rng, newest)


def test_answers_hold_while_rows_are_appended(make: Make):
    pipeline, errors = make(), []
    rows, batches = 3_000, 60

    def append() -> None:
        for k in range(batches):
            times = k * rows + np.arange(rows) - 2 * rows * (k % 5 == 4)
            pipeline.ingest_batch(np.arange(rows) % 2, np.full(rows, 3), np.full(rows, 2), times)

    def ask() -> None:
        seen = 0
        try:
            while seen < batches * rows:
                (answer,) = pipeline.execute("SELECT count(*), sum(volume), sum(price), max(price) FROM trades").rows
                assert answer[1:3] == [2 * answer[0], 3 * answer[0]] or answer[0] == 0
                assert answer[0] >= seen
                assert pipeline.count(0) * 2 <= pipeline.sum(0)
                seen = answer[0]
        except BaseException as error:  # noqa: BLE001 - the top of a thread
            errors.append(error)

    threads = [Thread(target=work) for work in (append, ask, ask)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_explain_says_whether_summaries_can_answer(pipelines):
    kept, plain = pipelines
    for pipeline in pipelines:
        pipeline.ingest_batch([1], [2], [3], [4])
    statement = "EXPLAIN SELECT symbol, vwap(price, volume) FROM trades GROUP BY symbol"
    assert "summaries: blocks of rows whose partial results are known are not scanned" in kept.execute(statement).plan
    assert "summaries" not in plain.execute(statement).plan
    for scanned in (
        "sum(price) FROM trades WHERE price > 1",
        "stddev(price) FROM trades",
        "sum(price * 2) FROM trades",
    ):
        assert "summaries" not in kept.execute(f"EXPLAIN SELECT {scanned}").plan


def test_explain_analyze_says_for_how_many_rows_they_answered(make: Make):
    pipeline = make()
    pipeline.ingest_batch(np.ones(5000, np.int64), np.arange(5000), np.arange(5000), np.arange(5000))
    statement = "EXPLAIN ANALYZE SELECT symbol, vwap(price, volume) FROM trades GROUP BY symbol"
    assert "summaries: answered for 0 rows" in pipeline.execute(statement).plan
    assert "summaries: answered for 5,000 rows" in pipeline.execute(statement).plan


def test_a_forked_child_makes_its_own():
    pipeline = zeptodb.Pipeline()
    pipeline.ingest_batch([1, 1], [10, 20], [1, 1], [1, 2])
    assert pipeline.vwap(1) == 15.0
    child = os.fork()
    if child == 0:
        os._exit(0 if pipeline.vwap(1) == 15.0 and pipeline.sum(1) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_switch_takes_only_true_and_false():
    with pytest.raises(ConfigError, match="summaries is 1; give True or False"):
        zeptodb.PipelineConfig(summaries=1)
