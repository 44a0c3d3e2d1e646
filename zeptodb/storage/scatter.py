"""Kernels that bring rows into segments: find each row's segment, move full blocks, scatter, merge late rows.

A batch touches a few segments out of many: the touched ones get consecutive *slots*, so that everything after the
look-up costs in proportion to the batch and never to the table.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.jit import (
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

SEGMENT_COUNT, SLOT_COUNT, LATE_COUNT = 0, 1, 2
BLOCK_ROWS = 2048


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
    last_time: Int64Array,
    slot_of_segment: Int32Array,
    touched: Int64Array,
    incoming: Int64Array,
    newest: Int64Array,
    slot_of_row: Int32Array,
    state: Int64Array,
) -> int:
    """Find the slot of each row, count rows per slot and mark late rows; returns the row where a table was full.

    keys, times: addresses of int64 values, 0 where the table has no symbol or no timestamp column.
    slot_of_row: out, the row's slot, or its complement when the row is older than one that came before it.
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
                last_time[segment] = np.iinfo(np.int64).min
                state[SEGMENT_COUNT] += 1
            slot = slot_of_segment[segment]
            if slot < 0:
                slot = state[SLOT_COUNT]
                state[SLOT_COUNT] += 1
                slot_of_segment[segment] = slot
                touched[slot] = segment
                incoming[slot] = 0
                newest[slot] = last_time[segment]
            previous_key = key
        if times != 0:
            time = load_int64(times + 8 * row)
            if time < newest[slot]:
                slot_of_row[row] = ~slot
                state[LATE_COUNT] += 1
                continue
            newest[slot] = time
        incoming[slot] += 1
        slot_of_row[row] = slot
    return rows


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
def copy_value(destination: int, source: int, width: int) -> None:
    """Copy one value of 8, 4 or 1 bytes."""
    if width == 8:
        store_int64(destination, load_int64(source))
    elif width == 4:
        store_int32(destination, load_int32(source))
    else:
        store_uint8(destination, load_uint8(source))


@inline
def scatter_block(
    source: int, width: int, first: int, count: int, bases: Int64Array, slots: Int32Array, positions: Int64Array
) -> None:
    """Scatter one column of a block of rows; `bases` are the column's addresses per slot."""
    if width == 8:
        for i in range(count):
            slot = slots[first + i]
            if slot >= 0:
                store_int64(bases[slot] + 8 * positions[i], load_int64(source + 8 * (first + i)))
    elif width == 4:
        for i in range(count):
            slot = slots[first + i]
            if slot >= 0:
                store_int32(bases[slot] + 4 * positions[i], load_int32(source + 4 * (first + i)))
    else:
        for i in range(count):
            slot = slots[first + i]
            if slot >= 0 and bases[slot] != 0:
                value = load_uint8(source + first + i) if source != 0 else 1
                store_uint8(bases[slot] + positions[i], value)


@kernel
def scatter_rows(
    sources: Int64Array,
    widths: Int64Array,
    targets: npt.NDArray[np.int64],
    cursors: Int64Array,
    slot_of_row: Int32Array,
    rows: int,
    positions: Int64Array,
) -> None:
    """Write the in-order rows of a batch behind what their segments hold.

    sources: per column the address of the batch's values, 0 for a validity column without NULL (writes ones).
    targets: [column, slot] addresses, 0 where nothing is stored. cursors: in and out, next row per slot.
    positions: scratch of BLOCK_ROWS. Blocks of one slot only are copied as a whole.
    """
    columns = len(sources)
    for first in range(0, rows, BLOCK_ROWS):
        count = min(BLOCK_ROWS, rows - first)
        slot = slot_of_row[first]
        is_uniform = slot >= 0
        for i in range(count):
            is_uniform &= slot_of_row[first + i] == slot
        if is_uniform:
            at = cursors[slot]
            cursors[slot] += count
            for c in range(columns):
                if targets[c, slot] == 0:
                    continue
                if sources[c] != 0:
                    width = widths[c]
                    copy_bytes(targets[c, slot] + at * width, sources[c] + first * width, count * width)
                else:
                    for i in range(count):
                        store_uint8(targets[c, slot] + at + i, 1)
            continue
        for i in range(count):
            slot = slot_of_row[first + i]
            if slot >= 0:
                positions[i] = cursors[slot]
                cursors[slot] += 1
        for c in range(columns):
            scatter_block(sources[c], widths[c], first, count, targets[c], slot_of_row, positions)


@inline
def upper_bound(times: int, low: int, high: int, time: int) -> int:
    """First row in [low, high) whose time is greater than `time`, else `high`; gallops down from the end."""
    step = 1
    while high - step > low and load_int64(times + 8 * (high - step)) > time:
        step <<= 1
    low = max(low, high - step)
    high -= step >> 1
    while low < high:
        middle = (low + high) >> 1
        if load_int64(times + 8 * middle) > time:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def late_positions(
    times: Int64Array, lengths: Int64Array, late_times: int, offsets: Int64Array, positions: Int64Array
) -> None:
    """Per late row how many rows of its segment stay in front of it (those at or before its time).

    times, lengths: per segment the address of its times and its rows. Late rows offsets[i]..offsets[i + 1] belong to
    segment i and are sorted by time.
    """
    for i in range(len(lengths)):
        high = lengths[i]
        for late in range(offsets[i + 1] - 1, offsets[i] - 1, -1):
            high = upper_bound(times[i], 0, high, load_int64(late_times + 8 * late))
            positions[late] = high


@kernel
def merge_late(
    targets: npt.NDArray[np.int64],
    widths: Int64Array,
    sources: Int64Array,
    lengths: Int64Array,
    offsets: Int64Array,
    positions: Int64Array,
    done: Int64Array,
) -> None:
    """Insert late rows in place: the rows behind each are shifted up, last first. Nothing happens when done[0] is set.

    targets: [column, segment] addresses with room for the late rows, 0 where nothing is stored; sources: per column
    the address of the late values, 0 for validity without NULL (writes ones); positions as of `late_positions`.
    done: out, set at the end.
    """
    if done[0] != 0:
        return
    for c in range(len(widths)):
        width = widths[c]
        for i in range(len(lengths)):
            base = targets[c, i]
            if base == 0:
                continue
            end = lengths[i]
            for late in range(offsets[i + 1] - 1, offsets[i] - 1, -1):
                shift = late - offsets[i]
                position = positions[late]
                copy_bytes(base + (position + shift + 1) * width, base + position * width, (end - position) * width)
                end = position
                if sources[c] != 0:
                    copy_value(base + (position + shift) * width, sources[c] + late * width, width)
                else:
                    store_uint8(base + (position + shift) * width, 1)
    done[0] = 1
