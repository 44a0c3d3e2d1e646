"""SelectScan on the device: find the rows, then write the outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Scan, SelectScan, Vector
from zeptodb.backends.cuda.accumulate import TEAM, tiles_of
from zeptodb.backends.cuda.batch import ResultBuffer, allocate, read_words, upload
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.evaluate import Outputs, Rows
from zeptodb.backends.cuda.operands import Operands
from zeptodb.backends.program import BLOCK_ROWS
from zeptodb.backends.results import overflow

Int64Array = npt.NDArray[np.int64]

_FIRST_TILES = 256
_MORE_TILES = 8
"""With a limit, tiles are looked at in waves, the first of so many, each so many times longer than the one before."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of a scan on the device, range by range.

    Attributes:
        total: how many.
        segments: of each range.
        bounds: range k has the places bounds[k] to bounds[k + 1].
        starts: first row of each range; None when the rows are listed.
        listed: the rows, when a predicate chose them.
    """

    total: int
    segments: DeviceArray
    bounds: DeviceArray
    starts: DeviceArray | None
    listed: DeviceArray | None

    def rows(self, first: int, total: int) -> Rows:
        """Those from place `first` on."""
        return Rows(total, self.segments, self.starts, self.bounds, self.listed, first)


def select(driver: Driver, columns: DeviceColumns, operation: SelectScan) -> tuple[Vector, ...]:
    """Run a SelectScan; one Vector per output; raises CannotRunError for what the device does not run."""
    wanted = None if operation.limit is None else operation.offset + operation.limit
    found = find_rows(driver, columns, operation.scan, wanted=wanted)
    total = max(0, found.total - operation.offset)
    if operation.limit is not None:
        total = min(total, operation.limit)
    buffer = ResultBuffer(driver)
    flags_place = buffer.add(1)
    outputs = Outputs(buffer, operation.scan.snapshot, operation.outputs, total, has_missing=False)
    buffer.allocate()
    flags = buffer.device(flags_place)
    driver.clear(flags.address, flags.size_bytes)
    outputs.write(driver, columns, found.rows(operation.offset, total), flags)
    buffer.fetch()
    if buffer.host(flags_place)[0]:
        raise overflow()
    return outputs.vectors()


def find_rows(driver: Driver, columns: DeviceColumns, scan: Scan, *, wanted: int | None = None) -> Found:
    """The rows of a scan that pass its predicate; with `wanted` the search may end when there are so many."""
    ranges = scan.ranges
    if scan.predicate is None:
        bounds = np.append(0, np.cumsum(ranges.ends - ranges.starts))
        segments, starts, places = upload(driver, ranges.segments, ranges.starts, bounds)
        return Found(int(bounds[-1]), segments, places, starts, None)
    operands = Operands(scan.snapshot.schema.symbol_index)
    test = operands.place(scan.predicate)
    program = operands.finish()
    columns.require(scan.snapshot, operands.columns)
    bounds = tiles_of(ranges.starts, ranges.ends)
    tiles = int(bounds[-1])
    words, *_, predicate, segments, starts, ends, tile_bounds = program.upload(
        driver, program.operands[test], ranges.segments, ranges.starts, ranges.ends, bounds
    )
    masks, counts, sums = allocate(driver, TEAM * tiles), allocate(driver, tiles), allocate(driver, tiles + 1)
    flags = allocate(driver, 2)
    driver.clear(flags.address, flags.size_bytes)
    driver.clear(counts.address, counts.size_bytes)
    first, wave, total = 0, tiles if wanted is None else _FIRST_TILES, 0
    while first < tiles and (wanted is None or total < wanted):
        count = min(wave, tiles - first)
        driver.launch(
            "filter_tiles", TEAM * count,
            (columns.words, words, predicate, segments, starts, ends, len(ranges.segments), tile_bounds, first, count,
             masks, counts, flags),
        )  # fmt: skip
        overflows, total = read_words(driver, flags).tolist()
        if overflows:
            raise overflow()
        first, wave = first + count, wave * _MORE_TILES
    driver.prefix_sums(counts, sums)
    rows, places = allocate(driver, total), allocate(driver, len(bounds))
    driver.launch(
        "list_rows", TEAM * min(first, tiles),
        (starts, ends, len(ranges.segments), tile_bounds, first, masks, sums, rows),
    )  # fmt: skip
    driver.launch("gather_words", len(bounds), (sums, tile_bounds, len(bounds), places))
    return Found(total, segments, places, None, rows)


def tiles_in(count: int) -> int:
    """Tiles that so many places make."""
    return -(-count // BLOCK_ROWS)
