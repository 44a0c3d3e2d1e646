"""Three days of US equities: VWAP, five-minute bars, the quote in force at each trade, and the spread that it paid.

Run it with the folder that holds us_equities/trades.parquet and us_equities/quotes.parquet (columns: see below) in
$ZEPTODB_TEST_DATA; without it, ../shared/data beside this repository is taken.
"""

# %% Where the ticks are
import os
import sys
from pathlib import Path

import pyarrow.parquet as pq

import zeptodb

folder = Path(os.environ.get("ZEPTODB_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
files = {name: folder / "us_equities" / f"{name}.parquet" for name in ("trades", "quotes")}
for path in files.values():
    if not path.is_file():
        sys.exit(f"There is no {path}. Name the folder of the ticks in $ZEPTODB_TEST_DATA.")

# %% Into typed tables: prices stay float64, symbols strings, timestamps int64 ns
pipeline = zeptodb.Pipeline()
pipeline.append("ticks", pq.read_table(files["trades"], columns=["timestamp", "symbol", "price", "size"]))
pipeline.append("quotes", pq.read_table(files["quotes"], columns=["timestamp", "symbol", "bid", "ask"]))
print(pipeline)

# %% VWAP by symbol
print(
    pipeline.execute(
        "SELECT symbol, count(*) AS trades, vwap(price, size) AS vwap, sum(size) AS volume FROM ticks GROUP BY symbol"
    ).to_pandas()
)

# %% Five-minute bars of one symbol, with real datetimes
print(
    pipeline.execute(
        "SELECT xbar(timestamp, 300000000000) AS bar, first(price) AS open, max(price) AS high, min(price) AS low, "
        "last(price) AS close, sum(size) AS volume FROM ticks WHERE symbol = 'IBM' "
        "GROUP BY xbar(timestamp, 300000000000) ORDER BY bar LIMIT 6",
        timestamps="datetime",
    ).to_pandas()
)

# %% The quote in force at each trade (of several with one stamp the last)
joined = pipeline.execute(
    "SELECT t.symbol, t.timestamp, t.price, q.bid, q.ask FROM ticks t "
    "ASOF JOIN quotes q ON t.symbol = q.symbol AND t.timestamp >= q.timestamp"
)
print(joined)

# %% Share of trades inside that quote, and the mean effective half-spread, in pandas
frame = joined.raise_for_error().to_pandas()
frame["inside"] = frame["price"].between(frame["bid"], frame["ask"])
frame["half_spread"] = (frame["price"] - (frame["bid"] + frame["ask"]) / 2).abs()
print(frame.groupby("symbol")[["inside", "half_spread"]].mean())
print(f"{frame['inside'].mean():.1%} of all trades lie inside the quote in force")

# %% One column of one symbol: a read-only view, no copy
prices = pipeline.get_column("IBM", "price", table="ticks")
print(len(prices), prices.min(), prices.max())

pipeline.stop()
