"""Kernels of aggregation: pieces of segments into partial results, and partial results into groups.

A tile is at most 1,024 rows of one segment, counted from the segment's start. Inside a tile floats are added in fixed
lanes; tiles, pieces and partial results follow one another in order with compensated additions, so that an answer
depends neither on the number of threads nor on chance.

A primitive has one column of int64 words per slot in the table of partial results:

    ROWS, COUNT        rows
    SUM_INT            high half, low half (the sum is high * 2^32 + low), rows
    SUM_FLOAT, DOT_*   sum, compensation (floats), rows
    MINMAX_*           least, greatest, rows
    VARIANCE           center, sum of deviations from it, compensation, squared deviations from the mean,
                       compensation (floats), rows
    FIRST, LAST        row within the segment, -1 when there is none; after `combine` the index of the partial result
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cpu.expression import (
    INT64_MAX,
    INT64_MIN,
    fill_constants,
    gather_words,
    run_section,
    scratch_words,
    select_true,
    select_where,
)
from zeptodb.backends.cpu.lanes import (
    claim,
    dot_float_float,
    dot_float_int,
    dot_int_float,
    dot_int_int,
    halves_int,
    minmax_float,
    minmax_int,
    squares_about,
    sum_float,
)
from zeptodb.backends.program import BLOCK_ROWS
from zeptodb.jit import inline, kernel, pointer_float64, pointer_int64, pointer_uint8

Int64Array = npt.NDArray[np.int64]

ROWS = 0
COUNT = 1
SUM_INT = 2
SUM_FLOAT = 3
DOT_INT_INT = 4
DOT_INT_FLOAT = 5
DOT_FLOAT_INT = 6
DOT_FLOAT_FLOAT = 7
MINMAX_INT = 8
MINMAX_FLOAT = 9
VARIANCE = 10
FIRST = 11
LAST = 12

SLOTS = (1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 6, 1, 1)
"""Words of each primitive."""


_WORK_AREAS = 4


def accumulator_words(registers: int, slots: int) -> int:
    """Words of scratch memory that `accumulate` needs."""
    return scratch_words(registers) + _WORK_AREAS * BLOCK_ROWS + slots


@inline
def _add_exactly(state: int, value: float) -> None:
    """Add to a float sum and what rounding took off to the compensation behind it (Knuth's two-sum)."""
    total = pointer_float64(state)
    before = total[0]
    after = before + value
    part = after - before
    total[0] = after
    total[1] += (before - (after - part)) + (value - part)


@inline
def _is_above(value: float, other: float) -> bool:
    """Whether `value` is greater; NaN is above all numbers."""
    return value > other or (np.isnan(value) and not np.isnan(other))


@inline
def _keep_minmax_int(state: int, least: int, greatest: int) -> None:
    words = pointer_int64(state)
    if least < words[0]:
        words[0] = least
    if greatest > words[1]:
        words[1] = greatest


@inline
def _keep_minmax_float(state: int, least: float, greatest: float) -> None:
    numbers = pointer_float64(state)
    if _is_above(numbers[0], least):
        numbers[0] = least
    if _is_above(greatest, numbers[1]):
        numbers[1] = greatest


@inline
def _add_variance(state: int, center: float, total: float, squares: float, count: int) -> None:
    """Combine with `count` values: the sum of their deviations from `center`, and of squares of those from their mean.

    Chan, Golub and LeVeque's formula; means are kept as deviations from the first center, so that their differences
    lose nothing when the values are large and close together.
    """
    numbers, before, added = pointer_float64(state), pointer_int64(state)[5], np.float64(count)
    if before == 0:
        numbers[0] = center
    offset = center - numbers[0]
    if before > 0:
        shift = offset + total / added - (numbers[1] + numbers[2]) / before
        _add_exactly(state + 24, shift * shift * (before * added / (before + added)))
    _add_exactly(state + 24, squares)
    _add_exactly(state + 8, offset * added)
    _add_exactly(state + 8, total)


@inline
def _reset(opcode: int, state: int) -> None:
    words, numbers = pointer_int64(state), pointer_float64(state)
    if opcode == FIRST or opcode == LAST:
        words[0] = -1
        return
    if opcode == MINMAX_INT:
        words[0], words[1], words[2] = INT64_MAX, INT64_MIN, 0
    elif opcode == MINMAX_FLOAT:
        numbers[0], numbers[1] = np.nan, -np.inf
        words[2] = 0
    else:
        words[0] = 0
        if opcode > COUNT:
            words[1], words[2] = 0, 0
        if opcode == VARIANCE:
            words[3], words[4], words[5] = 0, 0, 0


@inline
def _take_tile(opcode: int, left: int, right: int, count: int, state: int) -> None:
    """Add `count` values, none NULL, to a primitive."""
    words = pointer_int64(state)
    if opcode == SUM_INT:
        high, low = halves_int(left, count)
        words[0] += high - (count << 31)
        words[1] += low
    elif opcode == SUM_FLOAT:
        _add_exactly(state, sum_float(left, count))
    elif opcode == DOT_INT_INT:
        _add_exactly(state, dot_int_int(left, right, count))
    elif opcode == DOT_INT_FLOAT:
        _add_exactly(state, dot_int_float(left, right, count))
    elif opcode == DOT_FLOAT_INT:
        _add_exactly(state, dot_float_int(left, right, count))
    elif opcode == DOT_FLOAT_FLOAT:
        _add_exactly(state, dot_float_float(left, right, count))
    elif opcode == MINMAX_INT:
        least, greatest = minmax_int(left, count)
        _keep_minmax_int(state, least, greatest)
    elif opcode == MINMAX_FLOAT:
        least_number, greatest_number, nans = minmax_float(left, count)
        if nans == count:
            least_number = np.nan
        if nans > 0:
            greatest_number = np.nan
        _keep_minmax_float(state, least_number, greatest_number)
    else:
        center = sum_float(left, count) / count
        deviation, squares = squares_about(left, count, center)
        _add_variance(state, center, deviation, squares - deviation * deviation / count, count)
        words[5] += count
        return
    words[2] += count


@inline
def _take(
    opcode: int, left: int, right: int, left_valid: int, right_valid: int, count: int, state: int, work: int
) -> None:
    """Add `count` values to a primitive; rows where an operand is NULL are left out."""
    if left_valid != 0 or right_valid != 0:
        valid = left_valid if left_valid != 0 else right_valid
        if left_valid != 0 and right_valid != 0:
            a, b, both = pointer_uint8(left_valid), pointer_uint8(right_valid), pointer_uint8(work)
            for i in range(count):
                both[i] = a[i] & b[i]
            valid = work
        rows = work + 8 * BLOCK_ROWS
        found = select_true(valid, count, rows)
        if found == 0:
            return
        if found < count and opcode != COUNT:
            gather_words(work + 16 * BLOCK_ROWS, left, rows, found)
            left = work + 16 * BLOCK_ROWS
            if DOT_INT_INT <= opcode <= DOT_FLOAT_FLOAT:
                # The bytes of `both` have been read by now.
                gather_words(work, right, rows, found)
                right = work
        count = found
    if opcode == COUNT:
        pointer_int64(state)[0] += count
    else:
        _take_tile(opcode, left, right, count, state)


@inline
def _count_where(register: int, registers: int, scratch: Int64Array, count: int) -> int:
    """How many of `count` rows have a boolean register true."""
    flags, validity = pointer_uint8(scratch[register]), scratch[registers + register]
    found = 0
    if validity == 0:
        for i in range(count):
            found += 1 if flags[i] != 0 else 0
    else:
        valid = pointer_uint8(validity)
        for i in range(count):
            found += 1 if flags[i] & valid[i] != 0 else 0
    return found


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
    scratch: Int64Array,
    flags: Int64Array,
) -> None:
    """Fill `partials[slot, piece]` for the pieces of every morsel that this call claims, at most `budget` of them.

    Sections are rows of (predicate low, high, register or -1, arguments low, high, primitives low, high, whether rows
    are only counted); primitives rows of (opcode, left register, right register, first slot). flags[0] becomes 1 when
    integer arithmetic left int64.
    """
    selection = scratch.ctypes.data + 8 * scratch_words_inline(registers)
    work = selection + 8 * BLOCK_ROWS
    state = work + 24 * BLOCK_ROWS
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
        for piece in range(morsels[morsel], morsels[morsel + 1]):
            for k in range(primitives.shape[0]):
                _reset(primitives[k, 0], state + 8 * primitives[k, 3])
            segment, row, end = segments[piece], starts[piece], ends[piece]
            while row < end:
                stop = min(end, (row // BLOCK_ROWS + 1) * BLOCK_ROWS)
                for s in range(sections.shape[0]):
                    count, rows = stop - row, 0
                    if sections[s, 2] >= 0:
                        overflows |= run_section(
                            interpreter, code.ctypes.data, sections[s, 0], sections[s, 1], lists.ctypes.data, registers,
                            columns.ctypes.data, segment, row, 0, count, scratch.ctypes.data,
                        )  # fmt: skip
                        if sections[s, 7] != 0:
                            count = _count_where(sections[s, 2], registers, scratch, count)
                        else:
                            found = select_where(sections[s, 2], registers, scratch, count, selection)
                            rows = selection if found < count else 0
                            count = found
                    if count == 0:
                        continue
                    if sections[s, 4] > sections[s, 3]:
                        overflows |= run_section(
                            interpreter, code.ctypes.data, sections[s, 3], sections[s, 4], lists.ctypes.data, registers,
                            columns.ctypes.data, segment, row, rows, count, scratch.ctypes.data,
                        )  # fmt: skip
                    for k in range(sections[s, 5], sections[s, 6]):
                        opcode, place = primitives[k, 0], state + 8 * primitives[k, 3]
                        if opcode == ROWS:
                            pointer_int64(place)[0] += count
                        elif opcode == FIRST:
                            if pointer_int64(place)[0] < 0:
                                pointer_int64(place)[0] = row if rows == 0 else row + pointer_int64(rows)[0]
                        elif opcode == LAST:
                            last = count - 1 if rows == 0 else pointer_int64(rows)[count - 1]
                            pointer_int64(place)[0] = row + last
                        else:
                            left, right = primitives[k, 1], primitives[k, 2]
                            _take(
                                opcode, scratch[left], scratch[right], scratch[registers + left],
                                scratch[registers + right], count, place, work,
                            )  # fmt: skip
                row = stop
            words = pointer_int64(state)
            for slot in range(partials.shape[0]):
                partials[slot, piece] = words[slot]
    if overflows != 0:
        flags[0] = 1


@inline
def scratch_words_inline(registers: int) -> int:
    """`scratch_words` for kernels."""
    return registers * (2 + BLOCK_ROWS + BLOCK_ROWS // 8)


@inline
def _merge(opcode: int, state: int, partial: Int64Array) -> None:
    """Add a partial result (its words in a row) to a group's."""
    words, numbers = pointer_int64(state), pointer_float64(state)
    given = pointer_float64(partial.ctypes.data)
    if opcode == SUM_INT:
        low = words[1] + partial[1]
        words[0] += partial[0] + (low >> 32)
        words[1] = low & 0xFFFFFFFF
    elif opcode == MINMAX_INT:
        _keep_minmax_int(state, partial[0], partial[1])
    elif opcode == MINMAX_FLOAT:
        _keep_minmax_float(state, given[0], given[1])
    elif opcode == VARIANCE:
        _add_variance(state, given[0], given[1] + given[2], given[3], partial[5])
        numbers[4] += given[4]
        words[5] += partial[5]
        return
    else:
        _add_exactly(state, given[0])
        numbers[1] += given[1]
    words[2] += partial[2]


@kernel
def combine(
    order: Int64Array,
    bounds: Int64Array,
    primitives: Int64Array,
    times: Int64Array,
    partials: Int64Array,
    groups: Int64Array,
) -> None:
    """Fill `groups[slot, group]` from the partial results order[bounds[group]:bounds[group + 1]], in that order.

    FIRST and LAST take the earliest and latest of `times[primitive, partial]`, ties by the order.
    """
    state = np.empty(8, dtype=np.int64)
    partial = np.empty(8, dtype=np.int64)
    for k in range(primitives.shape[0]):
        opcode, slot = primitives[k, 0], primitives[k, 3]
        width = 6 if opcode == VARIANCE else (3 if SUM_INT <= opcode <= MINMAX_FLOAT else 1)
        for group in range(bounds.shape[0] - 1):
            _reset(opcode, state.ctypes.data)
            best = np.int64(0)
            for position in range(bounds[group], bounds[group + 1]):
                index = order[position]
                for w in range(width):
                    partial[w] = partials[slot + w, index]
                if opcode == FIRST or opcode == LAST:
                    if partial[0] >= 0:
                        time = times[k, index]
                        is_better = time < best if opcode == FIRST else time >= best
                        if state[0] < 0 or is_better:
                            state[0] = index
                            best = time
                elif opcode <= COUNT:
                    state[0] += partial[0]
                elif partial[width - 1] > 0:
                    _merge(opcode, state.ctypes.data, partial)
            for w in range(width):
                groups[slot + w, group] = state[w]
