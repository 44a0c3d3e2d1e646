"""The as-of join of trades to the quotes in force."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import polars as pl

import zeptodb
from bench.data import Trades, quotes_table, trades_table
from bench.harness import Benchmark, ran_on
from zeptodb.demo.contenders import duckdb_sql, polars_lazy, zeptodb_sql

TRADES_PER_ROW = 0.2
SQL = (
    "SELECT t.symbol AS symbol, t.timestamp AS timestamp, t.price AS price, q.bid AS bid, q.ask AS ask "
    "FROM trades t ASOF JOIN quotes q ON t.symbol = q.symbol AND t.timestamp >= q.timestamp"
)


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """A fifth as many trades as there are quotes, five columns out."""
    left = trades_table(max(1, round(trades.rows * TRADES_PER_ROW)), trades.symbols, seed=3)
    right = quotes_table(trades.rows, trades.symbols)
    pipeline = zeptodb.Pipeline()
    pipeline.ingest_batch(*(left[name] for name in ("symbol", "price", "volume", "timestamp")))
    pipeline.append("quotes", right)
    connection = duckdb.connect()
    for name, table in (("trades", left), ("quotes", right)):
        connection.register("loading", table)
        connection.execute(f"CREATE TABLE {name} AS FROM loading")
        connection.unregister("loading")
    query = (
        pl.DataFrame(left)
        .lazy()
        .join_asof(pl.DataFrame(right).lazy(), on="timestamp", by="symbol", check_sortedness=False)
        .filter(pl.col("bid").is_not_null())
        .select("symbol", "timestamp", "price", "bid", "ask")
    )
    yield Benchmark(
        f"ASOF JOIN, {left.num_rows / 1e6:g} M trades to {right.num_rows / 1e6:g} M quotes",
        (zeptodb_sql(pipeline, SQL), duckdb_sql(connection, SQL), polars_lazy(query)),
        keys=("symbol", "timestamp", "price", "bid", "ask"),
        rows=left.num_rows + right.num_rows,
        ran_on=ran_on(pipeline, SQL),
    )
    pipeline.stop()
    connection.close()
