"""What the rows of one or more pieces add to states: all of them, those of a list, of a mask or of intervals.

Functions of the kernel `accumulate`; `tile` has what each primitive does with the values of one tile.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cpu.expression import count_true, gather_words, select_true
from zeptodb.backends.cpu.tile import dot_within, sum_within, take_masked, take_tiles
from zeptodb.backends.primitives import COUNT, DOT_FLOAT_FLOAT, DOT_INT_INT, FIRST, LAST, ROWS, SUM_INT
from zeptodb.backends.program import BLOCK_ROWS
from zeptodb.backends.states import add_to
from zeptodb.jit import inline, load_int64, pointer_int64, pointer_uint8, store_int64

Int64Array = npt.NDArray[np.int64]


@inline
def take_pieces(
    opcode: int, left: int, right: int, left_valid: int, right_valid: int, lefts: int, rights: int, scale: int,
    firsts: int, afters: int, pieces: int, row: int, rows: int, state: int, stride: int, alone: int, work: int,
) -> None:  # fmt: skip
    """Add to the states of `pieces` pieces, side by side; piece k has the values from firsts[k] to afters[k].

    They stand where `take_tiles` says, and are those of the rows from `row` on, or of those listed at address `rows`.
    At address `alone` is room for two words.
    """
    first, after = pointer_int64(firsts), pointer_int64(afters)
    if opcode == ROWS or opcode == FIRST or opcode == LAST:
        for k in range(pieces):
            low, high, place = first[k], after[k], state + 8 * k
            if low == high:
                continue
            if opcode == ROWS:
                add_to(place, high - low)
            elif opcode == LAST:
                store_int64(place, row + (high - 1 if rows == 0 else load_int64(rows + 8 * (high - 1))))
            elif load_int64(place) < 0:
                store_int64(place, row + (low if rows == 0 else load_int64(rows + 8 * low)))
        return
    has_valid = left_valid != 0 or right_valid != 0
    k, together = 0, 1 if has_valid else pieces
    while k < pieces:
        x, y, x_places, y_places, lows, highs = left, right, lefts, rights, firsts, afters
        if has_valid:
            # One piece at a time, of which the rows without NULL are gathered.
            low, count = first[k], after[k] - first[k]
            x, y = left + 8 * low, right + 8 * low
            a = left_valid + low if left_valid != 0 else right_valid + low
            b = right_valid + low if right_valid != 0 else a
            found = _list_valid(a, b, count, work)
            store_int64(alone, 0)
            store_int64(alone + 8, found)
            if found < count and opcode != COUNT:
                gather_words(work + 16 * BLOCK_ROWS, x, work + 8 * BLOCK_ROWS, found)
                if DOT_INT_INT <= opcode <= DOT_FLOAT_FLOAT:
                    gather_words(work, y, work + 8 * BLOCK_ROWS, found)
                x, y = work + 16 * BLOCK_ROWS, work
            x_places, y_places, lows, highs = alone, alone, alone, alone + 8
        take_tiles(opcode, x, y, x_places, y_places, scale, lows, highs, together, state + 8 * k, stride)
        k += together


@inline
def _list_valid(a: int, b: int, count: int, work: int) -> int:
    """List the rows whose bytes at both addresses are 1, a block behind `work`; how many they are."""
    if a != b:
        first, second, both = pointer_uint8(a), pointer_uint8(b), pointer_uint8(work)
        for i in range(count):
            both[i] = first[i] & second[i]
        a = work
    return int(select_true(a, count, work + 8 * BLOCK_ROWS))


@inline
def take_pieces_masked(
    opcode: int, left: int, right: int, flags: int, bounds: int, pieces: int, row: int, state: int, stride: int
) -> None:
    """As `take_pieces`, of the rows whose byte at `flags` is 1."""
    bound, flag = pointer_int64(bounds), pointer_uint8(flags)
    for k in range(pieces):
        first, after, place = bound[k], bound[k + 1], state + 8 * k
        if opcode == FIRST:
            if load_int64(place) < 0:
                while first < after and flag[first] == 0:
                    first += 1
                if first < after:
                    store_int64(place, row + first)
        elif opcode == LAST:
            while after > first and flag[after - 1] == 0:
                after -= 1
            if after > first:
                store_int64(place, row + after - 1)
        else:
            found = count_true(flags + first, 0, after - first)
            if found == 0:
                continue
            if opcode == ROWS:
                add_to(place, found)
            else:
                take_masked(
                    opcode, left + 8 * first, right + 8 * first, flags + first, after - first, found, place, stride
                )


@inline
def bounds_of_selected(bounds: int, pieces: int, rows: int, count: int) -> None:
    """Replace bounds within a stretch by bounds within the list of its selected rows."""
    bound, listed = pointer_int64(bounds), pointer_int64(rows)
    position = 0
    for k in range(pieces + 1):
        while position < count and listed[position] < bound[k]:
            position += 1
        bound[k] = position


@inline
def count_in_intervals(intervals: int, tests: int, columns: int, segment: int, row: int, count: int) -> int:
    """How many of `count` rows lie in both of two (or the only one of one) intervals (column, least, greatest)."""
    snapshot, first, second = pointer_int64(columns), pointer_int64(intervals), pointer_int64(intervals + 24)
    x = pointer_int64(load_int64(snapshot[0] + first[0] * snapshot[1] + 8 * segment) + 8 * row)
    low, high = first[1], first[2]
    found = 0
    if tests == 1:
        for i in range(count):
            found += 1 if (x[i] >= low) & (x[i] <= high) else 0
        return found
    y = pointer_int64(load_int64(snapshot[0] + second[0] * snapshot[1] + 8 * segment) + 8 * row)
    least, greatest = second[1], second[2]
    for i in range(count):
        found += 1 if (x[i] >= low) & (x[i] <= high) & (y[i] >= least) & (y[i] <= greatest) else 0
    return found


@inline
def take_within(
    intervals: int, tests: int, columns: int, segment: int, row: int, count: int, primitives: Int64Array, low: int,
    high: int, scratch: Int64Array, partials: int, stride: int,
) -> None:  # fmt: skip
    """Add to primitives `low` to `high` those of `count` rows whose columns lie in intervals, in one pass each."""
    snapshot, first, second = (
        pointer_int64(columns),
        pointer_int64(intervals),
        pointer_int64(intervals + 24 * (tests - 1)),
    )
    x = load_int64(snapshot[0] + first[0] * snapshot[1] + 8 * segment) + 8 * row
    y = load_int64(snapshot[0] + second[0] * snapshot[1] + 8 * segment) + 8 * row
    found, k = -1, low
    while k < high:
        opcode, left, place = primitives[k, 0], scratch[primitives[k, 1]], partials + stride * primitives[k, 3]
        if opcode == ROWS:
            if found < 0:
                found = count_in_intervals(intervals, tests, columns, segment, row, count)
            add_to(place, found)
        elif opcode == SUM_INT:
            found = sum_within(left, x, y, count, first[1], first[2], second[1], second[2], place, stride)
        else:
            k += 1
            found = dot_within(
                left, scratch[primitives[k - 1, 2]], x, y, count, first[1], first[2], second[1], second[2], place,
                partials + stride * primitives[k, 3], stride,
            )  # fmt: skip
        k += 1
