"""Aggregates from block summaries: a call when the first one has made them, so that the device has nothing to do."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import numpy as np

from bench.gpu.answers import AnswersDifferError
from bench.gpu.engines import Engines
from bench.gpu.record import Record
from bench.gpu.work import Market, by_symbol
from zeptodb.backends.cuda.backend import CudaBackend
from zeptodb.backends.summaries import Summaries

NAME = "vwap, sum by symbol, from summaries"
TARGET_MS = 0.1

_RUNS = 100


def measure_summaries(record: Record, engines: Engines, market: Market) -> None:
    """Check the answers and that the device is left alone, then write the entry."""
    device, rows = engines.device, market.trades.count
    device.host_runs.clear()
    with keeping_summaries(device):
        start = perf_counter()
        expected = by_symbol(device, market)
        first_seconds = perf_counter() - start
        if device.host_runs:
            record.skipped(f"{NAME}, {rows:,} rows", f"the host ran it: {', '.join(device.host_runs)}")
            return
        with engines.driver.laps() as asked:
            answer = by_symbol(device, market)
        if asked:
            raise AnswersDifferError(f"{NAME}: summaries did not know everything: {', '.join(asked)}")
        if not all(np.array_equal(a, b) for a, b in zip(answer, expected, strict=True)):
            raise AnswersDifferError(f"{NAME}: not the answer of the scan that has made them")
        samples = []
        for _ in range(_RUNS):
            start = perf_counter()
            by_symbol(device, market)
            samples.append(perf_counter() - start)
    record.found(
        "operation",
        operation=NAME,
        rows=rows,
        seconds=statistics.median(samples),
        device_seconds=0.0,
        link_seconds=0.0,
        kernels={},
        runs=_RUNS,
        first_seconds=first_seconds,
        row_bytes=0,
        target_seconds_at_1e9_on_h200=TARGET_MS / 1e3,
    )


@contextmanager
def keeping_summaries(device: CudaBackend) -> Iterator[None]:
    """Let a device whose operators are measured keep summaries for a while."""
    device.summaries = Summaries()
    try:
        yield
    finally:
        device.summaries = None
