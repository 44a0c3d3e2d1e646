"""How the rows of an AggregateScan make pieces, and pieces groups."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zeptodb.backends import partials
from zeptodb.backends.base import AggregateScan
from zeptodb.backends.cuda.accumulate import MANY_PIECES, DevicePieces, pieces_of
from zeptodb.backends.cuda.bars import DeviceBars, find_bars
from zeptodb.backends.cuda.batch import read_words
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.groups import group_by_key
from zeptodb.backends.partials import Bars
from zeptodb.backends.pieces import as_words
from zeptodb.backends.program import BLOCK_ROWS

Int64Array = npt.NDArray[np.int64]

_LONG_BAR_ROWS = 2 * BLOCK_ROWS
"""Bars of so many rows on average are few: they are cut into pieces on the host."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How partial results, one per piece, make ranges, and ranges groups.

    Attributes:
        pieces: what to accumulate.
        range_bounds: range r is the pieces range_bounds[r] to range_bounds[r + 1] (exclusive); None when each range is
            one piece.
        segments: of each range; None when the rows stand in a list.
        ranges: how many there are.
        order, bounds: group g is the ranges order[bounds[g]:bounds[g + 1]] (no order: in their own), in several
            segments, so that time decides what is first; no bounds: each range is a group.
        groups: how many there are.
        owners: per group the segment, with by_symbol; on the device or on the host.
        buckets: per group the start of the bucket, likewise.
    """

    pieces: DevicePieces
    range_bounds: DeviceArray | None
    segments: DeviceArray | None
    ranges: int
    order: DeviceArray | None
    bounds: DeviceArray | None
    groups: int
    owners: DeviceArray | Int64Array | None
    buckets: DeviceArray | Int64Array | None


def layout_of(
    pieces: DevicePieces, owners: DeviceArray | Int64Array | None, buckets: DeviceArray | Int64Array | None
) -> Layout:
    """A layout in which each piece is a group."""
    return Layout(pieces, None, pieces.segments, pieces.count, None, None, pieces.count, owners, buckets)


def bars_of(driver: Driver, columns: DeviceColumns, operation: AggregateScan) -> DeviceBars | Bars | None:
    """The bars of the scan's bucket, if it has one; few ones, or one longer than a piece, on the host."""
    if operation.bucket is None:
        return None
    bars = find_bars(driver, columns, operation.scan, operation.bucket)
    if not bars.has_long and operation.scan.ranges.rows < _LONG_BAR_ROWS * max(1, bars.count):
        return bars
    return Bars(*(read_words(driver, array) for array in (bars.segments, bars.starts, bars.ends, bars.buckets)))


def lay_out(
    driver: Driver, operation: AggregateScan, bars: DeviceBars | Bars | None, *, many_pieces: int = MANY_PIECES
) -> Layout:
    """The layout of a scan without keys, of which `bars` are those of its bucket."""
    if not isinstance(bars, DeviceBars):
        return _on_host(driver, operation, bars, many_pieces)
    there = DevicePieces(bars.count, bars.segments, bars.starts, bars.ends, None, bars.count)
    if operation.by_symbol or len(operation.scan.ranges.segments) == 1:
        return layout_of(there, bars.segments if operation.by_symbol else None, bars.buckets)
    groups = group_by_key(driver, bars.buckets, order=None)
    apart = layout_of(there, None, groups.keys)
    return replace(apart, order=groups.order, bounds=groups.bounds, groups=groups.count)


def _on_host(driver: Driver, operation: AggregateScan, bars: Bars | None, many_pieces: int) -> Layout:
    """The layout that the host has made, on the device."""
    found = partials.lay_out(operation, bars)
    pieces = found.pieces
    order = None if bars is None else found.order  # else ranges are in their own
    more = (found.bounds, None if found.bounds is None else found.segments, order, found.group_bounds)
    there, arrays = pieces_of(
        driver, pieces.segments, pieces.starts, pieces.ends, *(as_words(array) for array in more if array is not None),
        many_pieces=many_pieces,
    )  # fmt: skip
    left = iter(arrays)
    bounds, segments, order_there, group_bounds = (None if array is None else next(left) for array in more)
    if segments is None:
        segments = there.segments
    ranges = len(found.segments)
    groups = ranges if found.group_bounds is None else len(found.group_bounds) - 1
    return Layout(there, bounds, segments, ranges, order_there, group_bounds, groups, found.owners, found.buckets)
