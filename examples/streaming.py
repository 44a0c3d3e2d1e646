"""A million rows from pandas, then ticks from a generator with bad ones among them.

Prints (the times are those of the machine):

    Ingested 1,000,000 rows in 0.12s (8,489,242 rows/sec)
    Ingested 1,000,000 rows at 8,489,242 rows/sec
    Ingested 99,999 rows in 0.21s (470,919 rows/sec); left out 1 bad rows
    rows_ingested=1099999, rows_skipped=1, batches=22
"""

from collections.abc import Iterator

import pandas as pd

import zeptodb
from zepto_py import StreamingSession

pipeline = zeptodb.Pipeline()
pipeline.start()
pipeline.warm_up()  # else the first ingest of a process waits for the kernels to be loaded
sess = StreamingSession(pipeline, batch_size=50_000, error_mode="skip")

# %% A large DataFrame, with a progress bar on stderr and the closing line on stdout
big_df = pd.DataFrame(
    {
        "symbol": [1] * 1_000_000,
        "price": range(15000, 15000 + 15 * 1_000_000, 15),
        "volume": [100] * 1_000_000,
    }
)
sess.ingest_pandas(big_df, show_progress=True, symbol_col="symbol", price_col="price", volume_col="volume")

stats = sess.stats()
print(f"Ingested {stats.rows_ingested:,} rows at {stats.throughput:,.0f} rows/sec")


# %% A feed of dicts; the row without a price is left out, all others are stored
def tick_generator() -> Iterator[dict[str, int | None]]:
    """A hundred thousand ticks, one of them bad."""
    for number in range(100_000):
        yield {"symbol": 2, "price": None if number == 777 else 20000 + number % 10, "volume": 80}


sess.ingest_iter(tick_generator(), show_progress=True, total=100_000)

stats = sess.stats()
print(f"rows_ingested={stats.rows_ingested}, rows_skipped={stats.rows_skipped}, batches={stats.batches}")

pipeline.stop()
