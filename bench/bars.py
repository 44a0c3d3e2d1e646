"""One-minute OHLCV bars by symbol."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from bench.data import Trades
from bench.harness import Benchmark, ran_on
from zeptodb.demo.contenders import duckdb_sql, polars_lazy, zeptodb_sql

MINUTE_NS = 60_000_000_000
SQL = (
    f"SELECT symbol, xbar(timestamp, {MINUTE_NS}) AS bar, first(price) AS open, max(price) AS high, "
    f"min(price) AS low, last(price) AS close, sum(volume) AS volume FROM trades "
    f"GROUP BY symbol, xbar(timestamp, {MINUTE_NS})"
)
# rowid is the order of time with ties by arrival; DuckDB's own first() and last() do not promise any order
DUCKDB_SQL = (
    f"SELECT symbol, timestamp // {MINUTE_NS} * {MINUTE_NS} AS bar, arg_min(price, rowid) AS open, "
    f"max(price) AS high, min(price) AS low, arg_max(price, rowid) AS close, sum(volume) AS volume "
    f"FROM trades GROUP BY ALL"
)


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """SQL bars by symbol and minute."""
    price = pl.col("price")
    query = (
        trades.frame.lazy()
        .group_by("symbol", bar=pl.col("timestamp") // MINUTE_NS * MINUTE_NS)
        .agg(open=price.first(), high=price.max(), low=price.min(), close=price.last(), volume=pl.col("volume").sum())
    )
    yield Benchmark(
        "1-minute OHLCV by symbol, bar",
        (zeptodb_sql(trades.pipeline, SQL), duckdb_sql(trades.connection, DUCKDB_SQL), polars_lazy(query)),
        keys=("symbol", "bar"),
        rows=trades.rows,
        ran_on=ran_on(trades.pipeline, SQL),
    )
