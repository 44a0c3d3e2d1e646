"""Generated trades and quotes of realistic shape, for trying and measuring.

Symbol activity falls off as in Zipf's law; the day is busy at its open and close; prices walk at random in ticks of
0.01 under quotes whose spread grows with the price; stamps come in clusters, so that trades share stamps with each
other and with quotes. A symbol has at most one quote per stamp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeptodb.errors import InvalidInputError
from zeptodb.record import record

if TYPE_CHECKING:
    import pyarrow as pa

Int64Array = npt.NDArray[np.int64]

FIRST_DAY = np.datetime64("2024-06-03", "D")
OPEN_AFTER_MIDNIGHT_US = 13 * 3_600_000_000 + 30 * 60_000_000  # 09:30 in New York in summer, in UTC
SESSION_US = 6 * 3_600_000_000 + 30 * 60_000_000
NANOSECONDS_PER_MICROSECOND = 1_000
TICKS_PER_UNIT = 100  # prices move in steps of 0.01
ROUND_LOT = 100
DAILY_VOLATILITY = 0.018
FOLLOWING_TRADES = 0.35  # share of trades that one order makes in the same instant as another trade
REPORT_DELAY_US = 2_000.0  # mean time from a quote to the stamp of a trade against it
_TIME_BITS = 36  # enough for the microseconds of a session


@record
class Quotes:
    """Quotes in the order (symbol, day, time): codes of symbols, stamps in ns, whole ticks, shares."""

    symbols: Int64Array
    timestamps: Int64Array
    bids: Int64Array
    asks: Int64Array
    bid_sizes: Int64Array
    ask_sizes: Int64Array


def generate_ticks(
    trades: int, *, quotes: int, symbols: int, days: int = 3, seed: int = 7
) -> tuple[pa.Table, pa.Table]:
    """Trades and quotes in time order, as Arrow tables; the same for the same arguments.

    trades: columns timestamp (int64 ns UTC), symbol (string), price (float64), size (int64).
    quotes: columns timestamp, symbol, bid, ask (float64), bid_size, ask_size (int64).
    A few quotes fewer than asked for may come out, because a symbol has one quote per stamp.
    Raises InvalidInputError for counts that are not positive.
    """
    for name, value in (("trades", trades), ("quotes", quotes), ("symbols", symbols), ("days", days)):
        if value < 1:
            raise InvalidInputError(f"{name} is {value}; it must be at least 1.")
    random = np.random.default_rng(seed)
    quoted = _quotes(random, rows=quotes, symbols=symbols, days=days)
    names = [f"S{rank:0{len(str(symbols))}d}" for rank in range(1, symbols + 1)]
    return _trades_table(random, quoted, rows=trades, names=names), _quotes_table(quoted, names)


def activity(symbols: int) -> npt.NDArray[np.float64]:
    """Share of the ticks that each symbol has, the busiest first; they add up to 1."""
    weights = 1.0 / (np.arange(symbols) + 3.0)
    share: npt.NDArray[np.float64] = weights / weights.sum()
    return share


def _quotes(random: np.random.Generator, *, rows: int, symbols: int, days: int) -> Quotes:
    share = np.repeat(activity(symbols) / days, days)
    per_session = random.multinomial(rows, share / share.sum())
    sessions = np.repeat(np.arange(symbols * days, dtype=np.int64), per_session)
    keys = (sessions << _TIME_BITS) | _session_times(random, rows)
    keys.sort()
    keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
    sessions = keys >> _TIME_BITS
    symbol_of_row = sessions // days
    timestamps = _day_starts_ns(days)[sessions % days]
    timestamps += (keys & ((1 << _TIME_BITS) - 1)) * NANOSECONDS_PER_MICROSECOND
    middle = _middle_prices(random, sessions, days=days, symbols=symbols) * TICKS_PER_UNIT
    spread = random.geometric(0.6, len(keys)) + (middle * 1e-4).astype(np.int64)
    bids = np.maximum(np.floor(middle - 0.5 * spread + 0.5).astype(np.int64), 1)
    bid_sizes, ask_sizes = (ROUND_LOT * random.geometric(0.2, len(keys)) for _ in range(2))
    return Quotes(symbol_of_row, timestamps, bids, bids + spread, bid_sizes, ask_sizes)


def _session_times(random: np.random.Generator, rows: int) -> Int64Array:
    """Microseconds since the open, dense at both ends of the session: the density is 1 + 3 (2x - 1)^4."""
    grid = np.linspace(0.0, 1.0, 1_025)
    rows_before = grid + 0.3 * ((2.0 * grid - 1.0) ** 5 + 1.0)
    position = np.interp(random.random(rows) * rows_before[-1], rows_before, grid)
    times: Int64Array = (position * (SESSION_US - 1)).astype(np.int64)
    return times


def _day_starts_ns(days: int) -> Int64Array:
    """Openings of that many consecutive working days, ns since the epoch."""
    dates = np.busday_offset(np.array([FIRST_DAY]), np.arange(days))
    midnights = dates.astype("datetime64[ns]").astype(np.int64)
    opens: Int64Array = midnights + OPEN_AFTER_MIDNIGHT_US * NANOSECONDS_PER_MICROSECOND
    return opens


def _middle_prices(
    random: np.random.Generator, sessions: Int64Array, *, days: int, symbols: int
) -> npt.NDArray[np.float64]:
    """A random walk of the logarithm per symbol, with a jump over night; always positive."""
    starts = np.flatnonzero(np.concatenate(([True], sessions[1:] != sessions[:-1])))
    lengths = np.diff(np.append(starts, len(sessions)))
    step = np.repeat(DAILY_VOLATILITY / np.sqrt(lengths), lengths)
    moves = random.standard_normal(len(sessions)) * step
    moves[starts] = random.standard_normal(len(starts)) * 0.5 * DAILY_VOLATILITY
    walk = np.cumsum(moves)
    symbol_of_row = sessions // days
    first_rows = np.flatnonzero(np.concatenate(([True], symbol_of_row[1:] != symbol_of_row[:-1])))
    rows_of_symbol = np.diff(np.append(first_rows, len(sessions)))
    walk -= np.repeat(walk[first_rows], rows_of_symbol)
    opening = np.exp(random.uniform(np.log(8.0), np.log(400.0), symbols))
    middle: npt.NDArray[np.float64] = opening[symbol_of_row] * np.exp(walk)
    return middle


def _trades_table(random: np.random.Generator, quotes: Quotes, *, rows: int, names: list[str]) -> pa.Table:
    """Trades against quotes that were in force a moment before, at the bid or the ask, seldom beside them."""
    import pyarrow as pa

    against = np.sort(random.integers(0, len(quotes.timestamps), rows))
    leader = np.where(random.random(rows) < FOLLOWING_TRADES, 0, np.arange(rows))
    leader = np.maximum.accumulate(leader)  # a follower copies quote and stamp of the trade that it follows
    against = against[leader]
    delays = random.exponential(REPORT_DELAY_US, rows).astype(np.int64)[leader] * NANOSECONDS_PER_MICROSECOND
    delays[random.random(rows) < 0.1] = 0
    timestamps = quotes.timestamps[against] + delays
    ticks = _trade_prices(random, quotes.bids[against], quotes.asks[against])
    sizes = np.where(
        random.random(rows) < 0.25, random.integers(1, ROUND_LOT, rows), ROUND_LOT * random.geometric(0.35, rows)
    )
    order = np.argsort(timestamps, kind="stable")
    columns = {
        "timestamp": timestamps[order],
        "symbol": _strings(quotes.symbols[against][order], names),
        "price": ticks[order] / TICKS_PER_UNIT,
        "size": sizes[order],
    }
    return pa.table(columns)


def _trade_prices(random: np.random.Generator, bids: Int64Array, asks: Int64Array) -> Int64Array:
    """47 % each at the bid and at the ask, 5 % between them, 1 % one tick outside."""
    choice = np.searchsorted([0.47, 0.94, 0.99], random.random(len(bids)), side="right")
    return np.choose(choice, [bids, asks, (bids + asks) // 2, asks + 1]).astype(np.int64)


def _quotes_table(quotes: Quotes, names: list[str]) -> pa.Table:
    import pyarrow as pa

    order = np.argsort(quotes.timestamps, kind="stable")
    columns = {
        "timestamp": quotes.timestamps[order],
        "symbol": _strings(quotes.symbols[order], names),
        "bid": quotes.bids[order] / TICKS_PER_UNIT,
        "ask": quotes.asks[order] / TICKS_PER_UNIT,
        "bid_size": quotes.bid_sizes[order],
        "ask_size": quotes.ask_sizes[order],
    }
    return pa.table(columns)


def _strings(codes: Int64Array, names: list[str]) -> pa.Array:
    """The symbols spelt out, row by row, as a file has them."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names)).dictionary_decode()
