"""Values of one tile, none NULL, added to the states of primitives (`states.py` says what their words mean)."""

from __future__ import annotations

import numpy as np

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
    MINMAX_FLOAT,
    MINMAX_INT,
    SUM_FLOAT,
    SUM_INT,
    VARIANCE,
)
from zeptodb.backends.program import BLOCK_ROWS
from zeptodb.backends.states import add_exactly, add_to, add_variance, keep_minmax_float, keep_minmax_int
from zeptodb.jit import inline, pointer_int64, prefetch


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
            keep_minmax_int(place, stride, least, greatest)
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
        keep_minmax_float(state, stride, least_number, greatest_number)
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
