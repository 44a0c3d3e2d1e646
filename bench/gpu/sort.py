"""ORDER BY's kernel: the places of int64 values in ascending order, as the backend's driver finds them."""

from __future__ import annotations

import statistics

import numpy as np
import numpy.typing as npt

from bench.gpu.answers import AnswersDifferError
from bench.gpu.engines import Engines
from bench.gpu.floors import Rates, against_floor
from bench.gpu.record import Record
from bench.gpu.rows import Rows
from zeptodb.backends.cuda.batch import allocate, read_words, upload
from zeptodb.backends.cuda.driver import DeviceError

Int64Array = npt.NDArray[np.int64]

NAME = "order of int64 with row number"
ROW_BYTES = 200
TARGET_MS = 60.0

_RUNS = 3
_CHUNK_ROWS = 1 << 24
_SECONDS_PER_ROW = 3e-8
"""Of bringing keys up, checking their order on one core, and three runs."""


def measure_sort(record: Record, engines: Engines, trades: Rows, rates: Rates) -> None:
    """Check the order, then write the entry."""
    driver, rows = engines.driver, trades.count
    if not record.has_time(f"{NAME}, {rows:,} rows", rows * _SECONDS_PER_ROW):
        return
    prices = np.ascontiguousarray(trades.columns["price"]).ravel()
    try:
        (keys,) = upload(driver, prices)  # type: ignore[arg-type]
        order = allocate(driver, rows)  # type: ignore[arg-type]
        driver.sorted_order(keys, order)
        require_stable_order(prices, read_words(driver, order))  # type: ignore[arg-type]
        samples = []
        for _ in range(_RUNS):
            first = driver.clock.mark()
            driver.sorted_order(keys, order)
            samples.append(driver.clock.seconds(first, driver.clock.mark()))
    except DeviceError as error:
        record.skipped(f"{NAME}, {rows:,} rows", str(error))
        return
    seconds = statistics.median(samples)
    record.found(
        "operation",
        operation=NAME,
        rows=rows,
        seconds=seconds,
        device_seconds=seconds,
        link_seconds=0.0,
        kernels={"sorted_order": seconds},
        runs=_RUNS,
        row_bytes=ROW_BYTES,
        target_seconds_at_1e9_on_h200=TARGET_MS / 1e3,
        **against_floor(row_bytes=ROW_BYTES, rows=rows, seconds=seconds, rates=rates),
    )


def require_stable_order(keys: Int64Array, order: Int64Array) -> None:
    """Raise AnswersDifferError unless `order` holds every place once, keys ascending, equal ones by place."""
    last_key, last_place = np.iinfo(np.int64).min, -1
    for first in range(0, len(order), _CHUNK_ROWS):
        places = np.concatenate([[last_place], order[first : first + _CHUNK_ROWS]])
        if len(places) > 1 and (places[1:].min() < 0 or places[1:].max() >= len(keys)):
            raise AnswersDifferError(f"{NAME}: a place is outside 0 to {len(keys) - 1:,}")
        values = np.concatenate([[last_key], keys[places[1:]]])
        rises = (values[1:] > values[:-1]) | ((values[1:] == values[:-1]) & (places[1:] > places[:-1]))
        if not rises.all():
            raise AnswersDifferError(f"{NAME}: the order breaks at {first + int(np.argmin(rises)):,}")
        last_key, last_place = values[-1], places[-1]
