"""How the rows of an AggregateScan make pieces, and pieces groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import AggregateScan
from zeptodb.backends.cuda.accumulate import DevicePieces, pieces_of
from zeptodb.backends.cuda.bars import DeviceBars, find_bars
from zeptodb.backends.cuda.batch import read_words
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.groups import group_by_key
from zeptodb.backends.pieces import cut
from zeptodb.backends.program import BLOCK_ROWS

Int64Array = npt.NDArray[np.int64]

_LONG_BAR_ROWS = 2 * BLOCK_ROWS
"""Bars of so many rows on average are few: they are cut into pieces on the host."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How partial results, one per piece, make groups.

    Attributes:
        pieces: what to accumulate.
        order, bounds: group g is the pieces order[bounds[g]:bounds[g + 1]] (no order: in their own); no bounds: each
            piece is a group.
        groups: how many there are.
        owners: per group the segment, with by_symbol; on the device or on the host.
        buckets: per group the start of the bucket, likewise.
        is_mixed: whether a group's pieces lie in several segments, so that time decides what is first.
    """

    pieces: DevicePieces
    order: DeviceArray | None
    bounds: DeviceArray | None
    groups: int
    owners: DeviceArray | Int64Array | None
    buckets: DeviceArray | Int64Array | None
    is_mixed: bool


def lay_out(driver: Driver, columns: DeviceColumns, operation: AggregateScan, *, many_pieces: int) -> Layout:
    """The layout of a scan without keys."""
    ranges = operation.scan.ranges
    is_apart = operation.by_symbol or len(ranges.segments) == 1
    if operation.bucket is None:
        owners = ranges.segments if operation.by_symbol else None
        if is_apart:
            return _apart(driver, ranges.segments, ranges.starts, ranges.ends, owners, None, many_pieces)
        pieces = cut(ranges.segments, ranges.starts, ranges.ends)
        everything = np.array([0, pieces.count], dtype=np.int64)
        there, (bounds,) = pieces_of(
            driver, pieces.segments, pieces.starts, pieces.ends, everything, many_pieces=many_pieces
        )
        return Layout(there, None, bounds, 1, None, None, is_mixed=True)
    bars = find_bars(driver, columns, operation.scan, operation.bucket)
    if bars.has_long or ranges.rows >= _LONG_BAR_ROWS * max(1, bars.count):
        return _few_bars(driver, bars, operation, is_apart, many_pieces)
    there = DevicePieces(bars.count, bars.segments, bars.starts, bars.ends, None, bars.count)
    if is_apart:
        owners_there = bars.segments if operation.by_symbol else None
        return Layout(there, None, None, bars.count, owners_there, bars.buckets, is_mixed=False)
    groups = group_by_key(driver, bars.buckets, order=None)
    return Layout(there, groups.order, groups.bounds, groups.count, None, groups.keys, is_mixed=True)


def _apart(
    driver: Driver,
    segments: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    owners: Int64Array | None,
    buckets: Int64Array | None,
    many_pieces: int,
) -> Layout:
    """Each range is a group."""
    pieces = cut(segments, starts, ends)
    groups = len(segments)
    more = []
    if pieces.ranges is not None:
        more = [np.searchsorted(pieces.ranges, np.arange(groups + 1)).astype(np.int64)]
    there, bounds = pieces_of(driver, pieces.segments, pieces.starts, pieces.ends, *more, many_pieces=many_pieces)
    return Layout(there, None, bounds[0] if bounds else None, groups, owners, buckets, is_mixed=False)


def _few_bars(driver: Driver, bars: DeviceBars, operation: AggregateScan, is_apart: bool, many_pieces: int) -> Layout:
    segments, starts, ends, buckets = (
        read_words(driver, array) for array in (bars.segments, bars.starts, bars.ends, bars.buckets)
    )
    if is_apart:
        owners = segments if operation.by_symbol else None
        return _apart(driver, segments, starts, ends, owners, buckets, many_pieces)
    pieces = cut(segments, starts, ends)
    keys = buckets if pieces.ranges is None else buckets[pieces.ranges]
    order = np.argsort(keys, kind="stable")
    distinct, firsts = np.unique(keys[order], return_index=True)
    group_bounds = np.append(firsts, len(keys))
    there, (order_there, bounds_there) = pieces_of(
        driver, pieces.segments, pieces.starts, pieces.ends, order, group_bounds, many_pieces=many_pieces
    )
    return Layout(there, order_there, bounds_there, len(distinct), None, distinct, is_mixed=True)
