"""Work items of bounded size: ranges of rows cut into pieces, and pieces bundled into morsels.

Where a range is cut depends on nothing but its rows, so that partial results, and with them every float, are the same
for any number of threads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.program import BLOCK_ROWS
from zeptodb.jit import kernel
from zeptodb.record import record

Int64Array = npt.NDArray[np.int64]

PIECE_ROWS = 64 * BLOCK_ROWS
"""Most rows of a piece; cuts lie at multiples of this many rows from the start of the segment."""

_PIECE_COST_ROWS = 96
_INT64 = np.dtype(np.int64)
_ONE_MORSEL = np.arange(2, dtype=np.int64)


@record
class Pieces:
    """Pieces in the order of their ranges.

    Attributes:
        segments, starts, ends: the rows of each piece.
        ranges: per piece the index of the range it was cut from; None when each range is one piece.
        morsels: morsel m is the pieces morsels[m] to morsels[m + 1] (exclusive).
        rows: rows in all pieces.
    """

    segments: Int64Array
    starts: Int64Array
    ends: Int64Array
    ranges: Int64Array | None
    morsels: Int64Array
    rows: int

    @property
    def count(self) -> int:
        """How many pieces."""
        return len(self.segments)

    @property
    def morsel_count(self) -> int:
        """How many morsels."""
        return len(self.morsels) - 1


def cut(segments: Int64Array, starts: Int64Array, ends: Int64Array) -> Pieces:
    """Cut ranges into pieces of at most PIECE_ROWS rows; a range without rows is one piece without rows."""
    segments, starts, ends = as_words(segments), as_words(starts), as_words(ends)
    if len(segments) == 1:
        rows = int(ends[0]) - int(starts[0])
        if rows <= PIECE_ROWS:
            return Pieces(segments, starts, ends, None, _ONE_MORSEL, rows)
    bounds, totals = np.empty(len(segments) + 1, dtype=np.int64), np.empty(2, dtype=np.int64)
    last = _bundle(starts, ends, bounds, totals)
    rows, longest = totals.tolist()
    if longest <= PIECE_ROWS:
        return Pieces(segments, starts, ends, None, bounds[: last + 1].copy(), rows)  # the rest may go
    lengths = ends - starts
    counts = np.where(lengths <= PIECE_ROWS, 1, (ends - 1) // PIECE_ROWS - starts // PIECE_ROWS + 1)
    ranges = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    piece_starts, piece_ends = np.empty(len(ranges), dtype=np.int64), np.empty(len(ranges), dtype=np.int64)
    _cut(starts, ends, piece_starts, piece_ends)
    return Pieces(segments[ranges], piece_starts, piece_ends, ranges, bundle(piece_ends - piece_starts), rows)


def as_words(array: Int64Array) -> Int64Array:
    """The array as kernels take it (each kernel has one signature): int64, contiguous, writable; a copy if need be."""
    if array.dtype is _INT64 and array.flags.carray:
        return array
    return np.require(array, np.int64, ["C", "W"])


def bundle(lengths: Int64Array) -> Int64Array:
    """Bounds of morsels of about PIECE_ROWS rows each over pieces of the given lengths."""
    if len(lengths) == 1:
        return _ONE_MORSEL
    bounds = np.empty(len(lengths) + 1, dtype=np.int64)
    last = _bundle(np.zeros(len(lengths), dtype=np.int64), as_words(lengths), bounds, np.empty(2, dtype=np.int64))
    return bounds[: last + 1]


@kernel
def _bundle(starts: Int64Array, ends: Int64Array, bounds: Int64Array, totals: Int64Array) -> int:
    """Begin a morsel with the first piece and after each that fills one; how many they are.

    totals: takes the rows of all pieces and those of the longest.
    """
    count, cost, limit, last = 0, 0, PIECE_ROWS, starts.shape[0]
    rows, longest = 0, 0
    bounds[0] = 0
    for piece in range(last):
        length = ends[piece] - starts[piece]
        rows += length
        longest = max(longest, length)
        cost += length + _PIECE_COST_ROWS
        if cost >= limit and piece + 1 < last:
            count += 1
            bounds[count] = piece + 1
            limit = (cost // PIECE_ROWS + 1) * PIECE_ROWS
    totals[0] = rows
    totals[1] = longest
    if last == 0:
        return 0
    bounds[count + 1] = last
    return count + 1


@kernel
def _cut(starts: Int64Array, ends: Int64Array, piece_starts: Int64Array, piece_ends: Int64Array) -> None:
    k = 0
    for i in range(starts.shape[0]):
        row = starts[i]
        if ends[i] - row <= PIECE_ROWS:
            piece_starts[k] = row
            piece_ends[k] = ends[i]
            k += 1
            continue
        while row < ends[i]:
            stop = min(ends[i], (row // PIECE_ROWS + 1) * PIECE_ROWS)
            piece_starts[k] = row
            piece_ends[k] = stop
            row = stop
            k += 1
