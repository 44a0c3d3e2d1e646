"""TopScan of every backend against sorting in plain Python."""

from __future__ import annotations

import math
from typing import Any

import pytest

from zeptodb.backends.base import Backend, Scan, TooManyRowsError, TopScan
from zeptodb.backends.expression import Arithmetic, Comparison, Constant, Kind

from . import oracle
from .build import Table, random_table, ranges
from .compare import is_close, to_list

MAX_ROWS = 10**6


def rank(value: Any, operation: TopScan) -> tuple[Any, ...]:
    """What sorts as DuckDB does: NULL where asked, NaN above all numbers."""
    if value is None:
        return (0 if operation.nulls_first else 2, 0, 0.0)
    is_nan = math.isnan(value)
    number = 0.0 if is_nan else value
    return (1, not is_nan, -number) if operation.is_descending else (1, is_nan, number)


def check(backend: Backend, table: Table, operation: TopScan) -> None:
    """Sorting what came back by the key, stably, gives the first rows of everything sorted by the key."""
    rows = list(oracle.rows_of(table, operation.scan))
    keys = [rank(oracle.evaluate(table, s, r, operation.key), operation) for s, r in rows]
    wanted = sorted(range(len(rows)), key=keys.__getitem__)[: operation.limit]
    found = [to_list(v) for v in backend.top(operation)]
    places = sorted(range(len(found[0])), key=lambda i: rank(found[0][i], operation))[: operation.limit]
    for output, column in zip(operation.outputs, found, strict=True):
        expected = [oracle.evaluate(table, *rows[i], output) for i in wanted]
        actual = [column[i] for i in places]
        assert len(actual) == len(expected)
        assert all(is_close(a, b) for a, b in zip(actual, expected, strict=True))
    if not operation.is_only_key and wanted:
        last = keys[wanted[-1]]
        assert len(found[0]) >= sum(k <= last for k in keys)


def operations(table: Table, scan: Scan, name: str, limit: int) -> list[TopScan]:
    key = table.column(name)
    outputs = (key, table.column("i64"), table.column("symbol"), table.column("timestamp"))
    return [
        TopScan(scan, key, is_descending, nulls_first, is_only_key, outputs, limit, MAX_ROWS)
        for is_descending in (True, False)
        for nulls_first in (True, False)
        for is_only_key in (True, False)
    ]


@pytest.mark.parametrize("name", ["i64", "f64", "i32", "f32", "timestamp", "symbol"])
@pytest.mark.parametrize("limit", [0, 1, 7, 200])
@pytest.mark.parametrize(("null_share", "nan_share"), [(0.0, 0.0), (0.3, 0.02)])
def test_the_first_rows_agree_with_plain_python(
    backend: Backend, name: str, limit: int, null_share: float, nan_share: float
) -> None:
    table = random_table(4, (600, 0, 1, 37), null_share=null_share, nan_share=nan_share, largest=40)
    scan = Scan(table.snapshot, table.all_rows())
    for operation in operations(table, scan, name, limit):
        check(backend, table, operation)


def test_many_pieces_give_a_bound(backend: Backend) -> None:
    table = random_table(6, (9_000, 3_000, 2_000), largest=10**9, nan_share=0.001, null_share=0.01)
    inside = ranges([(2, 100, 1_900), (0, 3, 8_999)])
    above = Comparison(">", table.column("i64"), Constant(-(10**8), Kind.INT))
    for scan in (Scan(table.snapshot, table.all_rows()), Scan(table.snapshot, inside, above)):
        for name in ("i64", "f64"):
            for operation in operations(table, scan, name, 3):
                check(backend, table, operation)


def test_expressions_sort_too(backend: Backend) -> None:
    table = random_table(7, (500, 40))
    key = Arithmetic("-", table.column("i64"), table.column("i32"))
    scan = Scan(table.snapshot, table.all_rows())
    check(backend, table, TopScan(scan, key, True, False, True, (key, table.column("f64")), 9, MAX_ROWS))


def test_too_many_equal_rows_are_refused(backend: Backend) -> None:
    table = random_table(8, (9_000,), largest=0)
    scan, key = Scan(table.snapshot, table.all_rows()), table.column("i64")
    with pytest.raises(TooManyRowsError):
        backend.top(TopScan(scan, key, True, False, False, (key,), 5, 100))
    assert len(backend.top(TopScan(scan, key, True, False, True, (key,), 5, 100))[0].values) == 5
