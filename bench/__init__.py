"""Benchmarks: one file per operation, against DuckDB and polars on the same rows in one run. `python -m bench -h`."""
