"""Aggregates by a column of few strings."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

import zeptodb
from bench.data import Trades
from bench.harness import Benchmark, ran_on
from zeptodb.demo.contenders import duckdb_sql, polars_lazy, zeptodb_sql

VENUES = 50
TABLE = "CREATE TABLE fills (symbol INT64, price INT64, volume INT64, timestamp TIMESTAMP_NS, venue STRING)"
SQL = "SELECT venue, sum(volume) AS volume, count(*) AS ticks, avg(price) AS price FROM fills GROUP BY venue"


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """Sum, count and average by one of 50 strings."""
    codes = np.random.default_rng(3).integers(0, VENUES, trades.rows, dtype=np.int32)
    names = pa.array([f"venue {k:02}" for k in range(VENUES)])
    venues = pa.DictionaryArray.from_arrays(pa.array(codes), names)
    arrow = trades.arrow.append_column("venue", venues)
    with zeptodb.Pipeline() as pipeline, duckdb.connect() as connection:
        pipeline.execute(TABLE).raise_for_error()
        pipeline.append("fills", arrow)
        connection.register("arrow_fills", arrow)
        connection.execute("CREATE TABLE fills AS SELECT * REPLACE (venue::VARCHAR AS venue) FROM arrow_fills")
        connection.unregister("arrow_fills")
        query = (
            pl.DataFrame(arrow)
            .with_columns(pl.col("venue").cast(pl.Categorical))
            .lazy()
            .group_by("venue")
            .agg(volume=pl.col("volume").sum(), ticks=pl.len(), price=pl.col("price").mean())
        )
        yield Benchmark(
            f"sum, count and avg by a string of {VENUES} values",
            (zeptodb_sql(pipeline, SQL), duckdb_sql(connection, SQL), polars_lazy(query)),
            keys=("venue",),
            rows=trades.rows,
            row_bytes=20,
            ran_on=ran_on(pipeline, SQL),
        )
