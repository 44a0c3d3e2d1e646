"""Where each row of a batch goes: its segment, and its place behind the rows that the segment holds.

A batch touches a few segments out of many: the touched ones get consecutive *slots*, so that everything after the
look-up costs in proportion to the batch and never to the table.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from zeptodb.jit import inline, kernel, load_int64
from zeptodb.storage.rows import Rows

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Scalar = TypeVar("Scalar", bound=np.generic)

MINIMUM_HASH_BITS = 4
SEGMENT_COUNT, SLOT_COUNT, LATE_COUNT = 0, 1, 2


class Placement(NamedTuple):
    """Where the rows of a batch go.

    Attributes:
        slot_of_row: int32 slot of each row, or its complement when the row is late: older than one that came before it.
        position_of_row: int32 place of a row that is not late behind what its segment holds.
        touched: per slot the segment.
        incoming: per slot the rows that are not late.
        newest: per slot the newest time afterwards.
        segment_count: segments afterwards.
        late_count: late rows.
    """

    slot_of_row: Int32Array
    position_of_row: Int32Array
    touched: Int64Array
    incoming: Int64Array
    newest: Int64Array
    segment_count: int
    late_count: int


class Placer:
    """Knows the segment of every symbol and the newest time in it; finds the place of every row of a batch.

    Attributes:
        symbols: of the segments, in the order in which they were first seen; may be longer than there are segments.
        newest: their newest times, as long.
    """

    def __init__(self) -> None:
        self.symbols = np.zeros(0, dtype=np.int64)
        self.newest = np.zeros(0, dtype=np.int64)
        self._slot_of_segment = np.zeros(0, dtype=np.int32)
        self._bits = MINIMUM_HASH_BITS
        self._hash = np.full(1 << self._bits, -1, dtype=np.int32)
        self._is_placing = False

    def place(self, rows: Rows, segment_count: int) -> Placement:
        """Find a place for every row; `finish` must follow. New symbols become segments from `segment_count` on."""
        if self._is_placing:
            self._forget(segment_count)
        self._is_placing = True
        touched, incoming, newest = (np.empty(rows.count, dtype=np.int64) for _ in range(3))
        slot_of_row, position_of_row = (np.empty(rows.count, dtype=np.int32) for _ in range(2))
        state = np.array([segment_count, 0, 0], dtype=np.int64)
        keys = 0 if rows.keys is None else rows.keys.ctypes.data
        times = 0 if rows.times is None else rows.times.ctypes.data
        done = 0
        while True:
            done = place_rows(
                keys, times, done, rows.count, self._bits, self._hash, self.symbols, self.newest,
                self._slot_of_segment, touched, incoming, newest, slot_of_row, position_of_row, state,
            )  # fmt: skip
            if done == rows.count:
                break
            self._grow(int(state[SEGMENT_COUNT]))
        segments, slots, late = state.tolist()
        return Placement(
            slot_of_row, position_of_row, touched[:slots], incoming[:slots], newest[:slots], segments, late
        )

    def finish(self, placement: Placement) -> None:
        """Take note that the segments of a placement have come to be."""
        self._slot_of_segment[placement.touched] = -1
        self._is_placing = False

    def _forget(self, segment_count: int) -> None:
        """Undo what a placement that failed or was interrupted has left behind."""
        self._slot_of_segment[:] = -1
        self._rebuild_hash(segment_count)

    def _grow(self, used: int) -> None:
        """Make room for twice the segments; `used` counts those that the running batch has added, too."""
        size = max(8, 2 * len(self.symbols))
        self.newest = enlarged(self.newest, size)
        self._slot_of_segment = enlarged(self._slot_of_segment, size)
        self.symbols = enlarged(self.symbols, size)  # last: its size is what counts
        while (1 << self._bits) < 2 * size:
            self._bits += 1
        self._rebuild_hash(used)

    def _rebuild_hash(self, used: int) -> None:
        self._hash = np.full(1 << self._bits, -1, dtype=np.int32)
        rebuild_hash(self.symbols, used, self._bits, self._hash)


def enlarged(array: npt.NDArray[Scalar], size: int) -> npt.NDArray[Scalar]:
    """A copy whose last axis has `size` entries, the new ones zero."""
    out = np.zeros((*array.shape[:-1], size), dtype=array.dtype)
    out[..., : array.shape[-1]] = array
    return out


@inline
def hash_slot(key: int, bits: int) -> int:
    """Fibonacci hashing of an int64 key to `bits` bits."""
    hashed: int = np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))  # type: ignore[assignment]
    return hashed


@kernel
def rebuild_hash(symbols: Int64Array, count: int, bits: int, table: Int32Array) -> None:
    """Fill an empty hash table (-1 everywhere) with the segments of the first `count` symbols."""
    mask = len(table) - 1
    for segment in range(count):
        at = hash_slot(symbols[segment], bits)
        while table[at] >= 0:
            at = (at + 1) & mask
        table[at] = segment


@kernel
def place_rows(
    keys: int,
    times: int,
    first: int,
    rows: int,
    bits: int,
    table: Int32Array,
    symbols: Int64Array,
    last_times: Int64Array,
    slot_of_segment: Int32Array,
    touched: Int64Array,
    incoming: Int64Array,
    newest: Int64Array,
    slot_of_row: Int32Array,
    position_of_row: Int32Array,
    state: Int64Array,
) -> int:
    """Find the slot of each row, count rows per slot and mark late rows; returns the row where a table was full.

    keys, times: addresses of int64 values, 0 where the table has no symbol or no timestamp column.
    slot_of_row: out, the row's slot, or its complement when the row is older than one that came before it.
    position_of_row: out, how many rows of the batch that are not late come before it in its slot.
    touched, incoming, newest: out per slot: the segment, its in-order rows, the newest time afterwards.
    state: in and out, counts of segments, slots and late rows.
    """
    mask = len(table) - 1
    segment_limit = len(symbols)
    previous_key = 0
    slot = -1
    for row in range(first, rows):
        key = load_int64(keys + 8 * row) if keys != 0 else 0
        if slot < 0 or key != previous_key:
            at = hash_slot(key, bits)
            segment = table[at]
            while segment >= 0 and symbols[segment] != key:
                at = (at + 1) & mask
                segment = table[at]
            if segment < 0:
                segment = state[SEGMENT_COUNT]
                if segment >= segment_limit or 2 * segment >= len(table):
                    return row
                symbols[segment] = key
                table[at] = segment
                slot_of_segment[segment] = -1
                last_times[segment] = np.iinfo(np.int64).min
                state[SEGMENT_COUNT] += 1
            slot = slot_of_segment[segment]
            if slot < 0:
                slot = state[SLOT_COUNT]
                state[SLOT_COUNT] += 1
                slot_of_segment[segment] = slot
                touched[slot] = segment
                incoming[slot] = 0
                newest[slot] = last_times[segment]
            previous_key = key
        if times != 0:
            time = load_int64(times + 8 * row)
            if time < newest[slot]:
                slot_of_row[row] = ~slot
                state[LATE_COUNT] += 1
                continue
            newest[slot] = time
        slot_of_row[row] = slot
        position_of_row[row] = incoming[slot]
        incoming[slot] += 1
    return rows
