"""Predicates that differ in numbers only share what is made of them, and each still gets its own answer."""

from __future__ import annotations

import operator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.build import Segment, Table
from zeptodb.backends.base import Aggregate, AggregateOp, AggregateScan, Scan, SelectScan
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.expression import (
    Arithmetic,
    ColumnRef,
    Comparison,
    Constant,
    Expression,
    InList,
    Kind,
    Logical,
    Not,
    ToFloat,
)
from zeptodb.backends.program import parametrized, shape_of
from zeptodb.types import ColumnType, Field, Schema

RANDOM = np.random.default_rng(7)
ROWS = 3_000
X = RANDOM.integers(-20, 20, ROWS)
Y = np.where(RANDOM.random(ROWS) < 0.01, 2**63 - 1, RANDOM.integers(0, 9, ROWS))
F = np.where(RANDOM.random(ROWS) < 0.05, np.nan, RANDOM.integers(-8, 8, ROWS) / 4)
TABLE = Table(
    Schema((Field("x", ColumnType.INT64), Field("y", ColumnType.INT64), Field("f", ColumnType.FLOAT64))),
    [Segment(0, [X, Y, F])],
)
COLUMNS = (ColumnRef(0, ColumnType.INT64), ColumnRef(1, ColumnType.INT64), ColumnRef(2, ColumnType.FLOAT64))
BACKEND = CpuBackend(threads=1)

numbers = st.integers(-25, 25) | st.sampled_from([-(2**63), 2**63 - 1])


@st.composite
def comparisons(draw) -> Expression:
    column = draw(st.sampled_from(COLUMNS))
    left: Expression = column
    right: Expression = Constant(draw(numbers), Kind.INT)
    if column.kind is Kind.FLOAT:
        right = draw(st.sampled_from([ToFloat(right), Constant(draw(st.integers(-9, 9)) / 4, Kind.FLOAT)]))
    elif draw(st.booleans()):
        left = Arithmetic("%", column, Constant(draw(st.integers(2, 9)), Kind.INT))
    if draw(st.booleans()):
        left, right = right, left
    return Comparison(draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">="])), left, right)


lists = st.lists(st.integers(-20, 20), min_size=1, max_size=4).map(lambda found: InList(COLUMNS[0], tuple(found)))
predicates = st.recursive(
    comparisons() | lists,
    lambda inner: st.builds(Logical, st.sampled_from(["and", "or"]), inner, inner) | st.builds(Not, inner),
    max_leaves=4,
)


@st.composite
def pairs(draw) -> tuple[Expression, Expression]:
    """A predicate, and one of the same shape with other numbers."""
    first = draw(predicates)
    return first, with_other_numbers(first, draw)


def with_other_numbers(node: Expression, draw) -> Expression:
    if isinstance(node, Constant):
        if node.kind is Kind.FLOAT:
            return Constant(draw(st.integers(-9, 9)) / 4, Kind.FLOAT)
        return Constant(draw(st.integers(2, 25)), Kind.INT)
    if isinstance(node, (Comparison, Logical, Arithmetic)):
        return replace(node, left=with_other_numbers(node.left, draw), right=with_other_numbers(node.right, draw))
    if isinstance(node, (Not, ToFloat)):
        return replace(node, argument=with_other_numbers(node.argument, draw))
    return node


COMPARE = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def expected(node: Expression) -> npt.NDArray[np.generic]:
    """Row by row in numpy; NaN equals itself and is greater than all numbers."""
    match node:
        case ColumnRef():
            return (X, Y, F)[node.index]
        case Constant():
            return np.full(ROWS, node.value)
        case ToFloat():
            return expected(node.argument).astype(np.float64)
        case Arithmetic():
            return np.fmod(expected(node.left), expected(node.right))
        case InList():
            return np.isin(expected(node.argument), node.values)
        case Not():
            return ~expected(node.argument)
        case Logical():
            combine = np.logical_and if node.op == "and" else np.logical_or
            return combine(expected(node.left), expected(node.right))
        case Comparison():
            left, right = expected(node.left), expected(node.right)
            if left.dtype.kind == "f":
                left, right = (np.where(np.isnan(side), np.inf, side) for side in (left, right))
            return COMPARE[node.op](left, right)
    raise AssertionError(node)


AGGREGATES = {
    "count": (Aggregate(AggregateOp.COUNT_ROWS),),
    "sum": (Aggregate(AggregateOp.SUM, (COLUMNS[0],)), Aggregate(AggregateOp.COUNT_ROWS)),
    "last": (Aggregate(AggregateOp.LAST, (COLUMNS[0],)), Aggregate(AggregateOp.COUNT_ROWS)),
}


@pytest.mark.parametrize("name", AGGREGATES)
@settings(deadline=None)
@given(pair=pairs())
def test_each_predicate_of_a_shape_gets_its_own_aggregates(name: str, pair: tuple[Expression, Expression]) -> None:
    for predicate in (*pair, pair[0]):
        chosen = expected(predicate)
        found = BACKEND.aggregate(AggregateScan(Scan(TABLE.snapshot, TABLE.all_rows(), predicate), AGGREGATES[name]))
        assert found.columns[-1].values[0] == chosen.sum()
        if name == "sum" and chosen.any():
            assert found.columns[0].values[0] == X[chosen].sum()
        if name == "last" and chosen.any():
            assert found.columns[0].values[0] == X[chosen][-1]


@settings(deadline=None)
@given(pair=pairs())
def test_each_predicate_of_a_shape_gets_its_own_rows(pair: tuple[Expression, Expression]) -> None:
    for predicate in (*pair, pair[0]):
        (found,) = BACKEND.select(SelectScan(Scan(TABLE.snapshot, TABLE.all_rows(), predicate), (COLUMNS[0],)))
        assert found.values.tolist() == X[expected(predicate)].tolist()


@settings(deadline=None)
@given(pair=pairs())
def test_predicates_that_differ_in_numbers_only_have_one_shape(pair: tuple[Expression, Expression]) -> None:
    shapes = [shape_of(predicate) for predicate in pair]
    assert shapes[0][0] == shapes[1][0]
    count = len(shapes[0][1])
    assert parametrized(pair[0]) == parametrized(pair[1])
    assert parametrized(pair[0])[1] == count


def test_predicates_of_other_kinds_have_other_shapes() -> None:
    x, f = COLUMNS[0], COLUMNS[2]
    one, null = Constant(1, Kind.INT), Constant(None, Kind.INT)
    different = [
        Comparison(">", x, one),
        Comparison("<", x, one),
        Comparison(">", one, x),
        Comparison(">", COLUMNS[1], one),
        Comparison(">", x, null),
        Comparison(">", f, ToFloat(one)),
        Comparison(">", f, Constant(1.0, Kind.FLOAT)),
        Not(Comparison(">", x, one)),
        InList(x, (1,)),
        InList(x, (2,)),
        Logical("and", Comparison(">", x, one), Comparison(">", x, one)),
        Logical("or", Comparison(">", x, one), Comparison(">", x, one)),
        Constant(True, Kind.BOOL),
        Constant(False, Kind.BOOL),
    ]
    assert len({shape_of(predicate)[0] for predicate in different}) == len(different)
