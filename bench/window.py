"""Window functions by symbol in the order of time: a moving average, mean, deviation and maximum, over all rows."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from bench.data import Trades
from bench.harness import Benchmark, ran_on
from zeptodb.demo.comparison import Contender
from zeptodb.demo.contenders import duckdb_sql, polars_lazy, zeptodb_sql

SPAN = 20
ROWS = 20
LONG_ROWS = 1_000


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """Each with symbol, time and price beside it, all rows out. DuckDB has no ema; rowid is the order of time there."""
    price = pl.col("price")
    questions = [
        (f"ema(price, {SPAN}) by symbol", f"ema(price, {SPAN})", "", None, price.ewm_mean(span=SPAN, adjust=False)),
        *(
            (
                f"{name}(price) by symbol over {rows:,} rows",
                f"{name}(price)",
                f" ROWS {rows - 1} PRECEDING",
                f"{name}(price)",
                rolled,
            )
            for name, rows, rolled in (
                ("avg", ROWS, price.rolling_mean(ROWS, min_samples=1)),
                ("avg", LONG_ROWS, price.rolling_mean(LONG_ROWS, min_samples=1)),
                ("stddev", ROWS, price.rolling_std(ROWS, min_samples=2)),
                ("max", ROWS, price.rolling_max(ROWS, min_samples=1)),
            )
        ),
    ]
    trades.connection.execute("CREATE OR REPLACE TABLE numbered AS SELECT *, rowid AS arrival FROM trades")
    for name, ours, frame, theirs, rolled in questions:
        sql = f"SELECT symbol, timestamp, price, {ours} OVER (PARTITION BY symbol ORDER BY timestamp{frame}) AS v"
        contenders: list[Contender] = [zeptodb_sql(trades.pipeline, f"{sql} FROM trades")]
        if theirs is not None:
            over = f"{theirs} OVER (PARTITION BY symbol ORDER BY arrival{frame}) AS v"
            contenders.append(duckdb_sql(trades.connection, f"SELECT symbol, timestamp, price, {over} FROM numbered"))
        query = trades.frame.lazy().select("symbol", "timestamp", "price", v=rolled.over("symbol"))
        yield Benchmark(
            name,
            (*contenders, polars_lazy(query)),
            keys=("symbol", "timestamp", "price", "v"),
            rows=trades.rows,
            ran_on=ran_on(trades.pipeline, f"{sql} FROM trades"),
            most_runs=5,
        )
    trades.connection.execute("DROP TABLE numbered")
