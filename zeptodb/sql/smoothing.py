"""Exponential moving averages of a table's rows, symbol by symbol, in the order of time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zeptodb.backends import control
from zeptodb.backends.base import Backend, Ranges, Scan, SelectScan
from zeptodb.backends.expression import ColumnRef
from zeptodb.storage.snapshot import Snapshot

Float64Array = npt.NDArray[np.float64]

_LARGEST_EXPONENT = 100.0


def ema_array(snapshot: Snapshot, ranges: Ranges, column: int, alpha: float, backend: Backend) -> pa.Array:
    """The averages of a column over each of the ranges, one after the other; NULL where the column is."""
    field = snapshot.schema.fields[column]
    (vector,) = backend.select(SelectScan(Scan(snapshot, ranges), (ColumnRef(column, field.type),)))
    values = vector.values.astype(np.float64, copy=False)
    result = np.empty(len(values), np.float64)
    start = 0
    for rows in (ranges.ends - ranges.starts).tolist():
        control.check()
        part = slice(start, start + rows)
        if vector.validity is None:
            result[part] = smoothed(values[part], alpha)
        else:
            valid = vector.validity[part]
            result[part][valid] = smoothed(values[part][valid], alpha)
        start += rows
    return pa.array(result, pa.float64(), mask=None if vector.validity is None else ~vector.validity)


def smoothed(values: Float64Array, alpha: float) -> Float64Array:
    """e_0 = x_0, e_i = alpha x_i + (1 - alpha) e_{i-1}.

    With d = 1 - alpha a block of rows is a running sum of alpha x_j / d^j times d^i, plus d^(i+1) times the last
    average before it. Blocks are short enough for d^-j to stay below e^100. Relative to the same sum of absolute
    values the error stays below 1e-12. From the first infinity or NaN on the average is that.
    """
    if alpha >= 1 or len(values) == 0:
        return values.astype(np.float64)
    finite = np.isfinite(values)
    odd = None
    if not finite.all():
        with np.errstate(invalid="ignore"):  # infinity less infinity
            odd = np.cumsum(np.where(finite, 0.0, values))
        values = np.where(finite, values, 0.0)
    decay = 1.0 - alpha
    rows = max(1, math.floor(_LARGEST_EXPONENT / -math.log1p(-alpha)))
    rows = min(rows, len(values))
    blocks = -(-len(values) // rows)
    terms = np.zeros(blocks * rows)
    np.multiply(values, alpha, out=terms[: len(values)])
    terms[0] = values[0]
    powers = decay ** np.arange(rows)
    table = terms.reshape(blocks, rows)
    table /= powers
    np.cumsum(table, axis=1, out=table)
    table *= powers
    carried = np.zeros(blocks)
    last, whole = 0.0, decay**rows
    for block, own in enumerate(table[:, -1].tolist()):
        carried[block] = last
        last = own + whole * last
    table += carried[:, None] * (powers * decay)
    result: Float64Array = terms[: len(values)]
    return result if odd is None else result + odd
