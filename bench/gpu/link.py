"""The link between host and device: page-locked and pageable copies, also beside queries, page-locking itself, launches
and round trips.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np

from bench.gpu.clock import TimedDriver
from bench.gpu.engines import Engines
from bench.gpu.overlap import COPY_BYTES, ROWS, measure_overlap
from bench.gpu.record import Record
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.backends.cuda.batch import allocate, read_word
from zeptodb.backends.cuda.driver import DeviceError
from zeptodb.backends.cuda.memory import SLAB_BYTES

SIZES = (64 << 10, 1 << 20, 16 << 20, 1 << 30)
SLABS = 64
LAUNCHES = 2_000
_RUNS = 5


@dataclass(frozen=True, slots=True)
class Way:
    """One way over the link: a label, and what makes the copy."""

    direction: str
    copy: Callable[[TimedDriver, int, int, int], None]
    """(driver, host address, device address, bytes)"""


WAYS = (
    Way("to device", lambda driver, host, device, size: driver.to_device(device, host, size)),
    Way("to host", lambda driver, host, device, size: driver.to_host(host, device, size)),
)


def measure(
    record: Record,
    engines: Engines,
    *,
    sizes: Sequence[int] = SIZES,
    slabs: int = SLABS,
    launches: int = LAUNCHES,
    overlap_rows: int = ROWS,
    overlap_bytes: int = COPY_BYTES,
) -> None:
    """Write entries: "copy" per direction, memory and size, "page-lock", "launch", "round trip", "overlap"."""
    measure_launches(record, engines.driver, launches=launches)
    measure_copies(record, engines.driver, sizes=sizes)
    measure_locking(record, engines.driver, slabs=slabs)
    measure_overlap(record, engines, rows=overlap_rows, copy_bytes=overlap_bytes)


def measure_copies(record: Record, driver: TimedDriver, *, sizes: Sequence[int]) -> None:
    """Copies of page-locked and of pageable memory, both in huge pages."""
    there = allocate(driver, max(sizes), np.uint8)  # type: ignore[arg-type]
    for memory in ("page-locked", "pageable"):
        mapping = AnonymousMemory().map(max(sizes))
        _touch(mapping.address, max(sizes))
        if memory == "page-locked":
            try:
                driver.register(mapping.address, max(sizes))
            except DeviceError as error:
                record.skipped("copies of page-locked memory", str(error))
                continue
        for way in WAYS:
            for size in sizes:
                seconds = _median(partial(_copied, driver, way, mapping.address, there.address, size))
                record.found(
                    "copy", direction=way.direction, memory=memory, bytes=size, seconds=seconds,
                    bytes_per_second=size / seconds,
                )  # fmt: skip
        if memory == "page-locked":
            driver.unregister(mapping.address)


def measure_locking(record: Record, driver: TimedDriver, *, slabs: int) -> None:
    """Page-lock an arena slab by slab, as the backend does: of memory never touched, and of memory in use."""
    for is_touched in (False, True):
        mapping = AnonymousMemory().map(slabs * SLAB_BYTES)
        if is_touched:
            _touch(mapping.address, slabs * SLAB_BYTES)
        locked: list[int] = []
        samples: list[float] = []
        try:
            for slab in range(slabs):
                address = mapping.address + slab * SLAB_BYTES
                samples.append(_seconds(partial(driver.register, address, SLAB_BYTES)))
                locked.append(address)
        except DeviceError as error:
            record.skipped("page-locking", f"slab {len(locked)} of {slabs}: {error}")
        finally:
            freed = [_seconds(partial(driver.unregister, address)) for address in locked]
        if locked:
            record.found(
                "page-lock", touched_before=is_touched, slab_bytes=SLAB_BYTES, slabs=len(locked),
                seconds_per_slab=statistics.median(samples), slowest_seconds=max(samples),
                bytes_per_second=len(locked) * SLAB_BYTES / sum(samples),
                unlock_seconds_per_slab=statistics.median(freed),
            )  # fmt: skip


def measure_launches(record: Record, driver: TimedDriver, *, launches: int) -> None:
    """What asking for a kernel costs the host, and asking, waiting and reading one word."""
    words = allocate(driver, 4)  # type: ignore[arg-type]
    driver.clear(words.address, words.size_bytes)
    arguments = (words.part(0, 1), words.part(1, 2), 1, words.part(2, 3))
    driver.launch("gather_words", 1, arguments)
    driver.synchronize()
    start = perf_counter()
    for _ in range(launches):
        driver.launch("gather_words", 1, arguments)
    asked = perf_counter() - start
    driver.synchronize()
    whole = perf_counter() - start
    record.found("launch", host_seconds=asked / launches, seconds=whole / launches)

    def round_trip() -> float:
        return _seconds(lambda: (driver.launch("gather_words", 1, arguments), read_word(driver, words, 2)))  # type: ignore[arg-type]

    record.found("round trip", seconds=statistics.median(round_trip() for _ in range(max(1, launches // 10))))


def _copied(driver: TimedDriver, way: Way, host: int, device: int, size: int) -> float:
    """Seconds until the copy is done, as a waiting caller sees it."""

    def copy() -> None:
        way.copy(driver, host, device, size)
        driver.synchronize()

    return _seconds(copy)


def _median(sample: Callable[[], float]) -> float:
    sample()
    return statistics.median(sample() for _ in range(_RUNS))


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _touch(address: int, size: int) -> None:
    """Write every page, with what no link compresses."""
    raw = (ctypes.c_char * size).from_address(address)
    out = np.frombuffer(raw, dtype=np.uint64)
    block = np.random.default_rng(1).integers(0, 1 << 63, min(len(out), 1 << 20), dtype=np.uint64)
    for first in range(0, len(out), len(block)):
        out[first : first + len(block)] = block[: len(out) - first]
