"""VWAP of one symbol in a range of time."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from bench.data import Trades
from bench.harness import Benchmark, ran_on
from zeptodb.demo.contenders import duckdb_sql, polars_lazy, zeptodb_sql

ROWS_IN_RANGE = 10_000


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """SQL VWAP of the rows in the middle of one symbol's day, 10,000 of them where it has so many."""
    symbol = trades.symbols // 2
    stamps = trades.pipeline.get_column(symbol, "timestamp")
    rows = min(ROWS_IN_RANGE, len(stamps))
    first = (len(stamps) - rows) // 2
    low, high = int(stamps[first]), int(stamps[first + rows - 1])
    where = f"FROM trades WHERE symbol = {symbol} AND timestamp BETWEEN {low} AND {high}"
    sql = f"SELECT vwap(price, volume) AS vwap, count(*) AS ticks {where}"
    duckdb = f"SELECT sum(price * volume) / sum(volume) AS vwap, count(*) AS ticks {where}"
    query = (
        trades.frame.lazy()
        .filter((pl.col("symbol") == symbol) & pl.col("timestamp").is_between(low, high))
        .select(vwap=(pl.col("price") * pl.col("volume")).sum() / pl.col("volume").sum(), ticks=pl.len())
    )
    yield Benchmark(
        f"vwap of one symbol, {rows:,} rows in a time range",
        (zeptodb_sql(trades.pipeline, sql), duckdb_sql(trades.connection, duckdb), polars_lazy(query)),
        ran_on=ran_on(trades.pipeline, sql),
    )
