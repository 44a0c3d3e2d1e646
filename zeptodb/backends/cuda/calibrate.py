"""The rates of a machine: measured once, kept beside the compiled kernels, and measured anew on another device, driver
or number of threads."""

from __future__ import annotations

import ctypes
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np

from zeptodb.backends.base import Aggregate, AggregateOp, AggregateScan, Backend, Ranges, Scan
from zeptodb.backends.cuda.batch import allocate, read_word, upload
from zeptodb.backends.cuda.compile import cubin_folder
from zeptodb.backends.cuda.cost import CAUTIOUS, Rates
from zeptodb.backends.cuda.driver import DeviceError, Driver
from zeptodb.backends.expression import ColumnRef
from zeptodb.storage.batch import ColumnBatch
from zeptodb.storage.catalog import Catalog
from zeptodb.types import TRADES, ColumnType

_FORM = 1
"""Changes when rates come to mean something else."""

_DEVICE_BYTES = 256 << 20
_LINK_BYTES = 32 << 20
_HOST_ROWS = 1 << 22
_TIMES = 3
_COPIES = 8
_LAUNCHES = 16

Clock = Callable[[], float]


class MachineRates:
    """The rates of one device and the CPU beside it: those given, else those kept on disk, else cautious ones."""

    def __init__(self, driver: Driver, host: Backend, *, folder: Path | None = None) -> None:
        """folder: where rates are kept; None: the folder of compiled kernels."""
        self._driver, self._host = driver, host
        self._folder = cubin_folder() if folder is None else folder
        self._lock = Lock()
        self._known: Rates | None = driver.rates
        self._is_read = self._known is not None

    def __call__(self) -> Rates:
        """The rates, without measuring anything."""
        if not self._is_read:
            with self._lock:
                self._known = self._known or self._read()
                self._is_read = True
        return self._known or CAUTIOUS

    @property
    def are_assumed(self) -> bool:
        """Whether nobody has measured them."""
        self()
        return self._known is None

    def calibrate(self, clock: Clock = time.perf_counter) -> None:
        """Measure, unless that has been done on this machine; without room in device memory nothing is known then."""
        if self.are_assumed:
            with suppress(DeviceError, MemoryError):
                found = measure(self._driver, self._host, clock)
                with self._lock:
                    self._known = found
                    self._write(found)

    @property
    def path(self) -> Path | None:
        """The file of these rates, whether or not it is there; None where no folder can be written."""
        if self._folder is None:
            return None
        parts = (_FORM, self._driver.device, self._driver.versions, self._host.device)
        return self._folder / f"rates-{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}.json"

    def _read(self) -> Rates | None:
        if self.path is None:
            return None
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self.path.read_text(encoding="ascii"))
            rates = Rates(**{field.name: float(found[field.name]) for field in fields(Rates)})
            return rates if all(value > 0 for value in asdict(rates).values()) else None
        return None

    def _write(self, rates: Rates) -> None:
        if self.path is not None:
            with suppress(OSError):
                with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False, encoding="ascii") as scratch:
                    json.dump(asdict(rates), scratch)
                Path(scratch.name).replace(self.path)  # in one step: another process may read it at the same time


def measure(driver: Driver, host: Backend, clock: Clock = time.perf_counter) -> Rates:
    """The rates of a machine, each the best of a few short runs; raises DeviceError or MemoryError without room."""
    pinned, pageable = _link_rates(driver, host, clock)
    return Rates(
        host_bytes=_host_rate(host, clock),
        device_bytes=_device_rate(driver, clock),
        pinned_bytes=pinned,
        pageable_bytes=pageable,
        launch_seconds=_launch_seconds(driver, clock),
    )


def _host_rate(host: Backend, clock: Clock) -> float:
    """Bytes per second of vwap by symbol; a table of its own each time, of which no summaries are known."""
    price, volume = (ColumnRef(TRADES.index(name, table="trades"), ColumnType.INT64) for name in ("price", "volume"))
    aggregates = (Aggregate(AggregateOp.VWAP, (price, volume)),)
    values, nothing = np.arange(_HOST_ROWS, dtype=np.int64), np.zeros(1, dtype=np.int64)
    batch = ColumnBatch((np.zeros_like(values), values, values, values), (None, None, None, None), _HOST_ROWS)
    seconds = []
    for _ in range(_TIMES):
        table = Catalog(host.memory, arena_size=_LINK_BYTES, workers=host.workers).create("calibration", TRADES)
        table.append(batch)
        with table.snapshot() as snapshot:
            operation = AggregateScan(Scan(snapshot, Ranges(nothing, nothing, snapshot.lengths)), aggregates)
            seconds.append(_seconds(partial(host.aggregate, operation), clock))
    return 16 * _HOST_ROWS / min(seconds)


def _device_rate(driver: Driver, clock: Clock) -> float:
    """Bytes per second that a copy within the device reads and writes."""
    size = min(_DEVICE_BYTES, driver.memory_bytes[0] // 8) // 256 * 256
    source, target = allocate(driver, size, np.uint8), allocate(driver, size, np.uint8)

    def copies() -> None:
        for _ in range(_COPIES):
            driver.on_device(target.address, source.address, size)
        driver.synchronize()

    return 2 * _COPIES * size / _best(copies, clock)


def _link_rates(driver: Driver, host: Backend, clock: Clock) -> tuple[float, float]:
    """Bytes per second to the device: from page-locked memory, and from memory that has to be page-locked first."""
    mapping = host.memory.map(_LINK_BYTES)
    ctypes.memset(mapping.address, 1, _LINK_BYTES)  # the system has to find the pages before
    target = allocate(driver, _LINK_BYTES, np.uint8)

    def copy() -> None:
        driver.to_device(target.address, mapping.address, _LINK_BYTES)
        driver.synchronize()

    def lock_and_copy() -> None:
        driver.register(mapping.address, _LINK_BYTES)
        copy()

    first = _LINK_BYTES / _seconds(lock_and_copy, clock)
    try:
        return _LINK_BYTES / _best(copy, clock), first
    finally:
        driver.unregister(mapping.address)


def _launch_seconds(driver: Driver, clock: Clock) -> float:
    """From a launch to its result on the host."""
    (words,) = upload(driver, np.zeros(4, dtype=np.int64))

    def launches() -> None:
        for _ in range(_LAUNCHES):
            driver.launch("gather_words", 1, (words.part(0, 1), words.part(1, 2), 1, words.part(2, 3)))
            read_word(driver, words, 2)

    return _best(launches, clock) / _LAUNCHES


def _best(work: Callable[[], object], clock: Clock) -> float:
    """Seconds of the fastest of a few runs, the first of which does not count."""
    work()
    return min(_seconds(work, clock) for _ in range(_TIMES))


def _seconds(work: Callable[[], object], clock: Clock) -> float:
    began = clock()
    work()
    return max(clock() - began, 1e-9)
