"""Memory of large arrays, used again when they are gone.

The system clears each new page before it hands it out, which takes about as long as filling it with an answer. What a
large array leaves is therefore kept, up to a limit, for the next one of about its size; an answer that somebody holds
keeps its memory for as long as that.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_Item = TypeVar("_Item", bound=np.generic)

LEAST_BYTES = 1 << 20
"""Smaller arrays are left to the allocator, which has room for them."""
KEPT_BYTES = 256 << 20
"""Most bytes that wait to be used again."""

_FREE: dict[int, list[npt.NDArray[np.uint8]]] = {}


class _Block:
    """What an array of reused memory ends in: when the last view of it has gone, its memory is kept."""

    __slots__ = ("__array_interface__", "_memory")

    def __init__(self, memory: npt.NDArray[np.uint8]) -> None:
        self._memory = memory
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        """Keep the memory, in place of all the rest when that would be too much."""
        size = len(self._memory)
        # Appending and popping are atomic: this may run in any thread, between any two instructions.
        if size + kept_bytes() > KEPT_BYTES:
            release()
        _FREE.setdefault(size, []).append(self._memory)


def empty(shape: int | tuple[int, ...], kind: type[_Item] | np.dtype[_Item]) -> npt.NDArray[_Item]:
    """As numpy.empty, perhaps of memory that an earlier array has left."""
    dtype = np.dtype(kind)
    size = dtype.itemsize * (shape if isinstance(shape, int) else math.prod(shape))
    if size < LEAST_BYTES or size > KEPT_BYTES:
        return np.empty(shape, dtype)
    block = _Block(_memory(_size_class(size)))
    return np.asarray(block)[:size].view(dtype).reshape(shape)


def take(values: npt.NDArray[_Item], places: npt.NDArray[np.int64]) -> npt.NDArray[_Item]:
    """values[places]; places lie within the values."""
    if len(places) * values.itemsize < LEAST_BYTES:
        return values[places]
    taken = empty(len(places), values.dtype)
    np.take(values, places, out=taken, mode="clip")  # the other modes go through a buffer
    return taken


def kept_bytes() -> int:
    """Bytes that wait to be used again."""
    return sum(size * len(blocks) for size, blocks in list(_FREE.items()))


def release() -> None:
    """Give what is kept back to the system."""
    _FREE.clear()


def _memory(size: int) -> npt.NDArray[np.uint8]:
    try:
        return _FREE[size].pop()
    except (KeyError, IndexError):
        pass
    try:
        return np.empty(size, dtype=np.uint8)
    except MemoryError:
        release()
        return np.empty(size, dtype=np.uint8)


def _size_class(size: int) -> int:
    """`size`, rounded up to an eighth of a power of two."""
    step = 1 << (size.bit_length() - 4)
    return (size + step - 1) // step * step
