"""Copies to the device from memory that is not page-locked, through a few page-locked buffers in turn."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.batch import allocate, upload
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.memory import PinnedMemory
from zeptodb.storage.scatter import move_blocks

Int64Array = npt.NDArray[np.int64]

SLOT_BYTES = 8 << 20
SLOTS = 3
_ALIGNMENT = 8


class StagingRing:
    """A few buffers of page-locked memory, used in turn; one is used again when its copy is done.

    The memory is taken when it is first needed. One thread at a time.
    """

    def __init__(self, driver: Driver, memory: PinnedMemory, *, slot_bytes: int = SLOT_BYTES) -> None:
        self._driver, self._memory, self._slot_bytes = driver, memory, slot_bytes
        self._base = 0
        self._next = 0

    def to_device(self, target: int, source: int, size_bytes: int) -> None:
        """Copy host memory to device memory; `source` may change as soon as this returns."""
        done = 0
        while done < size_bytes:
            size = min(self._slot_bytes, size_bytes - done)
            slot = self._slot()
            ctypes.memmove(slot, source + done, size)
            self._driver.to_device(target + done, slot, size)
            done += size

    def scatter(self, targets: Int64Array, sources: Int64Array, sizes: Int64Array) -> None:
        """Copy many short ranges: packed, brought up by one copy, and put into their places by a kernel."""
        rooms = -(-sizes // _ALIGNMENT) * _ALIGNMENT
        first = 0
        while first < len(sizes):
            ends = np.cumsum(rooms[first:])
            count = max(1, int(np.searchsorted(ends, self._slot_bytes, side="right")))
            part = slice(first, first + count)
            self._scatter(
                targets[part], sources[part], sizes[part], np.append(0, ends[: count - 1]), int(ends[count - 1])
            )
            first += count

    def _scatter(
        self, targets: Int64Array, sources: Int64Array, sizes: Int64Array, offsets: Int64Array, total: int
    ) -> None:
        slot = self._slot()
        move_blocks(np.ascontiguousarray(sources), slot + offsets, np.ascontiguousarray(sizes))
        packed: DeviceArray = allocate(self._driver, total, np.uint8)
        self._driver.to_device(packed.address, slot, total)
        offsets_there, targets_there, sizes_there = upload(self._driver, offsets, targets, sizes)
        self._driver.launch(
            "scatter_ranges", 32 * len(sizes), (packed, offsets_there, targets_there, sizes_there, len(sizes))
        )

    def _slot(self) -> int:
        """The address of the next buffer, free to be written."""
        if self._base == 0:
            self._mapping = self._memory.map(SLOTS * self._slot_bytes)
            self._base = self._mapping.address
            self._memory.pin(self._mapping)
        slot = self._next % SLOTS
        if self._next and slot == 0:
            self._driver.synchronize()
        self._next += 1
        return self._base + slot * self._slot_bytes
