"""WindowScan of every backend against plain Python, DuckDB and polars."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from zeptodb.backends.base import Backend, Scan, WindowFunction, WindowOp, WindowScan
from zeptodb.backends.expression import Arithmetic, Comparison, Constant, Kind
from zeptodb.types import ColumnType, Field, Schema

from . import oracle
from .build import Segment, Table, random_table, ranges
from .compare import assert_columns, to_list

NUMBERS = Schema((Field("symbol", ColumnType.INT64), Field("x", ColumnType.FLOAT64)), symbol="symbol")
ALPHAS = (1e-6, 0.05, 2 / 3, 1 - 1e-9, 1.0)


def check(backend: Backend, table: Table, operation: WindowScan) -> None:
    expected, scales = oracle.window(table, operation)
    assert_columns(backend.window(operation), expected, scales)


def numbers(*segments: list[float | None]) -> Table:
    """A table of floats, None for NULL."""
    made = []
    for k, values in enumerate(segments):
        valid = np.array([v is not None for v in values], dtype=np.bool_)
        stored = np.array([0.0 if v is None else v for v in values], dtype=np.float64)
        made.append(Segment(k, [None, stored], [None, None if valid.all() else valid]))
    return Table(NUMBERS, made)


def run(backend: Backend, table: Table, *functions: WindowFunction) -> list[list[Any]]:
    return [to_list(v) for v in backend.window(WindowScan(Scan(table.snapshot, table.all_rows()), functions))]


def ema(table: Table, alpha: float, name: str = "x") -> WindowFunction:
    return WindowFunction(WindowOp.EMA, table.column(name), alpha=alpha)


@pytest.mark.parametrize("null_share", [0.0, 0.4])
@pytest.mark.parametrize("has_predicate", [False, True])
def test_outputs_and_averages_of_the_chosen_rows_come_in_order(
    backend: Backend, null_share: float, has_predicate: bool
) -> None:
    table = random_table(4, (30, 0, 1500, 1, 40), null_share=null_share)
    predicate = Comparison(">", table.column("f64"), Constant(90.0, Kind.FLOAT)) if has_predicate else None
    doubled = Arithmetic("*", table.column("f64"), Constant(2.0, Kind.FLOAT))
    functions = [WindowFunction(WindowOp.EMA, table.column(n), alpha=0.3) for n in ("f64", "f32", "i64", "i32")]
    functions += [WindowFunction(WindowOp.EMA, doubled, alpha=0.3), WindowFunction(WindowOp.EMA, doubled, alpha=1.0)]
    outputs = (table.column("symbol"), functions[0], table.column("timestamp"), *functions[1:], table.column("i32"))
    for chosen in (table.all_rows(), ranges([(4, 3, 39), (2, 7, 1499), (1, 0, 0)])):
        check(backend, table, WindowScan(Scan(table.snapshot, chosen, predicate), outputs))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_an_average_is_that_of_plain_python_for_every_alpha(backend: Backend, alpha: float) -> None:
    table = random_table(5, (5000, 3, 257), null_share=0.2)
    check(backend, table, WindowScan(Scan(table.snapshot, table.all_rows()), (ema(table, alpha, "f64"),)))


def test_the_first_value_is_its_average_exactly_and_nulls_change_nothing(backend: Backend) -> None:
    table = numbers([None, None, 0.1, None, 0.3], [None], [], [7.1])
    (found,) = run(backend, table, ema(table, 0.25))
    assert found[:3] == [None, None, 0.1]
    assert found[3:4] == [None]
    assert found[4] == pytest.approx(0.25 * 0.3 + 0.75 * 0.1, rel=1e-15)
    assert found[5:] == [None, 7.1]


def test_infinities_and_nan_stay(backend: Backend) -> None:
    inf, nan = math.inf, math.nan
    table = numbers([1.0, inf, 2.0], [1.0, nan, 2.0], [inf, 1.0, -inf, 3.0], [inf] + [1.0] * 5000, [-1.0, -inf])
    for alpha in (0.4, 1 - 1e-12):
        (found,) = run(backend, table, ema(table, alpha))
        assert found[:3] == [1.0, inf, inf]
        assert found[3] == 1.0
        assert np.isnan(found[4:6]).all()
        assert found[6:8] == [inf, inf]
        assert np.isnan(found[8:10]).all()
        assert found[10:-2] == [inf] * 5001
        assert found[-2:] == [-1.0, -inf]


def test_with_alpha_one_nothing_stays(backend: Backend) -> None:
    table = numbers([math.inf, 1.0, None, 3.0])
    assert run(backend, table, ema(table, 1.0)) == [[math.inf, 1.0, None, 3.0]]


@pytest.mark.parametrize("null_share", [0.0, 0.3])
def test_long_ranges_agree_with_polars(backend: Backend, null_share: float) -> None:
    table = random_table(6, (200_000, 70_000, 1), null_share=null_share, nullable=("f64",))
    frame = pl.DataFrame({
        "symbol": np.concatenate([np.full(s.rows, s.symbol) for s in table.segments]),
        "x": pl.concat([_series(s, table.schema.index("f64")) for s in table.segments]),
    })  # fmt: skip
    average = pl.col("x").ewm_mean(alpha=0.02, adjust=False, ignore_nulls=True)
    expected = frame.with_columns(average.over("symbol"))["x"]
    (vector,) = backend.window(WindowScan(Scan(table.snapshot, table.all_rows()), (ema(table, 0.02, "f64"),)))
    valid = frame["x"].is_not_null().to_numpy()
    assert (vector.validity is None) == bool(valid.all())
    np.testing.assert_allclose(vector.values[valid], expected.to_numpy()[valid], rtol=1e-12)


def _series(segment: Segment, column: int) -> pl.Series:
    valid = segment.validity[column]
    series = pl.Series(segment.values[column])
    return series if valid is None else series.zip_with(pl.Series(valid), pl.Series([None], dtype=pl.Float64))
