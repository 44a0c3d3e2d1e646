"""Page-locked host memory for results and for what kernels need besides columns, used again when it is free."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from zeptodb.backends import reused
from zeptodb.backends.cuda.driver import DeviceError, HostMemory

Bytes = npt.NDArray[np.uint8]

LEAST_BLOCK_BYTES = 64 << 10
"""No block is smaller."""


class _Block:
    """What an array over a block ends in: when the last view of it has gone, the memory goes back."""

    __slots__ = ("__array_interface__", "_memory", "_returned")

    def __init__(self, memory: HostMemory, returned: deque[HostMemory]) -> None:
        self._memory, self._returned = memory, returned
        self.__array_interface__: dict[str, Any] = {
            "version": 3, "shape": (memory.size_bytes,), "typestr": "|u1", "data": (memory.address, False),
        }  # fmt: skip

    def __del__(self) -> None:
        """Give the memory back: appending is atomic, and this may run in any thread, between any two instructions."""
        self._returned.append(self._memory)


class HostBlocks:
    """Blocks of page-locked memory, up to a limit. Thread-safe.

    Attributes:
        limit_bytes: page-locked bytes at most, of blocks in use and of those that wait to be used again; 0: none.
        taken_bytes: page-locked now.
    """

    def __init__(self, allocate: Callable[[int], HostMemory], *, limit_bytes: int = 0) -> None:
        """`allocate` makes page-locked memory, or raises DeviceError."""
        self._allocate = allocate
        self.limit_bytes = limit_bytes
        self.taken_bytes = 0
        self._lock = Lock()
        self._free: dict[int, list[HostMemory]] = {}  # by size
        self._returned: deque[HostMemory] = deque()
        self._kept: list[Bytes] = []

    def empty(self, size_bytes: int) -> Bytes:
        """An array of page-locked memory, contents undefined; beyond the limit, and where the system refuses, of other.

        The memory stays as long as a view of it, and is used again then.
        """
        memory = self._take(_block_bytes(size_bytes))
        if memory is None:
            return reused.empty(size_bytes, np.dtype(np.uint8))
        return np.asarray(_Block(memory, self._returned))[:size_bytes]

    def _take(self, size: int) -> HostMemory | None:
        with self._lock:
            while self._returned:
                memory = self._returned.popleft()
                self._free.setdefault(memory.size_bytes, []).append(memory)
            if self._free.get(size):
                return self._free[size].pop()
            if size > self.limit_bytes:
                return None
            if self.taken_bytes + size > self.limit_bytes:
                self.taken_bytes -= sum(len(blocks) * each for each, blocks in self._free.items())
                self._free.clear()
            if self.taken_bytes + size > self.limit_bytes:
                return None
            try:
                memory = self._allocate(size)
            except DeviceError:  # the system's own limit: not tried again
                self.limit_bytes = self.taken_bytes
                return None
            self.taken_bytes += memory.size_bytes
            return memory

    # ---- until the device has read it -------------------------------------------------------------------------

    def keep(self, array: Bytes) -> None:
        """Keep an array whose copy to the device has been asked for, on the stream of queries."""
        self._kept.append(array)

    def kept(self) -> list[Bytes]:
        """What is kept; it goes with the list, which must stay until all that has been asked for so far is done."""
        found, self._kept = self._kept, []
        return found


def _block_bytes(size: int) -> int:
    """`size`, rounded up to an eighth of a power of two, so that blocks fit more than one result."""
    size = max(size, LEAST_BLOCK_BYTES)
    step = 1 << (size.bit_length() - 4)
    return (size + step - 1) // step * step
