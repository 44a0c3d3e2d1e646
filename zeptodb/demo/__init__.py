"""`zeptodb demo`: the main jobs on generated or real ticks, timed beside DuckDB and polars, and a candlestick chart."""
