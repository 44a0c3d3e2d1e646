"""Room for more rows: larger blocks for segments that are full, prepared aside and installed in one step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.jit import kernel
from zeptodb.storage.blocks import BlockAllocator, rows_that_fit
from zeptodb.storage.scatter import move_blocks

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
GROWTH = 1.5
LARGE_GROWTH = 2


class Room:
    """The blocks of some segments, with room for the rows that are coming; not visible until it is installed.

    Attributes:
        capacities: rows that each segment can hold.
        addresses: [stored column, segment] where values lie.
        marked: stored columns that have met a NULL, or are about to.
        validity: [marked column, segment] where validity bytes lie, 0 where nothing is NULL.
        retired: blocks that were replaced and their sizes.
    """

    def __init__(
        self,
        allocator: BlockAllocator,
        *,
        widths: Int64Array,
        lengths: Int64Array,
        capacities: Int64Array,
        addresses: Int64Array,
        marked: Int64Array,
        validity: Int64Array,
    ) -> None:
        self._allocator = allocator
        self._widths = widths
        self._lengths = lengths
        self.capacities = capacities
        self.addresses = addresses
        self.marked = marked
        self.validity = validity
        self.retired: list[tuple[Int64Array, Int64Array]] = []
        self._taken: list[tuple[Int64Array, Int64Array]] = []

    def grow(self, incoming: Int64Array, *, has_null: BoolArray, must_move: BoolArray | None = None) -> None:
        """Make room for `incoming` more rows per segment, and for validity in the columns that `has_null` marks.

        Segments that are full, or marked by `must_move`, get new blocks; what they hold is copied. Raises MemoryError
        and takes nothing when there is not enough memory.
        """
        need = self._lengths + incoming
        is_full = need > self.capacities
        full = np.flatnonzero(is_full if must_move is None else is_full | must_move)
        try:
            if len(full):
                self._enlarge(full, need[full])
            for row in np.flatnonzero(has_null[self.marked]).tolist():
                self._add_validity(self.validity[row])
        except BaseException:
            self.give_back()
            raise

    def give_back(self) -> None:
        """Free the blocks that were taken; for room that will not be installed."""
        while self._taken:
            blocks, sizes = self._taken.pop()
            self._allocator.free(blocks, sizes)

    def _enlarge(self, full: Int64Array, need: Int64Array) -> None:
        old = self.capacities[full]
        new = self._larger(old, need)
        self.capacities[full] = new
        for column, width in enumerate(self._widths.tolist()):
            self._move(self.addresses[column], full, old_bytes=old * width, new_bytes=new * width, width=width)
        for addresses in self.validity:
            has_validity = addresses[full] != 0
            if has_validity.any():
                chosen = full[has_validity]
                self._move(addresses, chosen, old_bytes=old[has_validity], new_bytes=new[has_validity], width=1)

    def _add_validity(self, addresses: Int64Array) -> None:
        """Validity blocks, all ones so far, for the segments that have none yet."""
        without = np.flatnonzero(addresses == 0)
        self._move(addresses, without, old_bytes=np.zeros_like(without), new_bytes=self.capacities[without], width=1)

    def _move(
        self, addresses: Int64Array, index: Int64Array, *, old_bytes: Int64Array, new_bytes: Int64Array, width: int
    ) -> None:
        """New blocks for the entries `index` of one row of addresses."""
        old = addresses[index]
        new = self._allocator.allocate(new_bytes)
        self._taken.append((new, new_bytes))
        move_blocks(old, new, self._lengths[index] * width)
        addresses[index] = new
        is_block = old != 0
        if is_block.any():
            self.retired.append((old[is_block], old_bytes[is_block]))

    def _larger(self, old: Int64Array, need: Int64Array) -> Int64Array:
        """Capacities for full segments: exact at first, then in steps that keep appends cheap on average.

        Those that only move keep theirs: somebody may hold every copy, and late rows come again and again.
        """
        larger = np.empty(len(old), dtype=np.int64)
        enlarge(old, need, self._allocator.large_bytes, larger)
        return larger


@kernel
def enlarge(old: Int64Array, need: Int64Array, large_bytes: int, larger: Int64Array) -> None:
    """Rows that each segment shall hold: what it holds if that suffices, else at least what it needs.

    Blocks of less than `large_bytes` hold as many rows of 8 bytes as fit. Pages of larger ones cost nothing until they
    are written, so that more is reserved.
    """
    for k in range(old.shape[0]):
        rows = need[k] if old[k] == 0 else max(need[k], np.int64(old[k] * GROWTH))
        if need[k] <= old[k]:
            larger[k] = old[k]
        elif 8 * rows >= large_bytes:
            larger[k] = rows * LARGE_GROWTH
        else:
            larger[k] = rows_that_fit(rows)
