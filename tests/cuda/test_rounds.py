"""The device's image under random ingest: batches, late rows, NULLs, replaced tables; every answer as the CPU's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.cuda.conftest import emulated
from tests.emulator.driver import RATES, EmuDriver
from zeptodb.backends.cuda import choose, cost
from zeptodb.config import PipelineConfig
from zeptodb.pipeline import Pipeline

ARENA = 64 * 1024
GAMES = 4
"""Independent ones, which share the rounds asked for with --rounds."""
SOME_ROUNDS = 100
"""In so many there is a batch that goes up by the scatter kernel."""
QUERIES = (
    (
        "SELECT symbol, count(*), sum(volume), vwap(price, volume), first(price), last(price), min(price), max(volume) "
        "FROM trades GROUP BY symbol ORDER BY symbol"
    ),
    (
        "SELECT symbol, xbar(timestamp, 500) AS t, count(*), sum(price), max(price) FROM trades GROUP BY symbol, t "
        "ORDER BY symbol, t"
    ),
    "SELECT count(*), sum(price) FROM trades WHERE volume > 50",
    "SELECT symbol, price, volume, timestamp FROM trades WHERE price < 20 ORDER BY symbol, timestamp LIMIT 40",
    "SELECT count(*), sum(bid), avg(size), count(size) FROM quotes",
    (
        "SELECT t.symbol, t.timestamp, t.price, q.bid FROM trades t ASOF LEFT JOIN quotes q "
        "ON t.symbol = q.symbol AND t.timestamp >= q.timestamp WHERE t.price < 15"
    ),
    (
        "SELECT symbol, timestamp, ema(price, 5) OVER (PARTITION BY symbol) AS e, avg(price) OVER w AS a, "
        "sum(volume) OVER w AS s, stddev(price) OVER w AS d, max(price) OVER w AS m FROM trades "
        "WINDOW w AS (PARTITION BY symbol ORDER BY timestamp ROWS 40 PRECEDING) ORDER BY symbol, timestamp"
    ),
    "SELECT min(bid) OVER (PARTITION BY symbol ROWS 3 PRECEDING) AS m, size FROM quotes WHERE bid > 95",
    "SELECT volume % 7 AS v, count(*), sum(price) FROM trades GROUP BY v ORDER BY v",
)


def rows_of(pipeline: Pipeline, sql: str) -> list[tuple[object, ...]]:
    result = pipeline.execute(sql)
    assert result.ok(), result.error
    assert "duckdb" not in result.engine, (sql, result.plan)
    return [tuple(row) for row in result.rows]


def assert_equal_rows(found: list[tuple[object, ...]], expected: list[tuple[object, ...]], sql: str) -> None:
    assert len(found) == len(expected), sql
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            if isinstance(a, float) and isinstance(b, float):
                assert math.isclose(a, b, rel_tol=1e-12) or (math.isnan(a) and math.isnan(b)), sql
            else:
                assert a == b, (sql, one, other)


class Rounds:
    """Does the same to two Pipelines, or more, and compares the answers of two."""

    def __init__(self, seed: int, pair: tuple[Pipeline, ...]) -> None:
        self.rng = np.random.default_rng(seed)
        self.pair = pair
        self.now = 1000
        for pipeline in pair:
            sql = "CREATE TABLE quotes (symbol INT64, bid FLOAT64, size INT32, timestamp TIMESTAMP_NS)"
            assert pipeline.execute(sql).ok()

    def trades(self, rows: int, *, late: bool) -> None:
        rng = self.rng
        symbols, prices = rng.integers(0, 1 + int(rng.integers(1, 120)), rows), rng.integers(1, 100, rows)
        volumes = rng.integers(1, 100, rows)
        times = self.now + np.sort(rng.integers(0, 300, rows))
        if late:
            times = times - rng.integers(0, 900, rows)
        else:
            self.now = int(times.max(initial=self.now))
        for pipeline in self.pair:
            pipeline.ingest_batch(symbols, prices, volumes, times)

    def quotes(self, rows: int) -> None:
        rng = self.rng
        times = self.now + np.sort(rng.integers(-400, 100, rows))
        sizes = [None if rng.random() < 0.2 else int(x) for x in rng.integers(0, 50, rows)]
        data = {
            "symbol": rng.integers(0, 30, rows), "bid": rng.normal(100, 5, rows), "size": sizes, "timestamp": times,
        }  # fmt: skip
        for pipeline in self.pair:
            pipeline.append("quotes", data)

    def step(self) -> None:
        choice = self.rng.random()
        if choice < 0.5:
            self.trades(int(self.rng.integers(1, 400)), late=False)
        elif choice < 0.75:
            self.trades(int(self.rng.integers(1, 40)), late=True)
        elif choice < 0.95:
            self.quotes(int(self.rng.integers(1, 100)))
        elif choice < 0.97:
            for pipeline in self.pair:
                assert pipeline.execute("DELETE FROM trades WHERE volume = 7").ok()
        sql = QUERIES[int(self.rng.integers(0, len(QUERIES)))]
        assert_equal_rows(rows_of(self.pair[1], sql), rows_of(self.pair[0], sql), sql)


def run(seed: int, rounds: int, driver: EmuDriver, make_pipeline: Callable[..., Pipeline], **settings: Any) -> Pipeline:
    config = PipelineConfig(arena_size=ARENA)
    with Pipeline(config, backend="cpu") as cpu:
        emu = make_pipeline(driver, config=config, **settings)
        game = Rounds(seed, (cpu, emu))
        for _ in range(rounds):
            game.step()
    assert emu.backend.device_runs > rounds // 2
    return emu


@pytest.mark.parametrize("game", range(GAMES))
def test_answers_are_the_cpus_after_every_change(
    game: int,
    driver: EmuDriver,
    make_pipeline: Callable[..., Pipeline],
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    rounds, seed = pytestconfig.getoption("rounds") // GAMES, pytestconfig.getoption("round_seed") + game
    emu = run(seed, rounds, driver, make_pipeline)
    assert not emu.backend.host_runs
    stats = emu.backend.image.stats
    assert stats.by_kernel > 0 or rounds < SOME_ROUNDS
    record_property(
        "rounds",
        f"{rounds} of seed {seed} on emu, all as on cpu: {emu.backend.device_runs:,} operators, "
        f"{driver.launches:,} launches, {stats.ranges:,} ranges brought up",
    )


def test_little_device_memory_gives_the_same_answers(make_pipeline: Callable[..., Pipeline]) -> None:
    emu = run(11, 60, emulated(), make_pipeline, device_memory_limit=4 * ARENA)
    assert emu.backend.image.stats.evictions + sum(emu.backend.host_runs.values()) > 0


def test_columns_that_come_up_in_the_background_give_the_same_answers(
    make_pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "FEW_ROWS", 1)
    monkeypatch.setattr(cost, "_HOST_CALL_SECONDS", 0.0)
    rates = replace(RATES, host_bytes=1e5, pinned_bytes=2e4, pageable_bytes=1e4, launch_seconds=1e-9)
    emu = run(14, 200, emulated(rates=rates), make_pipeline, policy="cost")
    emu.backend.uploads.wait()
    assert emu.backend.uploads.columns > 10
    assert emu.backend.accelerator.placed[1] > 10
    assert not emu.backend.host_runs


def test_nothing_page_locked_gives_the_same_answers(driver: EmuDriver, make_pipeline: Callable[..., Pipeline]) -> None:
    run(12, 40, driver, make_pipeline, pinned_limit=0)
    assert not driver.registered


def test_nothing_assumes_the_first_device(make_pipeline: Callable[..., Pipeline]) -> None:
    first, second = emulated(0), emulated(1)
    run(13, 30, second, make_pipeline)
    assert second.launches > 0
    assert first.launches == first.copies == 0
