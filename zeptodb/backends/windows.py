"""What window functions have in common on every device: states and operations of aggregates, types of results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Vector, WindowFunction, WindowOp
from zeptodb.backends.expression import Expression, Kind, ToFloat
from zeptodb.backends.results import result_type
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

INTEGERS, FLOATS, SQUARES, GREATEST = range(4)
"""Families of states, as `cpu/rolling.py` and `kernels/rolling.cu` have them."""

SUM_INT_HIGH = 2
"""The operation that gives what of integer sums is above 64 bits."""

_SAMPLES = frozenset({WindowOp.VARIANCE_SAMP, WindowOp.STDDEV_SAMP})
_SQUARES = {
    WindowOp.VARIANCE_SAMP: 6,
    WindowOp.VARIANCE_POP: 7,
    WindowOp.STDDEV_SAMP: 8,
    WindowOp.STDDEV_POP: 9,
}


@dataclass(frozen=True, slots=True)
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


def recipe_of(function: WindowFunction) -> Recipe:
    """How to compute an aggregate of INT or FLOAT values."""
    op, is_float = function.op, function.argument.kind is Kind.FLOAT
    if op is WindowOp.COUNT:
        return Recipe(INTEGERS, 0, least=0)
    if op in _SQUARES:
        return Recipe(SQUARES, _SQUARES[op], least=2 if op in _SAMPLES else 1)
    if op in (WindowOp.MIN, WindowOp.MAX):
        return Recipe(GREATEST, 11 if is_float else 10, -1 if op is WindowOp.MIN else 0)
    operation = {WindowOp.SUM: (1, 4), WindowOp.AVG: (3, 5)}[op][is_float]
    return Recipe(FLOATS if is_float else INTEGERS, operation)


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
