"""Blocks of memory suballocated from arenas: size classes with free lists threaded through the free blocks."""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from zeptodb.jit import inline, kernel, load_int64, store_int64
from zeptodb.storage.memory import HostMemory, Mapping

Int64Array = npt.NDArray[np.int64]

CLASS_COUNT = 256
MINIMUM_BYTES = 16
LARGE_SHARE_OF_ARENA = 4
_ADDRESS = itemgetter(0)


@inline
def size_class(size: int) -> int:
    """Index of the size class that holds `size` bytes: steps of 16 up to 64 bytes, then four per doubling."""
    if size <= 64:
        return (size - 1) >> 4
    bits = 7
    while (1 << bits) < size:
        bits += 1
    return 4 + (bits - 7) * 4 + (((size - 1) >> (bits - 3)) & 3)


@inline
def class_bytes(index: int) -> int:
    """Bytes of the blocks of a size class."""
    if index < 4:
        return (index + 1) << 4
    return (5 + (index & 3)) << ((index >> 2) + 3)


@inline
def rows_that_fit(rows: int) -> int:
    """The most 8-byte rows that fit into the block that holds so many."""
    return class_bytes(size_class(8 * rows)) >> 3 if rows > 0 else 0


@kernel
def take_blocks(sizes: Int64Array, first: int, large: int, heads: Int64Array, bump: Int64Array, out: Int64Array) -> int:
    """Take a block for each size from free lists or the arena's rest; returns where the arena ran out.

    `heads` holds the first free block of each class, each free block the address of the next; `bump` the arena's
    next free address and its end. Sizes of 0 and of `large` or more are left alone.
    """
    for i in range(first, len(sizes)):
        if sizes[i] == 0 or sizes[i] >= large:
            continue
        index = size_class(sizes[i])
        if heads[index] != 0:
            out[i] = heads[index]
            heads[index] = load_int64(out[i])
            continue
        size = class_bytes(index)
        if bump[0] + size > bump[1]:
            return i
        out[i] = bump[0]
        bump[0] += size
    return len(sizes)


@kernel
def give_blocks(addresses: Int64Array, sizes: Int64Array, large: int, heads: Int64Array) -> None:
    """Put small blocks back on their free lists."""
    for i in range(len(addresses)):
        if addresses[i] == 0 or sizes[i] == 0 or sizes[i] >= large:
            continue
        index = size_class(sizes[i])
        store_int64(addresses[i], heads[index])
        heads[index] = addresses[i]


class BlockAllocator:
    """Allocates blocks by the thousand; a block of a quarter of an arena or more has a mapping of its own.

    Not thread-safe: the owner's write lock guards it. All memory goes back when the allocator and every view of its
    blocks are gone; a large block goes back as soon as it is freed.
    """

    def __init__(self, memory: HostMemory, *, arena_size: int) -> None:
        self._memory = memory
        self._arena_size = arena_size
        self.large_bytes = arena_size // LARGE_SHARE_OF_ARENA
        self._heads = np.zeros(CLASS_COUNT, dtype=np.int64)
        self._bump = np.zeros(2, dtype=np.int64)
        self._arenas: list[tuple[int, Mapping]] = []  # by address
        self._large: dict[int, Mapping] = {}

    def allocate(self, sizes: Int64Array) -> Int64Array:
        """Addresses of blocks of at least `sizes` bytes (0 for size 0); contents are undefined.

        Raises MemoryError when the system has no more; nothing is taken then.
        """
        out = np.zeros(len(sizes), dtype=np.int64)
        try:
            done = take_blocks(sizes, 0, self.large_bytes, self._heads, self._bump, out)
            while done < len(sizes):
                self._add_arena()
                done = take_blocks(sizes, done, self.large_bytes, self._heads, self._bump, out)
            for i in np.flatnonzero(sizes >= self.large_bytes):
                mapping = self._memory.map(int(sizes[i]))
                self._large[mapping.address] = mapping
                out[i] = mapping.address
        except BaseException:
            self.free(out, sizes)
            raise
        return out

    def free(self, addresses: Int64Array, sizes: Int64Array) -> None:
        """Take blocks back; `sizes` as they were asked for. Address 0 is ignored."""
        give_blocks(addresses, sizes, self.large_bytes, self._heads)
        for i in np.flatnonzero((sizes >= self.large_bytes) & (addresses != 0)):
            del self._large[int(addresses[i])]

    def mapping_of(self, address: int) -> Mapping:
        """The mapping that a block lies in; whoever references it keeps the memory."""
        large = self._large.get(address)
        if large is not None:
            return large
        return self._arenas[bisect_right(self._arenas, address, key=_ADDRESS) - 1][1]

    @property
    def mapped_bytes(self) -> int:
        """Bytes of address space in arenas and large blocks."""
        return len(self._arenas) * self._arena_size + sum(m.size_bytes for m in self._large.values())

    def _add_arena(self) -> None:
        arena = self._memory.map(self._arena_size)
        self._arenas.insert(bisect_right(self._arenas, arena.address, key=_ADDRESS), (arena.address, arena))
        self._bump[:] = (arena.address, arena.address + self._arena_size)
