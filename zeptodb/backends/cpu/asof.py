"""AsofJoin on the CPU: find the left rows, match them segment by segment, write both sides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends import control, reused
from zeptodb.backends.base import AsofJoin, Vector
from zeptodb.backends.cpu import match as kernels
from zeptodb.backends.cpu.columns import Columns, address_of
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.cpu.select import Rows, find_rows, write
from zeptodb.backends.pieces import Pieces, as_words, bundle, cut

Int64Array = npt.NDArray[np.int64]

_OPS = {
    ">=": kernels.AT_OR_BEFORE,
    ">": kernels.BEFORE,
    "<=": kernels.AT_OR_AFTER,
    "<": kernels.AFTER,
}


def asof_join(pool: WorkerPool, operation: AsofJoin) -> tuple[Vector, ...]:
    """Run an AsofJoin; one Vector per left output, then per right output."""
    left, right = operation.left.snapshot, operation.right.snapshot
    left_columns, right_columns = Columns.of(left), Columns.of(right)
    ranges = operation.left.ranges
    pieces = cut(ranges.segments, ranges.starts, ranges.ends)
    owners = slice(None) if pieces.ranges is None else pieces.ranges
    right_lengths = as_words(right.lengths)
    right_segments = as_words(operation.right_segments)[owners]
    if len(right_lengths):
        # A segment without rows is as good as none; its columns may have no address.
        right_segments = np.where(right_lengths[right_segments] > 0, right_segments, -1)
    if operation.left.predicate is not None:
        counts, places, left_list = find_rows(pool, operation.left, left_columns, pieces)
    else:
        counts = pieces.ends - pieces.starts
        places = np.cumsum(counts) - counts
        left_list = reused.empty(0 if operation.keep_unmatched else pieces.rows, np.int64)
    matches, missing = _match(
        pool, operation, left_columns, right_columns, pieces, right_segments, right_lengths, counts, places, left_list
    )
    positions = np.cumsum(counts) - counts
    total = int(counts.sum())
    is_whole = operation.left.predicate is None and total == pieces.rows
    left_rows = (
        Rows(pieces.segments, pieces.starts, counts, positions, None)
        if is_whole
        else Rows(pieces.segments, places, counts, positions, left_list)
    )
    right_rows = Rows(right_segments, places, counts, positions, matches)
    return (
        *write(pool, left, left_columns, left_rows, total, operation.left_outputs, has_missing=False),
        *write(pool, right, right_columns, right_rows, total, operation.right_outputs, has_missing=missing > 0),
    )


def _match(
    pool: WorkerPool,
    operation: AsofJoin,
    left_columns: Columns,
    right_columns: Columns,
    pieces: Pieces,
    right_segments: Int64Array,
    right_lengths: Int64Array,
    counts: Int64Array,
    places: Int64Array,
    left_list: Int64Array,
) -> tuple[Int64Array, int]:
    """The list of matches, how many are missing in it; `counts` and `left_list` become those of the rows kept."""
    control.reserve(8 * (pieces.rows + len(left_list)))
    matches = reused.empty(pieces.rows, np.int64)
    unmatched = np.zeros(pieces.count, dtype=np.int64)
    morsels = bundle(counts)
    left_times = left_columns.address_row(operation.left.snapshot.schema.timestamp_index)
    right_times = right_columns.address_row(operation.right.snapshot.schema.timestamp_index)
    tolerance = -1 if operation.tolerance_ns is None else operation.tolerance_ns
    is_listed = int(operation.left.predicate is not None)
    left_address = address_of(left_list) if len(left_list) else 0

    def work(counter: Int64Array, budget: int) -> None:
        kernels.match(
            counter, budget, morsels, pieces.segments, pieces.starts, counts, places, is_listed, left_times,
            right_segments, right_lengths, right_times, _OPS[operation.op], tolerance, int(operation.keep_unmatched),
            left_address, address_of(matches), unmatched,
        )  # fmt: skip

    pool.run(work, len(morsels) - 1, rows=int(counts.sum()))
    return matches, int(unmatched.sum())
