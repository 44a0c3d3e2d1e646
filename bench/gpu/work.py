"""The operations that are measured, as operators of `backends/base.py`: what they are, and the bytes that they move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.gpu.answers import Columns, columns_of
from bench.gpu.rows import DAY_NS, DAY_START_NS, FIRST_PRICE, PRICES, Rows
from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateScan,
    AsofJoin,
    Backend,
    Scan,
    SelectScan,
    TimeBucket,
    TopScan,
    WindowFunction,
    WindowOp,
    WindowScan,
)
from zeptodb.backends.expression import Comparison, Constant, Kind

BOUND = FIRST_PRICE + PRICES // 2
"""Half of the prices are above it."""

RARE = FIRST_PRICE + PRICES - PRICES // 100
"""One in a hundred is at least this."""

TOP = 10
LONG_BAR_ROWS, SHORT_BAR_ROWS = 1_000, 16
LONG_FRAME_ROWS, SHORT_FRAME_ROWS = 1_000, 20
EMA_ALPHA = 2 / (20 + 1)
BAR_BYTES = 450
"""Of a bar on its way: read and written as partial results and as a row of the answer."""


@dataclass(frozen=True, slots=True)
class Market:
    """What operations run on."""

    trades: Rows
    quotes: Rows


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        name: in the words of the report.
        row_bytes: that it must move per row, in device memory.
        run: its answer.
        target_ms: what it should take over 1e9 rows on an H200; None where nobody said.
    """

    name: str
    row_bytes: float
    run: Callable[[Backend, Market], Columns]
    target_ms: float | None = None


def vwap(backend: Backend, market: Market) -> Columns:
    rows = market.trades
    item = Aggregate(AggregateOp.VWAP, (rows.column("price"), rows.column("volume")))
    return columns_of(backend.aggregate(AggregateScan(_scan(rows), (item,))))


def filtered(backend: Backend, market: Market) -> Columns:
    rows = market.trades
    above = Comparison(">", rows.column("price"), Constant(BOUND, Kind.INT))
    items = (Aggregate(AggregateOp.COUNT_ROWS), Aggregate(AggregateOp.SUM, (rows.column("volume"),)))
    return columns_of(backend.aggregate(AggregateScan(Scan(rows.snapshot, rows.ranges, above), items)))


def by_symbol(backend: Backend, market: Market) -> Columns:
    rows = market.trades
    price, volume = rows.column("price"), rows.column("volume")
    items = (Aggregate(AggregateOp.VWAP, (price, volume)), Aggregate(AggregateOp.SUM, (volume,)))
    return columns_of(backend.aggregate(AggregateScan(_scan(rows), items, by_symbol=True)))


def all_by_symbol(backend: Backend, market: Market) -> Columns:
    rows = market.trades
    price, volume = rows.column("price"), rows.column("volume")
    ops = (
        AggregateOp.COUNT, AggregateOp.SUM, AggregateOp.AVG, AggregateOp.MIN, AggregateOp.MAX, AggregateOp.FIRST,
        AggregateOp.LAST, AggregateOp.STDDEV_SAMP,
    )  # fmt: skip
    items = (Aggregate(AggregateOp.VWAP, (price, volume)), *(Aggregate(op, (price,)) for op in ops))
    return columns_of(backend.aggregate(AggregateScan(_scan(rows), items, by_symbol=True)))


def bar_width_ns(market: Market, bar_rows: int) -> int:
    """Bars of about so many trades each."""
    return max(1, DAY_NS * bar_rows * market.trades.symbols // max(1, market.trades.count))


def long_bars(backend: Backend, market: Market) -> Columns:
    return _bars(backend, market, LONG_BAR_ROWS)


def short_bars(backend: Backend, market: Market) -> Columns:
    return _bars(backend, market, SHORT_BAR_ROWS)


def _bars(backend: Backend, market: Market, bar_rows: int) -> Columns:
    rows = market.trades
    price, volume = rows.column("price"), rows.column("volume")
    items = (
        Aggregate(AggregateOp.FIRST, (price,)), Aggregate(AggregateOp.MAX, (price,)),
        Aggregate(AggregateOp.MIN, (price,)), Aggregate(AggregateOp.LAST, (price,)),
        Aggregate(AggregateOp.SUM, (volume,)), Aggregate(AggregateOp.VWAP, (price, volume)),
    )  # fmt: skip
    bucket = TimeBucket(bar_width_ns(market, bar_rows), DAY_START_NS)
    return columns_of(backend.aggregate(AggregateScan(_scan(rows), items, by_symbol=True, bucket=bucket)))


def asof(backend: Backend, market: Market) -> Columns:
    left, right = market.trades, market.quotes
    join = AsofJoin(
        _scan(left), _scan(right), right.ranges.segments, ">=", keep_unmatched=True, left_outputs=(),
        right_outputs=(right.column("bid"),),
    )  # fmt: skip
    return columns_of(backend.asof_join(join))


def top(backend: Backend, market: Market) -> Columns:
    rows = market.trades
    price = rows.column("price")
    scan = TopScan(
        _scan(rows), price, is_descending=True, nulls_first=False, is_only_key=True,
        outputs=(price, rows.column("timestamp")), limit=TOP, max_rows=1 << 20,
    )  # fmt: skip
    found = columns_of(backend.top(scan))
    first = np.argsort(-found[0].astype(np.int64), kind="stable")[:TOP]  # the operator leaves sorting to its caller
    return tuple(column[first] for column in found)


def by_code(backend: Backend, market: Market) -> Columns:
    rows = market.trades
    items = (Aggregate(AggregateOp.SUM, (rows.column("volume"),)),)
    return columns_of(backend.aggregate(AggregateScan(_scan(rows), items, keys=(rows.column("venue"),))))


def select(backend: Backend, market: Market) -> Columns:
    rows = market.trades
    rare = Comparison(">=", rows.column("price"), Constant(RARE, Kind.INT))
    outputs = (rows.column("price"), rows.column("volume"))
    return columns_of(backend.select(SelectScan(Scan(rows.snapshot, rows.ranges, rare), outputs)))


def ema(backend: Backend, market: Market) -> Columns:
    return _window(backend, market, WindowFunction(WindowOp.EMA, market.trades.column("price"), alpha=EMA_ALPHA))


def rolling_mean(backend: Backend, market: Market) -> Columns:
    return _window(backend, market, WindowFunction(WindowOp.AVG, market.trades.column("price"), SHORT_FRAME_ROWS))


def rolling_max(backend: Backend, market: Market) -> Columns:
    return _window(backend, market, WindowFunction(WindowOp.MAX, market.trades.column("price"), LONG_FRAME_ROWS))


def _window(backend: Backend, market: Market, function: WindowFunction) -> Columns:
    return columns_of(backend.window(WindowScan(_scan(market.trades), (function,))))


def _scan(rows: Rows) -> Scan:
    return Scan(rows.snapshot, rows.ranges)


OPERATIONS = (
    Operation("vwap", 16, vwap, 4.4),
    Operation("filter + aggregate", 16, filtered, 4.4),
    Operation("vwap, sum by symbol", 16, by_symbol, 4.4),
    Operation("nine aggregates by symbol", 16, all_by_symbol, 4.4),
    Operation(f"bars of {LONG_BAR_ROWS:,} rows", 16 + BAR_BYTES / LONG_BAR_ROWS, long_bars, 5.0),
    Operation(f"bars of {SHORT_BAR_ROWS} rows", 28, short_bars, 9.0),
    Operation("as-of join, bid out", 24, asof, 8.0),
    Operation(f"top {TOP} of a column", 8, top, 2.5),
    Operation("sum by dictionary code", 12, by_code, 4.0),
    Operation("select 1 % of the rows", 8.32, select),
    Operation("ema by symbol", 24, ema, 7.0),
    Operation(f"mean of {SHORT_FRAME_ROWS} rows", 16, rolling_mean, 5.5),
    Operation(f"max of {LONG_FRAME_ROWS:,} rows", 16, rolling_max, 5.5),
)
"""With the floors and targets of the table in the design; of `select`, a filter's column and what passes it."""
