"""The kernel of the as-of join: for each left row the row of the right segment that is nearest in time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cpu.bars import first_at_or_after
from zeptodb.backends.cpu.expression import INT64_MAX, INT64_MIN
from zeptodb.jit import claim, inline, kernel, load_int64, pointer_int64

Int64Array = npt.NDArray[np.int64]

AT_OR_BEFORE = 0
BEFORE = 1
AT_OR_AFTER = 2
AFTER = 3

_NEAR = 16


@inline
def _advance(times: int, row: int, length: int, sought: int, is_inclusive: bool) -> int:
    """First row from `row` on whose time is above `sought` (inclusive: at least `sought`); `length` if none."""
    time = pointer_int64(times)
    if is_inclusive:
        if sought == INT64_MIN:
            return row
        sought -= 1
    # Times ascend, so that counting finds the place, in vectors and without a branch that nobody could foretell.
    if row + _NEAR <= length:
        passed = 0
        for i in range(_NEAR):
            passed += 1 if time[row + i] <= sought else 0
        row += passed
        if passed < _NEAR:
            return row
    else:
        while row < length and time[row] <= sought:
            row += 1
        return row
    if row == length:
        return row
    if sought == INT64_MAX:
        return length
    return first_at_or_after(times, row, length, sought + 1)


@inline
def _last_of_ties(times: int, row: int, length: int) -> int:
    """Last row whose time equals that of `row`."""
    time = pointer_int64(times)[row]
    if time == INT64_MAX:
        return length - 1
    return first_at_or_after(times, row, length, time + 1) - 1


@inline
def _is_within(later: int, earlier: int, tolerance: int) -> bool:
    """Whether later - earlier <= tolerance, also where the difference leaves int64."""
    difference = later - earlier
    return 0 <= difference <= tolerance


@kernel
def match(
    counter: Int64Array,
    budget: int,
    morsels: Int64Array,
    segments: Int64Array,
    starts: Int64Array,
    counts: Int64Array,
    positions: Int64Array,
    is_listed: int,
    left_times: int,
    right_segments: Int64Array,
    right_lengths: Int64Array,
    right_times: int,
    op: int,
    tolerance: int,
    keep_unmatched: int,
    left_rows: int,
    right_rows: int,
    unmatched: Int64Array,
) -> None:
    """Write matches of each claimed piece from place positions[p] on: the left and the right row (-1: none).

    The left rows of a piece are the counts[p] rows from starts[p] on, or (listed) stand in `left_rows` already. Without
    `keep_unmatched` only matched rows are written and counts[p] becomes how many they are. `left_rows` 0: not wanted.
    `tolerance` -1: any distance. `unmatched[p]` becomes the number of -1 written.
    """
    is_inclusive = op == BEFORE or op == AT_OR_AFTER
    while budget > 0:
        morsel = claim(counter.ctypes.data)
        if morsel >= morsels.shape[0] - 1:
            break
        budget -= 1
        for piece in range(morsels[morsel], morsels[morsel + 1]):
            right_segment, count = right_segments[piece], counts[piece]
            left_list = pointer_int64(left_rows + 8 * positions[piece])
            matches = pointer_int64(right_rows + 8 * positions[piece])
            times = load_int64(left_times + 8 * segments[piece])
            left_time = pointer_int64(times)
            length, others = 0, 0
            if right_segment >= 0:
                length = right_lengths[right_segment]
                others = load_int64(right_times + 8 * right_segment)
            right_time = pointer_int64(others)
            written, missing, cursor, is_placed = 0, 0, 0, False
            for i in range(count):
                left_row = left_list[i] if is_listed != 0 else starts[piece] + i
                sought = left_time[left_row]
                if not is_placed and length > 0:
                    is_placed = True
                    cursor = _advance(others, 0, length, sought, is_inclusive)
                elif length > 0:
                    cursor = _advance(others, cursor, length, sought, is_inclusive)
                found = cursor - 1
                if op >= AT_OR_AFTER:
                    found = -1 if cursor == length else _last_of_ties(others, cursor, length)
                if found >= 0 and tolerance >= 0:
                    if op <= BEFORE:
                        is_near = _is_within(sought, right_time[found], tolerance)
                    else:
                        is_near = _is_within(right_time[found], sought, tolerance)
                    if not is_near:
                        found = -1
                if found < 0:
                    if keep_unmatched == 0:
                        continue
                    missing += 1
                if left_rows != 0:
                    left_list[written] = left_row
                matches[written] = found
                written += 1
            counts[piece] = written
            unmatched[piece] = missing
