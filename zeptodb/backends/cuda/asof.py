"""AsofJoin on the device: find the left rows, match them, write both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import AsofJoin, Vector
from zeptodb.backends.cuda.accumulate import TEAM
from zeptodb.backends.cuda.batch import ResultBuffer, allocate, read_word, upload
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.evaluate import Outputs
from zeptodb.backends.cuda.select import Found, find_rows, tiles_in
from zeptodb.backends.results import overflow

Int64Array = npt.NDArray[np.int64]

_OPS = {">=": 0, ">": 1, "<=": 2, "<": 3}


def asof_join(
    driver: Driver, left_columns: DeviceColumns, right_columns: DeviceColumns, operation: AsofJoin
) -> tuple[Vector, ...]:
    """Run an AsofJoin; raises CannotRunError for what the device does not run."""
    left, right = operation.left.snapshot, operation.right.snapshot
    left_columns.ask(left, (left.schema.timestamp_index,))
    right_columns.ask(right, (right.schema.timestamp_index,))
    found = find_rows(driver, left_columns, operation.left)
    lengths = np.ascontiguousarray(right.lengths, dtype=np.int64)
    others = np.ascontiguousarray(operation.right_segments, dtype=np.int64)
    if len(lengths):  # a segment without rows is as good as none
        others = np.where(lengths[others] > 0, others, -1)
    right_segments, right_lengths = upload(driver, others, lengths)
    left_columns.require(left, (left.schema.timestamp_index,))
    right_columns.require(right, (right.schema.timestamp_index,))
    matched = _match(driver, left_columns, right_columns, operation, found, right_segments, right_lengths)
    found, matches, has_missing = matched
    buffer = ResultBuffer(driver)
    flags_place = buffer.add(1)
    left_outputs = Outputs(buffer, left, operation.left_outputs, found.total, has_missing=False)
    right_outputs = Outputs(buffer, right, operation.right_outputs, found.total, has_missing=has_missing)
    buffer.allocate()
    flags = buffer.device(flags_place)
    driver.clear(flags.address, flags.size_bytes)
    rows = found.rows(0, found.total)
    left_outputs.write(driver, left_columns, rows, flags)
    right_rows = replace(rows, segments=right_segments, starts=None, listed=matches)
    right_outputs.write(driver, right_columns, right_rows, flags)
    buffer.fetch()
    if buffer.host(flags_place)[0]:
        raise overflow()
    return (*left_outputs.vectors(), *right_outputs.vectors())


def _match(
    driver: Driver,
    left_columns: DeviceColumns,
    right_columns: DeviceColumns,
    operation: AsofJoin,
    found: Found,
    right_segments: DeviceArray,
    right_lengths: DeviceArray,
) -> tuple[Found, DeviceArray, bool]:
    """The left rows that are kept, the right row of each (-1: none), and whether there is a -1."""
    total, tiles, parts = found.total, tiles_in(found.total), len(found.bounds) - 1
    matches, masks = allocate(driver, total), allocate(driver, TEAM * tiles)
    counts, sums = allocate(driver, tiles), allocate(driver, tiles + 1)
    flags = allocate(driver, 1)
    driver.clear(flags.address, flags.size_bytes)
    driver.launch(
        "match_rows", TEAM * tiles,
        (left_columns.address_row(operation.left.snapshot.schema.timestamp_index), found.segments, found.starts,
         found.bounds, parts, found.listed,
         right_columns.address_row(operation.right.snapshot.schema.timestamp_index), right_segments, right_lengths,
         _OPS[operation.op], -1 if operation.tolerance_ns is None else operation.tolerance_ns, total, matches, masks,
         counts, flags),
    )  # fmt: skip
    missing = read_word(driver, flags, 0)
    if operation.keep_unmatched or not missing:
        return found, matches, bool(missing)
    kept = total - missing
    driver.prefix_sums(counts, sums)
    rows, kept_matches, bounds = allocate(driver, kept), allocate(driver, kept), allocate(driver, parts + 1)
    driver.launch(
        "close_up", TEAM * tiles,
        (found.starts, found.bounds, parts, found.listed, matches, total, masks, sums, rows, kept_matches),
    )  # fmt: skip
    driver.launch("count_kept", parts + 1, (found.bounds, parts, masks, sums, tiles, bounds))
    return Found(kept, found.segments, bounds, None, rows), kept_matches, False
