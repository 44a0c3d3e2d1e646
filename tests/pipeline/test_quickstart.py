"""The quick start of the API reference, as it stands there."""

from __future__ import annotations

import numpy as np
import polars as pl

import zeptodb
from zepto_py import from_polars, query_to_pandas


def test_the_quick_start_of_the_reference_works_unchanged():
    pipeline = zeptodb.Pipeline()
    pipeline.start()
    df = pl.DataFrame(
        {
            "symbol": [1, 1, 1, 2, 2],
            "price": [15000, 15010, 15020, 20000, 20010],
            "volume": [100, 150, 200, 80, 90],
        }
    )
    from_polars(df, pipeline, symbol_col="symbol", price_col="price", volume_col="volume")
    pipeline.drain()
    result = query_to_pandas(
        pipeline,
        "SELECT symbol, vwap(price, volume) AS vwap, sum(volume) AS vol FROM trades GROUP BY symbol ORDER BY symbol",
    )
    assert list(result.columns) == ["symbol", "vwap", "vol"]
    assert result["symbol"].tolist() == [1, 2]
    assert result["vol"].tolist() == [450, 170]
    np.testing.assert_allclose(result["vwap"], [15012.222222, 20005.294118], rtol=1e-9)
    prices = pipeline.get_column(symbol=1, name="price")
    assert prices.tolist() == [15000, 15010, 15020]
    assert prices.dtype == np.int64
    assert prices.base is not None
    assert not prices.flags["OWNDATA"]
    pipeline.stop()
