"""AggregateScan by keys of every backend against the plain-Python oracle and exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateScan,
    ArithmeticOverflowError,
    Backend,
    Scan,
    TimeBucket,
    TooManyGroupsError,
)
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.expression import Arithmetic, Bucket, Comparison, Constant, Expression, IsNull, Kind
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType, Field, Schema

from . import oracle
from .build import Segment, Table, random_table, ranges
from .compare import assert_columns, to_list
from .test_aggregate import every_aggregate


def check(backend: Backend, table: Table, operation: AggregateScan) -> None:
    """Groups, their order and every aggregate agree with the oracle's."""
    groups: dict[tuple[object, ...], list[tuple[int, int]]] = {}
    place = {s: k for k, s in enumerate(operation.scan.ranges.segments.tolist())}
    stamp = table.schema.timestamp_index
    for segment, row in oracle.rows_of(table, operation.scan):
        key: list[object] = [place[segment] if operation.by_symbol else 0]
        if operation.bucket is not None:
            width, origin = operation.bucket.width_ns, operation.bucket.origin_ns
            key.append(origin + (oracle.cell(table, segment, row, stamp) - origin) // width * width)
        for expression in operation.keys:
            value = oracle.evaluate(table, segment, row, expression)
            key.append((value is None, 0 if value is None else value))
        groups.setdefault(tuple(key), []).append((segment, row))
    keys = sorted(groups)  # type: ignore[type-var]
    result = backend.aggregate(operation)
    first = 2 if operation.bucket is not None else 1
    assert (result.segments is not None) is operation.by_symbol
    if result.segments is not None:
        assert [place[s] for s in result.segments.tolist()] == [k[0] for k in keys]
    if operation.bucket is not None:
        assert result.buckets is not None
        assert result.buckets.tolist() == [k[1] for k in keys]
    for i, vector in enumerate(result.keys):
        assert to_list(vector) == [None if k[first + i][0] else k[first + i][1] for k in keys]  # type: ignore[index]
    expected = [[oracle.fold(table, item, groups[k]) for k in keys] for item in operation.aggregates]
    scales = [[oracle.scale(table, item, groups[k]) for k in keys] for item in operation.aggregates]
    assert_columns(result.columns, expected, scales)


def keys_of(table: Table) -> dict[str, tuple[Expression, ...]]:
    number = table.column("i64")
    return {
        "strings": (table.column("text"),),
        "booleans": (table.column("flag"),),
        "integers": (table.column("i32"),),
        "expression": (Arithmetic("%", number, Constant(7, Kind.INT)),),
        "buckets": (Bucket(number, 300, 50),),
        "symbols": (table.column("symbol"),),
        "two": (table.column("text"), table.column("flag")),
        "with a condition": (IsNull(number), table.column("text")),
    }


KEY_NAMES = tuple(keys_of(random_table(1, (1,))))


@pytest.mark.parametrize("name", KEY_NAMES)
@pytest.mark.parametrize(("null_share", "nan_share"), [(0.0, 0.0), (0.3, 0.1)])
def test_every_aggregate_by_keys_agrees_with_plain_python(
    backend: Backend, name: str, null_share: float, nan_share: float
) -> None:
    table = random_table(3, (40, 0, 1, 7, 33), null_share=null_share, nan_share=nan_share)
    scan = Scan(table.snapshot, table.all_rows())
    check(backend, table, AggregateScan(scan, every_aggregate(table), keys=keys_of(table)[name]))


@pytest.mark.parametrize("by_symbol", [True, False])
@pytest.mark.parametrize("bucket", [None, TimeBucket(250, -33)])
def test_keys_go_with_symbols_buckets_predicates_and_conditions(
    backend: Backend, by_symbol: bool, bucket: TimeBucket | None
) -> None:
    table = random_table(5, (50, 3, 0, 1500), null_share=0.2, nan_share=0.1, time_origin=-500)
    price, volume = table.column("f64"), table.column("i64")
    positive = Comparison(">=", volume, Constant(0, Kind.INT))
    aggregates = tuple(
        Aggregate(op, (volume,), condition)
        for op in (AggregateOp.COUNT, AggregateOp.SUM, AggregateOp.FIRST, AggregateOp.LAST, AggregateOp.MAX)
        for condition in (None, positive, table.column("flag"))
    )
    scan = Scan(
        table.snapshot,
        ranges([(3, 700, 1450), (0, 5, 45), (1, 0, 3)]),
        Comparison(">", price, Constant(90.0, Kind.FLOAT)),
    )
    check(backend, table, AggregateScan(scan, aggregates, by_symbol, bucket, (table.column("text"),)))


@pytest.mark.parametrize("sizes", [(), (0, 0)])
def test_no_rows_make_no_groups(backend: Backend, sizes: tuple[int, ...]) -> None:
    table = random_table(1, sizes)
    scan = Scan(table.snapshot, table.all_rows())
    for keys in keys_of(table).values():
        result = backend.aggregate(AggregateScan(scan, every_aggregate(table), keys=keys))
        assert [len(v.values) for v in (*result.keys, *result.columns)] == [0] * (len(keys) + len(result.columns))


NUMBERS = Schema((Field("key", ColumnType.INT64), Field("i64", ColumnType.INT64), Field("f64", ColumnType.FLOAT64)))


def numbers(key: np.ndarray, integers: np.ndarray, floats: np.ndarray) -> Table:
    return Table(NUMBERS, [Segment(0, [key.astype(np.int64), integers.astype(np.int64), floats.astype(np.float64)])])


def test_sums_beyond_int64_are_exact_and_floats_keep_their_bound(backend: Backend) -> None:
    rng = np.random.default_rng(7)
    rows = 200_000
    key = rng.integers(-3, 3, rows)
    integers = rng.choice([INT64_MAX, INT64_MIN, 1, -5], rows)
    floats = rng.normal(1.0, 1e6, rows)
    table = numbers(key, integers, floats)
    items = (
        Aggregate(AggregateOp.SUM, (table.column("i64"),)),
        Aggregate(AggregateOp.SUM, (table.column("f64"),)),
    )
    operation = AggregateScan(Scan(table.snapshot, table.all_rows()), items, keys=(table.column("key"),))
    result = backend.aggregate(operation)
    for i, value in enumerate(result.keys[0].values.tolist()):
        assert int(result.columns[0].values[i]) == sum(integers[key == value].tolist())
        terms = [Fraction(x) for x in floats[key == value].tolist()]
        error = abs(Fraction(float(result.columns[1].values[i])) - sum(terms))
        assert error <= Fraction(1, 10**12) * sum(map(abs, terms))


def test_answers_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(8)
    rows = 500_000
    table = numbers(rng.integers(0, 3000, rows), rng.integers(0, 9, rows), rng.normal(0, 1e9, rows))
    item = (
        Aggregate(AggregateOp.SUM, (table.column("f64"),)),
        Aggregate(AggregateOp.STDDEV_POP, (table.column("f64"),)),
    )
    operation = AggregateScan(Scan(table.snapshot, table.all_rows()), item, keys=(table.column("key"),))
    answers = []
    for threads in (1, 2, 5):
        backend = CpuBackend(threads=threads, row_threshold=1)
        answers.append([c.values.tobytes() for c in backend.aggregate(operation).columns])
        backend.close()
    assert answers[0] == answers[1] == answers[2]


def test_keys_that_span_too_much_are_refused(backend: Backend) -> None:
    table = numbers(np.array([0, 10**9]), np.zeros(2), np.zeros(2))
    item = (Aggregate(AggregateOp.COUNT_ROWS),)
    with pytest.raises(TooManyGroupsError, match=r"1,000,000,001 groups"):
        backend.aggregate(AggregateScan(Scan(table.snapshot, table.all_rows()), item, keys=(table.column("key"),)))


def test_arithmetic_that_leaves_int64_raises(backend: Backend) -> None:
    table = numbers(np.array([0, 1]), np.array([INT64_MAX, 1]), np.zeros(2))
    item = (Aggregate(AggregateOp.COUNT_ROWS),)
    key = Arithmetic("+", table.column("i64"), Constant(1, Kind.INT))
    with pytest.raises(ArithmeticOverflowError):
        backend.aggregate(AggregateScan(Scan(table.snapshot, table.all_rows()), item, keys=(key,)))
