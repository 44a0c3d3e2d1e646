"""Statements that DuckDB must run: over rows pruned by us and over all of them, beside DuckDB on its own table."""

from __future__ import annotations

from collections.abc import Iterator

from bench.data import DAY_NS, DAY_START_NS, Trades
from bench.harness import Benchmark, ran_on
from zeptodb.demo.contenders import duckdb_sql, zeptodb_sql

SYMBOL = 7
FROM_NS, TO_NS = DAY_START_NS + DAY_NS // 4, DAY_START_NS + DAY_NS // 2
PRUNED = (
    "SELECT median(price) AS median, count(DISTINCT price) AS prices, count(*) AS ticks FROM trades "
    f"WHERE symbol = {SYMBOL} AND timestamp >= {FROM_NS} AND timestamp < {TO_NS}"
)
UNPRUNED = {
    "median by symbol in DuckDB, all rows": "SELECT symbol, median(price) AS median FROM trades GROUP BY symbol",
    "count(DISTINCT) in DuckDB, all rows": (
        "SELECT price % 10 AS digit, count(DISTINCT volume) AS volumes, max(timestamp) AS latest FROM trades "
        "WHERE volume > 500 GROUP BY digit"
    ),
}
KEYS = {"median by symbol in DuckDB, all rows": ("symbol",), "count(DISTINCT) in DuckDB, all rows": ("digit",)}


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """A median of one symbol's quarter of a day, and statements over every row."""
    yield Benchmark(
        "median of a symbol and a time range in DuckDB",
        (zeptodb_sql(trades.pipeline, PRUNED), duckdb_sql(trades.connection, PRUNED)),
        ran_on=ran_on(trades.pipeline, PRUNED),
    )
    for name, sql in UNPRUNED.items():
        yield Benchmark(
            name,
            (zeptodb_sql(trades.pipeline, sql), duckdb_sql(trades.connection, sql)),
            keys=KEYS[name],
            rows=trades.rows,
            ran_on=ran_on(trades.pipeline, sql),
        )
