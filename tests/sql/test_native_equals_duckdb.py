"""Native answers equal DuckDB's: column names, types, values and, under ORDER BY, order."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.sql.fallback_host import Host, field
from tests.sql.slow_backend import SlowBackend
from tests.sql.statements_to_compare import Generator, Statement
from tests.sql.tables_to_compare import make_host
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.sql import QueryExecutor
from zeptodb.sql.dialect import parse
from zeptodb.sql.fallback import run_fallback
from zeptodb.sql.result import QueryResult
from zeptodb.types import ColumnType, Schema

STATEMENTS = 60
MIN_NATIVE_SHARE = 0.8
REAL_UNTIL_NS = 1_381_161_600_000_000_000 - 3 * 3_600_000_000_000
"""Ticks of the first day, until 13:00 in New York."""
REAL_TYPES = {
    "string": ColumnType.STRING,
    "large_string": ColumnType.STRING,
    "double": ColumnType.FLOAT64,
    "int64": ColumnType.INT64,
    "int32": ColumnType.INT32,
    "int8": ColumnType.INT32,
    "bool": ColumnType.BOOL,
}


def same(left: Any, right: Any) -> bool:
    """Equal, floats to 1e-9 relative (absolute near zero, where terms cancel)."""
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    return type(left) is type(right) and left == right


def _sort_key(row: list[Any]) -> tuple[Any, ...]:
    exact = tuple((v is None, str(v)) for v in row if not isinstance(v, float))
    floats = tuple(
        (v is None or (isinstance(v, float) and math.isnan(v)), round(v, 6) if isinstance(v, float) else 0.0)
        for v in row
    )
    return exact, tuple((flag, 0.0 if flag else value) for flag, value in floats)


def assert_same(native: QueryResult, truth: QueryResult, statement: Statement) -> None:
    """Both results agree."""
    assert native.column_names == truth.column_names, f"{native.column_names} is not {truth.column_names}"
    types = [[str(t) for t in result.to_arrow().schema.types] for result in (native, truth)]
    assert types[0] == types[1], f"{types[0]} is not {types[1]}"
    left, right = native.rows, truth.rows
    assert len(left) == len(right), f"{len(left)} rows are not {len(right)}"
    if not statement.is_ordered:
        left, right = sorted(left, key=_sort_key), sorted(right, key=_sort_key)
    for a, b in zip(left, right, strict=True):
        assert all(same(x, y) for x, y in zip(a, b, strict=True)), f"{a} is not {b}"


def compare(host: Any, statement: Statement) -> bool:
    """Run one statement both ways; whether it ran natively."""
    result = QueryExecutor(host).execute(statement.sql)
    assert result.ok(), f"{statement.sql}\n{result.error}"
    if not result.engine.startswith("native:"):
        return False
    (expression,) = parse(statement.sql)
    answer = run_fallback(host, expression, text=statement.sql)
    truth = QueryResult.from_arrow(answer.table)
    try:
        assert_same(native=result, truth=truth, statement=statement)
        if statement.is_plain:
            own = QueryResult.from_arrow(host.oracle.sql(statement.sql).to_arrow_table())
            assert_same(native=result, truth=own, statement=statement)
    except AssertionError as error:
        raise AssertionError(f"{statement.sql}\n{result.plan}\n{error}") from error
    return True


@pytest.fixture(scope="module", params=["slow", "cpu"])
def backend(request: pytest.FixtureRequest) -> Any:
    return SlowBackend(AnonymousMemory()) if request.param == "slow" else CpuBackend(threads=2)


@pytest.mark.parametrize(("rows", "seed"), [(0, 1), (1, 2), (40, 3), (300, 4)])
def test_random_statements_agree_with_duckdb(backend: Any, rows: int, seed: int) -> None:
    host = make_host(backend, rows, seed)
    generator = Generator(seed)
    native = [compare(host, generator.statement()) for _ in range(STATEMENTS)]
    assert sum(native) >= MIN_NATIVE_SHARE * STATEMENTS


REAL_STATEMENTS = [
    "SELECT symbol, vwap(price, size) AS vwap, sum(size) AS volume, count(*) AS n FROM trades GROUP BY symbol",
    (
        "SELECT symbol, xbar(timestamp, INTERVAL '5 minutes') AS bar, first(price) AS o, max(price) AS h, "
        "min(price) AS l, last(price) AS c, sum(size) AS v FROM trades GROUP BY symbol, bar ORDER BY symbol, bar"
    ),
    "SELECT count(*) AS n, avg(price) AS p FROM trades WHERE exchange = 'P' AND suspicious = 0 AND price > 100",
    "SELECT t.symbol, t.timestamp, t.price, q.bid, q.ask FROM trades t ASOF JOIN quotes q USING (symbol, timestamp)",
    (
        "SELECT t.symbol, count(*) AS n, count(*) FILTER (WHERE t.price BETWEEN q.bid AND q.ask) AS inside "
        "FROM trades t ASOF JOIN quotes q ON t.symbol = q.symbol AND t.timestamp >= q.timestamp GROUP BY t.symbol"
    ),
    "SELECT * FROM trades WHERE symbol = 'IBM' AND timestamp >= '2013-10-07 15:00' AND timestamp < '2013-10-07 15:01'",
]


@pytest.fixture(scope="module")
def real_host() -> Host:
    folder = Path(os.environ.get("ZEPTODB_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "us_equities"
    if not folder.is_dir():
        pytest.skip(f"no real ticks: {folder} is not there (set ZEPTODB_TEST_DATA)")
    host = Host()
    host.backend = CpuBackend(threads=2)
    for name in ("trades", "quotes"):
        table = pq.read_table(folder / f"{name}.parquet", filters=[("timestamp", "<", REAL_UNTIL_NS)])
        fields = tuple(
            field(column.name, ColumnType.TIMESTAMP_NS if column.name == "timestamp" else REAL_TYPES[str(column.type)])
            for column in table.schema
        )
        host.catalog.create(name, Schema(fields, symbol="symbol", timestamp="timestamp"))
        host.append(name, {c: table[c] for c in table.column_names})
    return host


@pytest.mark.parametrize("sql", REAL_STATEMENTS)
def test_real_ticks_agree_with_duckdb(sql: str, real_host: Host) -> None:
    assert compare(real_host, Statement(sql, is_ordered="ORDER BY" in sql, is_plain=False))
