"""The same queries in DuckDB and polars, on the machine's cores, over the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.gpu.answers import Columns
from bench.gpu.rows import DAY_START_NS, Rows
from bench.gpu.work import (
    BOUND,
    EMA_ALPHA,
    LONG_BAR_ROWS,
    LONG_FRAME_ROWS,
    RARE,
    SHORT_BAR_ROWS,
    SHORT_FRAME_ROWS,
    TOP,
    Market,
    bar_width_ns,
)


@dataclass(frozen=True, slots=True)
class Query:
    """One opponent's way of one operation.

    Attributes:
        run: its answer, all columns in memory.
        sorted_by: how many of the first columns its rows are sorted by for the comparison, ...
        dropped: ... and how many of these are not of our answer.
    """

    run: Callable[[], Any]
    sorted_by: int = 0
    dropped: int = 0

    def columns(self, answer: Any) -> Columns:
        """The answer's columns in our order of rows."""
        found = [np.asarray(answer[name].to_numpy()) for name in _names(answer)]
        if self.sorted_by:
            order = np.lexsort(found[: self.sorted_by][::-1])
            found = [column[order] for column in found]
        return tuple(found[self.dropped :])


def _names(answer: Any) -> list[str]:
    return list(answer.column_names if hasattr(answer, "column_names") else answer.columns)


def arrow_of(rows: Rows) -> Any:
    """All rows as one Arrow table, over the same memory."""
    import pyarrow as pa

    symbols = np.repeat(np.arange(rows.symbols), rows.count // rows.symbols)
    return pa.table({"symbol": symbols, **{name: column.reshape(-1) for name, column in rows.columns.items()}})


def duckdb_queries(market: Market) -> dict[str, Query]:
    """DuckDB over tables of its own."""
    import duckdb

    connection = duckdb.connect()
    for name, rows in (("trades", market.trades), ("quotes", market.quotes)):
        connection.register("loading", arrow_of(rows))
        connection.execute(f"CREATE TABLE {name} AS FROM loading")
        connection.unregister("loading")

    def query(sql: str, *, sorted_by: int = 0, dropped: int = 0) -> Query:
        return Query(lambda: connection.sql(sql).to_arrow_table(), sorted_by, dropped)

    vwap, total = "sum(price * volume) / sum(volume) AS w", "sum(volume)::BIGINT AS v"

    def bars(bar_rows: int) -> Query:
        width = bar_width_ns(market, bar_rows)
        bucket = f"{DAY_START_NS} + (timestamp - {DAY_START_NS}) // {width} * {width}"
        return query(
            f"SELECT symbol, {bucket} AS bucket, arg_min(price, timestamp) AS o, max(price) AS h, min(price) AS l, "
            f"arg_max(price, timestamp) AS c, {total}, {vwap} FROM trades GROUP BY ALL",
            sorted_by=2,
        )

    def frame(function: str, frame_rows: int) -> Query:
        window = f"(PARTITION BY symbol ORDER BY timestamp ROWS {frame_rows - 1} PRECEDING)"
        sql = f"SELECT symbol, timestamp, {function}(price) OVER {window} AS f FROM trades"
        return query(sql, sorted_by=2, dropped=2)

    return {
        "vwap": query(f"SELECT {vwap} FROM trades"),
        "filter + aggregate": query(f"SELECT count(*) AS n, {total} FROM trades WHERE price > {BOUND}"),
        "vwap, sum by symbol": query(f"SELECT symbol, {vwap}, {total} FROM trades GROUP BY symbol", sorted_by=1),
        f"bars of {LONG_BAR_ROWS:,} rows": bars(LONG_BAR_ROWS),
        f"bars of {SHORT_BAR_ROWS} rows": bars(SHORT_BAR_ROWS),
        "as-of join, bid out": query(
            "SELECT t.symbol, t.timestamp, coalesce(q.bid, 0) AS bid FROM trades t ASOF LEFT JOIN quotes q "
            "ON t.symbol = q.symbol AND t.timestamp >= q.timestamp",
            sorted_by=2,
            dropped=2,
        ),
        f"top {TOP} of a column": query(f"SELECT price FROM trades ORDER BY price DESC LIMIT {TOP}"),
        "sum by dictionary code": query(f"SELECT venue, {total} FROM trades GROUP BY venue", sorted_by=1),
        "select 1 % of the rows": query(f"SELECT price, volume FROM trades WHERE price >= {RARE}"),
        f"mean of {SHORT_FRAME_ROWS} rows": frame("avg", SHORT_FRAME_ROWS),
        f"max of {LONG_FRAME_ROWS:,} rows": frame("max", LONG_FRAME_ROWS),
    }


def polars_queries(market: Market) -> dict[str, Query]:
    """polars over frames in one chunk."""
    import polars as pl

    trades, quotes = (pl.DataFrame(arrow_of(rows)).rechunk().lazy() for rows in (market.trades, market.quotes))
    price, volume = pl.col("price"), pl.col("volume")
    vwap = (price * volume).sum() / volume.sum()

    def query(lazy: Any, *, sorted_by: int = 0, dropped: int = 0) -> Query:
        return Query(lazy.collect, sorted_by, dropped)

    def bars(bar_rows: int) -> Query:
        width = bar_width_ns(market, bar_rows)
        bucket = DAY_START_NS + (pl.col("timestamp") - DAY_START_NS) // width * width
        return query(
            trades.group_by("symbol", bucket.alias("bucket")).agg(
                o=price.first(), h=price.max(), l=price.min(), c=price.last(), v=volume.sum(), w=vwap
            ),
            sorted_by=2,
        )

    joined = trades.join_asof(quotes, on="timestamp", by="symbol", check_sortedness=False)
    return {
        "vwap": query(trades.select(w=vwap)),
        "filter + aggregate": query(trades.filter(price > BOUND).select(n=pl.len(), v=volume.sum())),
        "vwap, sum by symbol": query(trades.group_by("symbol").agg(w=vwap, v=volume.sum()), sorted_by=1),
        f"bars of {LONG_BAR_ROWS:,} rows": bars(LONG_BAR_ROWS),
        f"bars of {SHORT_BAR_ROWS} rows": bars(SHORT_BAR_ROWS),
        "as-of join, bid out": query(joined.select(pl.col("bid").fill_null(0))),
        f"top {TOP} of a column": query(trades.select(price.top_k(TOP).sort(descending=True))),
        "sum by dictionary code": query(trades.group_by("venue").agg(v=volume.sum()), sorted_by=1),
        "select 1 % of the rows": query(trades.filter(price >= RARE).select("price", "volume")),
        "ema by symbol": query(trades.select(price.ewm_mean(alpha=EMA_ALPHA, adjust=False).over("symbol"))),
        f"mean of {SHORT_FRAME_ROWS} rows": query(
            trades.select(price.rolling_mean(SHORT_FRAME_ROWS, min_samples=1).over("symbol"))
        ),
        f"max of {LONG_FRAME_ROWS:,} rows": query(
            trades.select(price.rolling_max(LONG_FRAME_ROWS, min_samples=1).over("symbol"))
        ),
    }
