"""What a row costs as there are more rows and more symbols: unsorted ingest, and queries that scan every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

import zeptodb
from bench.data import DAY_NS, DAY_START_NS, FIRST_PRICE, Trades
from bench.harness import Benchmark, ran_on
from bench.ingest import Loading
from zeptodb.demo.contenders import zeptodb_sql

ROW_FACTORS = (0.1, 1, 5)
SYMBOL_FACTORS = (0.01, 1, 100)
QUERIES = {
    "vwap + sum(volume) by symbol": (
        "SELECT symbol, vwap(price, volume) AS vwap, sum(volume) AS volume FROM trades GROUP BY symbol"
    ),
    "count(*) WHERE price > x": f"SELECT count(*) AS ticks FROM trades WHERE price > {FIRST_PRICE + 4_000}",
}
Columns = tuple[np.ndarray, ...]


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """Every number of rows with every number of symbols: by default 1 to 50 M and 10 to 100,000; no summaries."""
    random = np.random.default_rng(6)
    most = int(trades.rows * ROW_FACTORS[-1])
    prices, volumes = FIRST_PRICE + random.integers(0, 5_000, most), random.integers(1, 1_000, most)
    for row_factor in ROW_FACTORS:
        rows = int(trades.rows * row_factor)
        stamps = DAY_START_NS + np.arange(rows) * (DAY_NS // rows)
        for symbol_factor in SYMBOL_FACTORS:
            symbols = max(1, int(trades.symbols * symbol_factor))
            columns = (random.integers(0, symbols, rows), prices[:rows], volumes[:rows], stamps)
            series = ["all sizes"]
            series += [f"any number of rows, {symbols:,} symbols"] if symbol_factor == 1 else []
            series += [f"{rows:,} rows, any number of symbols"] if row_factor == 1 else []
            yield from of_size(columns, f"{rows:,} rows x {symbols:,} symbols", series)


def of_size(columns: Columns, size: str, series: Sequence[str]) -> Iterator[Benchmark]:
    """The load, then the queries over what it has stored."""
    loading = Loading(ingest(columns), zeptodb.PipelineConfig(summaries=False))
    rows = len(columns[0])
    name = "ingest_batch"
    yield Benchmark(f"{name}, {size}", (loading.contender(),), rows=rows, series=named(name, series))
    for name, sql in QUERIES.items():
        yield Benchmark(
            f"{name}, {size}",
            (zeptodb_sql(loading.pipeline, sql),),
            rows=rows,
            ran_on=ran_on(loading.pipeline, sql),
            series=named(name, series),
        )


def named(work: str, series: Sequence[str]) -> tuple[str, ...]:
    """The series of one piece of work."""
    return tuple(f"{work}, {one}" for one in series)


def ingest(columns: Columns) -> Callable[[zeptodb.Pipeline], object]:
    """A load of these columns."""
    return lambda pipeline: pipeline.ingest_batch(*columns)
