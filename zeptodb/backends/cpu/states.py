"""Primitives of aggregation: what their states hold, and how values and other states are added to them.

The state of a primitive is a few int64 words, `stride` bytes from one to the next:

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

from zeptodb.backends.cpu.expression import INT64_MAX, INT64_MIN
from zeptodb.backends.cpu.lanes import (
    dot_float_float,
    dot_float_int,
    dot_halves,
    dot_halves_within,
    dot_int_float,
    dot_int_int,
    halves_int,
    halves_within,
    masked_dot_float_float,
    masked_dot_int_int,
    masked_halves_int,
    masked_sum_float,
    minmax_float,
    minmax_int,
    squares_about,
    sum_float,
)
from zeptodb.backends.primitives import (
    COUNT,
    DOT_FLOAT_INT,
    DOT_INT_FLOAT,
    DOT_INT_INT,
    FIRST,
    LAST,
    MINMAX_FLOAT,
    MINMAX_INT,
    SUM_FLOAT,
    SUM_INT,
    VARIANCE,
)
from zeptodb.backends.program import BLOCK_ROWS
from zeptodb.jit import inline, load_float64, load_int64, pointer_int64, prefetch, store_float64, store_int64


@inline
def add_to(address: int, count: int) -> None:
    """Add to an integer word."""
    store_int64(address, load_int64(address) + count)


@inline
def add_exactly(state: int, stride: int, value: float) -> None:
    """Add to a float sum and what rounding took off to the compensation behind it (Knuth's two-sum)."""
    before = load_float64(state)
    after = before + value
    part = after - before
    store_float64(state, after)
    rounded_off = (before - (after - part)) + (value - part)
    store_float64(state + stride, load_float64(state + stride) + rounded_off)


@inline
def is_above(value: float, other: float) -> bool:
    """Whether `value` is greater; NaN is above all numbers."""
    return value > other or (np.isnan(value) and not np.isnan(other))


@inline
def _keep_minmax_int(state: int, stride: int, least: int, greatest: int) -> None:
    store_int64(state, min(load_int64(state), least))
    store_int64(state + stride, max(load_int64(state + stride), greatest))


@inline
def _keep_minmax_float(state: int, stride: int, least: float, greatest: float) -> None:
    if is_above(load_float64(state), least):
        store_float64(state, least)
    if is_above(greatest, load_float64(state + stride)):
        store_float64(state + stride, greatest)


@inline
def add_variance(state: int, stride: int, center: float, total: float, squares: float, count: int) -> None:
    """Combine with `count` values: the sum of their deviations from `center`, and of squares of those from their mean.

    Chan, Golub and LeVeque's formula; means are kept as deviations from the first center, so that their differences
    lose nothing when the values are large and close together.
    """
    before, added = load_int64(state + 5 * stride), np.float64(count)
    if before == 0:
        store_float64(state, center)
    offset = center - load_float64(state)
    if before > 0:
        mean = (load_float64(state + stride) + load_float64(state + 2 * stride)) / before
        shift = offset + total / added - mean
        add_exactly(state + 3 * stride, stride, shift * shift * (before * added / (before + added)))
    add_exactly(state + 3 * stride, stride, squares)
    add_exactly(state + stride, stride, offset * added)
    add_exactly(state + stride, stride, total)


@inline
def reset(opcode: int, state: int, stride: int, count: int) -> None:
    """Make `count` states, side by side, those of no rows."""
    first, second = 0, 0
    if opcode == FIRST or opcode == LAST:
        first = -1
    elif opcode == MINMAX_INT:
        first, second = INT64_MAX, INT64_MIN
    elif opcode == MINMAX_FLOAT:
        first, second = _NAN, _NEGATIVE_INFINITY
    words = 6 if opcode == VARIANCE else (3 if SUM_INT <= opcode <= MINMAX_FLOAT else 1)
    for word in range(words):
        value = first if word == 0 else (second if word == 1 else 0)
        words_of_states = pointer_int64(state + word * stride)  # a pointer, so that whole vectors are stored
        for k in range(count):
            words_of_states[k] = value


_NAN = 0x7FF8_0000_0000_0000
_NEGATIVE_INFINITY = -0x0010_0000_0000_0000


@inline
def take_tiles(
    opcode: int, left: int, right: int, lefts: int, rights: int, scale: int, firsts: int, afters: int, pieces: int,
    state: int, stride: int,
) -> None:  # fmt: skip
    """Add the values of `pieces` pieces, each within one tile and none NULL, to as many states, side by side.

    Piece k has afters[k] - firsts[k] values, which begin at address left + scale * lefts[k] (those of a second operand
    likewise). What bars are made of has a loop of its own. Between short pieces of one tile (scale is 8) the next
    tile's first operand is asked for.
    """
    first, after, x, y = pointer_int64(firsts), pointer_int64(afters), pointer_int64(lefts), pointer_int64(rights)
    lines = BLOCK_ROWS // 8 // pieces + 1 if pieces > 1 and scale == 8 else 0
    for k in range(pieces if opcode == SUM_INT else 0):
        count, place = after[k] - first[k], state + 8 * k
        if count > 0:
            _prefetch_share(left, k, lines)
            high, low = halves_int(left + scale * x[k], count)
            add_to(place, high - (count << 31))
            add_to(place + stride, low)
            add_to(place + 2 * stride, count)
    for k in range(pieces if opcode == MINMAX_INT else 0):
        count, place = after[k] - first[k], state + 8 * k
        if count > 0:
            _prefetch_share(left, k, lines)
            least, greatest = minmax_int(left + scale * x[k], count)
            _keep_minmax_int(place, stride, least, greatest)
            add_to(place + 2 * stride, count)
    for k in range(0 if opcode == SUM_INT or opcode == MINMAX_INT else pieces):
        count, place = after[k] - first[k], state + 8 * k
        if count > 0:
            _prefetch_share(left, k, lines)
            _take_tile(opcode, left + scale * x[k], right + scale * y[k], count, place, stride)


@inline
def _prefetch_share(address: int, piece: int, lines: int) -> None:
    """Ask for `lines` lines of the next tile."""
    for line in range(piece * lines, (piece + 1) * lines):
        prefetch(address + 8 * BLOCK_ROWS + 64 * line)


@inline
def _take_tile(opcode: int, left: int, right: int, count: int, state: int, stride: int) -> None:
    """Add `count` values (at least one) of one tile to a primitive; not to SUM_INT and MINMAX_INT."""
    if opcode == COUNT:
        add_to(state, count)
        return
    if opcode == MINMAX_FLOAT:
        least_number, greatest_number, nans = minmax_float(left, count)
        if nans == count:
            least_number = np.nan
        if nans > 0:
            greatest_number = np.nan
        _keep_minmax_float(state, stride, least_number, greatest_number)
    elif opcode == VARIANCE:
        center = sum_float(left, count) / count
        deviation, squares = squares_about(left, count, center)
        add_variance(state, stride, center, deviation, squares - deviation * deviation / count, count)
        add_to(state + 5 * stride, count)
        return
    else:
        if opcode == SUM_FLOAT:
            total = sum_float(left, count)
        elif opcode == DOT_INT_INT:
            total = dot_int_int(left, right, count)
        elif opcode == DOT_INT_FLOAT:
            total = dot_int_float(left, right, count)
        elif opcode == DOT_FLOAT_INT:
            total = dot_float_int(left, right, count)
        else:
            total = dot_float_float(left, right, count)
        add_exactly(state, stride, total)
    add_to(state + 2 * stride, count)


@inline
def take_masked(
    opcode: int, left: int, right: int, flags: int, count: int, found: int, state: int, stride: int
) -> None:
    """Add those `found` (at least one) of `count` values of one tile whose byte at `flags` is 1 to a sum."""
    if opcode == SUM_INT:
        high, low = masked_halves_int(left, flags, count)
        add_to(state, high - (found << 31))
        add_to(state + stride, low)
    else:
        if opcode == SUM_FLOAT:
            total = masked_sum_float(left, flags, count)
        elif opcode == DOT_INT_INT:
            total = masked_dot_int_int(left, right, flags, count)
        else:
            total = masked_dot_float_float(left, right, flags, count)
        add_exactly(state, stride, total)
    add_to(state + 2 * stride, found)


@inline
def sum_within(
    left: int, x: int, y: int, count: int, x_least: int, x_greatest: int, y_least: int, y_greatest: int, state: int,
    stride: int,
) -> int:  # fmt: skip
    """Add those of `count` values where x and y lie in their intervals to a SUM_INT; how many they are."""
    high, low, found = halves_within(left, x, y, count, x_least, x_greatest, y_least, y_greatest)
    add_to(state, high - (found << 31))
    add_to(state + stride, low)
    add_to(state + 2 * stride, found)
    return int(found)


@inline
def take_dots_and_sums(
    left: int, right: int, lefts: int, rights: int, scale: int, firsts: int, afters: int, pieces: int, state: int,
    sum_state: int, stride: int,
) -> None:  # fmt: skip
    """As `take_tiles`, to a DOT_INT_INT and to the SUM_INT of its right operand."""
    first, after, x, y = pointer_int64(firsts), pointer_int64(afters), pointer_int64(lefts), pointer_int64(rights)
    for k in range(pieces):
        count, place, sum_place = after[k] - first[k], state + 8 * k, sum_state + 8 * k
        if count > 0:
            dot, high, low = dot_halves(left + scale * x[k], right + scale * y[k], count)
            add_exactly(place, stride, dot)
            add_to(place + 2 * stride, count)
            add_to(sum_place, high - (count << 31))
            add_to(sum_place + stride, low)
            add_to(sum_place + 2 * stride, count)


@inline
def dot_within(
    left: int, right: int, x: int, y: int, count: int, x_least: int, x_greatest: int, y_least: int, y_greatest: int,
    state: int, sum_state: int, stride: int,
) -> int:  # fmt: skip
    """Likewise to a DOT_INT_INT and to the SUM_INT of its right operand."""
    dot, high, low, found = dot_halves_within(
        left, right, x, y, count, x_least, x_greatest, y_least, y_greatest
    )  # fmt: skip
    if found > 0:
        add_exactly(state, stride, dot)
    add_to(state + 2 * stride, found)
    add_to(sum_state, high - (found << 31))
    add_to(sum_state + stride, low)
    add_to(sum_state + 2 * stride, found)
    return int(found)


@inline
def merge(opcode: int, state: int, stride: int, given: int, given_stride: int) -> None:
    """Add a partial result of at least one row to a state; not of ROWS, COUNT, FIRST and LAST."""
    second = given + given_stride
    if opcode == SUM_INT:
        low = load_int64(state + stride) + load_int64(second)
        add_to(state, load_int64(given) + (low >> 32))
        store_int64(state + stride, low & 0xFFFFFFFF)
    elif opcode == MINMAX_INT:
        _keep_minmax_int(state, stride, load_int64(given), load_int64(second))
    elif opcode == MINMAX_FLOAT:
        _keep_minmax_float(state, stride, load_float64(given), load_float64(second))
    elif opcode == VARIANCE:
        deviation = load_float64(second) + load_float64(second + given_stride)
        squares, rest = given + 3 * given_stride, given + 4 * given_stride
        count = load_int64(given + 5 * given_stride)
        add_variance(state, stride, load_float64(given), deviation, load_float64(squares), count)
        store_float64(state + 4 * stride, load_float64(state + 4 * stride) + load_float64(rest))
        add_to(state + 5 * stride, count)
        return
    else:
        add_exactly(state, stride, load_float64(given))
        store_float64(state + stride, load_float64(state + stride) + load_float64(second))
    add_to(state + 2 * stride, load_int64(given + 2 * given_stride))
