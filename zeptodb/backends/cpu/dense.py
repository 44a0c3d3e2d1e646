"""The kernel of grouping by keys: rows into a dense table with one line of words per group.

The pieces of a scan are cut into chunks that depend on nothing but the scan. One thread at a time works on a chunk, row
after row, in a table of its own; the chunks' tables are then combined in order, so that an answer depends neither on
the number of threads nor on chance. Sums of floats are compensated with each row.

A line holds the words of every primitive (as partial results do), then the time of each FIRST and LAST, then the rows
of each section. The last word of most primitives counts the rows that were not NULL; while a chunk is under way it
counts the NULL ones downwards, and rows are counted once per section. FIRST and LAST hold a row's place in the scan.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cpu.elementwise import apply
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
from zeptodb.backends.primitives import (
    COUNT,
    DOT_FLOAT_FLOAT,
    DOT_FLOAT_INT,
    DOT_INT_FLOAT,
    DOT_INT_INT,
    FIRST,
    LAST,
    MINMAX_FLOAT,
    MINMAX_INT,
    ROWS,
    SUM_FLOAT,
    SUM_INT,
    VARIANCE,
)
from zeptodb.backends.program import BLOCK_ROWS, MULTIPLY_FLOAT, TO_FLOAT
from zeptodb.jit import claim, inline, kernel, load_int64, pointer_float64, pointer_int64, pointer_uint8, prefetch

Int64Array = npt.NDArray[np.int64]

_WORK_AREAS = 8
_TO_FLOAT, _MULTIPLY_FLOAT = TO_FLOAT, MULTIPLY_FLOAT
MAX_CHUNK_ROWS = 1 << 26
_CACHE_LINE = 8
_PLAIN_LIMIT = 1 << 36
"""Magnitude below which the integers of a whole chunk may be added into one word."""


def dense_words(registers: int, table_words: int) -> int:
    """Words of scratch memory that `accumulate_groups` needs."""
    return scratch_words(registers) + _WORK_AREAS * BLOCK_ROWS + table_words


@inline
def _magnitude(values: int, count: int) -> int:
    """A bound on the absolute values of `count` integers."""
    x, bits = pointer_int64(values), 0
    for i in range(count):
        bits |= x[i] ^ (x[i] >> 63)
    return bits


@inline
def _sum_int(values: int, lines: int, count: int, state: int) -> None:
    x, line = pointer_int64(values), pointer_int64(lines)
    high, low = pointer_int64(state), pointer_int64(state + 8)
    if _magnitude(values, count) < _PLAIN_LIMIT:
        for i in range(count):
            low[line[i]] += x[i]
        return
    for i in range(count):
        high[line[i]] += x[i] >> 32
        low[line[i]] += x[i] & 0xFFFFFFFF


@inline
def _sum_float(values: int, lines: int, count: int, state: int) -> None:
    x, line = pointer_float64(values), pointer_int64(lines)
    total, rest = pointer_float64(state), pointer_float64(state + 8)
    for i in range(count):
        place, value = line[i], x[i]
        before = total[place]
        after = before + value
        part = after - before
        total[place] = after
        rest[place] += (before - (after - part)) + (value - part)


@inline
def _minmax_int(values: int, lines: int, count: int, state: int) -> None:
    x, line = pointer_int64(values), pointer_int64(lines)
    least, greatest = pointer_int64(state), pointer_int64(state + 8)
    for i in range(count):
        place, value = line[i], x[i]
        least[place] = min(least[place], value)
        greatest[place] = max(greatest[place], value)


@inline
def _minmax_float(values: int, lines: int, count: int, state: int) -> None:
    """NaN is above all numbers; a group begins with NaN and -inf."""
    x, line = pointer_float64(values), pointer_int64(lines)
    least, greatest = pointer_float64(state), pointer_float64(state + 8)
    for i in range(count):
        place, value = line[i], x[i]
        if value < least[place] or (np.isnan(least[place]) and not np.isnan(value)):
            least[place] = value
        if value > greatest[place] or (np.isnan(value) and not np.isnan(greatest[place])):
            greatest[place] = value


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
def _variance(values: int, lines: int, count: int, state: int) -> None:
    """Welford's update, of deviations from a group's first value."""
    x, line = pointer_float64(values), pointer_int64(lines)
    for i in range(count):
        place = state + 8 * line[i]
        numbers, rows = pointer_float64(place), pointer_int64(place + 40)
        before = np.float64(rows[0])
        if rows[0] == 0:
            numbers[0] = x[i]
            numbers[3] = x[i] - x[i]  # NaN for what is not finite
        else:
            shift = (x[i] - numbers[0]) - (numbers[1] + numbers[2]) / before
            _add_exactly(place + 24, shift * shift * (before / (before + 1.0)))
        _add_exactly(place + 8, x[i] - numbers[0])
        rows[0] += 1


@inline
def _product(table: int, opcode: int, left: int, right: int, count: int, work: int) -> int:
    """The address of the products of two operands."""
    if opcode == DOT_INT_INT or opcode == DOT_INT_FLOAT:
        apply(table, _TO_FLOAT, left, 0, work, count)
        left = work
    if opcode == DOT_INT_INT or opcode == DOT_FLOAT_INT:
        apply(table, _TO_FLOAT, right, 0, work + 8 * BLOCK_ROWS, count)
        right = work + 8 * BLOCK_ROWS
    apply(table, _MULTIPLY_FLOAT, left, right, work, count)
    return work


@inline
def _discount(valid: int, lines: int, count: int, state: int) -> None:
    """Count the rows that are NULL downwards."""
    byte, line, words = pointer_uint8(valid), pointer_int64(lines), pointer_int64(state)
    for i in range(count):
        words[line[i]] -= 1 - np.int64(byte[i])


@inline
def _take(
    table: int, opcode: int, left: int, right: int, left_valid: int, right_valid: int, lines: int, count: int,
    state: int, work: int,
) -> None:  # fmt: skip
    """Add `count` values to the primitive whose first word in group 0 is at `state`."""
    is_dot = DOT_INT_INT <= opcode <= DOT_FLOAT_FLOAT
    if left_valid != 0 or right_valid != 0:
        valid = left_valid if left_valid != 0 else right_valid
        if left_valid != 0 and right_valid != 0:
            a, b, both = pointer_uint8(left_valid), pointer_uint8(right_valid), pointer_uint8(work)
            for i in range(count):
                both[i] = a[i] & b[i]
            valid = work
        if opcode != VARIANCE:
            _discount(valid, lines, count, state if opcode == COUNT else state + 16)
        if opcode == COUNT:
            return
        rows = work + 8 * BLOCK_ROWS
        found = select_true(valid, count, rows)
        gather_words(work + 16 * BLOCK_ROWS, lines, rows, found)
        gather_words(work + 24 * BLOCK_ROWS, left, rows, found)
        if is_dot:
            gather_words(work, right, rows, found)
        lines, left, right, count = work + 16 * BLOCK_ROWS, work + 24 * BLOCK_ROWS, work, found
    if opcode == SUM_INT:
        _sum_int(left, lines, count, state)
    elif opcode == MINMAX_INT:
        _minmax_int(left, lines, count, state)
    elif opcode == MINMAX_FLOAT:
        _minmax_float(left, lines, count, state)
    elif opcode == VARIANCE:
        _variance(left, lines, count, state)
    elif opcode >= SUM_FLOAT:
        if is_dot:
            left = _product(table, opcode, left, right, count, work + 32 * BLOCK_ROWS)
        _sum_float(left, lines, count, state)


@inline
def _take_end(
    is_first: bool, times: int, row: int, rows: int, ordinal: int, lines: int, count: int, state: int, time_state: int
) -> None:  # fmt: skip
    """Keep each group's earliest or latest row; of equal times the first, or the last, in the scan's order."""
    line, words, kept = pointer_int64(lines), pointer_int64(state), pointer_int64(time_state)
    selection, stamps = pointer_int64(rows), pointer_int64(times)
    for i in range(count):
        place = line[i]
        offset = i if rows == 0 else selection[i]
        time = np.int64(0) if times == 0 else stamps[row + offset]
        is_better = time < kept[place] if is_first else time >= kept[place]
        if words[place] < 0 or is_better:
            words[place] = ordinal + offset
            kept[place] = time


@inline
def _find_lines(
    keys: Int64Array, section: int, base: int, registers: int, scratch: Int64Array, count: int, out: int
) -> None:
    """Write the place of each row's line; keys are rows of (section, register, least, width, stride, NULL's offset)."""
    line = pointer_int64(out)
    for i in range(count):
        line[i] = base
    for k in range(keys.shape[0]):
        if keys[k, 0] != section:
            continue
        register, least, width, stride, null_offset = keys[k, 1], keys[k, 2], keys[k, 3], keys[k, 4], keys[k, 5]
        x, validity = pointer_int64(scratch[register]), scratch[registers + register]
        if validity != 0:
            byte = pointer_uint8(validity)
            for i in range(count):
                line[i] += (x[i] - least) // width * stride if byte[i] != 0 else null_offset
        elif width == 1:
            for i in range(count):
                line[i] += (x[i] - least) * stride
        else:
            for i in range(count):
                line[i] += (x[i] - least) // width * stride


@inline
def _count_and_sum(
    primitives: Int64Array, low: int, high: int, registers: int, scratch: Int64Array, lines: int, count: int,
    table: int, rows_state: int,
) -> tuple[int, int]:  # fmt: skip
    """Count rows, and in the same pass take one or two sums of small integers without NULLs, if the first sums among
    primitives `low` to `high` are such; from which primitive to which (exclusive) that was done.

    Meanwhile the cache is asked for the next tile: adding to words of a table leaves the memory bus idle.
    """
    first = low
    while first < high and primitives[first, 0] != SUM_INT:
        first += 1
    after = first
    while after < min(high, first + 2) and primitives[after, 0] == SUM_INT:
        register = primitives[after, 1]
        if scratch[registers + register] != 0 or _magnitude(scratch[register], count) >= _PLAIN_LIMIT:
            break
        after += 1
    line, rows = pointer_int64(lines), pointer_int64(rows_state)
    if after == first:
        for i in range(count):
            rows[line[i]] += 1
        return first, after
    x_address = scratch[primitives[first, 1]]
    x, x_sum = pointer_int64(x_address), pointer_int64(table + 8 * primitives[first, 3] + 8)
    if after == first + 1:
        for start in range(0, count, _CACHE_LINE):
            prefetch(x_address + 8 * (start + BLOCK_ROWS))
            for i in range(start, min(count, start + _CACHE_LINE)):
                x_sum[line[i]] += x[i]
                rows[line[i]] += 1
        return first, after
    y_address = scratch[primitives[first + 1, 1]]
    y, y_sum = pointer_int64(y_address), pointer_int64(table + 8 * primitives[first + 1, 3] + 8)
    for start in range(0, count, _CACHE_LINE):
        prefetch(x_address + 8 * (start + BLOCK_ROWS))
        prefetch(y_address + 8 * (start + BLOCK_ROWS))
        for i in range(start, min(count, start + _CACHE_LINE)):
            x_sum[line[i]] += x[i]
            y_sum[line[i]] += y[i]
            rows[line[i]] += 1
    return first, after


@inline
def _clear(table: int, groups: int, width: int, primitives: Int64Array) -> None:
    words = pointer_int64(table)
    for i in range(groups * width):
        words[i] = 0
    for k in range(primitives.shape[0]):
        opcode, slot = primitives[k, 0], primitives[k, 3]
        for group in range(groups):
            place = table + 8 * (group * width + slot)
            if opcode == MINMAX_INT:
                pointer_int64(place)[0], pointer_int64(place)[1] = INT64_MAX, INT64_MIN
            elif opcode == MINMAX_FLOAT:
                pointer_float64(place)[0], pointer_float64(place)[1] = np.nan, -np.inf
            elif opcode >= FIRST:
                pointer_int64(place)[0] = -1


@inline
def _write_lines(
    table: int, groups: int, width: int, first: int, sections: Int64Array, primitives: Int64Array, time_slot: int,
    partials: Int64Array, times: Int64Array,
) -> None:  # fmt: skip
    """Copy a chunk's lines to partial results `first`..., with counts set right."""
    rows_slot = width - sections.shape[0]
    for s in range(sections.shape[0]):
        ends = np.int64(0)
        for k in range(sections[s, 5]):
            ends += 1 if primitives[k, 0] >= FIRST else 0
        for k in range(sections[s, 5], sections[s, 6]):
            opcode, slot = primitives[k, 0], primitives[k, 3]
            words = 6 if opcode == VARIANCE else (3 if SUM_INT <= opcode <= MINMAX_FLOAT else 1)
            is_counted = opcode != VARIANCE and opcode < FIRST
            for group in range(groups):
                line = pointer_int64(table + 8 * group * width)
                for w in range(words):
                    partials[slot + w, first + group] = line[slot + w]
                if is_counted:
                    partials[slot + words - 1, first + group] += line[rows_slot + s]
                if opcode >= FIRST:
                    times[k, first + group] = line[time_slot + ends]
            ends += 1 if opcode >= FIRST else 0


@kernel
def accumulate_groups(
    interpreter: int,
    counter: Int64Array,
    budget: int,
    chunks: Int64Array,
    segments: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    ordinals: Int64Array,
    bases: Int64Array,
    code: Int64Array,
    lists: Int64Array,
    constants: Int64Array,
    registers: int,
    sections: Int64Array,
    primitives: Int64Array,
    keys: Int64Array,
    columns: Int64Array,
    time_column: int,
    groups: int,
    width: int,
    time_slot: int,
    partials: Int64Array,
    times: Int64Array,
    scratch: Int64Array,
    flags: Int64Array,
) -> None:
    """Fill `partials[slot, chunk * groups + group]` for the chunks that this call claims, at most `budget` of them.

    Chunk c is the pieces chunks[c] to chunks[c + 1]; piece p begins at place ordinals[p] of the scan and its groups
    at line offset bases[p]. Sections and primitives are as in `accumulate`; `keys` as in `_find_lines`; a line has
    `width` words, times from `time_slot` on. `time_column` is -1 when there is none. flags[0] becomes 1 when integer
    arithmetic left int64.
    """
    selection = scratch.ctypes.data + 8 * (registers * (2 + BLOCK_ROWS + BLOCK_ROWS // 8))
    lines = selection + 8 * BLOCK_ROWS
    work = lines + 8 * BLOCK_ROWS
    table = work + 48 * BLOCK_ROWS
    overflows = 0
    is_filled = False
    while budget > 0:
        chunk = claim(counter.ctypes.data)
        if chunk >= chunks.shape[0] - 1:
            break
        budget -= 1
        if not is_filled:
            fill_constants(constants, registers, scratch, BLOCK_ROWS)
            is_filled = True
        _clear(table, groups, width, primitives)
        for piece in range(chunks[chunk], chunks[chunk + 1]):
            segment, row, end = segments[piece], starts[piece], ends[piece]
            stamps = 0
            if time_column >= 0:
                stamps = load_int64(columns[0] + time_column * columns[1] + 8 * segment)
            while row < end:
                stop = min(end, (row // BLOCK_ROWS + 1) * BLOCK_ROWS)
                end_place = 0
                for s in range(sections.shape[0]):
                    count, rows, low, high = stop - row, 0, 0, 0
                    if sections[s, 2] >= 0:
                        overflows |= run_section(
                            interpreter, code.ctypes.data, sections[s, 0], sections[s, 1], lists.ctypes.data, registers,
                            columns.ctypes.data, segment, row, 0, count, scratch.ctypes.data,
                        )  # fmt: skip
                        found = select_where(sections[s, 2], registers, scratch, count, selection)
                        rows = selection if found < count else 0
                        count = found
                    if count > 0:
                        overflows |= run_section(
                            interpreter, code.ctypes.data, sections[s, 3], sections[s, 4], lists.ctypes.data, registers,
                            columns.ctypes.data, segment, row, rows, count, scratch.ctypes.data,
                        )  # fmt: skip
                        _find_lines(keys, s, bases[piece], registers, scratch, count, lines)
                        low, high = _count_and_sum(
                            primitives, sections[s, 5], sections[s, 6], registers, scratch, lines, count, table,
                            table + 8 * (width - sections.shape[0] + s),
                        )  # fmt: skip
                    for k in range(sections[s, 5], sections[s, 6]):
                        opcode, state = primitives[k, 0], table + 8 * primitives[k, 3]
                        if opcode == FIRST or opcode == LAST:
                            if count > 0:
                                _take_end(
                                    opcode == FIRST, stamps, row, rows, ordinals[piece] + row - starts[piece], lines,
                                    count, state, table + 8 * (time_slot + end_place),
                                )  # fmt: skip
                            end_place += 1
                        elif opcode != ROWS and count > 0 and not low <= k < high:
                            left, right = primitives[k, 1], primitives[k, 2]
                            _take(
                                columns[5], opcode, scratch[left], scratch[right], scratch[registers + left],
                                scratch[registers + right] if right != left else 0, lines, count, state, work,
                            )  # fmt: skip
                row = stop
        _write_lines(table, groups, width, chunk * groups, sections, primitives, time_slot, partials, times)
    if overflows != 0:
        flags[0] = 1
