"""Ticks from polars into a Pipeline, SQL over them into pandas, and a column as numpy sees it.

Prints:

       symbol          vwap  vol
    0       1  15012.222222  450
    1       2  20005.294118  170
    [15000 15010 15020]
"""

import polars as pl

import zeptodb
from zepto_py import from_polars, query_to_pandas

# 1. Start a pipeline
pipeline = zeptodb.Pipeline()
pipeline.start()

# 2. Build a polars DataFrame and ingest it
df = pl.DataFrame(
    {
        "symbol": [1, 1, 1, 2, 2],
        "price": [15000, 15010, 15020, 20000, 20010],
        "volume": [100, 150, 200, 80, 90],
    }
)
from_polars(df, pipeline, symbol_col="symbol", price_col="price", volume_col="volume")
pipeline.drain()

# 3. Run SQL and get a pandas DataFrame
result = query_to_pandas(
    pipeline,
    "SELECT symbol, vwap(price, volume) AS vwap, sum(volume) AS vol FROM trades GROUP BY symbol ORDER BY symbol",
)
print(result)

# 4. A column of one symbol as a numpy array: a read-only view, no copy
prices = pipeline.get_column(symbol=1, name="price")
print(prices)

pipeline.stop()
