"""Arguments of window functions as kernels take them: per range of rows a device address, in place or of a copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Scan
from zeptodb.backends.cuda.accumulate import tiles_of
from zeptodb.backends.cuda.batch import ResultBuffer, upload_described
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.evaluate import Outputs, Rows
from zeptodb.backends.expression import ColumnRef, Expression, Kind
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

_IN_PLACE = frozenset({ColumnType.INT64, ColumnType.TIMESTAMP_NS, ColumnType.FLOAT64})


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    """One value per row, range by range.

    Attributes:
        words: how many ranges, whether values are int64, and the addresses of the tables in `kernels/window.cuh`.
        tile_bounds: tiles before each range, one entry more than ranges.
        lengths: rows of each range.
        ranges, tiles: how many.
        kept: what must live as long.
    """

    words: DeviceArray
    tile_bounds: DeviceArray
    lengths: Int64Array
    ranges: int
    tiles: int
    kept: object


def argument_of(
    driver: Driver,
    columns: DeviceColumns,
    scan: Scan,
    expression: Expression,
    rows: Rows,
    bounds: Int64Array,
    flags: DeviceArray,
) -> Argument:
    """The values of an expression, those of range r in the places bounds[r] to bounds[r + 1].

    A stored column of which every row is wanted is taken where it lies.
    """
    is_int = expression.kind is not Kind.FLOAT
    firsts = bounds[:-1]
    kept: object = None
    stored = _stored(scan, expression)
    if stored is not None:
        columns.require(scan.snapshot, (stored.index,))
        addresses, valid = columns.addresses_of(stored.index)
        segments, starts = scan.ranges.segments, scan.ranges.starts
        sources = addresses[segments] + 8 * starts
        validities = np.where(valid[segments] != 0, valid[segments] + starts, 0)
    else:
        buffer = ResultBuffer(driver)
        outputs = Outputs(buffer, scan.snapshot, (expression,), rows.total, has_missing=False, as_words=True)
        buffer.allocate()
        outputs.write(driver, columns, rows, flags)
        values, validity = outputs.arrays(0)
        kept = (values, validity)
        sources = values.address + 8 * firsts
        validities = np.zeros_like(firsts) if validity is None else validity.address + firsts
    lengths = np.diff(bounds)
    tile_bounds = tiles_of(np.zeros_like(lengths), lengths)
    words, *_, tile_bounds_there = upload_described(
        driver, [sources, validities, lengths, bounds, tile_bounds], len(firsts), int(is_int)
    )
    return Argument(words, tile_bounds_there, lengths, len(firsts), int(tile_bounds[-1]), kept)


def _stored(scan: Scan, expression: Expression) -> ColumnRef | None:
    """The expression as a stored column of words of which every row is wanted; None for everything else."""
    if scan.predicate is not None or not isinstance(expression, ColumnRef) or expression.type not in _IN_PLACE:
        return None
    return None if expression.index == scan.snapshot.schema.symbol_index else expression
