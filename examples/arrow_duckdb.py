"""ZeptoDB's columns as an Arrow table, a stream of batches and a polars DataFrame, and DuckDB running on them.

Nothing is copied: the Arrow buffers lie where the engine keeps its columns. Prints:

    timestamp: int64
    price: int64
    volume: int64
       avg(price)  stddev(price)
    0     15010.0           10.0
    3
    150.1
    True
"""

import pyarrow as pa

import zeptodb
from zepto_py import ArrowSession

pipeline = zeptodb.Pipeline()
pipeline.start()
sess = ArrowSession(pipeline)

# %% Arrow in
sess.ingest_arrow(
    pa.table(
        {
            "symbol": [1, 1, 1, 2, 2],
            "price": [15000, 15010, 15020, 20000, 20010],
            "volume": [100, 150, 200, 80, 90],
        }
    ),
    symbol_col="symbol",
    price_col="price",
    volume_col="volume",
)

# %% Export to Arrow
table = sess.to_arrow(symbol=1)
print(table.schema)

# %% Query with DuckDB directly on ZeptoDB data
conn = sess.to_duckdb(symbol=1, table_name="trades")
df = conn.execute("SELECT avg(price), stddev(price) FROM trades").fetchdf()
print(df)

# %% Batches, cut as they are read
for batch in sess.to_record_batch_reader(symbol=1):
    print(batch.num_rows)

# %% polars over the same buffers; prices as floats where a scale is given
print(sess.to_polars_zero_copy(symbol=1, price_scale=100)["price"].mean())

# %% The buffers are the engine's own
prices = pipeline.get_column(symbol=1, name="price")
print(table["price"].chunk(0).buffers()[1].address == prices.ctypes.data)

pipeline.stop()
