"""AggregateScan of every backend against the plain-Python oracle, DuckDB and exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateScan,
    ArithmeticOverflowError,
    Backend,
    Ranges,
    Scan,
    TimeBucket,
)
from zeptodb.backends.expression import Arithmetic, ColumnRef, Comparison, Constant, Kind, Logical, ToFloat
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType, Field, Schema

from . import oracle
from .build import Segment, Table, random_table, ranges
from .compare import assert_columns, is_close, to_list

SEARCH = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ONE_ARGUMENT = [op for op in AggregateOp if op not in {AggregateOp.COUNT_ROWS, AggregateOp.VWAP}]
NUMERIC = ("i64", "f64", "i32", "f32")


def check(backend: Backend, table: Table, operation: AggregateScan) -> None:
    result = backend.aggregate(operation)
    expected = oracle.aggregate(table, operation)
    assert operation.by_symbol is (result.segments is not None)
    assert ([] if result.segments is None else result.segments.tolist()) == expected.segments
    assert (operation.bucket is not None) is (result.buckets is not None)
    assert ([] if result.buckets is None else result.buckets.tolist()) == expected.buckets
    assert_columns(result.columns, expected.columns, expected.scales)


def every_aggregate(table: Table) -> tuple[Aggregate, ...]:
    items = [Aggregate(AggregateOp.COUNT_ROWS)]
    items += [Aggregate(op, (table.column(name),)) for op in ONE_ARGUMENT for name in NUMERIC]
    items += [
        Aggregate(AggregateOp.VWAP, (table.column(price), table.column(volume)))
        for price in ("i64", "f64", "f32")
        for volume in ("i64", "f64", "i32")
    ]
    ends = (AggregateOp.FIRST, AggregateOp.LAST, AggregateOp.COUNT)
    items += [Aggregate(op, (table.column(name),)) for op in ends for name in ("flag", "text", "timestamp", "symbol")]
    items += [Aggregate(op, (table.column("flag"),)) for op in (AggregateOp.MIN, AggregateOp.MAX)]
    return tuple(items)


@pytest.mark.parametrize("by_symbol", [True, False])
@pytest.mark.parametrize("bucket", [None, TimeBucket(97), TimeBucket(100, -33)])
@pytest.mark.parametrize(("null_share", "nan_share"), [(0.0, 0.0), (0.3, 0.1)])
def test_every_aggregate_agrees_with_plain_python(
    backend: Backend, by_symbol: bool, bucket: TimeBucket | None, null_share: float, nan_share: float
) -> None:
    table = random_table(3, (40, 0, 1, 7, 33), null_share=null_share, nan_share=nan_share, time_origin=-500)
    scan = Scan(table.snapshot, table.all_rows())
    check(backend, table, AggregateScan(scan, every_aggregate(table), by_symbol=by_symbol, bucket=bucket))


@pytest.mark.parametrize("by_symbol", [True, False])
@pytest.mark.parametrize("bucket", [None, TimeBucket(250)])
def test_predicate_and_conditions_choose_the_rows(backend: Backend, by_symbol: bool, bucket: TimeBucket | None) -> None:
    table = random_table(5, (50, 3, 0, 25), null_share=0.2, nan_share=0.1)
    price, volume = table.column("f64"), table.column("i64")
    above = Comparison(">", price, Constant(90.0, Kind.FLOAT))
    positive = Comparison(">=", volume, Constant(0, Kind.INT))
    aggregates = tuple(
        Aggregate(op, (volume,), condition)
        for op in (AggregateOp.COUNT, AggregateOp.SUM, AggregateOp.FIRST, AggregateOp.LAST, AggregateOp.MAX)
        for condition in (None, positive, table.column("flag"))
    )
    aggregates += (Aggregate(AggregateOp.COUNT_ROWS, (), positive), Aggregate(AggregateOp.VWAP, (price, volume)))
    for predicate in (above, Logical("or", above, positive), Constant(False, Kind.BOOL), Constant(None, Kind.BOOL)):
        scan = Scan(table.snapshot, table.all_rows(), predicate)
        check(backend, table, AggregateScan(scan, aggregates, by_symbol=by_symbol, bucket=bucket))


def test_ranges_limit_and_order_the_result(backend: Backend) -> None:
    table = random_table(7, (30, 40, 50))
    scan = Scan(table.snapshot, ranges([(2, 5, 45), (0, 0, 30), (1, 10, 10)]))
    aggregates = (Aggregate(AggregateOp.SUM, (table.column("i64"),)), Aggregate(AggregateOp.COUNT_ROWS))
    for by_symbol in (True, False):
        for bucket in (None, TimeBucket(100)):
            check(backend, table, AggregateScan(scan, aggregates, by_symbol=by_symbol, bucket=bucket))


@pytest.mark.parametrize(("nan_share", "largest"), [(0.0, 2**61), (0.02, 1000)])
def test_short_ranges_of_many_segments_agree_with_plain_python_and_with_each_alone(
    backend: Backend, nan_share: float, largest: int
) -> None:
    random = np.random.default_rng(5)
    whole = [0, 1, 15, 16, 17, *random.integers(0, 120, 25).tolist()]
    cut = [(0, 1023), (1, 1025), (1000, 1030), (1024, 1030), (2047, 2048), (7, 7)]
    order = random.permutation(len(whole) + len(cut))
    bounds = [*((0, rows) for rows in whole), *cut]
    cuts = ranges([(segment, *bounds[place]) for segment, place in enumerate(order.tolist())])
    sizes = [bounds[place][1] + 60 for place in order.tolist()]
    table = random_table(5, sizes, nan_share=nan_share, largest=largest, time_span=10_000)
    values = (table.column("i64"), table.column("f64"))
    items = [Aggregate(AggregateOp.COUNT_ROWS)]
    items += [Aggregate(op, (column,)) for op in ONE_ARGUMENT for column in values]
    items += [Aggregate(op, (table.column("timestamp"),)) for op in (AggregateOp.FIRST, AggregateOp.LAST)]
    items += [Aggregate(AggregateOp.VWAP, (price, volume)) for price in values for volume in values]
    for by_symbol in (True, False):
        check(backend, table, AggregateScan(Scan(table.snapshot, cuts), tuple(items), by_symbol))
    for aggregates in (tuple(items), tuple(items[-6:]), tuple(items[:1])):
        together = backend.aggregate(AggregateScan(Scan(table.snapshot, cuts), aggregates, by_symbol=True))
        alone: list[list[object]] = [[] for _ in aggregates]
        for k in range(len(sizes)):
            one = Ranges(cuts.segments[k : k + 1], cuts.starts[k : k + 1], cuts.ends[k : k + 1])
            result = backend.aggregate(AggregateScan(Scan(table.snapshot, one), aggregates, by_symbol=True))
            for values_alone, column in zip(alone, result.columns, strict=True):
                values_alone.extend(to_list(column))
        assert [repr(to_list(column)) for column in together.columns] == [repr(found) for found in alone]


@pytest.mark.parametrize("by_symbol", [True, False])
def test_rows_of_many_short_segments_are_counted_within_intervals(backend: Backend, by_symbol: bool) -> None:
    table = random_table(6, [0, 1, 17, 1024, 1025, *range(90, 130)])
    price, volume = table.column("i64"), table.column("timestamp")
    above, below = Comparison(">", price, Constant(100, Kind.INT)), Comparison("<", volume, Constant(700, Kind.INT))
    for predicate in (above, Logical("and", above, below)):
        scan = Scan(table.snapshot, table.all_rows(), predicate)
        check(backend, table, AggregateScan(scan, (Aggregate(AggregateOp.COUNT_ROWS),), by_symbol))


def test_no_segment_gives_one_row_over_everything_and_none_by_symbol(backend: Backend) -> None:
    table = random_table(1, ())
    aggregates = every_aggregate(table)
    scan = Scan(table.snapshot, table.all_rows())
    everything = backend.aggregate(AggregateScan(scan, aggregates))
    counts = {AggregateOp.COUNT, AggregateOp.COUNT_ROWS}
    for item, vector in zip(aggregates, everything.columns, strict=True):
        assert to_list(vector) == ([0] if item.op in counts else [None])
    by_symbol = backend.aggregate(AggregateScan(scan, aggregates, by_symbol=True, bucket=TimeBucket(5)))
    assert all(to_list(vector) == [] for vector in by_symbol.columns)


@SEARCH
@given(data=st.data())
def test_random_tables_agree_with_plain_python(backend: Backend, data: st.DataObject) -> None:
    table = random_table(
        data.draw(st.integers(0, 10**6)),
        data.draw(st.lists(st.integers(0, 30), max_size=4)),
        null_share=data.draw(st.sampled_from([0.0, 0.5, 1.0])),
        nan_share=data.draw(st.sampled_from([0.0, 0.5, 1.0])),
        time_span=data.draw(st.sampled_from([1, 20, 10**6])),
        time_origin=data.draw(st.sampled_from([0, -100, 2**60, -(2**60)])),
        largest=data.draw(st.sampled_from([1, 1000, 2**62])),
    )
    ops = data.draw(st.lists(st.sampled_from(ONE_ARGUMENT), min_size=1, max_size=4))
    columns = [table.column(data.draw(st.sampled_from(NUMERIC))) for _ in ops]
    condition = data.draw(st.sampled_from([None, table.column("flag")]))
    operation = AggregateScan(
        Scan(table.snapshot, table.all_rows(), data.draw(st.sampled_from([None, table.column("flag")]))),
        tuple(Aggregate(op, (column,), condition) for op, column in zip(ops, columns, strict=True)),
        by_symbol=data.draw(st.booleans()),
        bucket=data.draw(st.sampled_from([None, TimeBucket(7), TimeBucket(10**5, 3)])),
    )
    check(backend, table, operation)


VWAP_OF_NUMBERS = """sum(i64 * f64) FILTER (WHERE NOT isnan(f64))
    / nullif(sum(i64) FILTER (WHERE f64 IS NOT NULL AND NOT isnan(f64)), 0)"""

PAIR = Schema(
    (
        Field("timestamp", ColumnType.TIMESTAMP_NS),
        Field("price", ColumnType.FLOAT64),
        Field("volume", ColumnType.FLOAT64),
        Field("size", ColumnType.INT64),
    ),
    timestamp="timestamp",
)
PRICE, VOLUME, SIZE = (ColumnRef(i, PAIR.fields[i].type) for i in (1, 2, 3))


def pairs(price: np.ndarray, volume: np.ndarray, size: np.ndarray | None = None) -> Table:
    rows = len(price)
    size = np.zeros(rows, dtype=np.int64) if size is None else size
    return Table(PAIR, [Segment(0, [np.arange(rows, dtype=np.int64), price, volume, size])])


def one(backend: Backend, table: Table, *items: Aggregate) -> list[object]:
    result = backend.aggregate(AggregateScan(Scan(table.snapshot, table.all_rows()), items))
    return [to_list(vector)[0] for vector in result.columns]


def test_vwap_of_constant_ticks_is_that_constant_over_millions_of_rows(backend: Backend) -> None:
    table = pairs(np.full(3_000_000, 100.01), np.full(3_000_000, 7.0))
    vwap, total = one(
        backend, table, Aggregate(AggregateOp.VWAP, (PRICE, VOLUME)), Aggregate(AggregateOp.SUM, (PRICE,))
    )
    assert is_close(vwap, 100.01 * 1.0)
    assert is_close(total, float(Fraction(100.01) * 3_000_000))


def test_sum_survives_terms_that_cancel(backend: Backend) -> None:
    rows = 200_000
    price = np.where(np.arange(rows) % 2 == 0, 1e16, -1e16)
    price[::2] += 2.0
    (total,) = one(backend, pairs(price, price), Aggregate(AggregateOp.SUM, (PRICE,)))
    assert abs(total - float(sum(map(Fraction, price.tolist())))) <= 1e-12 * np.abs(price).sum()


def test_integer_sums_beyond_int64_are_exact(backend: Backend) -> None:
    for extreme in (INT64_MAX, INT64_MIN):
        size = np.full(200_003, extreme, dtype=np.int64)
        table = pairs(np.ones(len(size)), np.ones(len(size)), size)
        total, average, low = one(
            backend,
            table,
            Aggregate(AggregateOp.SUM, (SIZE,)),
            Aggregate(AggregateOp.AVG, (SIZE,)),
            Aggregate(AggregateOp.MIN, (SIZE,)),
        )
        assert total == extreme * len(size)
        assert is_close(average, float(extreme))
        assert low == extreme


def test_integer_sum_that_fits_in_the_end_is_int64(backend: Backend) -> None:
    size = np.array([INT64_MAX, INT64_MAX, -INT64_MAX, -INT64_MAX, 5], dtype=np.int64)
    result = backend.aggregate(
        AggregateScan(
            Scan((table := pairs(np.ones(5), np.ones(5), size)).snapshot, table.all_rows()),
            (Aggregate(AggregateOp.SUM, (SIZE,)),),
        )
    )
    assert result.columns[0].type is ColumnType.INT64
    assert result.columns[0].values.tolist() == [5]


def test_variance_does_not_cancel(backend: Backend) -> None:
    rows = 300_000
    price = 1e9 + (np.arange(rows) % 3 - 1.0)
    (variance,) = one(backend, pairs(price, price), Aggregate(AggregateOp.VARIANCE_POP, (PRICE,)))
    assert is_close(variance, 2.0 / 3.0)


def test_infinities_follow_ieee(backend: Backend) -> None:
    price = np.ones(5000)
    price[17] = np.inf
    values = one(
        backend,
        pairs(price, np.ones(5000)),
        *(Aggregate(op, (PRICE,)) for op in (AggregateOp.SUM, AggregateOp.MAX, AggregateOp.MIN)),
    )
    assert values == [math.inf, math.inf, 1.0]
    price[18] = -np.inf
    total, low = one(
        backend, pairs(price, price), *(Aggregate(op, (PRICE,)) for op in (AggregateOp.SUM, AggregateOp.MIN))
    )
    assert math.isnan(total)
    assert low == -math.inf


def test_vwap_of_zero_volume_is_null(backend: Backend) -> None:
    table = pairs(np.array([1.0, 2.0]), np.array([3.0, -3.0]), np.array([0, 0], dtype=np.int64))
    assert one(
        backend, table, Aggregate(AggregateOp.VWAP, (PRICE, VOLUME)), Aggregate(AggregateOp.VWAP, (PRICE, SIZE))
    ) == [None, None]


def test_arithmetic_in_arguments_that_overflows_raises(backend: Backend) -> None:
    size = np.array([1, INT64_MAX], dtype=np.int64)
    table = pairs(np.ones(2), np.ones(2), size)
    more = Arithmetic("+", SIZE, Constant(1, Kind.INT))
    with pytest.raises(ArithmeticOverflowError, match="64-bit"):
        one(backend, table, Aggregate(AggregateOp.SUM, (more,)))
    scan = Scan(table.snapshot, table.all_rows(), Comparison("<", SIZE, Constant(5, Kind.INT)))
    result = backend.aggregate(AggregateScan(scan, (Aggregate(AggregateOp.SUM, (more,)),)))
    assert to_list(result.columns[0]) == [2]


def test_first_and_last_across_segments_follow_time_then_segment(backend: Backend) -> None:
    schema = Schema(
        (Field("symbol", ColumnType.INT64), Field("timestamp", ColumnType.TIMESTAMP_NS), Field("x", ColumnType.INT64)),
        symbol="symbol",
        timestamp="timestamp",
    )
    times = ([5, 5, 9], [3, 9], [3, 9, 9])
    table = Table(
        schema,
        [
            Segment(s, [None, np.array(t, dtype=np.int64), np.arange(len(t), dtype=np.int64) + 10 * s])
            for s, t in enumerate(times)
        ],
    )
    x = table.column("x")
    ends = (Aggregate(AggregateOp.FIRST, (x,)), Aggregate(AggregateOp.LAST, (x,)))
    for order in ((0, 1, 2), (2, 1, 0)):
        scan = Scan(table.snapshot, ranges([(s, 0, len(times[s])) for s in order]))
        check(backend, table, AggregateScan(scan, ends))
        check(backend, table, AggregateScan(scan, ends, bucket=TimeBucket(4)))


@pytest.fixture(scope="module")
def large() -> Table:
    return random_table(11, (150_000, 3, 70_000, 1024, 0, 1025), null_share=0.05, nan_share=0.001, time_span=10**7)


@pytest.mark.parametrize("by_symbol", [True, False])
@pytest.mark.parametrize("width_ns", [0, 200, 10**6])
def test_large_segments_agree_with_duckdb(backend: Backend, large: Table, by_symbol: bool, width_ns: int) -> None:
    duckdb = pytest.importorskip("duckdb")
    import pyarrow as pa

    names = [f.name for f in large.schema.fields if f.name not in {"symbol", "text"}]
    columns = {}
    for name in names:
        index = large.schema.index(name)
        columns[name] = pa.chunked_array(
            [
                pa.array(s.values[index], mask=None if s.validity[index] is None else ~s.validity[index])
                for s in large.segments
            ]
        )
    rows = [s.rows for s in large.segments]
    columns["segment"] = pa.array(np.repeat(np.arange(len(rows)), rows))
    columns["arrival"] = pa.array(np.concatenate([np.arange(n) for n in rows]))
    i64, f64, i32, f32 = (large.column(name) for name in NUMERIC)
    wanted = [
        ("count(*)", Aggregate(AggregateOp.COUNT_ROWS)),
        ("count(f64)", Aggregate(AggregateOp.COUNT, (f64,))),
        ("sum(i64)::BIGINT", Aggregate(AggregateOp.SUM, (i64,))),
        ("sum(i32)::BIGINT", Aggregate(AggregateOp.SUM, (i32,))),
        ("avg(i64)", Aggregate(AggregateOp.AVG, (i64,))),
        ("min(f64)", Aggregate(AggregateOp.MIN, (f64,))),
        ("max(f64)", Aggregate(AggregateOp.MAX, (f64,))),
        ("min(f32)::DOUBLE", Aggregate(AggregateOp.MIN, (f32,))),
        ("max(i32)", Aggregate(AggregateOp.MAX, (i32,))),
        ("fsum(f64) FILTER (WHERE f64 < 200 AND flag)", Aggregate(
            AggregateOp.SUM, (f64,),
            Logical("and", Comparison("<", f64, Constant(200.0, Kind.FLOAT)), large.column("flag")),
        )),
        ("var_samp(i64)", Aggregate(AggregateOp.VARIANCE_SAMP, (i64,))),
        ("stddev_pop(i32)", Aggregate(AggregateOp.STDDEV_POP, (i32,))),
        ("first(i64 ORDER BY timestamp, segment, arrival)", Aggregate(AggregateOp.FIRST, (i64,))),
        ("last(f32 ORDER BY timestamp, segment, arrival)::DOUBLE", Aggregate(AggregateOp.LAST, (f32,))),
        (VWAP_OF_NUMBERS, Aggregate(
            AggregateOp.VWAP, (f64, i64), Comparison("<", f64, Constant(math.inf, Kind.FLOAT)),
        )),
    ]  # fmt: skip
    keys = (["segment"] if by_symbol else []) + ([f"timestamp // {width_ns}"] if width_ns else [])
    group = f"GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}" if keys else ""
    with duckdb.connect() as connection:
        connection.register("t", pa.table(columns))
        sql = f"SELECT {', '.join(text for text, _ in wanted)} FROM t {group}"
        expected = list(zip(*connection.sql(sql).fetchall(), strict=True))
    result = backend.aggregate(
        AggregateScan(
            Scan(large.snapshot, large.all_rows()),
            tuple(item for _, item in wanted),
            by_symbol=by_symbol,
            bucket=TimeBucket(width_ns) if width_ns else None,
        )
    )
    for (text, _), vector, values in zip(wanted, result.columns, expected, strict=True):
        for found, other in zip(to_list(vector), values, strict=True):
            tolerance = 1e-6 if "/" in text else 1e-11
            if isinstance(found, float) and other is not None and not math.isnan(found):
                assert abs(found - other) <= tolerance * max(1.0, abs(other)), text
            else:
                assert is_close(found, other), (text, found, other)


def test_same_answer_for_any_number_of_threads(backend: Backend, large: Table) -> None:
    scan = Scan(large.snapshot, large.all_rows(), Comparison("<", large.column("f64"), Constant(150.0, Kind.FLOAT)))
    price, size = large.column("f64"), large.column("i64")
    items = (
        Aggregate(AggregateOp.VWAP, (price, size)),
        Aggregate(AggregateOp.SUM, (price,)),
        Aggregate(AggregateOp.STDDEV_SAMP, (price,)),
        Aggregate(AggregateOp.SUM, (Arithmetic("*", price, ToFloat(size)),)),
    )
    try:
        answers = []
        for threads in (1, 2, 5):
            backend.configure_threads(threads)
            result = backend.aggregate(AggregateScan(scan, items))
            answers.append([vector.values.tolist() for vector in result.columns])
        assert answers[0] == answers[1] == answers[2]
    finally:
        backend.configure_threads(2)


@pytest.mark.parametrize("largest", [1000, 2**62])
@pytest.mark.parametrize(
    "between", [("i64", -500, 800), ("i64", 5, 4), ("timestamp", 100, 900), ("timestamp", -(2**63), 2**63 - 1)]
)
def test_sums_and_vwap_of_rows_within_intervals_agree_with_plain_python(
    backend: Backend, largest: int, between: tuple[str, int, int]
) -> None:
    table = random_table(11, (1500, 0, 37, 1024), largest=largest)
    name, least, greatest = between
    tested, amount, stamp = table.column(name), table.column("i64"), table.column("timestamp")
    low, high = Constant(least, Kind.INT), Constant(greatest, Kind.INT)
    one = Logical("and", Comparison(">=", tested, low), Comparison(">=", high, tested))
    two = Logical("and", one, Comparison("!=" if name == "i64" else "<", amount, Constant(100, Kind.INT)))
    both = Logical("and", one, Comparison("<", stamp, Constant(700, Kind.INT)))
    aggregates = (
        Aggregate(AggregateOp.SUM, (amount,)),
        Aggregate(AggregateOp.VWAP, (stamp, amount)),
        Aggregate(AggregateOp.COUNT_ROWS),
        Aggregate(AggregateOp.AVG, (stamp,)),
    )
    for predicate in (one, two, both):
        for chosen in (aggregates, aggregates[:1], aggregates[1:2], aggregates[2:]):
            for by_symbol, bucket in ((True, None), (False, None), (True, TimeBucket(250))):
                scan = Scan(table.snapshot, table.all_rows(), predicate)
                check(backend, table, AggregateScan(scan, chosen, by_symbol=by_symbol, bucket=bucket))
