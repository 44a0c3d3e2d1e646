"""Where time buckets begin: ranges of rows into (range, bucket) ranges, by galloping over the sorted times."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends import reused
from zeptodb.backends.base import Ranges, TimeBucket
from zeptodb.backends.cpu.expression import INT64_MAX, INT64_MIN
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.partials import Bars, pieces_of
from zeptodb.jit import claim, copy_bytes, inline, kernel, load_int64, pointer_int64

Int64Array = npt.NDArray[np.int64]

_LINES_ROWS = 32
_NEAR_ROWS = 1024
_FEW_ROWS = 64


def find_bars(pool: WorkerPool, times: int, ranges: Ranges, bucket: TimeBucket) -> Bars:
    """Cut ranges where the bucket changes; `times` is the address of the timestamp column's row of addresses."""
    pieces = pieces_of(ranges)
    range_starts, range_ends = pieces.starts, pieces.ends
    if pieces.ranges is not None:
        range_starts, range_ends = ranges.starts[pieces.ranges], ranges.ends[pieces.ranges]
    # Each piece writes to a stretch of its own, wide enough for every bar that can begin in it.
    counts, places = np.empty(pieces.count, dtype=np.int64), np.empty(pieces.count, dtype=np.int64)
    room = _place(pieces.segments, pieces.starts, pieces.ends, times, bucket.width_ns, places)
    bar_starts, bar_ends, buckets = found = reused.empty((3, room), np.int64)

    def find(counter: Int64Array, budget: int) -> None:
        _find(
            counter, budget, pieces.morsels, pieces.segments, pieces.starts, pieces.ends, range_starts, range_ends,
            times, bucket.width_ns, bucket.origin_ns % bucket.width_ns, places, bar_starts, bar_ends, buckets, counts,
        )  # fmt: skip

    pool.run(find, pieces.morsel_count, rows=pieces.rows)
    firsts = np.append(0, np.cumsum(counts))
    bars = reused.empty((4, int(firsts[-1])), np.int64)

    def close_up(counter: Int64Array, budget: int) -> None:
        _close_up(counter, budget, pieces.morsels, pieces.segments, places, firsts, found, bars)

    pool.run(close_up, pieces.morsel_count, rows=bars.shape[1])
    return Bars(*bars)


@inline
def floor_to(value: int, width: int, origin: int) -> int:
    """Floor to `origin` (in [0, width)) + a multiple of `width`, never below INT64_MIN."""
    beyond = value % width - origin
    if beyond < 0:
        beyond += width
    if value < INT64_MIN + beyond:
        return INT64_MIN
    return value - beyond


@inline
def first_at_or_after(times: int, low: int, high: int, sought: int) -> int:
    """First row in [low, high) whose time is at least `sought`, else high.

    Times ascend, so that within some lines of memory counting those before `sought` finds the place, in vectors and
    without a branch that nobody could foretell. Then galloping, so that long bars cost the logarithm of their rows.
    """
    time = pointer_int64(times)
    near = min(high, low + _NEAR_ROWS)
    while low + _LINES_ROWS <= near:
        passed = 0
        for i in range(_LINES_ROWS):
            passed += 1 if time[low + i] < sought else 0
        low += passed
        if passed < _LINES_ROWS:
            return low
    step = 1
    while low + step < high and time[low + step - 1] < sought:
        low += step
        step *= 2
    if low + step < high:
        high = low + step - 1
    while low < high:
        middle = (low + high) >> 1
        if time[middle] < sought:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _close_up(
    counter: Int64Array,
    budget: int,
    morsels: Int64Array,
    segments: Int64Array,
    places: Int64Array,
    firsts: Int64Array,
    found: Int64Array,
    bars: Int64Array,
) -> None:
    """Copy bars of piece p, `found` from places[p] on, to bars[1:] from firsts[p] on, and their segments to bars[0]."""
    while budget > 0:
        morsel = claim(counter.ctypes.data)
        if morsel >= morsels.shape[0] - 1:
            break
        budget -= 1
        for piece in range(morsels[morsel], morsels[morsel + 1]):
            first, after = firsts[piece], firsts[piece + 1]
            for k in range(first, after):
                bars[0, k] = segments[piece]
            for row in range(3):
                target = bars.ctypes.data + 8 * ((row + 1) * bars.shape[1] + first)
                source = found.ctypes.data + 8 * (row * found.shape[1] + places[piece])
                copy_bytes(target, source, 8 * (after - first))


@kernel
def _place(
    segments: Int64Array, starts: Int64Array, ends: Int64Array, times: int, width: int, places: Int64Array
) -> int:
    """Where the bars that begin in each piece shall stand, and how many can stand there in all.

    As many as the piece has rows, or fewer when its time span is short.
    """
    total = 0
    for piece in range(starts.shape[0]):
        row, end = starts[piece], ends[piece]
        places[piece] = total
        most = end - row
        if most > _FEW_ROWS:
            time = pointer_int64(load_int64(times + 8 * segments[piece]))
            span = time[end - 1] - time[row]
            if span >= 0:  # else it does not fit into int64
                most = min(most, span // width + 2)
        total += most
    return total


@kernel
def _find(
    counter: Int64Array,
    budget: int,
    morsels: Int64Array,
    segments: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    range_starts: Int64Array,
    range_ends: Int64Array,
    times: int,
    width: int,
    origin: int,
    places: Int64Array,
    bar_starts: Int64Array,
    bar_ends: Int64Array,
    buckets: Int64Array,
    counts: Int64Array,
) -> None:
    """A piece finds the bars that begin in it; one that runs on beyond its end is still its own."""
    while budget > 0:
        morsel = claim(counter.ctypes.data)
        if morsel >= morsels.shape[0] - 1:
            break
        budget -= 1
        for piece in range(morsels[morsel], morsels[morsel + 1]):
            row, end, last = starts[piece], ends[piece], range_ends[piece]
            if row >= end:
                counts[piece] = 0
                continue
            address = load_int64(times + 8 * segments[piece])
            time = pointer_int64(address)
            if row > range_starts[piece]:
                start = floor_to(time[row - 1], width, origin)
                if start <= INT64_MAX - width:
                    row = first_at_or_after(address, row, last, start + width)
                else:
                    row = last
            place, found = places[piece], 0
            start = INT64_MAX
            while row < end:
                # Most bars begin where the one before has ended: that saves a division.
                if found > 0 and start <= INT64_MAX - 2 * width and time[row] < start + 2 * width:
                    start += width
                else:
                    start = floor_to(time[row], width, origin)
                after = last
                if start <= INT64_MAX - width and row + 1 < last:
                    after = first_at_or_after(address, row + 1, last, start + width)
                bar_starts[place + found] = row
                bar_ends[place + found] = after
                buckets[place + found] = start
                found += 1
                row = after
            counts[piece] = found
