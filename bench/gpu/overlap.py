"""Copies to the device beside queries: the rate of the link and the time of a query, alone and together."""

from __future__ import annotations

import ctypes
import statistics
from threading import Thread
from time import perf_counter

import numpy as np

from bench.gpu.engines import Engines
from bench.gpu.record import Record
from bench.gpu.rows import trades
from bench.gpu.work import Market, vwap
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.backends.cuda.batch import allocate_for_copies
from zeptodb.backends.cuda.driver import DeviceError, Stream

ROWS = 50_000_000
COPY_BYTES = 256 << 20
COPIES = 32
SECONDS = 12.0
"""What it may take, the making of the rows included."""
_RUNS = 20


def measure_overlap(
    record: Record, engines: Engines, *, rows: int = ROWS, copy_bytes: int = COPY_BYTES, copies: int = COPIES
) -> None:
    """Write an entry "overlap": copies of page-locked memory while vwap over resident columns runs again and again."""
    if not record.has_time("copies beside queries", SECONDS):
        return
    driver, device = engines.driver, engines.device
    market = Market(*2 * (trades(device.memory, rows),))
    device.host_runs.clear()
    vwap(device, market)  # its columns come up
    if device.host_runs:
        record.skipped("copies beside queries", f"the host ran the query: {', '.join(device.host_runs)}")
        return
    mapping = AnonymousMemory().map(copy_bytes)
    ctypes.memset(mapping.address, 1, copy_bytes)
    try:
        driver.register(mapping.address, copy_bytes)
    except DeviceError as error:
        record.skipped("copies beside queries", str(error))
        return
    try:
        there = allocate_for_copies(driver, copy_bytes)  # type: ignore[arg-type]
        driver.synchronize()

        def copied() -> float:
            """Seconds until all copies are done, from when they are asked for."""
            start = perf_counter()
            for _ in range(copies):
                driver.to_device(there.address, mapping.address, copy_bytes, stream=Stream.COPIES)
            driver.wait(driver.record(Stream.COPIES))
            return perf_counter() - start

        def asked() -> float:
            start = perf_counter()
            vwap(device, market)
            return perf_counter() - start

        copied()
        alone = statistics.median(copied() for _ in range(3))
        query_alone = statistics.median(asked() for _ in range(_RUNS))
        beside: list[float] = []
        link = Thread(target=lambda: beside.append(copied()))
        link.start()
        queries = [asked()]
        while link.is_alive():
            queries.append(asked())
        link.join()
    finally:
        driver.unregister(mapping.address)
    record.found(
        "overlap", rows=rows, bytes=copies * copy_bytes, bytes_per_second=copies * copy_bytes / alone,
        bytes_per_second_beside=copies * copy_bytes / beside[0], query_seconds=query_alone,
        query_seconds_beside=float(np.median(queries)), queries=len(queries),
    )  # fmt: skip
