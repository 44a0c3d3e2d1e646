"""Filters on values: a count, and VWAP by symbol of what passes."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from bench.data import FIRST_PRICE, Trades
from bench.harness import Benchmark, ran_on
from zeptodb.demo.contenders import duckdb_sql, polars_lazy, zeptodb_sql

PRICE = FIRST_PRICE + 3_000
VOLUME = 500
COUNT_SQL = f"SELECT count(*) AS ticks FROM trades WHERE price > {PRICE}"
WHERE = f"FROM trades WHERE price > {PRICE} AND volume < {VOLUME} GROUP BY symbol"


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """count(*) WHERE price > x; VWAP by symbol WHERE price > x AND volume < y."""
    lazy = trades.frame.lazy()
    yield Benchmark(
        "count(*) WHERE price > x",
        (
            zeptodb_sql(trades.pipeline, COUNT_SQL),
            duckdb_sql(trades.connection, COUNT_SQL),
            polars_lazy(lazy.filter(pl.col("price") > PRICE).select(ticks=pl.len())),
        ),
        rows=trades.rows,
        row_bytes=8,
        ran_on=ran_on(trades.pipeline, COUNT_SQL),
    )
    sql = f"SELECT symbol, vwap(price, volume) AS vwap {WHERE}"
    query = (
        lazy.filter((pl.col("price") > PRICE) & (pl.col("volume") < VOLUME))
        .group_by("symbol")
        .agg(vwap=(pl.col("price") * pl.col("volume")).sum() / pl.col("volume").sum())
    )
    yield Benchmark(
        "vwap by symbol WHERE price > x AND volume < y",
        (
            zeptodb_sql(trades.pipeline, sql),
            duckdb_sql(trades.connection, f"SELECT symbol, sum(price * volume) / sum(volume) AS vwap {WHERE}"),
            polars_lazy(query),
        ),
        keys=("symbol",),
        rows=trades.rows,
        row_bytes=16,
        ran_on=ran_on(trades.pipeline, sql),
    )
