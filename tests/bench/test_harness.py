"""The harness compares before it times, and reports what it measured."""

from __future__ import annotations

import polars as pl
import pytest

from bench.harness import HEADERS, Benchmark, Measured, as_json, measure, table_rows
from zeptodb.demo.comparison import AnswersDifferError, Contender, Timing
from zeptodb.demo.contenders import DUCKDB, POLARS, ZEPTODB


def answering(name: str, value: float) -> Contender:
    return Contender(name, lambda: pl.DataFrame({"x": [value]}))


def measured(ours: float, *rivals: float, **options) -> Measured:
    """A measurement with these medians in seconds."""
    names = (ZEPTODB, DUCKDB, POLARS)
    timings = tuple(Timing(name, (s,)) for name, s in zip(names, (ours, *rivals), strict=False))
    return Measured(Benchmark("work", (), **options), timings)


@pytest.mark.parametrize("beside", [False, True])
def test_unequal_answers_are_refused(beside):
    benchmark = Benchmark("adding", (answering(ZEPTODB, 1.0), answering(DUCKDB, 1.001)), beside=beside)
    with pytest.raises(AnswersDifferError, match="adding: ZeptoDB and DuckDB differ in column x"):
        measure(benchmark, repeat=1)


def test_equal_answers_are_timed():
    result = measure(Benchmark("adding", (answering(ZEPTODB, 1.0), answering(POLARS, 1.0))), repeat=3)
    assert [len(timing.samples) for timing in result.timings] == [3, 3]
    assert result.median(POLARS) > 0
    assert result.median(DUCKDB) is None


def test_times_are_per_operation():
    many = Benchmark("loop", (Contender(ZEPTODB, lambda: sum(range(100_000)), lambda: None),), calls=1_000)
    assert measure(many, repeat=1).median(ZEPTODB) < 1e-4


def test_the_ratio_is_to_the_faster_rival():
    assert measured(1.0, 8.0, 5.0).ratio == 5.0
    assert measured(1.0).ratio is None
    assert measured(1.0, 8.0, beside=True).ratio is None


def test_a_row_has_a_cell_for_every_header():
    (row,) = table_rows(measured(0.001, 0.01, rows=1_000_000, row_bytes=16, ran_on="cpu"))
    assert row == ["work", "cpu", "1.00 ms", "10.0 ms", "-", "10.0x", "16.0 GB/s"]
    assert len(row) == len(HEADERS)
    assert table_rows(measured(0.5, rows=1_000_000))[0][-1] == "2.0 M rows/s"


def test_a_yardstick_is_timed_in_turns_and_has_a_row_of_its_own():
    calls = []
    ours = Contender(ZEPTODB, lambda: calls.append("ours") or sum(range(10_000)), lambda: None)
    other = Contender("adding up", lambda: calls.append("yardstick") or sum(range(10_000)), lambda: None)
    result = measure(Benchmark("work", (ours,), rows=10, yardstick=other), repeat=2)
    assert calls[-2:] == ["ours", "yardstick"]
    assert len(result.yardstick.samples) == 2
    assert result.ratio is None
    rows = table_rows(result)
    assert [row[0] for row in rows] == ["work", "(yardstick: adding up)"]
    assert rows[1][5].endswith("x")
    assert len(as_json([result])[0]["seconds"]["adding up"]["samples"]) == 2


def test_json_holds_every_sample():
    (entry,) = as_json([measured(1.0, 8.0)])
    assert entry["work"] == "work"
    assert entry["ratio_to_better"] == 8.0
    assert entry["seconds"] == {
        "ZeptoDB": {"median": 1.0, "samples": [1.0]},
        "DuckDB": {"median": 8.0, "samples": [8.0]},
    }
