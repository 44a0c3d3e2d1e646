"""Where time buckets begin: ranges of rows into (range, bucket) ranges, on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Scan, TimeBucket
from zeptodb.backends.cuda.accumulate import tiles_of
from zeptodb.backends.cuda.batch import allocate, read_words, upload
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.pieces import PIECE_ROWS

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DeviceBars:
    """Ranges of rows with one bucket each, in the order of the given ranges and of time.

    Attributes:
        count: how many.
        segments, starts, ends: where each bar's rows lie.
        buckets: start of its bucket in ns.
        has_long: whether one has more rows than a piece may.
    """

    count: int
    segments: DeviceArray
    starts: DeviceArray
    ends: DeviceArray
    buckets: DeviceArray
    has_long: bool


def find_bars(driver: Driver, columns: DeviceColumns, scan: Scan, bucket: TimeBucket) -> DeviceBars:
    """Cut the scan's ranges where the bucket changes."""
    time_column, ranges = scan.snapshot.schema.timestamp_index, scan.ranges
    columns.require(scan.snapshot, (time_column,))
    bounds = tiles_of(ranges.starts, ranges.ends)
    tiles = int(bounds[-1])
    if tiles == 0:
        none = allocate(driver, 0)
        return DeviceBars(0, none, none, none, none, has_long=False)
    segments, starts, ends, tile_bounds = upload(driver, ranges.segments, ranges.starts, ranges.ends, bounds)
    # The flag behind the sums comes back with the last of them.
    counts, sums = allocate(driver, tiles), allocate(driver, tiles + 2)
    flag = sums.part(tiles + 1, tiles + 2)
    driver.clear(flag.address, flag.size_bytes)
    searched = (
        columns.address_row(time_column), segments, starts, ends, len(ranges.segments), tile_bounds, tiles,
        bucket.width_ns, bucket.origin_ns % bucket.width_ns, PIECE_ROWS,
    )  # fmt: skip
    driver.launch("find_bars", tiles, (*searched, counts, None, None, None, None, None, flag))
    driver.prefix_sums(counts, sums.part(0, tiles + 1))
    total, is_long = read_words(driver, sums.part(tiles, tiles + 2)).tolist()
    its_segments, its_starts, its_ends, buckets = (allocate(driver, total) for _ in range(4))
    bars = DeviceBars(total, its_segments, its_starts, its_ends, buckets, has_long=bool(is_long))
    written = (bars.segments, bars.starts, bars.ends, bars.buckets)
    driver.launch("find_bars", tiles, (*searched, None, sums, *written, flag))
    return bars
