"""The rows that benchmarks run on: int64 ticks, symbols in no order, stamps ascending over one day."""

from __future__ import annotations

from functools import cached_property

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

import zeptodb

DAY_START_NS = 1_717_421_400_000_000_000  # 2024-06-03 13:30 UTC
DAY_NS = 23_400_000_000_000
FIRST_PRICE = 10_000


def trades_table(rows: int, symbols: int, *, seed: int = 1) -> pa.Table:
    """Trades as Arrow: symbol, price, volume, timestamp, all int64; every symbol equally active."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "symbol": random.integers(0, symbols, rows),
            "price": FIRST_PRICE + random.integers(0, 5_000, rows),
            "volume": random.integers(1, 1_000, rows),
            "timestamp": stamps(random, rows),
        }
    )


def quotes_table(rows: int, symbols: int, *, seed: int = 2) -> pa.Table:
    """Quotes as Arrow: symbol, bid, ask, timestamp, all int64; no two of one stamp, as DuckDB takes any of several."""
    random = np.random.default_rng(seed)
    bids = FIRST_PRICE + random.integers(0, 5_000, rows)
    return pa.table(
        {
            "symbol": random.integers(0, symbols, rows),
            "bid": bids,
            "ask": bids + random.integers(1, 20, rows),
            "timestamp": DAY_START_NS + np.arange(rows) * (DAY_NS // rows),
        }
    )


def stamps(random: np.random.Generator, rows: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Ascending stamps over the day."""
    return np.sort(random.integers(DAY_START_NS, DAY_START_NS + DAY_NS, rows))


class Trades:
    """One trades table, in every engine that asks for it, loaded when first used."""

    def __init__(self, rows: int, symbols: int) -> None:
        self.rows = rows
        self.symbols = symbols

    @cached_property
    def arrow(self) -> pa.Table:
        """The rows in order of arrival."""
        return trades_table(self.rows, self.symbols)

    @cached_property
    def pipeline(self) -> zeptodb.Pipeline:
        """ZeptoDB with the rows in the default table."""
        pipeline = zeptodb.Pipeline()
        columns = [self.arrow[name] for name in ("symbol", "price", "volume", "timestamp")]
        pipeline.ingest_batch(*columns)
        return pipeline

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB with the rows in a table of its own."""
        connection = duckdb.connect()
        connection.register("arrow_trades", self.arrow)
        connection.execute("CREATE TABLE trades AS FROM arrow_trades")
        connection.unregister("arrow_trades")
        return connection

    @cached_property
    def frame(self) -> pl.DataFrame:
        """Polars with the rows in one chunk."""
        return pl.DataFrame(self.arrow).rechunk()
