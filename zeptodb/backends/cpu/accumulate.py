"""Kernel of aggregation: pieces of segments into partial results.

A tile is at most 1,024 rows of one segment, counted from the segment's start. Inside a tile floats are added in fixed
lanes; tiles, pieces and partial results follow one another in order with compensated additions, so that an answer
depends neither on the number of threads nor on chance. Short pieces that follow one another within a tile are worked on
together: the program runs once for all of them, and so does each primitive.

A primitive has one column of int64 words per slot in the table of partial results; `states` says what they mean.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cpu.expression import (
    count_true,
    fill_constants,
    gather_words,
    run_section,
    scratch_words,
    select_true,
    select_where,
)
from zeptodb.backends.cpu.tile import dot_within, sum_within, take_dot_and_sum, take_masked, take_tiles
from zeptodb.backends.primitives import (
    COUNT,
    DOT_FLOAT_FLOAT,
    DOT_INT_INT,
    FIRST,
    LAST,
    MASK,
    MASK_INTERVALS,
    ROWS,
    SELECT,
    SUM_INT,
    TALLY,
    TALLY_INTERVALS,
)
from zeptodb.backends.program import BLOCK_ROWS
from zeptodb.backends.states import add_to, reset
from zeptodb.jit import (
    claim,
    copy_bytes,
    inline,
    kernel,
    load_int64,
    pointer_int64,
    pointer_uint8,
    store_int64,
)

Int64Array = npt.NDArray[np.int64]

_SPARSE = 6
"""Below one row in so many, listing the rows is cheaper than masking the others."""
_WORK_AREAS = 5


def accumulator_words(registers: int) -> int:
    """Words of scratch memory that `accumulate` needs, two of them behind the mask, whose last vector may end there."""
    return scratch_words(registers) + _WORK_AREAS * BLOCK_ROWS + 8 + BLOCK_ROWS // 8 + 2


@inline
def _take_pieces(
    opcode: int, left: int, right: int, left_valid: int, right_valid: int, bounds: int, pieces: int, row: int,
    rows: int, state: int, stride: int, work: int,
) -> None:  # fmt: skip
    """Add to the states of `pieces` pieces, side by side; piece k has the values from bounds[k] to bounds[k + 1].

    The values are those of the rows from `row` on, or of those listed at address `rows`.
    """
    bound = pointer_int64(bounds)
    if opcode == ROWS or opcode == FIRST or opcode == LAST:
        for k in range(pieces):
            first, after, place = bound[k], bound[k + 1], state + 8 * k
            if first == after:
                continue
            if opcode == ROWS:
                add_to(place, after - first)
            elif opcode == LAST:
                store_int64(place, row + (after - 1 if rows == 0 else load_int64(rows + 8 * (after - 1))))
            elif load_int64(place) < 0:
                store_int64(place, row + (first if rows == 0 else load_int64(rows + 8 * first)))
        return
    has_valid = left_valid != 0 or right_valid != 0
    alone = pointer_int64(bounds + 8 * BLOCK_ROWS + 16)
    k, together = 0, 1 if has_valid else pieces
    while k < pieces:
        x, y, within = left, right, bounds
        if has_valid:
            # One piece at a time, of which the rows without NULL are gathered.
            first, count = bound[k], bound[k + 1] - bound[k]
            x, y = left + 8 * first, right + 8 * first
            a = left_valid + first if left_valid != 0 else right_valid + first
            b = right_valid + first if right_valid != 0 else a
            alone[0] = 0
            alone[1] = _list_valid(a, b, count, work)
            if alone[1] < count and opcode != COUNT:
                gather_words(work + 16 * BLOCK_ROWS, x, work + 8 * BLOCK_ROWS, alone[1])
                if DOT_INT_INT <= opcode <= DOT_FLOAT_FLOAT:
                    gather_words(work, y, work + 8 * BLOCK_ROWS, alone[1])
                x, y = work + 16 * BLOCK_ROWS, work
            within = bounds + 8 * BLOCK_ROWS + 16
        take_tiles(opcode, x, y, within, together, state + 8 * k, stride)
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
def _take_masked(
    opcode: int, left: int, right: int, flags: int, bounds: int, pieces: int, row: int, state: int, stride: int
) -> None:
    """As `_take_pieces`, of the rows whose byte at `flags` is 1."""
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
def _bounds_of_selected(bounds: int, pieces: int, rows: int, count: int) -> None:
    """Replace bounds within a stretch by bounds within the list of its selected rows."""
    bound, listed = pointer_int64(bounds), pointer_int64(rows)
    position = 0
    for k in range(pieces + 1):
        while position < count and listed[position] < bound[k]:
            position += 1
        bound[k] = position


@inline
def _count_in_intervals(intervals: int, tests: int, columns: int, segment: int, row: int, count: int) -> int:
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
def _take_within(
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
                found = _count_in_intervals(intervals, tests, columns, segment, row, count)
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


@kernel
def accumulate(
    interpreter: int,
    counter: Int64Array,
    budget: int,
    morsels: Int64Array,
    segments: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    code: Int64Array,
    lists: Int64Array,
    constants: Int64Array,
    registers: int,
    sections: Int64Array,
    primitives: Int64Array,
    columns: Int64Array,
    partials: Int64Array,
    taken_columns: Int64Array,
    taken: Int64Array,
    scratch: Int64Array,
    flags: Int64Array,
) -> None:
    """Fill `partials[slot, piece]` for the pieces of every morsel that this call claims, at most `budget` of them.

    Sections are rows of (predicate low, high, register or -1, arguments low, high, primitives low, high, how rows are
    chosen, and offset and number of the intervals among the lists); primitives rows of (opcode, left register, right
    register, first slot). flags[0] becomes 1 when integer arithmetic left int64. `taken_columns` are rows of (slot of
    a FIRST or LAST, 8-byte column); taken[k, piece] becomes what that column holds in the row found, while it is in the
    cache.
    """
    selection = scratch.ctypes.data + 8 * scratch_words_inline(registers)
    work = selection + 8 * BLOCK_ROWS
    bounds = work + 24 * BLOCK_ROWS
    mask = bounds + 8 * BLOCK_ROWS + 64
    stride = 8 * partials.shape[1]
    # Counting alone needs no memory of a tile's size.
    is_tally = sections.shape[0] == 1 and sections[0, 7] == TALLY_INTERVALS
    overflows = 0
    is_filled = False
    while budget > 0:
        morsel = claim(counter.ctypes.data)
        if morsel >= morsels.shape[0] - 1:
            break
        budget -= 1
        if not is_filled:
            fill_constants(constants, registers, scratch, BLOCK_ROWS)
            is_filled = True
        piece, after = morsels[morsel], morsels[morsel + 1]
        for k in range(primitives.shape[0]):
            place = partials.ctypes.data + stride * primitives[k, 3] + 8 * piece
            reset(primitives[k, 0], place, stride, after - piece)
        row = starts[piece]
        while piece < after:
            if row >= ends[piece]:
                piece += 1
                if piece < after:
                    row = starts[piece]
                continue
            segment, tile_end = segments[piece], (row // BLOCK_ROWS + 1) * BLOCK_ROWS
            if is_tally:
                tile_end = ends[piece]
            pieces, stop = 1, min(ends[piece], tile_end)
            while (
                stop < tile_end and piece + pieces < after and segments[piece + pieces] == segment
                and starts[piece + pieces] == stop
            ):  # fmt: skip
                stop = max(stop, min(ends[piece + pieces], tile_end))
                pieces += 1
            for s in range(sections.shape[0]):
                count, rows, mode = stop - row, 0, sections[s, 7]
                bound = pointer_int64(bounds)
                bound[0] = 0
                for k in range(pieces):
                    bound[k + 1] = min(ends[piece + k], stop) - row
                register = sections[s, 2]
                if mode == MASK_INTERVALS and pieces > 1:
                    mode = MASK
                if mode == MASK_INTERVALS:
                    register = -1
                if mode == TALLY_INTERVALS and pieces == 1:
                    bound[1] = _count_in_intervals(
                        lists.ctypes.data + 8 * sections[s, 8], sections[s, 9], columns.ctypes.data, segment, row, count
                    )
                    count = bound[1]
                elif register >= 0:
                    overflows |= run_section(
                        interpreter, code.ctypes.data, sections[s, 0], sections[s, 1], lists.ctypes.data, registers,
                        columns.ctypes.data, segment, row, 0, count, scratch.ctypes.data,
                    )  # fmt: skip
                    if mode == TALLY and pieces == 1:
                        bound[1] = count_true(scratch[register], scratch[registers + register], count)
                        count = bound[1]
                    elif mode == MASK:
                        found = count_true(scratch[register], 0, count)
                        if found == count:
                            mode = SELECT
                        elif found * _SPARSE < count:
                            mode = SELECT
                            rows = selection
                        else:
                            # The arguments may take the predicate's register.
                            copy_bytes(mask, scratch[register], count)
                        count = count if mode == MASK else found
                    else:
                        rows = selection
                    if rows != 0:
                        found = select_where(register, registers, scratch, stop - row, selection)
                        rows = selection if found < stop - row else 0
                        count = found
                        if rows != 0:
                            _bounds_of_selected(bounds, pieces, selection, found)
                if count == 0:
                    continue
                if sections[s, 4] > sections[s, 3]:
                    overflows |= run_section(
                        interpreter, code.ctypes.data, sections[s, 3], sections[s, 4], lists.ctypes.data, registers,
                        columns.ctypes.data, segment, row, rows, count, scratch.ctypes.data,
                    )  # fmt: skip
                if mode == MASK_INTERVALS:
                    _take_within(
                        lists.ctypes.data + 8 * sections[s, 8], sections[s, 9], columns.ctypes.data, segment, row,
                        count, primitives, sections[s, 5], sections[s, 6], scratch,
                        partials.ctypes.data + 8 * piece, stride,
                    )  # fmt: skip
                    continue
                taken_before = -1
                for k in range(sections[s, 5], sections[s, 6]):
                    opcode, left, right = primitives[k, 0], primitives[k, 1], primitives[k, 2]
                    place = partials.ctypes.data + stride * primitives[k, 3] + 8 * piece
                    if k == taken_before:
                        continue
                    if (
                        mode != MASK and pieces == 1 and opcode == DOT_INT_INT and k + 1 < sections[s, 6]
                        and primitives[k + 1, 0] == SUM_INT and primitives[k + 1, 1] == right
                        and scratch[registers + left] == 0 and scratch[registers + right] == 0
                    ):  # fmt: skip
                        sum_place = partials.ctypes.data + stride * primitives[k + 1, 3] + 8 * piece
                        take_dot_and_sum(scratch[left], scratch[right], count, place, sum_place, stride)
                        taken_before = k + 1
                    elif mode == MASK:
                        _take_masked(opcode, scratch[left], scratch[right], mask, bounds, pieces, row, place, stride)
                    else:
                        _take_pieces(
                            opcode, scratch[left], scratch[right], scratch[registers + left],
                            scratch[registers + right], bounds, pieces, row, rows, place, stride, work,
                        )  # fmt: skip
            for k in range(taken_columns.shape[0]):
                column = pointer_int64(load_int64(columns[0] + taken_columns[k, 1] * columns[1] + 8 * segment))
                found = pointer_int64(partials.ctypes.data + stride * taken_columns[k, 0] + 8 * piece)
                value = pointer_int64(taken.ctypes.data + 8 * (taken.shape[1] * k + piece))
                for place in range(pieces):
                    if found[place] >= row:
                        value[place] = column[found[place]]
            piece += pieces - 1
            row = stop
    if overflows != 0:
        flags[0] = 1


@inline
def scratch_words_inline(registers: int) -> int:
    """`scratch_words` for kernels."""
    return registers * (2 + BLOCK_ROWS + BLOCK_ROWS // 8)
