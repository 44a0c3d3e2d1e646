"""GROUP BY keys, first and last over symbols, and top rows: native, and equal to DuckDB."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.fallback_host import Host
from tests.sql.slow_backend import SlowBackend
from tests.sql.statements_to_compare import Statement
from tests.sql.tables_to_compare import make_host
from tests.sql.test_native_equals_duckdb import compare
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.sql import QueryExecutor, native

GROUPS = [
    "SELECT side, count(*) FROM ticks GROUP BY side",
    "SELECT side, sum(amount) AS s, avg(price), min(size), max(ratio), stddev(price) FROM ticks GROUP BY side",
    "SELECT side, is_open, count(*) FROM ticks GROUP BY side, is_open",
    "SELECT symbol, side, vwap(price, size) AS v, last(side) AS l FROM ticks GROUP BY symbol, side",
    "SELECT side, xbar(timestamp, 60000000000) AS b, first(price) AS o FROM ticks WHERE amount > 0 GROUP BY b, side",
    "SELECT count(*) FILTER (WHERE price > 10) AS n, side FROM ticks GROUP BY 2 HAVING count(*) > 3",
    "SELECT DISTINCT side, is_open FROM ticks",
    "SELECT DISTINCT symbol, side FROM ticks WHERE price IS NOT NULL",
    "SELECT price % 5 AS k, price % 5 * 2 AS twice, count(*) AS n FROM trades GROUP BY k",
    "SELECT volume // 10, sum(price) FROM trades GROUP BY 1",
    "SELECT price, count(*) FROM trades WHERE symbol IN (1, 2) GROUP BY price",
    "SELECT symbol = 2 AS two, count(*) AS n FROM trades GROUP BY two",
    "SELECT count(*) FROM ticks WHERE size > 5 GROUP BY side",
    "SELECT side, count(*) FROM ticks WHERE false GROUP BY side",
    "SELECT timestamp, depth, count(*) FROM quotes WHERE symbol = 3 AND timestamp < 1700000030000000000 GROUP BY 1, 2",
]
ENDS = [
    "SELECT first(price), last(price) FROM trades",
    "SELECT first(volume) AS f, last(volume) AS l FROM trades WHERE symbol IN (4, 1, 2) AND price > 3",
    "SELECT last(side) AS s, first(is_open) AS o, count(*) AS n FROM ticks WHERE size IS NOT NULL",
    "SELECT xbar(timestamp, 60000000000) AS b, first(price) AS o, last(price) AS c FROM trades GROUP BY b",
    "SELECT first(price) FILTER (WHERE volume > 10) AS f FROM trades WHERE symbol > 1",
    "SELECT side, last(price) AS l FROM ticks WHERE symbol IN ('IBM', 'AIG', 'BAC') GROUP BY side",
]
TOPS = [
    "SELECT price FROM trades ORDER BY price DESC LIMIT 10",
    "SELECT price, volume, symbol, timestamp FROM trades ORDER BY price, volume DESC, symbol, timestamp LIMIT 7",
    "SELECT price, amount FROM ticks ORDER BY price DESC, amount LIMIT 12 OFFSET 3",
    "SELECT price FROM ticks ORDER BY price NULLS FIRST LIMIT 5",
    "SELECT ratio AS r FROM ticks WHERE side = 'B' ORDER BY r DESC NULLS LAST LIMIT 5",
    "SELECT timestamp FROM quotes ORDER BY timestamp DESC LIMIT 3",
    "SELECT bid * 2 AS twice FROM quotes WHERE symbol != 3 ORDER BY twice LIMIT 4",
    "SELECT side, price FROM ticks ORDER BY side, price LIMIT 4",
    "SELECT price FROM trades ORDER BY price LIMIT 0",
]


@pytest.fixture(scope="module", params=["slow", "cpu"])
def host(request: pytest.FixtureRequest) -> Host:
    backend: Any = SlowBackend(AnonymousMemory()) if request.param == "slow" else CpuBackend(threads=2)
    return make_host(backend, 300, 11)


@pytest.mark.parametrize("sql", [*GROUPS, *ENDS])
def test_groups_are_native_and_equal(sql: str, host: Host) -> None:
    assert compare(host, Statement(sql, is_ordered=False, is_plain=False))


@pytest.mark.parametrize("sql", TOPS)
def test_top_rows_are_native_and_equal(sql: str, host: Host) -> None:
    assert compare(host, Statement(sql, is_ordered=True, is_plain=True))


@pytest.mark.parametrize("direction", ["", " DESC"])
def test_equal_keys_keep_the_order_of_rows(direction: str, host: Host) -> None:
    """As the fallback has them: by segment, then by time, then by arrival."""
    every = QueryExecutor(host).execute("SELECT price, volume, symbol, timestamp FROM trades").rows
    expected = sorted(every, key=lambda row: -row[0] if direction else row[0])[:20]
    sql = f"SELECT price, volume, symbol, timestamp FROM trades ORDER BY price{direction} LIMIT 20"
    assert QueryExecutor(host).execute(sql).rows == expected


def test_groups_come_in_the_order_of_their_strings(host: Host) -> None:
    rows = QueryExecutor(host).execute("SELECT symbol, side FROM ticks GROUP BY symbol, side").rows
    assert rows == sorted(rows, key=lambda row: (row[0], row[1] is None, row[1] or ""))


def test_keys_that_span_too_much_run_in_duckdb_and_say_so(host: Host) -> None:
    result = QueryExecutor(host).execute("SELECT price * 1000000 AS k, count(*) AS n FROM trades GROUP BY k")
    if host.backend.name == "cpu":
        assert result.engine == "duckdb"
        assert "span too many values" in result.plan
    assert len(result) == len({row[0] for row in QueryExecutor(host).execute("SELECT price FROM trades").rows})


def test_a_top_that_cannot_be_told_apart_runs_in_duckdb(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "MAX_SORTED_ROWS", 100)
    result = QueryExecutor(host).execute("SELECT symbol, price FROM trades ORDER BY symbol, price LIMIT 3")
    assert result.ok()
    if host.backend.name == "cpu":
        assert result.engine == "duckdb"
