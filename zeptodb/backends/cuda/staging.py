"""Copies to the device from memory that is not page-locked, through a few page-locked buffers in turn."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.batch import allocate_for_copies
from zeptodb.backends.cuda.driver import DeviceArray, DeviceMemory, Driver, Event, Stream
from zeptodb.backends.cuda.memory import PinnedMemory
from zeptodb.storage.scatter import move_blocks

Int64Array = npt.NDArray[np.int64]

SLOT_BYTES = 8 << 20
SLOTS = 3
_ALIGNMENT = 8
_RANGE_BYTES = 3 * 8
"""Of the description of a range: offset, target, size."""


class StagingRing:
    """A few buffers of page-locked memory, used in turn; one is filled again when its own copy is done.

    Copies run on the stream of copies. The memory is taken when it is first needed. One thread at a time.
    """

    def __init__(self, driver: Driver, memory: PinnedMemory, *, slot_bytes: int = SLOT_BYTES) -> None:
        self._driver, self._memory, self._slot_bytes = driver, memory, slot_bytes
        self._base = 0
        self._next = 0
        self._done: list[Event | None] = [None] * SLOTS
        self._there: DeviceMemory | None = None

    def to_device(self, target: int, source: int, size_bytes: int) -> None:
        """Copy host memory to device memory; `source` may change as soon as this returns."""
        done = 0
        while done < size_bytes:
            size = min(self._slot_bytes, size_bytes - done)
            slot = self._slot()
            ctypes.memmove(slot, source + done, size)
            self._driver.to_device(target + done, slot, size, stream=Stream.COPIES)
            self._mark()
            done += size

    def scatter(self, targets: Int64Array, sources: Int64Array, sizes: Int64Array) -> None:
        """Copy many short ranges: packed, brought up by one copy, and put into their places by a kernel."""
        rooms = -(-sizes // _ALIGNMENT) * _ALIGNMENT + _RANGE_BYTES
        first = 0
        while first < len(sizes):
            ends = np.cumsum(rooms[first:])
            count = max(1, int(np.searchsorted(ends, self._slot_bytes, side="right")))
            part = slice(first, first + count)
            self._scatter(targets[part], sources[part], sizes[part])
            first += count

    def _scatter(self, targets: Int64Array, sources: Int64Array, sizes: Int64Array) -> None:
        """Offsets, targets and sizes stand before the bytes of the ranges; all are one copy."""
        count = len(sizes)
        described = count * _RANGE_BYTES
        ends = np.cumsum(-(-sizes // _ALIGNMENT) * _ALIGNMENT)
        offsets, total = np.append(0, ends[:-1]), described + int(ends[-1])
        slot = self._slot()
        for k, table in enumerate((offsets, targets, sizes)):
            _words(slot, count, first=k * count)[:] = table
        move_blocks(np.ascontiguousarray(sources), slot + described + offsets, np.ascontiguousarray(sizes))
        if self._there is None:  # on this stream one part after the other uses it
            self._there = allocate_for_copies(self._driver, self._slot_bytes)
        there = DeviceArray(self._there, self._there.address, total // 8, np.dtype(np.int64))
        self._driver.to_device(there.address, slot, total, stream=Stream.COPIES)
        self._mark()
        tables = [there.part(k * count, (k + 1) * count) for k in range(3)]
        packed = there.part(3 * count, len(there))
        self._driver.launch("scatter_ranges", 32 * count, (packed, *tables, count), stream=Stream.COPIES)

    def _slot(self) -> int:
        """The address of the next buffer, free to be written."""
        if self._base == 0:
            self._mapping = self._memory.map(SLOTS * self._slot_bytes)
            self._base = self._mapping.address
            self._memory.pin(self._mapping)
        slot = self._next % SLOTS
        done = self._done[slot]
        if done is not None:
            self._driver.wait(done)
        return self._base + slot * self._slot_bytes

    def _mark(self) -> None:
        """The copy of the buffer that was last taken has been asked for; the next one comes next."""
        self._done[self._next % SLOTS] = self._driver.record(Stream.COPIES)
        self._next += 1


def _words(address: int, count: int, *, first: int) -> Int64Array:
    """Some int64 words of a buffer."""
    return np.ctypeslib.as_array((ctypes.c_int64 * count).from_address(address + 8 * first))
