"""Memory of large arrays, used again when they are gone.

The system clears each new page before it hands it out, which takes about as long as filling it with an answer. What a
large array leaves is therefore kept, up to a limit, for the next one of about its size; an answer that somebody holds
keeps its memory for as long as that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from zeptodb.backends.pieces import as_words
from zeptodb.jit import claim, kernel, pointer_int64
from zeptodb.storage.workers import Workers

Int64Array = npt.NDArray[np.int64]

_Item = TypeVar("_Item", bound=np.generic)

MANY_PLACES = 4_096
"""Fewer are left to numpy."""
_SHARE_PLACES = 1 << 14
_WORD_BYTES = 8

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


def take(
    columns: Sequence[npt.NDArray[np.generic]], places: npt.NDArray[np.int64], workers: Workers
) -> list[npt.NDArray[np.generic]]:
    """column[places] of each column; places lie within all of them."""
    if len(places) < MANY_PLACES:
        return [column[places] for column in columns]
    taken: list[npt.NDArray[np.generic]] = []
    sources, targets = [], []
    for column in columns:
        if column.itemsize != _WORD_BYTES or not column.flags.c_contiguous:
            taken.append(column[places])
            continue
        taken.append(empty(len(places), column.dtype))
        sources.append(column.ctypes.data)
        targets.append(taken[-1].ctypes.data)
    addresses = np.array([sources, targets], dtype=np.int64)
    places = as_words(places)

    def work(counter: Int64Array, budget: int) -> None:
        _take(counter, budget, addresses, places)

    shares = -(-len(places) // _SHARE_PLACES)
    workers.run(work, shares * len(sources), rows=len(places) * len(sources))
    return taken


@kernel
def _take(counter: Int64Array, budget: int, addresses: Int64Array, places: Int64Array) -> None:
    """Copy words from the arrays at addresses[0] to those at addresses[1], a share of one array at a time."""
    shares = (places.shape[0] + _SHARE_PLACES - 1) // _SHARE_PLACES
    while budget > 0:
        item = claim(counter.ctypes.data)
        if item >= shares * addresses.shape[1]:
            break
        budget -= 1
        column, first = item // shares, item % shares * _SHARE_PLACES
        source, target = pointer_int64(addresses[0, column]), pointer_int64(addresses[1, column])
        for k in range(first, min(first + _SHARE_PLACES, places.shape[0])):
            target[k] = source[places[k]]


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
