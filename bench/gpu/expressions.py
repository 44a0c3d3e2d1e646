"""The same queries as expressions of CuPy, and of torch, over columns that lie on the device in our order of rows.

They may use that rows are parted by symbol and in time order, as our operators do. `xp` is CuPy, or numpy in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.gpu.rows import DAY_NS, DAY_START_NS
from bench.gpu.work import BOUND, LONG_BAR_ROWS, RARE, SHORT_BAR_ROWS, SHORT_FRAME_ROWS, TOP, Market, bar_width_ns

Expression = Callable[[Any, "Arrays"], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Arrays:
    """Columns of all rows: trades' and quotes' symbols (int64 numbers), and what the schemas hold."""

    symbols: int
    symbol: Any
    timestamp: Any
    price: Any
    volume: Any
    venue: Any
    quote_symbol: Any
    quote_timestamp: Any
    bid: Any
    bar_widths: dict[int, int]

    @classmethod
    def of(cls, market: Market, to_device: Callable[[Any], Any], repeat: Callable[[int, int], Any]) -> Arrays:
        """`to_device` brings a numpy array up; `repeat(n, k)` is 0 to n - 1 there, each k times."""
        trades, quotes, symbols = market.trades, market.quotes, market.trades.symbols
        up = {name: to_device(values.reshape(-1)) for name, values in trades.columns.items()}
        return cls(
            symbols=symbols,
            symbol=repeat(symbols, trades.count // symbols),
            **up,
            quote_symbol=repeat(symbols, quotes.count // symbols),
            quote_timestamp=to_device(quotes.columns["timestamp"].reshape(-1)),
            bid=to_device(quotes.columns["bid"].reshape(-1)),
            bar_widths={rows: bar_width_ns(market, rows) for rows in (LONG_BAR_ROWS, SHORT_BAR_ROWS)},
        )


def vwap(_: Any, a: Arrays) -> tuple[Any, ...]:
    return ((a.price * a.volume).sum() / a.volume.sum(),)


def filtered(_: Any, a: Arrays) -> tuple[Any, ...]:
    passes = a.price > BOUND
    return passes.sum(), (a.volume * passes).sum()


def _between(xp: Any, values: Any, bounds: Any) -> Any:
    """Sums of values[bounds[k]:bounds[k + 1]]: differences of running sums, exact for integers."""
    sums = xp.concatenate([xp.zeros(1, dtype=xp.int64), xp.cumsum(values)])
    return sums[bounds[1:]] - sums[bounds[:-1]]


def _bounds(xp: Any, keys: Any) -> Any:
    """Where ascending keys change, with both ends."""
    changes = xp.flatnonzero(keys[1:] != keys[:-1]) + 1
    return xp.concatenate([xp.zeros(1, dtype=xp.int64), changes, xp.asarray([len(keys)])])


def by_symbol(xp: Any, a: Arrays) -> tuple[Any, ...]:
    bounds = _bounds(xp, a.symbol)
    volume = _between(xp, a.volume, bounds)
    return xp.arange(a.symbols), _between(xp, a.price * a.volume, bounds) / volume, volume


def by_symbol_counted(xp: Any, a: Arrays) -> tuple[Any, ...]:
    turnover = xp.bincount(a.symbol, weights=a.price * a.volume)
    volume = xp.bincount(a.symbol, weights=a.volume)
    return xp.arange(a.symbols), turnover / volume, volume.astype(xp.int64)


def _bars(xp: Any, a: Arrays, bar_rows: int) -> tuple[Any, ...]:
    width = a.bar_widths[bar_rows]
    bucket = (a.timestamp - DAY_START_NS) // width
    keys = a.symbol * (DAY_NS // width + 1) + bucket
    bounds = _bounds(xp, keys)
    first, last = bounds[:-1], bounds[1:] - 1
    group = xp.cumsum(xp.concatenate([xp.zeros(1, dtype=xp.int64), keys[1:] != keys[:-1]]))
    prices = a.price.view(xp.uint64)  # they are positive; CUDA has no atomic extremes of int64
    high, low = prices[first].copy(), prices[first].copy()
    xp.maximum.at(high, group, prices)
    xp.minimum.at(low, group, prices)
    volume = _between(xp, a.volume, bounds)
    start = DAY_START_NS + bucket[first] * width
    turnover = _between(xp, a.price * a.volume, bounds)
    extremes = high.view(xp.int64), low.view(xp.int64)
    return a.symbol[first], start, a.price[first], *extremes, a.price[last], volume, turnover / volume


def long_bars(xp: Any, a: Arrays) -> tuple[Any, ...]:
    return _bars(xp, a, LONG_BAR_ROWS)


def short_bars(xp: Any, a: Arrays) -> tuple[Any, ...]:
    return _bars(xp, a, SHORT_BAR_ROWS)


def asof(xp: Any, a: Arrays) -> tuple[Any, ...]:
    """One search over (symbol, time) as one number."""
    keys = a.symbol * DAY_NS + (a.timestamp - DAY_START_NS)
    others = a.quote_symbol * DAY_NS + (a.quote_timestamp - DAY_START_NS)
    found = xp.searchsorted(others, keys, side="right") - 1
    is_there = (found >= 0) & (a.quote_symbol[found] == a.symbol)
    return (xp.where(is_there, a.bid[found], 0),)


def top(xp: Any, a: Arrays) -> tuple[Any, ...]:
    return (xp.sort(a.price)[-TOP:][::-1],)


def by_code(xp: Any, a: Arrays) -> tuple[Any, ...]:
    sums = xp.bincount(a.venue, weights=a.volume)
    return xp.arange(len(sums)), sums.astype(xp.int64)


def select(_: Any, a: Arrays) -> tuple[Any, ...]:
    passes = a.price >= RARE
    return a.price[passes], a.volume[passes]


def rolling_mean(xp: Any, a: Arrays) -> tuple[Any, ...]:
    """Differences of running sums, exact for integers; frames begin with their symbol."""
    after = xp.arange(1, len(a.price) + 1)
    first = xp.maximum(after - SHORT_FRAME_ROWS, _bounds(xp, a.symbol)[a.symbol])
    sums = xp.concatenate([xp.zeros(1, dtype=xp.int64), xp.cumsum(a.price)])
    return ((sums[after] - sums[first]) / (after - first),)


ARRAYS: dict[str, tuple[Expression, ...]] = {
    "vwap": (vwap,),
    "filter + aggregate": (filtered,),
    "vwap, sum by symbol": (by_symbol, by_symbol_counted),
    f"bars of {LONG_BAR_ROWS:,} rows": (long_bars,),
    f"bars of {SHORT_BAR_ROWS} rows": (short_bars,),
    "as-of join, bid out": (asof,),
    f"top {TOP} of a column": (top,),
    "sum by dictionary code": (by_code,),
    "select 1 % of the rows": (select,),
    f"mean of {SHORT_FRAME_ROWS} rows": (rolling_mean,),
}
"""Per operation the expressions of CuPy; the fastest counts."""


# ---- torch ---------------------------------------------------------------------------------------------------------


def torch_vwap(_: Any, a: Arrays) -> tuple[Any, ...]:
    return (((a.price * a.volume).sum().double() / a.volume.sum()).reshape(1),)


def torch_filtered(_: Any, a: Arrays) -> tuple[Any, ...]:
    passes = a.price > BOUND
    return passes.sum().reshape(1), (a.volume * passes).sum().reshape(1)


def torch_by_symbol(torch: Any, a: Arrays) -> tuple[Any, ...]:
    zeros = torch.zeros(a.symbols, dtype=torch.int64, device=a.price.device)
    volume = zeros.index_add(0, a.symbol, a.volume)
    turnover = zeros.index_add(0, a.symbol, a.price * a.volume)
    return torch.arange(a.symbols), turnover.double() / volume, volume


def torch_asof(torch: Any, a: Arrays) -> tuple[Any, ...]:
    keys = a.symbol * DAY_NS + (a.timestamp - DAY_START_NS)
    others = a.quote_symbol * DAY_NS + (a.quote_timestamp - DAY_START_NS)
    found = torch.searchsorted(others, keys, right=True) - 1
    is_there = (found >= 0) & (a.quote_symbol[found.clamp(min=0)] == a.symbol)
    return (torch.where(is_there, a.bid[found.clamp(min=0)], 0),)


def torch_top(torch: Any, a: Arrays) -> tuple[Any, ...]:
    return (torch.topk(a.price, TOP).values,)


def torch_by_code(torch: Any, a: Arrays) -> tuple[Any, ...]:
    sums = torch.bincount(a.venue, weights=a.volume.double())
    return torch.arange(len(sums)), sums.long()


def torch_select(_: Any, a: Arrays) -> tuple[Any, ...]:
    passes = a.price >= RARE
    return a.price[passes], a.volume[passes]


TORCH: dict[str, tuple[Expression, ...]] = {
    "vwap": (torch_vwap,),
    "filter + aggregate": (torch_filtered,),
    "vwap, sum by symbol": (torch_by_symbol,),
    "as-of join, bid out": (torch_asof,),
    f"top {TOP} of a column": (torch_top,),
    "sum by dictionary code": (torch_by_code,),
    "select 1 % of the rows": (torch_select,),
}
