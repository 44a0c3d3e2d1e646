"""Arguments of window functions as kernels take them: per range of rows an address, in place or of a copy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Scan, Vector
from zeptodb.backends.cpu.columns import address_of
from zeptodb.backends.expression import ColumnRef, Expression, Kind
from zeptodb.record import record
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

_IN_PLACE = frozenset({ColumnType.INT64, ColumnType.TIMESTAMP_NS, ColumnType.FLOAT64})


@record
class Argument:
    """One value per row, range by range.

    Attributes:
        sources: per range the address of its first value, an int64 with `is_int`, else a float64.
        validities: per range the address of its first validity byte; 0: nothing is NULL.
        lengths: rows of each range.
        bounds: rows before each range, one entry more than ranges.
        is_int: of which type values are.
        validity: of all rows, True where there is a value; None: nothing is NULL.
        kept: what must live as long.
    """

    sources: Int64Array
    validities: Int64Array
    lengths: Int64Array
    bounds: Int64Array
    is_int: bool
    validity: npt.NDArray[np.bool_] | None = None
    kept: object = None


def in_place(scan: Scan, expression: Expression) -> Argument | None:
    """A stored column without NULLs of which every row is wanted, where it lies; None for everything else."""
    snapshot, ranges = scan.snapshot, scan.ranges
    if scan.predicate is not None or not isinstance(expression, ColumnRef) or expression.type not in _IN_PLACE:
        return None
    if expression.index == snapshot.schema.symbol_index:
        return None
    if snapshot.validity[expression.index][ranges.segments].any():
        return None
    sources = snapshot.addresses[expression.index][ranges.segments] + 8 * ranges.starts
    lengths = ranges.ends - ranges.starts
    bounds = np.append(0, np.cumsum(lengths))
    return Argument(sources, np.zeros_like(sources), lengths, bounds, expression.kind is Kind.INT)


def of_vector(vector: Vector, bounds: Int64Array) -> Argument:
    """Computed values, those of range r in the places bounds[r] to bounds[r + 1]."""
    is_int = not vector.type.is_float
    values = np.ascontiguousarray(vector.values, dtype=np.int64 if is_int else np.float64)
    firsts = bounds[:-1]
    validities = np.zeros(len(firsts), dtype=np.int64)
    if vector.validity is not None:
        validities = address_of(vector.validity) + firsts
    sources = address_of(values) + 8 * firsts
    return Argument(sources, validities, np.diff(bounds), bounds, is_int, vector.validity, values)
