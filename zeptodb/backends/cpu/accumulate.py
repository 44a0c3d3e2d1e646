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
    HOME_WORDS,
    count_true,
    fill_constants,
    run_section,
    scratch_words,
    select_where,
)
from zeptodb.backends.cpu.taking import (
    bounds_of_selected,
    count_in_intervals,
    take_pieces,
    take_pieces_masked,
    take_within,
)
from zeptodb.backends.cpu.tile import take_dots_and_sums
from zeptodb.backends.primitives import (
    DOT_INT_INT,
    MASK,
    MASK_INTERVALS,
    SELECT,
    SUM_INT,
    TALLY,
    TALLY_INTERVALS,
    WHOLE,
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
)

Int64Array = npt.NDArray[np.int64]

_SPARSE = 6
"""Below one row in so many, listing the rows is cheaper than masking the others."""
_WORK_AREAS = 5
_ROWS_TOGETHER = 4 * BLOCK_ROWS
"""Most rows of short pieces of several segments that are worked on together, so that they stay in the cache."""


def accumulator_words(registers: int) -> int:
    """Words of scratch memory that `accumulate` needs, two of them behind the mask, whose last vector may end there."""
    return scratch_words(registers) + _WORK_AREAS * BLOCK_ROWS + 8 + BLOCK_ROWS // 8 + 2


@inline
def _count_pieces_together(starts: Int64Array, ends: Int64Array, piece: int, after: int) -> int:
    """How many pieces from `piece` on lie within one tile of their segment each and have few rows together."""
    found, rows = 0, 0
    while piece + found < after and found < BLOCK_ROWS:
        start, end = starts[piece + found], ends[piece + found]
        rows += max(0, end - start)
        if start // BLOCK_ROWS != (end - 1) // BLOCK_ROWS or rows > _ROWS_TOGETHER:
            break
        found += 1
    return found


@inline
def _find_operands(
    code: Int64Array, low: int, high: int, registers: int, columns: Int64Array, segments: Int64Array,
    starts: Int64Array, piece: int, pieces: int, scratch: Int64Array,
) -> None:  # fmt: skip
    """Write the addresses of columns of `pieces` pieces, as instructions `low` to `high` load them, where registers
    keep a tile's values; the registers themselves become 0.
    """
    for i in range(low, high):
        register, column = code[i, 1], pointer_int64(load_int64(columns.ctypes.data) + code[i, 2] * columns[1])
        scratch[register] = 0
        scratch[registers + register] = 0
        first = 2 * registers + register * HOME_WORDS
        for k in range(pieces):
            scratch[first + k] = column[segments[piece + k]] + 8 * starts[piece + k]


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
    homes = scratch.ctypes.data + 16 * registers
    stride = 8 * partials.shape[1]
    is_tally = sections.shape[0] == 1 and sections[0, 7] == TALLY_INTERVALS
    is_whole = sections.shape[0] == 1 and sections[0, 7] == WHOLE
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
        while is_tally and piece < after:
            count = ends[piece] - starts[piece]
            found = count_in_intervals(
                lists.ctypes.data + 8 * sections[0, 8], sections[0, 9], columns.ctypes.data, segments[piece],
                starts[piece], count,
            )  # fmt: skip
            for k in range(primitives.shape[0]):
                add_to(partials.ctypes.data + stride * primitives[k, 3] + 8 * piece, found)
            piece += 1
        while piece < after:
            if row >= ends[piece]:
                piece += 1
                if piece < after:
                    row = starts[piece]
                continue
            segment, tile_end = segments[piece], (row // BLOCK_ROWS + 1) * BLOCK_ROWS
            pieces, stop = 1, min(ends[piece], tile_end)
            while (
                stop < tile_end and piece + pieces < after and segments[piece + pieces] == segment
                and starts[piece + pieces] == stop
            ):  # fmt: skip
                stop = max(stop, min(ends[piece + pieces], tile_end))
                pieces += 1
            is_apart = False
            if is_whole and pieces == 1 and row == starts[piece]:
                together = _count_pieces_together(starts, ends, piece, after)
                if together > 1:
                    is_apart, pieces = True, together
            for s in range(sections.shape[0]):
                count, rows, mode = stop - row, 0, sections[s, 7]
                bound = pointer_int64(bounds)
                bound[0] = 0
                for k in range(0 if is_apart else pieces):
                    bound[k + 1] = min(ends[piece + k], stop) - row
                register = sections[s, 2]
                if mode == MASK_INTERVALS and pieces > 1:
                    mode = MASK
                if mode == MASK_INTERVALS:
                    register = -1
                if mode == TALLY_INTERVALS and pieces == 1:
                    bound[1] = count_in_intervals(
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
                            bounds_of_selected(bounds, pieces, selection, found)
                if count == 0:
                    continue
                if is_apart:
                    _find_operands(
                        code, sections[s, 3], sections[s, 4], registers, columns, segments, starts, piece, pieces,
                        scratch,
                    )  # fmt: skip
                elif sections[s, 4] > sections[s, 3]:
                    overflows |= run_section(
                        interpreter, code.ctypes.data, sections[s, 3], sections[s, 4], lists.ctypes.data, registers,
                        columns.ctypes.data, segment, row, rows, count, scratch.ctypes.data,
                    )  # fmt: skip
                if mode == MASK_INTERVALS:
                    take_within(
                        lists.ctypes.data + 8 * sections[s, 8], sections[s, 9], columns.ctypes.data, segment, row,
                        count, primitives, sections[s, 5], sections[s, 6], scratch,
                        partials.ctypes.data + 8 * piece, stride,
                    )  # fmt: skip
                    continue
                scale, origin, firsts, afters = 8, row, bounds, bounds + 8
                if is_apart:
                    scale, origin = 1, 0
                    firsts, afters = starts.ctypes.data + 8 * piece, ends.ctypes.data + 8 * piece
                taken_before = -1
                for k in range(sections[s, 5], sections[s, 6]):
                    opcode, left, right = primitives[k, 0], primitives[k, 1], primitives[k, 2]
                    place = partials.ctypes.data + stride * primitives[k, 3] + 8 * piece
                    if k == taken_before:
                        continue
                    lefts, rights = bounds, bounds
                    if is_apart:
                        lefts, rights = homes + 8 * HOME_WORDS * left, homes + 8 * HOME_WORDS * right
                    if mode == MASK:
                        take_pieces_masked(
                            opcode, scratch[left], scratch[right], mask, bounds, pieces, row, place, stride
                        )
                    elif (
                        opcode == DOT_INT_INT and k + 1 < sections[s, 6]
                        and primitives[k + 1, 0] == SUM_INT and primitives[k + 1, 1] == right
                        and scratch[registers + left] == 0 and scratch[registers + right] == 0
                    ):  # fmt: skip
                        taken_before = k + 1
                        take_dots_and_sums(
                            scratch[left], scratch[right], lefts, rights, scale, firsts, afters, pieces, place,
                            partials.ctypes.data + stride * primitives[k + 1, 3] + 8 * piece, stride,
                        )  # fmt: skip
                    else:
                        take_pieces(
                            opcode, scratch[left], scratch[right], scratch[registers + left],
                            scratch[registers + right], lefts, rights, scale, firsts, afters, pieces, origin, rows,
                            place, stride, bounds + 8 * BLOCK_ROWS + 16, work,
                        )  # fmt: skip
            for k in range(taken_columns.shape[0]):
                found = pointer_int64(partials.ctypes.data + stride * taken_columns[k, 0] + 8 * piece)
                value = pointer_int64(taken.ctypes.data + 8 * (taken.shape[1] * k + piece))
                column = pointer_int64(load_int64(columns.ctypes.data) + taken_columns[k, 1] * columns[1])
                values = pointer_int64(column[segment])
                for place in range(0 if is_apart else pieces):
                    if found[place] >= row:
                        value[place] = values[found[place]]
                for place in range(pieces if is_apart else 0):
                    if found[place] >= 0:
                        value[place] = load_int64(column[segments[piece + place]] + 8 * found[place])
            if is_apart:
                stop = ends[piece + pieces - 1]
            piece += pieces - 1
            row = stop
    if overflows != 0:
        flags[0] = 1


@inline
def scratch_words_inline(registers: int) -> int:
    """`scratch_words` for kernels."""
    return registers * (2 + HOME_WORDS)
