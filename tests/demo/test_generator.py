"""Generated ticks have the shape that they claim."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from zeptodb.demo.generator import activity, generate_ticks
from zeptodb.errors import InvalidInputError

TRADES, QUOTES, SYMBOLS = 40_000, 80_000, 20


@pytest.fixture(scope="module")
def ticks() -> tuple[pl.DataFrame, pl.DataFrame]:
    trades, quotes = generate_ticks(TRADES, quotes=QUOTES, symbols=SYMBOLS, days=4)
    return pl.DataFrame(trades), pl.DataFrame(quotes)


def test_counts_and_types_are_as_asked(ticks):
    trades, quotes = ticks
    assert trades.height == TRADES
    assert 0.99 * QUOTES <= quotes.height <= QUOTES
    assert trades.schema == {"timestamp": pl.Int64, "symbol": pl.String, "price": pl.Float64, "size": pl.Int64}
    assert list(quotes.columns) == ["timestamp", "symbol", "bid", "ask", "bid_size", "ask_size"]
    assert trades["symbol"].n_unique() == SYMBOLS
    assert trades.null_count().sum_horizontal()[0] == quotes.null_count().sum_horizontal()[0] == 0


def test_rows_come_in_time_order(ticks):
    for frame in ticks:
        assert frame["timestamp"].is_sorted()


def test_trades_share_stamps_and_quotes_of_a_symbol_do_not(ticks):
    trades, quotes = ticks
    assert trades.select(pl.struct("symbol", "timestamp").is_duplicated().mean()).item() > 0.2
    assert not quotes.select(pl.struct("symbol", "timestamp").is_duplicated().any()).item()


def test_some_trades_have_the_stamp_of_a_quote(ticks):
    trades, quotes = ticks
    assert trades.join(quotes, on=["symbol", "timestamp"], how="semi").height > 0.02 * TRADES


def test_prices_are_positive_multiples_of_a_hundredth_and_do_not_jump(ticks):
    trades, quotes = ticks
    for prices in (frame[name].to_numpy() for frame, name in ((trades, "price"), (quotes, "bid"), (quotes, "ask"))):
        assert prices.min() > 0
        assert np.array_equal(prices, np.round(prices * 100) / 100)
    spans = trades.group_by("symbol").agg(ratio=pl.col("price").max() / pl.col("price").min())
    assert spans["ratio"].max() < 1.5


def test_bid_is_below_ask(ticks):
    quotes = ticks[1]
    assert (quotes["ask"] - quotes["bid"]).min() > 0.005


def test_most_trades_lie_inside_the_quote_in_force_but_not_all(ticks):
    trades, quotes = ticks
    joined = trades.join_asof(quotes, on="timestamp", by="symbol", check_sortedness=False)
    share = joined.select(pl.col("price").is_between(pl.col("bid"), pl.col("ask")).mean()).item()
    assert 0.95 < share < 0.9999


def test_activity_falls_off_with_rank(ticks):
    counts = ticks[0].group_by("symbol").len().sort("symbol")["len"].to_numpy()
    expected = activity(SYMBOLS) * TRADES
    assert np.all(np.abs(counts - expected) < 0.25 * expected)
    assert counts[0] > 3 * counts[-1]


def test_days_are_working_days_and_busiest_at_their_ends(ticks):
    stamps = ticks[0]["timestamp"].cast(pl.Datetime("ns"))
    assert stamps.dt.date().n_unique() == 4
    assert stamps.dt.weekday().max() <= 5
    minutes = (stamps.dt.hour().cast(pl.Int64) * 60 + stamps.dt.minute()).to_numpy()
    assert minutes.min() >= 13 * 60 + 30
    assert minutes.max() <= 20 * 60
    per_half_hour = np.bincount((minutes - 13 * 60 - 30) // 30, minlength=13)[:13]
    assert per_half_hour[0] > 2 * per_half_hour[6]
    assert per_half_hour[12] > 2 * per_half_hour[6]


def test_sizes_are_mostly_round_lots(ticks):
    sizes = ticks[0]["size"]
    assert sizes.min() >= 1
    assert 0.6 < (sizes % 100 == 0).mean() < 0.9


def test_the_same_seed_gives_the_same_ticks():
    first, again = (generate_ticks(500, quotes=900, symbols=3, seed=5) for _ in range(2))
    assert first[0].equals(again[0])
    assert first[1].equals(again[1])
    assert not first[0].equals(generate_ticks(500, quotes=900, symbols=3, seed=6)[0])


def test_one_of_everything_works():
    trades, quotes = generate_ticks(1, quotes=1, symbols=1, days=1)
    assert trades.num_rows == quotes.num_rows == 1


@pytest.mark.parametrize("wrong", [{"trades": 0}, {"quotes": 0}, {"symbols": 0}, {"days": 0}])
def test_counts_that_are_not_positive_are_refused(wrong):
    counts = {"trades": 1, "quotes": 1, "symbols": 1, "days": 1} | wrong
    with pytest.raises(InvalidInputError, match=f"{next(iter(wrong))} is 0; it must be at least 1"):
        generate_ticks(counts.pop("trades"), **counts)
