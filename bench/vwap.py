"""VWAP and volume by symbol, and how near that comes to the speed of memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pyarrow as pa

import zeptodb
from bench.data import Trades
from bench.harness import Benchmark, ran_on
from zeptodb.demo.comparison import Contender
from zeptodb.demo.contenders import duckdb_sql, polars_lazy, zeptodb_sql

SQL = "SELECT symbol, vwap(price, volume) AS vwap, sum(volume) AS volume FROM trades GROUP BY symbol"
DUCKDB_SQL = (
    "SELECT symbol, sum(price * volume) / sum(volume) AS vwap, sum(volume) AS volume FROM trades GROUP BY symbol"
)
SIX = "max(price) AS high, min(price) AS low, avg(price) AS mean, stddev(price) AS deviation"
SIX_SQL = f"SELECT symbol, first(price) AS open, last(price) AS close, {SIX} FROM trades GROUP BY symbol"
# rowid is the order of time with ties by arrival; DuckDB's own first() and last() do not promise any order
DUCKDB_SIX_SQL = (
    f"SELECT symbol, arg_min(price, rowid) AS open, arg_max(price, rowid) AS close, {SIX} FROM trades GROUP BY symbol"
)


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """SQL VWAP and volume by symbol, scanned (numpy.sum over the same two columns as a yardstick) and from summaries;
    and six other aggregates at once.
    """
    query = (
        trades.frame.lazy()
        .group_by("symbol")
        .agg(
            vwap=(pl.col("price") * pl.col("volume")).sum() / pl.col("volume").sum(),
            volume=pl.col("volume").sum(),
        )
    )
    scanning = zeptodb.Pipeline(zeptodb.PipelineConfig(summaries=False))
    scanning.append("trades", trades.arrow)
    for pipeline, how, rows in ((scanning, "scanned", trades.rows), (trades.pipeline, "from summaries", 0)):
        yield Benchmark(
            f"vwap + sum(volume) by symbol, {how}",
            (zeptodb_sql(pipeline, SQL), duckdb_sql(trades.connection, DUCKDB_SQL), polars_lazy(query)),
            keys=("symbol",),
            rows=rows,
            row_bytes=16,
            ran_on=ran_on(pipeline, SQL),
            yardstick=yardstick(trades) if rows else None,
        )
    price = pl.col("price")
    six = (
        trades.frame.lazy()
        .group_by("symbol")
        .agg(
            open=price.first(),
            close=price.last(),
            high=price.max(),
            low=price.min(),
            mean=price.mean(),
            deviation=price.std(),
        )
    )
    yield Benchmark(
        "first, last, min, max, avg, stddev by symbol, scanned",
        (zeptodb_sql(scanning, SIX_SQL), duckdb_sql(trades.connection, DUCKDB_SIX_SQL), polars_lazy(six)),
        keys=("symbol",),
        rows=trades.rows,
        row_bytes=8,
        ran_on=ran_on(scanning, SIX_SQL),
    )
    scanning.stop()


def yardstick(trades: Trades) -> Contender:
    """numpy.sum of price and volume, half of the rows in each of two threads."""
    columns = [trades.arrow[name].to_numpy() for name in ("price", "volume")]
    half = trades.rows // 2
    halves = (slice(0, half), slice(half, None))
    executor = ThreadPoolExecutor(2)

    def add_up() -> pa.Table:
        sums = executor.map(lambda rows: [int(column[rows].sum()) for column in columns], halves)
        return pa.table({"sum": [sum(part) for part in zip(*sums, strict=True)]})

    return Contender("numpy.sum of both columns, 2 threads", add_up)
