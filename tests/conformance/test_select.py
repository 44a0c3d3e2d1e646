"""SelectScan of every backend, and with it every expression, against the plain-Python oracle and DuckDB."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeptodb.backends.base import ArithmeticOverflowError, Backend, Scan, SelectScan
from zeptodb.backends.expression import (
    Arithmetic,
    Bucket,
    ColumnRef,
    Comparison,
    Constant,
    Expression,
    InList,
    IsNull,
    Kind,
    Logical,
    Not,
    ToFloat,
)
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType, Field, Schema

from . import oracle
from .build import QUOTES_SCHEMA, Segment, Table, random_table, ranges
from .compare import assert_columns, to_list

SEARCH = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")


def check(backend: Backend, table: Table, operation: SelectScan) -> None:
    assert_columns(backend.select(operation), oracle.select(table, operation))


def every_column(table: Table) -> tuple[Expression, ...]:
    return tuple(table.column(field.name) for field in table.schema.fields)


@pytest.mark.parametrize("null_share", [0.0, 0.4])
@pytest.mark.parametrize("has_predicate", [False, True])
@pytest.mark.parametrize(("offset", "limit"), [(0, None), (0, 0), (0, 1), (13, 40), (90, 100), (500, 5), (7, None)])
def test_select_writes_the_chosen_rows_in_order(
    backend: Backend, null_share: float, has_predicate: bool, offset: int, limit: int | None
) -> None:
    table = random_table(2, (30, 0, 50, 1, 40), null_share=null_share, nan_share=0.1)
    predicate = Comparison(">", table.column("f64"), Constant(90.0, Kind.FLOAT)) if has_predicate else None
    outputs = (*every_column(table), ToFloat(table.column("i32")), IsNull(table.column("f32")), Constant(7, Kind.INT))
    for chosen in (table.all_rows(), ranges([(4, 3, 39), (0, 0, 30), (2, 49, 50)])):
        check(backend, table, SelectScan(Scan(table.snapshot, chosen, predicate), outputs, offset, limit))


def test_result_types_are_those_of_the_columns(backend: Backend) -> None:
    table = random_table(2, (5,))
    vectors = backend.select(SelectScan(Scan(table.snapshot, table.all_rows()), every_column(table)))
    assert [v.type for v in vectors] == [f.type for f in table.schema.fields]
    assert [v.values.dtype for v in vectors] == [f.type.dtype for f in table.schema.fields]


def test_symbol_of_strings_comes_as_codes(backend: Backend) -> None:
    schema = Schema((Field("symbol", ColumnType.STRING), Field("x", ColumnType.INT64)), symbol="symbol")
    table = Table(schema, [Segment(code, [None, np.arange(3, dtype=np.int64)]) for code in (4, 2)])
    (symbols,) = backend.select(SelectScan(Scan(table.snapshot, table.all_rows()), (table.column("symbol"),)))
    assert symbols.values.dtype == np.int32
    assert symbols.values.tolist() == [4, 4, 4, 2, 2, 2]
    chosen = Scan(table.snapshot, table.all_rows(), Comparison("=", table.column("symbol"), Constant(2, Kind.INT)))
    assert [to_list(v) for v in backend.select(SelectScan(chosen, (table.column("x"),)))] == [[0, 1, 2]]


def column(name: str) -> ColumnRef:
    index = QUOTES_SCHEMA.index(name)
    return ColumnRef(index, QUOTES_SCHEMA.fields[index].type)


def constants(kind: Kind, *values: float | None) -> st.SearchStrategy[Expression]:
    return st.sampled_from([Constant(v, kind) for v in values])


COMPARISON = st.sampled_from(COMPARISONS)
INTS: st.SearchStrategy[Expression] = st.recursive(
    st.sampled_from([column(n) for n in ("i64", "i32", "timestamp", "symbol", "text")])
    | constants(Kind.INT, None, 0, 1, -1, 3, 1000, INT64_MIN, INT64_MAX),
    lambda inner: (
        st.builds(Arithmetic, st.sampled_from(["+", "-", "*", "//", "%"]), inner, inner)
        | st.builds(Bucket, inner, st.sampled_from([1, 7, 1000]), st.sampled_from([0, 3, -5]))
    ),
    max_leaves=4,
)
FLOATS: st.SearchStrategy[Expression] = st.recursive(
    st.sampled_from([column("f64"), column("f32")])
    | constants(Kind.FLOAT, None, 0.0, -2.5, math.nan, math.inf)
    | st.builds(ToFloat, INTS),
    lambda inner: st.builds(Arithmetic, st.sampled_from(["+", "-", "*", "/"]), inner, inner),
    max_leaves=4,
)
BOOLEANS: st.SearchStrategy[Expression] = st.recursive(
    st.just(column("flag"))
    | constants(Kind.BOOL, None, True, False)
    | st.builds(Comparison, COMPARISON, INTS, INTS)
    | st.builds(Comparison, COMPARISON, FLOATS, FLOATS)
    | st.builds(InList, INTS, st.lists(st.integers(-20, 20), max_size=20).map(tuple))
    | st.builds(InList, FLOATS, st.lists(st.floats(), max_size=12).map(tuple))
    | st.builds(IsNull, INTS | FLOATS),
    lambda inner: (
        st.builds(Logical, st.sampled_from(["and", "or"]), inner, inner)
        | st.builds(Comparison, COMPARISON, inner, inner)
        | st.builds(Not, inner)
        | st.builds(IsNull, inner)
    ),
    max_leaves=5,
)
OUTPUTS = st.lists(INTS | FLOATS | BOOLEANS, min_size=1, max_size=3).map(tuple)


@SEARCH
@given(data=st.data())
def test_random_expressions_agree_with_plain_python(backend: Backend, data: st.DataObject) -> None:
    table = random_table(
        data.draw(st.integers(0, 10**6)),
        data.draw(st.lists(st.integers(0, 12), max_size=3)),
        null_share=data.draw(st.sampled_from([0.0, 0.5])),
        nan_share=0.2,
        time_origin=-10,
        time_span=20,
        largest=data.draw(st.sampled_from([2, 20, 2**62])),
    )
    outputs = data.draw(OUTPUTS)
    predicate = data.draw(st.none() | BOOLEANS)
    operation = SelectScan(Scan(table.snapshot, table.all_rows(), predicate), outputs)
    try:
        with np.errstate(all="ignore"):
            expected = oracle.select(table, operation)
    except (oracle.Int64ArithmeticError, OverflowError):
        if any(segment.rows for segment in table.segments):
            with pytest.raises(ArithmeticOverflowError):
                backend.select(operation)
        return
    try:
        vectors = backend.select(operation)
    except ArithmeticOverflowError:
        # AND and OR compute both sides, outputs only the chosen rows: Python stops where the first side decides.
        assert predicate is not None or any(isinstance(o, Logical) for o in outputs)
        return
    assert_columns(vectors, expected)


@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons_order_nan_and_infinities_as_duckdb(backend: Backend, op: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    numbers = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan]
    left = np.repeat(np.array(numbers), len(numbers))
    right = np.tile(np.array(numbers), len(numbers))
    schema = Schema((Field("a", ColumnType.FLOAT64), Field("b", ColumnType.FLOAT64)))
    table = Table(schema, [Segment(0, [left, right])])
    expression = Comparison(op, table.column("a"), table.column("b"))  # type: ignore[arg-type]
    (vector,) = backend.select(SelectScan(Scan(table.snapshot, table.all_rows()), (expression,)))
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT a {op} b FROM (SELECT unnest(?::DOUBLE[]) a, unnest(?::DOUBLE[]) b)",
            [left.tolist(), right.tolist()],
        ).fetchall()
    assert to_list(vector) == [row[0] for row in rows]


@pytest.mark.parametrize("op", ["+", "-", "*", "//", "%"])
def test_integer_arithmetic_agrees_with_duckdb_to_the_edge(backend: Backend, op: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    values = [0, 1, -1, 2, -2, 7, -7, 3037000500, INT64_MAX, INT64_MIN, INT64_MIN + 1]
    schema = Schema((Field("a", ColumnType.INT64), Field("b", ColumnType.INT64)))
    with duckdb.connect() as connection:
        for a in values:
            for b in values:
                table = Table(schema, [Segment(0, [np.array([a]), np.array([b])])])
                expression = Arithmetic(op, table.column("a"), table.column("b"))  # type: ignore[arg-type]
                operation = SelectScan(Scan(table.snapshot, table.all_rows()), (expression,))
                try:
                    expected: Any = connection.execute(f"SELECT ?::BIGINT {op} ?::BIGINT", [a, b]).fetchall()[0][0]
                except duckdb.Error:
                    with pytest.raises(ArithmeticOverflowError):
                        backend.select(operation)
                else:
                    assert to_list(backend.select(operation)[0]) == [expected], (a, op, b)


def test_overflow_in_rows_that_are_null_or_left_out_does_not_matter(backend: Backend) -> None:
    schema = Schema((Field("a", ColumnType.INT64), Field("b", ColumnType.INT64)))
    a = np.array([1, INT64_MAX, 3, INT64_MAX], dtype=np.int64)
    b = np.array([1, 1, 5, 2], dtype=np.int64)
    valid = np.array([True, False, True, True])
    table = Table(schema, [Segment(0, [a, b], [valid, None])])
    total = Arithmetic("+", table.column("a"), table.column("b"))
    scan = Scan(table.snapshot, table.all_rows(), Comparison("!=", table.column("b"), Constant(2, Kind.INT)))
    assert to_list(backend.select(SelectScan(scan, (total,)))[0]) == [2, None, 8]


def test_large_scan_with_predicate_agrees_with_numpy(backend: Backend) -> None:
    table = random_table(9, (200_000, 17, 90_000), time_span=10**9)
    scan = Scan(table.snapshot, table.all_rows(), Comparison(">", table.column("f64"), Constant(120.0, Kind.FLOAT)))
    price, size = table.column("f64"), table.column("i32")
    found = backend.select(SelectScan(scan, (price, size, Arithmetic("*", price, price)), offset=1000, limit=60_000))
    prices = np.concatenate([s.values[3] for s in table.segments])
    sizes = np.concatenate([s.values[4] for s in table.segments])
    chosen = prices > 120.0
    np.testing.assert_array_equal(found[0].values, prices[chosen][1000:61_000])
    np.testing.assert_array_equal(found[1].values, sizes[chosen][1000:61_000])
    np.testing.assert_array_equal(found[2].values, (prices[chosen] ** 2)[1000:61_000])


def test_a_few_rows_of_several_tiles_agree_with_numpy(backend: Backend) -> None:
    table = random_table(9, (3_000, 17, 4_000), time_span=10**9)
    scan = Scan(table.snapshot, table.all_rows(), Comparison(">", table.column("f64"), Constant(120.0, Kind.FLOAT)))
    found = backend.select(SelectScan(scan, (table.column("f64"),), offset=900, limit=40))
    prices = np.concatenate([s.values[3] for s in table.segments])
    np.testing.assert_array_equal(found[0].values, prices[prices > 120.0][900:940])
