"""Where each row of a batch goes: its segment, and its place behind the rows that the segment holds.

A batch touches a few segments out of many: the touched ones get consecutive *slots*, so that everything after the
look-up costs in proportion to the batch and never to the table.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from zeptodb.jit import inline, kernel, load_int64, prefetch
from zeptodb.storage.rows import Rows

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Scalar = TypeVar("Scalar", bound=np.generic)

MINIMUM_HASH_BITS = 4
SEGMENT_COUNT, SLOT_COUNT, LATE_COUNT = 0, 1, 2
KEY, SLOT, INCOMING, NEWEST = 0, 1, 2, 3
CARD_WORDS = 4

AHEAD = 8
"""While a row is placed, the card of the row so far ahead is asked for, and the hash entry of one twice as far."""
WIDE_TABLE = 4_096
"""Hash tables of no more entries are in the cache, with their cards."""


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
        self._cards = np.zeros((0, CARD_WORDS), dtype=np.int64)
        self._bits = MINIMUM_HASH_BITS
        self._hash = np.full(1 << self._bits, -1, dtype=np.int32)
        self._is_placing = False

    def place(self, rows: Rows, segment_count: int) -> Placement:
        """Find a place for every row; `finish` must follow. New symbols become segments from `segment_count` on."""
        if self._is_placing:
            self._forget(segment_count)
        self._is_placing = True
        touched = np.empty(rows.count, dtype=np.int64)
        slot_of_row, position_of_row = (np.empty(rows.count, dtype=np.int32) for _ in range(2))
        state = np.array([segment_count, 0, 0], dtype=np.int64)
        keys = 0 if rows.keys is None else rows.keys.ctypes.data
        times = 0 if rows.times is None else rows.times.ctypes.data
        done = 0
        while True:
            done = place_rows(
                keys, times, done, rows.count, self._bits, self._hash, self.symbols, self.newest, self._cards,
                touched, slot_of_row, position_of_row, state,
            )  # fmt: skip
            if done == rows.count:
                break
            self._grow(int(state[SEGMENT_COUNT]))
        segments, slots, late = state.tolist()
        touched = touched[:slots]
        incoming, newest = np.empty(slots, dtype=np.int64), np.empty(slots, dtype=np.int64)
        read_cards(self._cards, touched, incoming, newest)
        return Placement(slot_of_row, position_of_row, touched, incoming, newest, segments, late)

    def finish(self) -> None:
        """Take note that the segments of the last placement have come to be."""
        self._is_placing = False

    def _forget(self, segment_count: int) -> None:
        """Undo what a placement that failed or was interrupted has left behind."""
        self._cards[:, SLOT] = -1
        self._rebuild_hash(segment_count)

    def _grow(self, used: int) -> None:
        """Make room for twice the segments; `used` counts those that the running batch has added, too."""
        size = max(8, 2 * len(self.symbols))
        cards = np.empty((size, CARD_WORDS), dtype=np.int64)
        cards[: len(self._cards)] = self._cards
        self._cards = cards
        self.newest = enlarged(self.newest, size)
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
def read_cards(cards: Int64Array, touched: Int64Array, incoming: Int64Array, newest: Int64Array) -> None:
    """Copy what the cards of the touched segments say, and end the batch on them."""
    for slot in range(touched.shape[0]):
        segment = touched[slot]
        incoming[slot] = cards[segment, INCOMING]
        newest[slot] = cards[segment, NEWEST]
        cards[segment, SLOT] = -1


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
    cards: Int64Array,
    touched: Int64Array,
    slot_of_row: Int32Array,
    position_of_row: Int32Array,
    state: Int64Array,
) -> int:
    """Find the slot of each row, count rows per slot and mark late rows; returns the row where a table was full.

    What a row needs to know of its segment lies on one card, half a cache line: the symbol, its slot in this batch (-1:
    none), its rows that are in order and the newest time afterwards.

    keys, times: addresses of int64 values, 0 where the table has no symbol or no timestamp column.
    slot_of_row: out, the row's slot, or its complement when the row is older than one that came before it.
    position_of_row: out, how many rows of the batch that are not late come before it in its slot.
    touched: out per slot the segment.
    state: in and out, counts of segments, slots and late rows.
    """
    mask = len(table) - 1
    segment_limit = len(symbols)
    previous_key = 0
    segment, slot = 0, -1
    is_wide = keys != 0 and len(table) > WIDE_TABLE
    for row in range(first, rows):
        if is_wide and row + 2 * AHEAD < rows:
            prefetch(table.ctypes.data + 4 * hash_slot(load_int64(keys + 8 * (row + 2 * AHEAD)), bits))
            near = table[hash_slot(load_int64(keys + 8 * (row + AHEAD)), bits)]
            if near >= 0:
                prefetch(cards.ctypes.data + 8 * CARD_WORDS * near)
        key = load_int64(keys + 8 * row) if keys != 0 else 0
        if slot < 0 or key != previous_key:
            at = hash_slot(key, bits)
            segment = table[at]
            while segment >= 0 and cards[segment, KEY] != key:
                at = (at + 1) & mask
                segment = table[at]
            if segment < 0:
                segment = state[SEGMENT_COUNT]
                if segment >= segment_limit or 2 * segment >= len(table):
                    return row
                symbols[segment] = key
                cards[segment, KEY] = key
                cards[segment, SLOT] = -1
                table[at] = segment
                last_times[segment] = np.iinfo(np.int64).min
                state[SEGMENT_COUNT] += 1
            slot = cards[segment, SLOT]
            if slot < 0:
                slot = state[SLOT_COUNT]
                state[SLOT_COUNT] += 1
                touched[slot] = segment
                cards[segment, SLOT] = slot
                cards[segment, INCOMING] = 0
                cards[segment, NEWEST] = last_times[segment]
            previous_key = key
        if times != 0:
            time = load_int64(times + 8 * row)
            if time < cards[segment, NEWEST]:
                slot_of_row[row] = ~slot
                state[LATE_COUNT] += 1
                continue
            cards[segment, NEWEST] = time
        slot_of_row[row] = slot
        position_of_row[row] = cards[segment, INCOMING]
        cards[segment, INCOMING] += 1
    return rows
