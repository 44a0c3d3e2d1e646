"""The rows of the highest prices."""

from __future__ import annotations

from collections.abc import Iterator

from bench.data import Trades
from bench.harness import Benchmark, ran_on
from zeptodb.demo.contenders import duckdb_sql, polars_lazy, zeptodb_sql

ROWS = 10
SQL = f"SELECT price FROM trades ORDER BY price DESC LIMIT {ROWS}"
WIDE_SQL = f"SELECT * FROM trades ORDER BY price DESC, volume DESC, timestamp, symbol LIMIT {ROWS}"


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """ORDER BY price DESC LIMIT 10, and all columns with ties decided."""
    lazy = trades.frame.lazy()
    keys = ["price", "volume", "timestamp", "symbol"]
    wide = lazy.top_k(ROWS, by=keys, reverse=[False, False, True, True])
    for name, sql, query in (
        (f"ORDER BY price DESC LIMIT {ROWS}", SQL, lazy.select("price").top_k(ROWS, by="price")),
        (
            f"all columns ORDER BY four keys LIMIT {ROWS}",
            WIDE_SQL,
            wide.select("symbol", "price", "volume", "timestamp"),
        ),
    ):
        yield Benchmark(
            name,
            (zeptodb_sql(trades.pipeline, sql), duckdb_sql(trades.connection, sql), polars_lazy(query)),
            keys=tuple(keys) if sql is WIDE_SQL else ("price",),
            rows=trades.rows,
            row_bytes=8,
            ran_on=ran_on(trades.pipeline, sql),
        )
