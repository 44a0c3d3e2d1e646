"""What window functions have in common on every device: states and operations of aggregates, types of results.

The constants belong to the kernels of `cpu/rolling.py`, so that this file counts as a kernel source of `zeptodb.jit`;
`kernels/rolling.cu` has the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Vector, WindowFunction, WindowOp
from zeptodb.backends.expression import Expression, Kind, ToFloat
from zeptodb.backends.results import result_type
from zeptodb.record import record
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

INTEGERS = 0
FLOATS = 1
SQUARES = 2
GREATEST = 3
"""What a state of three words holds: values that are not NULL, and
INTEGERS: high and low half of their sum, which is high * 2^32 + low; FLOATS: their sum and what rounding took off;
SQUARES: their mean and the sum of squared deviations from it; GREATEST: the greatest of their keys."""

TILES = -1
COUNT = 0
SUM_INT = 1
SUM_INT_HIGH = 2
AVG_INT = 3
SUM_FLOAT = 4
AVG_FLOAT = 5
VARIANCE_SAMP = 6
VARIANCE_POP = 7
STDDEV_SAMP = 8
STDDEV_POP = 9
EXTREME_INT = 10
EXTREME_FLOAT = 11
"""What becomes of a state (TILES: it is kept): SUM_INT is the sum's lowest 64 bits, SUM_INT_HIGH those above."""


@record
class Recipe:
    """How kernels compute an aggregate of frames.

    Attributes:
        family: of states.
        operation: what becomes of a state.
        flip: -1 when the greatest key is to be that of the least value, else 0.
        least: values that a frame needs for its result not to be NULL.
    """

    family: int
    operation: int
    flip: int = 0
    least: int = 1


_SQUARES = {
    WindowOp.VARIANCE_SAMP: Recipe(SQUARES, VARIANCE_SAMP, least=2),
    WindowOp.VARIANCE_POP: Recipe(SQUARES, VARIANCE_POP),
    WindowOp.STDDEV_SAMP: Recipe(SQUARES, STDDEV_SAMP, least=2),
    WindowOp.STDDEV_POP: Recipe(SQUARES, STDDEV_POP),
}


def recipe_of(function: WindowFunction) -> Recipe:
    """How to compute an aggregate of INT or FLOAT values."""
    op, is_float = function.op, function.argument.kind is Kind.FLOAT
    if op is WindowOp.COUNT:
        return Recipe(INTEGERS, COUNT, least=0)
    if op in _SQUARES:
        return _SQUARES[op]
    if op in (WindowOp.MIN, WindowOp.MAX):
        return Recipe(GREATEST, EXTREME_FLOAT if is_float else EXTREME_INT, -1 if op is WindowOp.MIN else 0)
    if is_float:
        return Recipe(FLOATS, SUM_FLOAT if op is WindowOp.SUM else AVG_FLOAT)
    return Recipe(INTEGERS, SUM_INT if op is WindowOp.SUM else AVG_INT)


def without_idle(output: Expression | WindowFunction) -> Expression | WindowFunction:
    """An EMA that is its argument as that; others as they are."""
    if not isinstance(output, WindowFunction) or output.op is not WindowOp.EMA or output.alpha < 1:
        return output
    return ToFloat(output.argument) if output.argument.kind is Kind.INT else output.argument


def windowed(
    function: WindowFunction, bits: Int64Array, highs: Int64Array | None, validity: npt.NDArray[np.bool_] | None
) -> Vector:
    """The column of an aggregate from the words that kernels leave; with `highs` sums have 128 bits."""
    op = function.op
    if op is WindowOp.COUNT:
        return Vector(bits, validity, ColumnType.INT64)
    if highs is not None:
        exact = (highs.astype(object) << 64) + bits.view(np.uint64).astype(object)
        return Vector(exact, validity, ColumnType.HUGEINT)
    if op is WindowOp.SUM and function.argument.kind is Kind.INT:
        return Vector(bits, validity, ColumnType.INT64)
    if op not in (WindowOp.MIN, WindowOp.MAX):
        return Vector(bits.view(np.float64), validity, ColumnType.FLOAT64)
    kind = result_type(function.argument)
    values = bits.view(np.float64) if function.argument.kind is Kind.FLOAT else bits
    return Vector(values.astype(kind.dtype, copy=False), validity, kind)
