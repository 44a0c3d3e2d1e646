"""Rows that belong among those that segments hold: where, and the kernel that inserts them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.jit import (
    claim,
    copy_bytes,
    inline,
    kernel,
    load_int32,
    load_int64,
    load_uint8,
    store_int32,
    store_int64,
    store_uint8,
)
from zeptodb.storage.rows import Rows
from zeptodb.storage.workers import Workers

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]


class Merge(NamedTuple):
    """Rows on their way in among those that segments hold; the arguments of `merge_rows`."""

    targets: Int64Array
    widths: Int64Array
    sources: Int64Array
    lengths: Int64Array
    starts: Int64Array
    positions: Int64Array
    order: Int32Array
    done: npt.NDArray[np.uint8]
    rows: Rows

    @property
    def displaces_rows(self) -> bool:
        """Whether rows that are there have to move."""
        return bool((self.positions[self.starts[:-1]] < self.lengths).any())

    def run(self, workers: Workers) -> None:
        """Do what has not been done yet."""
        workers.run(
            lambda counter, budget: merge_rows(
                counter, budget, self.targets, self.widths, self.sources, self.lengths, self.starts, self.positions,
                self.order, self.done,
            ),
            self.done.size,
            rows=len(self.order),
        )  # fmt: skip


@inline
def upper_bound(times: int, low: int, high: int, time: int) -> int:
    """First row in [low, high) whose time is greater than `time`, else `high`; gallops down from the end."""
    step = 1
    while high - step > low and load_int64(times + 8 * (high - step)) > time:
        step <<= 1
    low = max(low, high - step)
    high -= step >> 1
    while low < high:
        middle = (low + high) >> 1
        if load_int64(times + 8 * middle) > time:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def find_positions(
    counter: Int64Array,
    budget: int,
    times: Int64Array,
    lengths: Int64Array,
    starts: Int64Array,
    keys: Int64Array,
    positions: Int64Array,
) -> None:
    """Per row how many rows of its segment stay in front of it (those at or before its time).

    times, lengths: per segment the address of its times and its rows. The rows starts[i] to starts[i + 1] belong to
    segment i, a work item; keys: their times, ascending.
    """
    for _ in range(budget):
        i = claim(counter.ctypes.data)
        if i >= len(lengths):
            return
        high = lengths[i]
        for row in range(starts[i + 1] - 1, starts[i] - 1, -1):
            high = upper_bound(times[i], 0, high, keys[row])
            positions[row] = high


@inline
def copy_value(destination: int, source: int, width: int) -> None:
    """Copy one value of 8, 4 or 1 bytes."""
    if width == 8:
        store_int64(destination, load_int64(source))
    elif width == 4:
        store_int32(destination, load_int32(source))
    else:
        store_uint8(destination, load_uint8(source))


@kernel
def merge_rows(
    counter: Int64Array,
    budget: int,
    targets: npt.NDArray[np.int64],
    widths: Int64Array,
    sources: Int64Array,
    lengths: Int64Array,
    starts: Int64Array,
    positions: Int64Array,
    order: Int32Array,
    done: npt.NDArray[np.uint8],
) -> None:
    """Insert rows in place: the rows behind each are shifted up, last first.

    targets: [column, segment] addresses with room for the new rows, 0 where nothing is stored; a work item is one of
    them. sources: per column the address of the new values, 0 for validity without NULL (writes ones). order: the
    rows of segment i are order[starts[i]] to order[starts[i + 1]]; positions: as of `find_positions`.
    done: in and out, [column, segment], so that nothing is inserted twice.
    """
    columns, segments = targets.shape
    for _ in range(budget):
        item = claim(counter.ctypes.data)
        if item >= columns * segments:
            return
        c, i = item // segments, item % segments
        base, source, width = targets[c, i], sources[c], widths[c]
        if done[c, i] != 0 or base == 0:
            continue
        end = lengths[i]
        for row in range(starts[i + 1] - 1, starts[i] - 1, -1):
            at, position = base + (row - starts[i]) * width, positions[row]
            if position < end:
                copy_bytes(at + (position + 1) * width, base + position * width, (end - position) * width)
                end = position
            if source != 0:
                copy_value(at + position * width, source + order[row] * width, width)
            else:
                store_uint8(at + position, 1)
        done[c, i] = 1
