"""Small statements again and again: what a question costs besides its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice, repeat

import duckdb
import polars as pl

import zeptodb
from bench.bars import MINUTE_NS
from bench.data import FIRST_PRICE, Trades, trades_table
from bench.harness import Benchmark
from zepto_py import query_to_pandas
from zeptodb.demo.comparison import Answer, Contender
from zeptodb.demo.contenders import DUCKDB, POLARS, ZEPTODB

ROWS = 1_000
SYMBOLS = 10
CALLS = 200
PRICES = 4_000  # more than statements are kept
SAME = 0
ANOTHER = 1

_VWAP = (pl.col("price") * pl.col("volume")).sum() / pl.col("volume").sum()
_DUCKDB_VWAP = "sum(price * volume) / sum(volume)"
_BAR = "first(price) AS open, max(price) AS high, min(price) AS low, last(price) AS close, sum(volume) AS volume"
_BARS = f"SELECT xbar(timestamp, {MINUTE_NS}) AS minute, {_BAR} FROM trades WHERE symbol = 1 GROUP BY minute"
_DUCKDB_BARS = (
    f"SELECT timestamp // {MINUTE_NS} * {MINUTE_NS} AS minute, arg_min(price, rowid) AS open, max(price) AS high, "
    "min(price) AS low, arg_max(price, rowid) AS close, sum(volume) AS volume FROM trades WHERE symbol = 1 GROUP BY 1"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """One statement with a price in it.

    Attributes:
        name: in words.
        step: by how much the price goes up from call to call.
        zeptodb, duckdb: the statement, `{price}` in place of the price.
        polars: the query.
        keys: columns that tell rows of the answer apart.
    """

    name: str
    step: int
    zeptodb: str
    duckdb: str
    polars: Callable[[pl.LazyFrame, int], pl.LazyFrame]
    keys: tuple[str, ...] = ()


def _vwap_of_one(frame: pl.LazyFrame, price: int) -> pl.LazyFrame:
    return frame.filter((pl.col("symbol") == 1) & (pl.col("price") > price)).select(vwap=_VWAP, ticks=pl.len())


def _bars(frame: pl.LazyFrame, _price: int) -> pl.LazyFrame:
    price = pl.col("price")
    bar = {"open": price.first(), "high": price.max(), "low": price.min(), "close": price.last()}
    minute = (pl.col("timestamp") // MINUTE_NS * MINUTE_NS).alias("minute")
    return frame.filter(pl.col("symbol") == 1).group_by(minute).agg(**bar, volume=pl.col("volume").sum())


_ONE = "SELECT {vwap} AS vwap, count(*) AS ticks FROM trades WHERE symbol = 1 AND price > {{price}}"
_ONES = (_ONE.format(vwap="vwap(price, volume)"), _ONE.format(vwap=_DUCKDB_VWAP), _vwap_of_one)
_COUNT = "SELECT count(*) AS ticks FROM trades WHERE price > {price}"
_LIMIT = "SELECT price FROM trades WHERE symbol = 1 AND price > {price} ORDER BY timestamp LIMIT 10"
_GROUP = "SELECT symbol, {vwap} AS vwap FROM trades GROUP BY symbol"
SHAPES = (
    Shape("vwap of a symbol, price > x; the same", SAME, *_ONES),
    Shape("vwap of a symbol, price > x; another x each time", ANOTHER, *_ONES),
    Shape(
        "count(*), price > x; another x each time", ANOTHER, _COUNT, _COUNT,
        lambda frame, price: frame.filter(pl.col("price") > price).select(ticks=pl.len()),
    ),
    Shape(
        "vwap by symbol; the same", SAME, _GROUP.format(vwap="vwap(price, volume)"), _GROUP.format(vwap=_DUCKDB_VWAP),
        lambda frame, _: frame.group_by("symbol").agg(vwap=_VWAP), ("symbol",),
    ),
    Shape("1-minute bars of a symbol; the same", SAME, _BARS, _DUCKDB_BARS, _bars, ("minute",)),
    Shape(
        "first 10 rows of a symbol, price > x; another x each time", ANOTHER, _LIMIT, _LIMIT,
        lambda frame, price: frame.filter((pl.col("symbol") == 1) & (pl.col("price") > price))
        .sort("timestamp").select("price").head(10),
    ),
)  # fmt: skip


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """Every shape over 1,000 rows; the first one also with a parameter, and as a pandas frame."""
    table = trades_table(min(ROWS, trades.rows), SYMBOLS)
    frame = pl.DataFrame(table).lazy()
    with zeptodb.Pipeline() as pipeline, duckdb.connect() as connection:
        pipeline.ingest_batch(*(table[name] for name in ("symbol", "price", "volume", "timestamp")))
        connection.register("arrow_trades", table)
        connection.execute("CREATE TABLE trades AS FROM arrow_trades")
        for shape in SHAPES:
            yield _benchmark(shape, pipeline, connection, frame)
        sql, with_parameter = SHAPES[0].zeptodb, SHAPES[0].zeptodb.format(price="?")

        def ask_with_parameter(price: int) -> Answer:
            return pipeline.execute(with_parameter, [price]).raise_for_error()

        def ask_for_frame(price: int) -> Answer:
            return query_to_pandas(pipeline, sql.format(price=price))

        for name, ask in (("with another parameter each time", ask_with_parameter), ("to pandas", ask_for_frame)):
            yield Benchmark(
                f"1,000 rows: vwap of a symbol, price > x; {name}",
                (Contender(ZEPTODB, repeated(ask, ANOTHER)),),
                ran_on="native:cpu",
                calls=CALLS,
            )


def _benchmark(
    shape: Shape, pipeline: zeptodb.Pipeline, connection: duckdb.DuckDBPyConnection, frame: pl.LazyFrame
) -> Benchmark:
    def ask_zeptodb(price: int) -> Answer:
        return pipeline.execute(shape.zeptodb.format(price=price)).raise_for_error()

    def ask_duckdb(price: int) -> Answer:
        return connection.sql(shape.duckdb.format(price=price)).to_arrow_table()

    def ask_polars(price: int) -> Answer:
        return shape.polars(frame, price).collect()

    asked = ((ZEPTODB, ask_zeptodb), (DUCKDB, ask_duckdb), (POLARS, ask_polars))
    contenders = tuple(Contender(name, repeated(ask, shape.step)) for name, ask in asked)
    ran_on = pipeline.execute(shape.zeptodb.format(price=0)).raise_for_error().engine
    return Benchmark(f"1,000 rows: {shape.name}", contenders, keys=shape.keys, ran_on=ran_on, calls=CALLS)


def repeated(ask: Callable[[int], Answer], step: int) -> Callable[[], Answer]:
    """Ask `CALLS` times, the price going up by `step`, also from run to run; the last answer."""
    prices = cycle(range(FIRST_PRICE, FIRST_PRICE + PRICES, step)) if step else repeat(FIRST_PRICE)

    def run() -> Answer:
        answer = None
        for price in islice(prices, CALLS):
            answer = ask(price)
        return answer

    return run
