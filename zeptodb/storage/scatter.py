"""Kernels that bring rows into segments: move full blocks, scatter.

A batch touches a few segments out of many: the touched ones get consecutive *slots*, so that everything after the
look-up costs in proportion to the batch and never to the table.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.jit import (
    claim,
    copy_bytes,
    inline,
    kernel,
    load_int32,
    load_int64,
    load_uint8,
    store_int32,
    store_int64,
    store_uint8,
)

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]

BLOCK_ROWS = 2048
MORSEL_ROWS = 32 * BLOCK_ROWS


@kernel
def move_blocks(old: Int64Array, new: Int64Array, counts: Int64Array) -> None:
    """Copy `counts[i]` bytes from old[i] to new[i]; address 0 on the old side fills with ones (validity)."""
    for i in range(len(old)):
        if new[i] == 0:
            continue
        if old[i] != 0:
            copy_bytes(new[i], old[i], counts[i])
        else:
            for k in range(counts[i]):
                store_uint8(new[i] + k, 1)


@inline
def scatter_block(
    source: int, width: int, first: int, end: int, bases: Int64Array, slots: Int32Array, positions: Int32Array
) -> None:
    """Scatter one column of a block of rows; `bases` are addresses per slot."""
    for row in range(first, end):
        slot = slots[row]
        if slot < 0:
            continue
        at = bases[slot] + width * positions[row]
        if width == 8:
            store_int64(at, load_int64(source + 8 * row))
        elif width == 4:
            store_int32(at, load_int32(source + 4 * row))
        elif bases[slot] != 0:
            store_uint8(at, load_uint8(source + row) if source != 0 else 1)


@kernel
def scatter_rows(
    counter: Int64Array,
    budget: int,
    sources: Int64Array,
    widths: Int64Array,
    bases: npt.NDArray[np.int64],
    slot_of_row: Int32Array,
    position_of_row: Int32Array,
) -> None:
    """Write rows behind what their segments hold, in claimed morsels of MORSEL_ROWS rows.

    sources: per column the address of the batch's values, 0 for a validity column without NULL (writes ones).
    bases: [column, slot] addresses where new rows begin, 0 where nothing is stored. position_of_row: the row's place
    from there on; rows whose slot is negative are left out. Blocks of rows that go to one slot, one after the other,
    are copied as a whole.
    """
    rows = len(slot_of_row)
    for _ in range(budget):
        start = claim(counter.ctypes.data) * MORSEL_ROWS
        if start >= rows:
            return
        for first in range(start, min(start + MORSEL_ROWS, rows), BLOCK_ROWS):
            end = min(first + BLOCK_ROWS, rows)
            slot, position = slot_of_row[first], position_of_row[first]
            is_uniform = slot >= 0
            for row in range(first, end):
                is_uniform &= (slot_of_row[row] == slot) & (position_of_row[row] - position == row - first)
            for c in range(len(sources)):
                width = widths[c]
                if is_uniform and sources[c] != 0:
                    if bases[c, slot] != 0:
                        copy_bytes(bases[c, slot] + position * width, sources[c] + first * width, (end - first) * width)
                else:
                    scatter_block(sources[c], width, first, end, bases[c], slot_of_row, position_of_row)
