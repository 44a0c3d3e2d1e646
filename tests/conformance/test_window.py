"""WindowScan of every backend against plain Python, DuckDB and polars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeptodb.backends.base import Backend, Scan, WindowFunction, WindowOp, WindowScan
from zeptodb.backends.expression import Arithmetic, Comparison, Constant, Kind
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType, Field, Schema

from . import oracle
from .build import Segment, Table, random_table, ranges
from .compare import assert_columns, is_close, to_list

if TYPE_CHECKING:
    import polars as pl

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
    pl = pytest.importorskip("polars")  # not with the module: it does not load under TSan
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
    import polars as pl

    valid = segment.validity[column]
    series = pl.Series(segment.values[column])
    return series if valid is None else series.zip_with(pl.Series(valid), pl.Series([None], dtype=pl.Float64))


# ---- frames ----------------------------------------------------------------------------------------------------------

AGGREGATES = tuple(op for op in WindowOp if op is not WindowOp.EMA)


def frames(table: Table, rows: int | None, *names: str) -> tuple[WindowFunction, ...]:
    return tuple(WindowFunction(op, table.column(name), rows) for op in AGGREGATES for name in names)


@pytest.mark.parametrize("rows", [1, 2, 3, 31, 32, 33, 64, 150, None])
@pytest.mark.parametrize(("null_share", "nan_share"), [(0.0, 0.0), (0.4, 0.05)])
def test_frames_of_every_length_agree_with_plain_python(
    backend: Backend, rows: int | None, null_share: float, nan_share: float
) -> None:
    table = random_table(7, (30, 0, 200, 1, 40), null_share=null_share, nan_share=nan_share)
    outputs = (*frames(table, rows, "f64", "i64", "i32", "f32"), table.column("f64"))
    check(backend, table, WindowScan(Scan(table.snapshot, table.all_rows()), outputs))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_functions_agree_with_plain_python(backend: Backend, data: st.DataObject) -> None:
    table = random_table(
        data.draw(st.integers(0, 10**6)),
        data.draw(st.lists(st.integers(0, 90), max_size=4)),
        null_share=data.draw(st.sampled_from([0.0, 0.3, 0.9])),
        nan_share=data.draw(st.sampled_from([0.0, 0.1])),
        largest=data.draw(st.sampled_from([3, 10**6, 2**63 - 1])),
    )
    of = data.draw(st.sampled_from(["f64", "i64", "i32", "f32"]))
    is_huge = of == "i64" and data.draw(st.booleans())
    ops = (WindowOp.SUM, WindowOp.MIN, WindowOp.COUNT) if is_huge else tuple(WindowOp)
    functions = []
    for op in data.draw(st.lists(st.sampled_from(ops), min_size=1, max_size=3)):
        rows = None if op is WindowOp.EMA else data.draw(st.none() | st.integers(1, 100))
        functions.append(WindowFunction(op, table.column(of), rows, alpha=data.draw(st.sampled_from(ALPHAS))))
    check(backend, table, WindowScan(Scan(table.snapshot, table.all_rows()), tuple(functions)))


def test_frames_hold_the_rows_that_pass_the_predicate(backend: Backend) -> None:
    table = random_table(8, (300, 5, 70), null_share=0.2)
    predicate = Comparison(">", table.column("f64"), Constant(95.0, Kind.FLOAT))
    chosen = ranges([(2, 5, 60), (0, 11, 290)])
    check(backend, table, WindowScan(Scan(table.snapshot, chosen, predicate), frames(table, 7, "f64", "i64")))


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_frames_of_extreme_integers_are_exact(backend: Backend, rows: int) -> None:
    rng = np.random.default_rng(9)
    schema = Schema((Field("symbol", ColumnType.INT64), Field("x", ColumnType.INT64)), symbol="symbol")
    choices = np.array([INT64_MIN, INT64_MAX, -1, 0, 1, 2**53 + 1, -(2**62)], dtype=np.int64)
    table = Table(schema, [Segment(k, [None, rng.choice(choices, n)]) for k, n in enumerate((50, 1, 90))])
    functions = tuple(
        WindowFunction(op, table.column("x"), rows)
        for op in (WindowOp.SUM, WindowOp.MIN, WindowOp.MAX, WindowOp.AVG, WindowOp.COUNT)
    )
    check(backend, table, WindowScan(Scan(table.snapshot, table.all_rows()), functions))


@pytest.mark.parametrize("rows", [2, 33, 3000])
def test_a_spike_leaves_no_trace_behind_it(backend: Backend, rows: int) -> None:
    values: list[float | None] = [0.1 * (k % 7) for k in range(8000)]
    for place, spike in ((40, 1e16), (41, -1e16), (3500, 1e300), (5000, math.inf), (5001, math.nan)):
        values[place] = spike
    table = numbers(values)
    ops = (WindowOp.SUM, WindowOp.AVG, WindowOp.STDDEV_SAMP, WindowOp.MIN, WindowOp.MAX)
    found = run(backend, table, *(WindowFunction(op, table.column("x"), rows) for op in ops))
    clean = [k for k in range(rows, 8000) if all(abs(v or 0.0) < 1 for v in values[k - rows + 1 : k + 1])]
    assert len(clean) > 400
    for k in clean[:: max(1, len(clean) // 50)]:
        frame = np.array(values[k - rows + 1 : k + 1], dtype=np.float64)
        expected = (math.fsum(frame), math.fsum(frame) / rows, float(np.std(frame, ddof=1)), frame.min(), frame.max())
        for column, value in zip(found, expected, strict=True):
            assert column[k] == pytest.approx(value, rel=1e-12, abs=1e-13), k


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_infinities_and_nan_are_those_of_duckdb(backend: Backend, rows: int) -> None:
    duckdb = pytest.importorskip("duckdb")
    inf, nan = math.inf, math.nan
    other_nan = math.copysign(nan, -1.0)  # which is what x86 makes of inf - inf
    values = [1.0, nan, 3.0, other_nan, 4.0, 2.0, inf, 5.0, 6.0, -inf, inf, 1.0, 1.7e308, 1.7e308, 3.0, 0.0, -0.0]
    table = numbers(values)  # type: ignore[arg-type]
    found = run(backend, table, *(WindowFunction(op, table.column("x"), rows) for op in AGGREGATES))
    calls = ", ".join(f"{op.value}(x) OVER (ORDER BY i ROWS {rows - 1} PRECEDING)" for op in AGGREGATES)
    with duckdb.connect() as connection:
        query = f"SELECT {calls} FROM (SELECT unnest(?::DOUBLE[]) x, unnest(range({len(values)})) i) ORDER BY i"
        expected = list(zip(*connection.execute(query, [values]).fetchall(), strict=True))
    for op, mine, theirs in zip(AGGREGATES, found, expected, strict=True):
        # Squares of the last but three are beyond float64's range: nobody has their variance.
        rows_to_compare = 12 if op.name.startswith(("VARIANCE", "STDDEV")) else len(values)
        for one, other in zip(mine[:rows_to_compare], theirs, strict=False):
            assert is_close(one, other), (op, mine, theirs)


@pytest.mark.parametrize("rows", [20, 1024, 1025, 70_000, 300_000])
def test_long_ranges_and_frames_agree_with_polars(backend: Backend, rows: int) -> None:
    pl = pytest.importorskip("polars")  # not with the module: it does not load under TSan
    lengths = (30_000, 9_000, 1) if backend.name == "emu" else (310_000, 90_000, 1)
    rng = np.random.default_rng(10)
    schema = Schema(
        (Field("symbol", ColumnType.INT64), Field("x", ColumnType.INT64), Field("f", ColumnType.FLOAT64)),
        symbol="symbol",
    )
    segments = [
        Segment(k, [None, rng.integers(-(10**6), 10**6, n), rng.normal(5, 2, n)]) for k, n in enumerate(lengths)
    ]
    table = Table(schema, segments)
    x, f = table.column("x"), table.column("f")
    functions = (
        WindowFunction(WindowOp.SUM, x, rows), WindowFunction(WindowOp.AVG, f, rows),
        WindowFunction(WindowOp.STDDEV_SAMP, f, rows), WindowFunction(WindowOp.MIN, f, rows),
        WindowFunction(WindowOp.MAX, x, rows),
    )  # fmt: skip
    found = backend.window(WindowScan(Scan(table.snapshot, table.all_rows()), functions))
    start = 0
    for segment in segments:
        part = slice(start, start + segment.rows)
        start += segment.rows
        frame = pl.DataFrame({"x": segment.values[1], "f": segment.values[2]})
        options = {"window_size": rows, "min_samples": 1}
        expected = frame.select(
            pl.col("x").rolling_sum(**options).alias("a"), pl.col("f").rolling_mean(**options).alias("b"),
            pl.col("f").rolling_std(window_size=rows, min_samples=2).alias("c"),
            pl.col("f").rolling_min(**options).alias("d"), pl.col("x").rolling_max(**options).alias("e"),
        )  # fmt: skip
        for vector, name in zip(found, "abcde", strict=True):
            theirs = expected[name].to_numpy()
            valid = ~np.isnan(theirs) if name == "c" else np.ones(segment.rows, np.bool_)
            np.testing.assert_allclose(vector.values[part][valid], theirs[valid], rtol=1e-9)


def test_types_are_those_of_the_argument_where_a_value_is_kept(backend: Backend) -> None:
    table = random_table(3, (10,))
    names = ("i32", "f32", "timestamp", "i64")
    functions = [WindowFunction(WindowOp.MAX, table.column(n), 3) for n in names]
    functions += [WindowFunction(WindowOp.SUM, table.column(n), 3) for n in names]
    vectors = backend.window(WindowScan(Scan(table.snapshot, table.all_rows()), tuple(functions)))
    kinds = [ColumnType.INT32, ColumnType.FLOAT32, ColumnType.TIMESTAMP_NS, ColumnType.INT64]
    kinds += [ColumnType.INT64, ColumnType.FLOAT64, ColumnType.INT64, ColumnType.INT64]
    assert [v.type for v in vectors] == kinds
    assert [v.values.dtype for v in vectors] == [kind.dtype for kind in kinds]
