"""Direct calls: VWAP of one large symbol, a column's view, and single ticks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import zeptodb
from bench.data import DAY_START_NS, Trades
from bench.harness import Benchmark
from bench.ingest import Loading
from zeptodb.demo.comparison import Contender
from zeptodb.demo.contenders import ZEPTODB

CALLS = 50_000  # fewer than the queue holds
END_TO_END_TICKS = 200_000


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """vwap(symbol), get_column, ingest() per call and end to end."""
    rows = trades.rows
    prices = np.random.default_rng(5).integers(10_000, 15_000, rows)
    pipelines = [zeptodb.Pipeline(zeptodb.PipelineConfig(summaries=summaries)) for summaries in (False, True)]
    for pipeline in pipelines:
        pipeline.ingest_batch(np.ones(rows, dtype=np.int64), prices, prices, DAY_START_NS + np.arange(rows))
    scanning, pipeline = pipelines

    def scan() -> object:
        return scanning.vwap(symbol=1)

    def vwap() -> object:
        return pipeline.vwap(symbol=1)

    def vwap_of_range() -> object:
        return pipeline.vwap(symbol=1, from_ns=DAY_START_NS + rows // 10, to_ns=DAY_START_NS + rows // 10 * 9)

    def count() -> object:
        return pipeline.count(symbol=1)

    def get_column() -> object:
        return pipeline.get_column(symbol=1, name="price")

    name = f"vwap(symbol) of {rows:,} rows"
    yield Benchmark(f"{name}, scanned", (Contender(ZEPTODB, scan),), rows=rows, row_bytes=16)
    scanning.stop()
    yield Benchmark(f"{name}, from summaries", (Contender(ZEPTODB, vwap),))
    yield Benchmark(
        "vwap(symbol, from_ns, to_ns) of 80 % of them, from summaries", (Contender(ZEPTODB, vwap_of_range),)
    )
    yield Benchmark("count(symbol)", (Contender(ZEPTODB, count),))
    yield Benchmark("get_column(symbol, name)", (Contender(ZEPTODB, get_column),))
    yield Benchmark("ingest(), per call", (Loading(ingest_calls).contender(),), rows=1, calls=CALLS)
    yield Benchmark(
        "ingest() and drain(), per tick", (Loading(end_to_end).contender(),), rows=1, calls=END_TO_END_TICKS
    )
    pipeline.stop()


def ingest_calls(pipeline: zeptodb.Pipeline) -> None:
    """Single ticks into the queue, which no thread drains meanwhile."""
    ingest = pipeline.ingest
    for stamp in range(CALLS):
        ingest(symbol=1, price=15_000, volume=100, timestamp=stamp)


def end_to_end(pipeline: zeptodb.Pipeline) -> None:
    """Single ticks with the background thread running, until all of them are stored."""
    pipeline.start()
    ingest = pipeline.ingest
    for stamp in range(END_TO_END_TICKS):
        ingest(symbol=1, price=15_000, volume=100, timestamp=stamp)
    pipeline.drain()
    pipeline.stop()
