"""Rows in any order brought into that of segments: by slot, then time, ties in order of arrival."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.jit import claim, copy_bytes, inline, kernel, load_int32, load_int64, store_int32, store_int64
from zeptodb.storage.workers import Workers

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]

FEW_ROWS = 32
"""So many are sorted by insertion, more by radix."""

RADIX_BITS = 8
SIGN = -(2**63)
"""Exclusive or with it makes the bits of int64 ascend as the numbers do."""


def order_rows(
    slots: Int32Array, times: Int64Array, slot_count: int, workers: Workers
) -> tuple[Int32Array, Int64Array, Int64Array]:
    """The order of the rows, where in it each slot begins (and the last one ends), and the times in that order.

    slots: the slot of each row, or its complement.
    """
    rows = len(slots)
    starts, cursors = np.zeros(slot_count + 1, dtype=np.int64), np.empty(slot_count, dtype=np.int64)
    order, spare_order = np.empty(rows, dtype=np.int32), np.empty(rows, dtype=np.int32)
    keys, spare_keys = np.empty(rows, dtype=np.int64), np.empty(rows, dtype=np.int64)
    group_rows(slots, times.ctypes.data, starts, cursors, order, keys)
    workers.run(
        lambda counter, budget: sort_groups(
            counter,
            budget,
            starts,
            keys.ctypes.data,
            order.ctypes.data,
            spare_keys.ctypes.data,
            spare_order.ctypes.data,
            np.empty(1 << RADIX_BITS, dtype=np.int64),
        ),
        slot_count,
        rows=rows,
    )
    return order, starts, keys


@kernel
def group_rows(
    slots: Int32Array, times: int, starts: Int64Array, cursors: Int64Array, order: Int32Array, keys: Int64Array
) -> None:
    """Bring the rows of each slot together, in their order.

    times: address of int64 values. starts: in zeros, out where each slot begins, and the end. cursors: scratch, one
    per slot. order, keys: out, the rows and their times.
    """
    for row in range(len(slots)):
        slot = slots[row]
        starts[(slot if slot >= 0 else ~slot) + 1] += 1
    for slot in range(len(cursors)):
        cursors[slot] = starts[slot]
        starts[slot + 1] += starts[slot]
    for row in range(len(slots)):
        slot = slots[row]
        slot = slot if slot >= 0 else ~slot
        at = cursors[slot]
        cursors[slot] = at + 1
        order[at] = row
        keys[at] = load_int64(times + 8 * row)


@kernel
def sort_groups(
    counter: Int64Array,
    budget: int,
    starts: Int64Array,
    keys: int,
    order: int,
    spare_keys: int,
    spare_order: int,
    counts: Int64Array,
) -> None:
    """Sort the rows starts[i] to starts[i + 1] of each claimed group i by key, ties in their order.

    keys, order: addresses of the int64 keys and the int32 rows, spare_keys, spare_order of scratch as large. counts:
    scratch of 2^RADIX_BITS.
    """
    for _ in range(budget):
        group = claim(counter.ctypes.data)
        if group >= len(starts) - 1:
            return
        first, rows = starts[group], starts[group + 1] - starts[group]
        if rows <= FEW_ROWS:
            sort_few(rows, keys + 8 * first, order + 4 * first)
        else:
            sort_many(
                rows, keys + 8 * first, order + 4 * first, spare_keys + 8 * first, spare_order + 4 * first, counts
            )


@inline
def sort_few(rows: int, keys: int, order: int) -> None:
    """Insertion sort."""
    for i in range(1, rows):
        key, row = load_int64(keys + 8 * i), load_int32(order + 4 * i)
        k = i
        while k > 0 and load_int64(keys + 8 * (k - 1)) > key:
            store_int64(keys + 8 * k, load_int64(keys + 8 * (k - 1)))
            store_int32(order + 4 * k, load_int32(order + 4 * (k - 1)))
            k -= 1
        store_int64(keys + 8 * k, key)
        store_int32(order + 4 * k, row)


@inline
def sort_many(rows: int, keys: int, order: int, spare_keys: int, spare_order: int, counts: Int64Array) -> None:
    """Radix sort from the lowest bits up, by those digits that tell the keys apart."""
    mask = (1 << RADIX_BITS) - 1
    differing, is_sorted, previous = 0, True, load_int64(keys)
    for i in range(1, rows):
        key = load_int64(keys + 8 * i)
        differing |= key ^ previous
        is_sorted &= previous <= key
        previous = key
    if is_sorted:
        return
    from_keys, from_order, to_keys, to_order = keys, order, spare_keys, spare_order
    for shift in range(0, 64, RADIX_BITS):
        if (differing >> shift) & mask == 0:
            continue
        for digit in range(len(counts)):
            counts[digit] = 0
        for i in range(rows):
            counts[((load_int64(from_keys + 8 * i) ^ SIGN) >> shift) & mask] += 1
        at = 0
        for digit in range(len(counts)):
            count = counts[digit]
            counts[digit] = at
            at += count
        for i in range(rows):
            key = load_int64(from_keys + 8 * i)
            digit = ((key ^ SIGN) >> shift) & mask
            at = counts[digit]
            counts[digit] = at + 1
            store_int64(to_keys + 8 * at, key)
            store_int32(to_order + 4 * at, load_int32(from_order + 4 * i))
        from_keys, from_order, to_keys, to_order = to_keys, to_order, from_keys, from_order
    if from_keys != keys:
        copy_bytes(keys, from_keys, 8 * rows)
        copy_bytes(order, from_order, 4 * rows)
