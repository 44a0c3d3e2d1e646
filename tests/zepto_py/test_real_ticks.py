"""A day of real trades goes in and comes out as polars itself would sort and scale them."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from tests.zepto_py.pipelines import PublicPipeline
from zepto_py import from_pandas, from_polars, to_polars

DATA = Path(os.environ.get("ZEPTODB_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
TRADES = DATA / "us_equities" / "trades.parquet"


@pytest.mark.skipif(not TRADES.exists(), reason=f"no real ticks at {TRADES}; set ZEPTODB_TEST_DATA to their folder")
def test_us_trades_round_trip_by_symbol() -> None:
    ticks = pl.read_parquet(TRADES, columns=["timestamp", "symbol", "price", "size"], n_rows=400_000)
    by_polars, by_pandas = PublicPipeline(), PublicPipeline()
    from_polars(ticks, by_polars, volume_col="size", price_scale=100)
    from_pandas(ticks.to_pandas(), by_pandas, volume_col="size", price_scale=100)
    for symbol in ticks["symbol"].unique():
        expected = ticks.filter(pl.col("symbol") == symbol).sort("timestamp", maintain_order=True)
        exported = to_polars(by_polars, symbol, price_scale=100)
        assert exported["timestamp"].equals(expected["timestamp"])
        assert exported["price"].equals(expected["price"])
        assert exported["volume"].equals(expected["size"].cast(pl.Int64))
        assert exported.equals(to_polars(by_pandas, symbol, price_scale=100))
