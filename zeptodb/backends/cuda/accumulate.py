"""Pieces of rows on the device, and their partial results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.batch import allocate, read_word, upload
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.lowering import DevicePlan
from zeptodb.backends.program import BLOCK_ROWS

Int64Array = npt.NDArray[np.int64]

TEAM = 16
"""Threads that work on a tile together."""

MANY_PIECES = 1 << 16
"""With so many pieces a team takes a whole one; with fewer each tile has a team of its own."""


SHORT_ROWS = 64
"""Where a team takes a whole piece, one thread alone takes a piece of no more rows than this."""


@dataclass(frozen=True, slots=True)
class DevicePieces:
    """Ranges of rows.

    Attributes:
        count: how many.
        segments: of each piece; None when the rows stand in a list.
        starts, ends: its rows, or its places in the list.
        tile_bounds: tiles before each piece, one entry more than pieces; None when a team takes a whole piece.
        tiles: how many tiles there are.
        listed: the row and the segment of each place of the list.
    """

    count: int
    segments: DeviceArray | None
    starts: DeviceArray
    ends: DeviceArray
    tile_bounds: DeviceArray | None
    tiles: int
    listed: tuple[DeviceArray, DeviceArray] | None = None


def tiles_of(starts: Int64Array, ends: Int64Array) -> Int64Array:
    """Tiles before each piece, one entry more than pieces."""
    tiles = np.where(ends > starts, (ends - 1) // BLOCK_ROWS - starts // BLOCK_ROWS + 1, 0)
    return np.append(0, np.cumsum(tiles))


def pieces_of(
    driver: Driver, segments: Int64Array, starts: Int64Array, ends: Int64Array, *more: Int64Array, many_pieces: int
) -> tuple[DevicePieces, tuple[DeviceArray, ...]]:
    """Bring pieces to the device, and further arrays with them."""
    bounds = tiles_of(starts, ends)
    count, tiles = len(segments), int(bounds[-1])
    its_segments, its_starts, its_ends, tile_bounds, *others = upload(driver, segments, starts, ends, bounds, *more)
    is_by_tile = tiles > count and count < many_pieces
    pieces = DevicePieces(count, its_segments, its_starts, its_ends, tile_bounds if is_by_tile else None, tiles)
    return pieces, tuple(others)


def listed_pieces(
    driver: Driver, bounds: DeviceArray, rows: DeviceArray, segments: DeviceArray, *, many_pieces: int
) -> DevicePieces:
    """The places bounds[k] to bounds[k + 1] of a list as pieces."""
    count = len(bounds) - 1
    starts, ends = bounds.part(0, count), bounds.part(1, count + 1)
    counts, tile_bounds = allocate(driver, count), allocate(driver, count + 1)
    driver.launch("count_tiles", count, (starts, ends, count, counts))
    driver.prefix_sums(counts, tile_bounds)
    tiles = read_word(driver, tile_bounds, count)
    is_by_tile = tiles > count and count < many_pieces
    return DevicePieces(count, None, starts, ends, tile_bounds if is_by_tile else None, tiles, (rows, segments))


def accumulate(
    driver: Driver,
    columns: DeviceColumns,
    plan: DevicePlan,
    program: tuple[DeviceArray, ...],
    pieces: DevicePieces,
    target: DeviceArray | None,
    flags: DeviceArray,
) -> DeviceArray:
    """The table of partial results, [word, piece], in `target` if there is one. `program` is what `upload` returned."""
    width, count = plan.plan.width, pieces.count
    if target is None:
        target = allocate(driver, width * count)
    if count == 0:
        return target
    items = count if pieces.tile_bounds is None else pieces.tiles
    partials = target if pieces.tile_bounds is None else allocate(driver, width * items)
    words, *_, sections, primitives = program
    rows, segments = pieces.listed or (None, None)
    short_rows = SHORT_ROWS if pieces.tile_bounds is None else -1
    if short_rows >= 0:
        driver.launch(
            "aggregate_short", count,
            (columns.words, words, sections, len(plan.sections), primitives, pieces.segments, pieces.starts,
             pieces.ends, count, rows, segments, short_rows, partials, flags),
        )  # fmt: skip
    driver.launch(
        "aggregate_tiles", TEAM * items,
        (columns.words, words, sections, len(plan.sections), primitives, pieces.segments, pieces.starts, pieces.ends,
         count, pieces.tile_bounds, items, rows, segments, short_rows, partials, flags),
    )  # fmt: skip
    if pieces.tile_bounds is not None:
        fold(driver, plan, program, pieces.tile_bounds, partials, items, target)
    return target


def fold(
    driver: Driver,
    plan: DevicePlan,
    program: tuple[DeviceArray, ...],
    bounds: DeviceArray,
    partials: DeviceArray,
    parts: int,
    target: DeviceArray | None,
) -> DeviceArray:
    """Partial results of pieces from those of tiles, or of ranges from those of pieces, [word, whole].

    bounds: whole k is the parts bounds[k] to bounds[k + 1] (exclusive) of `parts`. target: where they go; None: anew.
    """
    wholes, count = len(bounds) - 1, len(plan.primitives)
    if target is None:
        target = allocate(driver, plan.plan.width * wholes)
    driver.launch("fold_parts", wholes * count, (program[-1], count, bounds, wholes, partials, parts, target))
    return target
