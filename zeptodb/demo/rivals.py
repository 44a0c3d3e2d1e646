"""DuckDB and polars with the demo's rows in memory, each in its own native table."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from zeptodb.demo.comparison import Contender
from zeptodb.demo.contenders import duckdb_sql, polars_lazy
from zeptodb.demo.jobs import Job
from zeptodb.demo.ticks import Ticks
from zeptodb.record import record

if TYPE_CHECKING:
    import duckdb
    import polars as pl


@record
class Rivals:
    """The other engines, loaded.

    Attributes:
        connection: DuckDB with tables trades and quotes in time order.
        trades, quotes: polars frames in time order; quotes are empty when the ticks have none.
        duckdb_load_seconds: time that DuckDB took to copy trades and quotes into its tables.
        tied_quotes: quotes left out of DuckDB's table, because a later one has the same symbol and stamp.
    """

    connection: duckdb.DuckDBPyConnection
    trades: pl.DataFrame
    quotes: pl.DataFrame
    duckdb_load_seconds: float
    tied_quotes: int

    def threads(self) -> str:
        """How many threads each uses, in words."""
        import polars as pl

        ((duckdb_threads,),) = self.connection.execute("SELECT current_setting('threads')").fetchall()
        return f"DuckDB {duckdb_threads} threads, polars {pl.thread_pool_size()} threads"

    def contenders(self, job: Job) -> tuple[Contender, Contender]:
        """DuckDB's and polars' way of doing a job."""
        lazy = job.polars(self.trades.lazy(), self.quotes.lazy())
        return duckdb_sql(self.connection, job.duckdb), polars_lazy(lazy)


def load(ticks: Ticks) -> Rivals:
    """Give both engines the ticks.

    DuckDB's as-of join takes any one of several quotes with the same symbol and stamp, a different one on each run.
    ZeptoDB and polars take the last that arrived, so DuckDB's table holds only that one.
    """
    import duckdb
    import polars as pl

    trades = pl.DataFrame(ticks.trades)
    quotes = pl.DataFrame(ticks.quotes) if ticks.quotes is not None else _no_quotes(trades)
    last_quotes = quotes.unique(["symbol", "timestamp"], keep="last", maintain_order=True)
    tied = quotes.height - last_quotes.height
    connection = duckdb.connect()
    connection.register("trades_arrow", ticks.trades)
    connection.register("quotes_arrow", last_quotes.to_arrow() if tied or ticks.quotes is None else ticks.quotes)
    start = perf_counter()
    connection.execute("CREATE TABLE trades AS FROM trades_arrow")
    connection.execute("CREATE TABLE quotes AS FROM quotes_arrow")
    seconds = perf_counter() - start
    connection.unregister("trades_arrow")
    connection.unregister("quotes_arrow")
    return Rivals(connection, trades, quotes, seconds, tied)


def _no_quotes(trades: pl.DataFrame) -> pl.DataFrame:
    price = trades["price"]
    return trades.select("timestamp", "symbol", price.alias("bid"), price.alias("ask")).clear()
