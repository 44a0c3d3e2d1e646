"""Ways to choose rows for aggregates: listed, masked, only counted, and counted straight from intervals."""

from __future__ import annotations

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
)
from zeptodb.backends.expression import Arithmetic, Comparison, ComparisonOp, Constant, Expression, Kind, Logical
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType, Field, Schema

from .build import Segment, Table, random_table
from .compare import to_list
from .test_aggregate import check

COUNT = Aggregate(AggregateOp.COUNT_ROWS)
LAYOUTS = [(by_symbol, bucket) for by_symbol in (True, False) for bucket in (None, TimeBucket(300))]
NUMBERS = (INT64_MIN, INT64_MIN + 1, -1, 0, 0, 1, INT64_MAX - 1, INT64_MAX)


def small_table(a: object, b: object) -> Table:
    schema = Schema((Field("a", ColumnType.INT64), Field("b", ColumnType.INT64)), symbol=None, timestamp=None)
    return Table(schema, [Segment(0, [np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)])])


def whole(value: int) -> Constant:
    return Constant(value, Kind.INT)


def both(*terms: Expression) -> Expression:
    result = terms[0]
    for term in terms[1:]:
        result = Logical("and", result, term)
    return result


@pytest.mark.parametrize(("by_symbol", "bucket"), LAYOUTS)
@pytest.mark.parametrize("bound", [-300, 950])
def test_sums_of_rows_that_pass_agree_with_plain_python(
    backend: Backend, by_symbol: bool, bucket: TimeBucket | None, bound: int
) -> None:
    table = random_table(11, (1_200, 3, 0, 40), time_span=15_000)
    price, volume, small = table.column("f64"), table.column("i64"), table.column("i32")
    pairs = ((price, volume), (volume, price), (volume, small), (price, price))
    aggregates = (
        COUNT,
        *(
            Aggregate(op, (c,))
            for op in (AggregateOp.SUM, AggregateOp.FIRST, AggregateOp.LAST)
            for c in (price, volume)
        ),
        *(Aggregate(AggregateOp.VWAP, pair) for pair in pairs),
    )
    for predicate in (
        Comparison(">", volume, whole(bound)),
        both(table.column("flag"), Comparison("<", volume, small)),
    ):
        scan = Scan(table.snapshot, table.all_rows(), predicate)
        check(backend, table, AggregateScan(scan, aggregates, by_symbol=by_symbol, bucket=bucket))
        extremes = (Aggregate(AggregateOp.MIN, (price,)), Aggregate(AggregateOp.SUM, (volume,), table.column("flag")))
        check(backend, table, AggregateScan(scan, extremes, by_symbol=by_symbol, bucket=bucket))


@pytest.mark.parametrize(("by_symbol", "bucket"), LAYOUTS)
def test_counts_in_intervals_agree_with_plain_python(
    backend: Backend, by_symbol: bool, bucket: TimeBucket | None
) -> None:
    table = random_table(12, (1_200, 3, 0, 40), time_span=15_000)
    volume, time, small = table.column("i64"), table.column("timestamp"), table.column("i32")
    between = both(Comparison(">=", volume, whole(-200)), Comparison("<", volume, whole(500)))
    for predicate in (
        between,
        both(between, Comparison(">", time, whole(1_000))),
        both(between, Comparison(">", time, whole(1_000)), Comparison("<=", whole(0), small)),
        both(Comparison(">", volume, whole(5)), Comparison("<", volume, whole(5))),
    ):
        scan = Scan(table.snapshot, table.all_rows(), predicate)
        check(backend, table, AggregateScan(scan, (COUNT,), by_symbol=by_symbol, bucket=bucket))


@pytest.mark.parametrize("op", ["=", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("is_swapped", [False, True])
def test_counts_are_right_at_the_ends_of_int64(backend: Backend, op: ComparisonOp, is_swapped: bool) -> None:
    table = small_table(NUMBERS, NUMBERS[::-1])
    a, b = table.column("a"), table.column("b")
    for value in sorted(set(NUMBERS)):
        predicate = Comparison(op, whole(value), a) if is_swapped else Comparison(op, a, whole(value))
        for tested in (predicate, both(predicate, Comparison(">=", b, whole(0)))):
            check(backend, table, AggregateScan(Scan(table.snapshot, table.all_rows(), tested), (COUNT,)))


def test_counting_a_quotient_computes_it(backend: Backend) -> None:
    table = small_table([1, 2], [1, 0])
    for op in ("//", "%"):
        quotient = Arithmetic(op, table.column("a"), table.column("b"))
        count = AggregateScan(Scan(table.snapshot, table.all_rows()), (Aggregate(AggregateOp.COUNT, (quotient,)),))
        with pytest.raises(ArithmeticOverflowError):
            backend.aggregate(count)


def test_zeros_of_either_sign_are_different_divisors(backend: Backend) -> None:
    table = small_table([1], [1])
    one = Constant(1.0, Kind.FLOAT)
    quotients = [Arithmetic("/", one, Constant(zero, Kind.FLOAT)) for zero in (0.0, -0.0)]
    sums = tuple(Aggregate(AggregateOp.MAX, (quotient,)) for quotient in quotients)
    found = backend.aggregate(AggregateScan(Scan(table.snapshot, table.all_rows()), sums))
    assert [to_list(vector) for vector in found.columns] == [[float("inf")], [float("-inf")]]
