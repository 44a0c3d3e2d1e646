"""Primitives of aggregation: what their states hold, and how others are added to them, partial results into groups.

The state of a primitive is a few int64 words, `stride` bytes from one to the next:

    ROWS, COUNT        rows
    SUM_INT            high half, low half (the sum is high * 2^32 + low), rows
    SUM_FLOAT, DOT_*   sum, compensation (floats), rows
    MINMAX_*           least, greatest, rows
    VARIANCE           center, sum of deviations from it, compensation, squared deviations from the mean,
                       compensation (floats), rows
    FIRST, LAST        row within the segment, -1 when there is none; after `combine` the index of the partial result

Whoever has filled them: partial results of a device are folded by the same steps (`kernels/states.cuh`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.primitives import (
    COUNT,
    FIRST,
    LAST,
    MINMAX_FLOAT,
    MINMAX_INT,
    SUM_INT,
    VARIANCE,
)
from zeptodb.jit import inline, kernel, load_float64, load_int64, pointer_int64, store_float64, store_int64

Int64Array = npt.NDArray[np.int64]

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


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
def keep_minmax_int(state: int, stride: int, least: int, greatest: int) -> None:
    """Add integers' extremes."""
    store_int64(state, min(load_int64(state), least))
    store_int64(state + stride, max(load_int64(state + stride), greatest))


@inline
def keep_minmax_float(state: int, stride: int, least: float, greatest: float) -> None:
    """Add floats' extremes; of equal zeros the first stays."""
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
        first, second = _INT64_MAX, _INT64_MIN
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
def merge(opcode: int, state: int, stride: int, given: int, given_stride: int) -> None:
    """Add a partial result of at least one row to a state; not of ROWS, COUNT, FIRST and LAST."""
    second = given + given_stride
    if opcode == SUM_INT:
        low = load_int64(state + stride) + load_int64(second)
        add_to(state, load_int64(given) + (low >> 32))
        store_int64(state + stride, low & 0xFFFFFFFF)
    elif opcode == MINMAX_INT:
        keep_minmax_int(state, stride, load_int64(given), load_int64(second))
    elif opcode == MINMAX_FLOAT:
        keep_minmax_float(state, stride, load_float64(given), load_float64(second))
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
    stride, given_stride = 8 * groups.shape[1], 8 * partials.shape[1]
    for k in range(primitives.shape[0]):
        opcode, slot = primitives[k, 0], primitives[k, 3]
        rows_slot = slot + (5 if opcode == VARIANCE else (2 if SUM_INT <= opcode <= MINMAX_FLOAT else 0))
        reset(opcode, groups.ctypes.data + stride * slot, stride, groups.shape[1])
        for group in range(bounds.shape[0] - 1):
            state = groups.ctypes.data + stride * slot + 8 * group
            best = np.int64(0)
            for position in range(bounds[group], bounds[group + 1]):
                index = order[position]
                if opcode == FIRST or opcode == LAST:
                    if partials[slot, index] >= 0:
                        time = times[k, index]
                        is_better = time < best if opcode == FIRST else time >= best
                        if load_int64(state) < 0 or is_better:
                            store_int64(state, index)
                            best = time
                elif opcode <= COUNT:
                    add_to(state, partials[slot, index])
                elif partials[rows_slot, index] > 0:
                    given = partials.ctypes.data + given_stride * slot + 8 * index
                    merge(opcode, state, stride, given, given_stride)
