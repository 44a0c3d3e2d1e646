"""What EXPLAIN says of where operators run, and that results name the engine that ran them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.cuda.conftest import emulated
from tests.emulator.driver import RATES
from zeptodb.backends.cuda import calibrate
from zeptodb.pipeline import Pipeline

Make = Callable[..., Pipeline]

BY_SYMBOL = "SELECT symbol, sum(price) AS s FROM trades WHERE volume > 10 GROUP BY symbol"
IN_PARTS = f"SELECT median(s) FROM ({BY_SYMBOL})"
SELF_JOIN = (
    "SELECT a.price, b.volume FROM trades a ASOF JOIN trades b ON a.symbol = b.symbol AND a.timestamp > b.timestamp"
)
FAST = replace(RATES, host_bytes=1e8, pinned_bytes=1e15, pageable_bytes=1e15, launch_seconds=1e-9)
SLOW = replace(FAST, launch_seconds=1.0)


def deep(levels: int) -> str:
    """An expression that needs a register per level."""
    text = "price"
    for k in range(levels):
        text = f"(volume + {k}) * ({text} + volume % {k + 2})"
    return text


def fill(pipeline: Pipeline) -> Pipeline:
    places = np.arange(30_000, dtype=np.int64)
    pipeline.ingest_batch(places % 3, places % 100, places % 97, places)
    return pipeline


@pytest.fixture
def forced(make_pipeline: Make) -> Pipeline:
    return fill(make_pipeline(emulated()))


@pytest.fixture
def by_cost(make_pipeline: Make) -> Callable[..., Pipeline]:
    return lambda rates: fill(make_pipeline(emulated(rates=rates), policy="cost"))


def explained(pipeline: Pipeline, sql: str) -> list[str]:
    result = pipeline.execute(f"EXPLAIN {sql}")
    assert result.ok(), result.error
    return [row[0] for row in result.rows]


def test_both_estimates_and_the_choice_are_shown(by_cost: Callable[..., Pipeline]) -> None:
    fast = explained(by_cost(FAST), BY_SYMBOL)
    assert fast[0] == "engine: native:emu"
    assert fast[-3:] == [
        "estimate of cpu (1 thread): 4,830 us, 480,000 bytes to read",
        "estimate of emu (emulated GPU 0): 0 us, 480,000 bytes to read, 480,000 to bring up, 48 back",
        "runs on emu (emulated GPU 0): the lower estimate",
    ]
    slow = explained(by_cost(SLOW), BY_SYMBOL)
    assert slow[0] == "engine: native:cpu"
    assert slow[-2].startswith("estimate of emu (emulated GPU 0): 4,000,000 us")
    assert slow[-1] == "runs on cpu (1 thread): the lower estimate"


def test_explain_runs_and_copies_nothing(forced: Pipeline) -> None:
    driver = forced.backend.driver
    lines = explained(forced, BY_SYMBOL)
    assert lines[-1] == 'runs on emu (emulated GPU 0): backend="cuda" asks for it'
    assert lines[-3].startswith("estimate of cpu")
    assert driver.launches == driver.copies == driver.used_bytes == 0


def test_resident_columns_are_not_brought_up(forced: Pipeline) -> None:
    assert "480,000 to bring up" in "\n".join(explained(forced, BY_SYMBOL))
    assert forced.execute(BY_SYMBOL).ok()
    assert " 0 to bring up" in "\n".join(explained(forced, BY_SYMBOL))


def test_every_kind_of_operator_is_explained(forced: Pipeline) -> None:
    for sql in (
        "SELECT symbol, xbar(timestamp, 1000) AS t, max(price) FROM trades GROUP BY symbol, t",
        "SELECT volume % 7 AS v, count(*) FROM trades GROUP BY v",
        "SELECT price FROM trades WHERE volume = 3",
        "SELECT price, volume FROM trades ORDER BY price DESC LIMIT 10",
        SELF_JOIN,
        "SELECT ema(price, 5) OVER (PARTITION BY symbol ORDER BY timestamp) FROM trades",
        "SELECT sum(price) FROM trades WHERE timestamp BETWEEN 10 AND 1000",
    ):
        lines = explained(forced, sql)
        assert lines[-1] == 'runs on emu (emulated GPU 0): backend="cuda" asks for it', sql
        assert forced.execute(sql).engine == "native:emu", sql


def test_what_the_device_cannot_run_is_the_cpus_and_not_duckdbs(forced: Pipeline) -> None:
    sql = f"SELECT sum({deep(30)}) FROM trades WHERE symbol = 1 AND price < 2 AND volume < 0"
    lines = explained(forced, sql)
    assert lines[0] == "engine: native:cpu"
    assert "registers, the device has" in lines[-1]
    assert lines[-1].startswith("runs on cpu (1 thread): an expression needs")
    ran = forced.execute(sql)
    assert (ran.engine, ran.plan.splitlines()[-1]) == ("native:cpu", lines[-1].replace("runs", "ran", 1))
    assert forced.stats().operators_off_device == 1


def test_analyze_says_which_ran(by_cost: Callable[..., Pipeline]) -> None:
    for rates, engine in ((FAST, "emu (emulated GPU 0)"), (SLOW, "cpu (1 thread)")):
        lines = [row[0] for row in by_cost(rates).execute(f"EXPLAIN ANALYZE {BY_SYMBOL}").rows]
        assert any(line.startswith(f"ran aggregate on native:{engine}: 3 rows") for line in lines)
        assert f"ran on {engine}: the lower estimate" in lines


def test_native_parts_of_other_statements_are_placed_one_by_one(by_cost: Callable[..., Pipeline]) -> None:
    for rates, engine in ((FAST, "emu"), (SLOW, "cpu")):
        pipeline = by_cost(rates)
        lines = explained(pipeline, IN_PARTS)
        assert lines[0] == f"engine: native:{engine}+duckdb"
        assert any(line.startswith(f"  runs on {engine} (") for line in lines)
        ran = pipeline.execute(IN_PARTS)
        assert ran.engine == f"native:{engine}+duckdb"
        assert any(line.startswith(f"  ran on {engine} (") for line in ran.plan.splitlines())


def test_a_view_that_computes_itself_does_not_name_the_engine_of_who_reads_it(by_cost: Callable[..., Pipeline]) -> None:
    pipeline = by_cost(FAST)
    assert pipeline.execute(f"CREATE MATERIALIZED VIEW sums AS {BY_SYMBOL}").ok()
    pipeline.ingest_batch([1], [5], [50], [99_999])
    result = pipeline.execute("SELECT count(*) FROM sums WHERE s > 0")
    assert (result.rows, result.engine) == ([[3]], "native:cpu")
    assert result.plan.count("ran on") == 1


def test_a_cpu_pipeline_says_nothing_of_devices() -> None:
    with Pipeline(backend="cpu") as pipeline:
        fill(pipeline)
        assert not any("estimate" in line or "runs on" in line for line in explained(pipeline, BY_SYMBOL))
        assert pipeline.execute(BY_SYMBOL).engine == "native:cpu"


def test_rates_that_nobody_has_measured_are_named(
    make_pipeline: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(calibrate, "cubin_folder", lambda: tmp_path)
    pipeline = fill(make_pipeline(emulated(rates=None), policy="cost"))
    assert explained(pipeline, BY_SYMBOL)[-2].endswith("; rates are assumed, warm_up() measures them")
    assert pipeline.execute(BY_SYMBOL).ok()


def test_explain_of_a_view_does_not_compute_it(forced: Pipeline) -> None:
    assert forced.execute(f"CREATE MATERIALIZED VIEW sums AS {BY_SYMBOL}").ok()
    forced.ingest_batch([1], [5], [50], [99_999])
    before = forced.backend.accelerator.placed
    assert explained(forced, "SELECT count(*) FROM sums WHERE s > 0")[0] == "engine: native:emu"
    assert forced.backend.accelerator.placed == before
