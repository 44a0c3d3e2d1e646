"""The demo's three questions, as SQL for ZeptoDB and DuckDB and as polars expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zeptodb.record import record

if TYPE_CHECKING:
    import polars as pl

BAR_WIDTH_NS = 300_000_000_000
ASOF_COLUMNS = ("symbol", "timestamp", "price", "bid", "ask")


@record
class Job:
    """One question in three dialects.

    Attributes:
        title: what the tables call it.
        zeptodb: SQL.
        duckdb: SQL over tables in time order, so that rowid is the order of time with ties by arrival.
        polars: builds the lazy answer from lazy trades and quotes in time order.
        keys: columns that tell the rows of the answer apart.
    """

    title: str
    zeptodb: str
    duckdb: str
    polars: Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]
    keys: tuple[str, ...]


def _polars_vwap(trades: pl.LazyFrame, quotes: pl.LazyFrame) -> pl.LazyFrame:  # noqa: ARG001
    import polars as pl

    return trades.group_by("symbol").agg(
        trades=pl.len(),
        volume=pl.col("size").sum(),
        vwap=(pl.col("price") * pl.col("size")).sum() / pl.col("size").sum(),
        low=pl.col("price").min(),
        high=pl.col("price").max(),
    )


def _polars_bars(trades: pl.LazyFrame, quotes: pl.LazyFrame) -> pl.LazyFrame:  # noqa: ARG001
    import polars as pl

    return trades.group_by("symbol", bar=pl.col("timestamp") // BAR_WIDTH_NS * BAR_WIDTH_NS).agg(
        open=pl.col("price").first(),
        high=pl.col("price").max(),
        low=pl.col("price").min(),
        close=pl.col("price").last(),
        volume=pl.col("size").sum(),
    )


def _polars_asof(trades: pl.LazyFrame, quotes: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    joined = trades.join_asof(quotes, on="timestamp", by="symbol", coalesce=False, check_sortedness=False)
    return joined.filter(pl.col("timestamp_right").is_not_null()).select(ASOF_COLUMNS)


VWAP = Job(
    title="VWAP by symbol",
    zeptodb="SELECT symbol, count(*) AS trades, sum(size) AS volume, vwap(price, size) AS vwap, min(price) AS low, "
    "max(price) AS high FROM trades GROUP BY symbol",
    duckdb="SELECT symbol, count(*) AS trades, sum(size) AS volume, sum(price * size) / sum(size) AS vwap, "
    "min(price) AS low, max(price) AS high FROM trades GROUP BY symbol",
    polars=_polars_vwap,
    keys=("symbol",),
)

BARS = Job(
    title="five-minute OHLCV bars",
    zeptodb=f"SELECT symbol, xbar(timestamp, {BAR_WIDTH_NS}) AS bar, first(price) AS open, max(price) AS high, "
    f"min(price) AS low, last(price) AS close, sum(size) AS volume FROM trades "
    f"GROUP BY symbol, xbar(timestamp, {BAR_WIDTH_NS})",
    duckdb=f"SELECT symbol, timestamp // {BAR_WIDTH_NS} * {BAR_WIDTH_NS} AS bar, arg_min(price, rowid) AS open, "
    f"max(price) AS high, min(price) AS low, arg_max(price, rowid) AS close, sum(size) AS volume "
    f"FROM trades GROUP BY ALL",
    polars=_polars_bars,
    keys=("symbol", "bar"),
)

_ASOF_SQL = (
    "SELECT t.symbol AS symbol, t.timestamp AS timestamp, t.price AS price, q.bid AS bid, q.ask AS ask "
    "FROM trades t ASOF JOIN quotes q ON t.symbol = q.symbol AND t.timestamp >= q.timestamp"
)

ASOF = Job(
    title="as-of join, trades to quotes",
    zeptodb=_ASOF_SQL,
    duckdb=_ASOF_SQL,
    polars=_polars_asof,
    keys=ASOF_COLUMNS,
)


def share_inside(joined: pl.DataFrame) -> pl.DataFrame:
    """Per symbol the trades that have a quote in force, and those inside it: bid <= price <= ask, false for NULL."""
    import polars as pl

    is_inside = (pl.col("bid") <= pl.col("price")) & (pl.col("price") <= pl.col("ask"))
    return joined.group_by("symbol").agg(trades=pl.len(), inside=is_inside.sum()).sort("symbol")
