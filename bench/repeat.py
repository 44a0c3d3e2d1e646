"""A small statement again and again: what a question costs besides its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import duckdb
import polars as pl

import zeptodb
from bench.data import FIRST_PRICE, Trades, trades_table
from bench.harness import Benchmark
from zeptodb.demo.comparison import Answer, Contender
from zeptodb.demo.contenders import DUCKDB, POLARS, ZEPTODB

ROWS = 1_000
SYMBOLS = 10
CALLS = 200
SAME = "same"
OTHER = "another literal each time"


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """The same statement, and one with another literal each time, over 1,000 rows."""
    table = trades_table(min(ROWS, trades.rows), SYMBOLS)
    frame = pl.DataFrame(table)
    with zeptodb.Pipeline() as pipeline, duckdb.connect() as connection:
        pipeline.ingest_batch(*(table[name] for name in ("symbol", "price", "volume", "timestamp")))
        connection.register("arrow_trades", table)
        connection.execute("CREATE TABLE trades AS FROM arrow_trades")

        def ask_zeptodb(price: int) -> Answer:
            return pipeline.execute(statement("vwap(price, volume)", price)).raise_for_error()

        def ask_duckdb(price: int) -> Answer:
            return connection.sql(statement("sum(price * volume) / sum(volume)", price)).to_arrow_table()

        def ask_polars(price: int) -> Answer:
            query = frame.lazy().filter((pl.col("symbol") == 1) & (pl.col("price") > price))
            vwap = (pl.col("price") * pl.col("volume")).sum() / pl.col("volume").sum()
            return query.select(vwap=vwap, ticks=pl.len()).collect()

        asked: tuple[tuple[str, Callable[[int], Answer]], ...] = (
            (ZEPTODB, ask_zeptodb),
            (DUCKDB, ask_duckdb),
            (POLARS, ask_polars),
        )
        ran_on = pipeline.execute(statement("vwap(price, volume)", 0)).raise_for_error().engine
        for how, step in ((SAME, 0), (OTHER, 1)):
            contenders = tuple(Contender(name, repeated(ask, step)) for name, ask in asked)
            name = f"a statement over {table.num_rows:,} rows, {how}"
            yield Benchmark(name, contenders, ran_on=ran_on, calls=CALLS)


def statement(vwap: str, price: int) -> str:
    """VWAP and count of one symbol above a price."""
    return f"SELECT {vwap} AS vwap, count(*) AS ticks FROM trades WHERE symbol = 1 AND price > {price}"


def repeated(ask: Callable[[int], Answer], step: int) -> Callable[[], Answer]:
    """Ask `CALLS` times, the price going up by `step`; the last answer."""

    def run() -> Answer:
        answer = None
        for call in range(CALLS):
            answer = ask(FIRST_PRICE + call * step)
        return answer

    return run
