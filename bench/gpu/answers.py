"""Answers of different engines, as plain columns, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import AggregateResult, Vector
from zeptodb.errors import ZeptoError

Columns = tuple[npt.NDArray[np.generic], ...]

FLOAT_TOLERANCE = 1e-9


class AnswersDifferError(ZeptoError):
    """Two engines gave different answers, so that their times mean nothing."""


def columns_of(result: AggregateResult | Sequence[Vector]) -> Columns:
    """Segments, buckets and keys if there are any, then the values; NULL as 0, which no column of ours holds."""
    if not isinstance(result, AggregateResult):
        return tuple(_values(vector) for vector in result)
    places = tuple(array for array in (result.segments, result.buckets) if array is not None)
    return (*places, *(_values(vector) for vector in (*result.keys, *result.columns)))


def _values(vector: Vector) -> npt.NDArray[np.generic]:
    return vector.values if vector.validity is None else np.where(vector.validity, vector.values, 0)


def require_equal(ours: Columns, theirs: Columns, *, who: str) -> None:
    """Raise AnswersDifferError unless both have the same rows in the same order; floats within 1e-9 of each other."""
    if len(ours) != len(theirs):
        raise AnswersDifferError(f"{who}: {len(theirs)} columns, expected {len(ours)}")
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if len(one) != len(other):
            raise AnswersDifferError(f"{who}: column {number} has {len(other):,} rows, expected {len(one):,}")
        unequal = _unequal(one, other)
        if unequal.any():
            row = int(np.argmax(unequal))
            raise AnswersDifferError(f"{who}: column {number}, row {row:,} is {other[row]!r}, expected {one[row]!r}")


def _unequal(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    if "O" in one.dtype.kind + other.dtype.kind:
        return np.array([int(a) != int(b) for a, b in zip(one, other, strict=True)], dtype=np.bool_)
    if "f" not in one.dtype.kind + other.dtype.kind:
        return np.asarray(one != other)
    a, b = one.astype(np.float64), other.astype(np.float64)
    return ~((np.abs(a - b) <= FLOAT_TOLERANCE * np.abs(a)) | (np.isnan(a) & np.isnan(b)))
