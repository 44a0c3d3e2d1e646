"""Sorts result columns as DuckDB does: NaN above all numbers, strings by code point, NULLs where the key says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Vector
from zeptodb.storage.dictionary import Dictionary
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]
Values = npt.NDArray[Any]

_WORTHWHILE = 4
"""Only if fewer than one row in this many is wanted does it pay to look for candidates before sorting."""


class SortKey(NamedTuple):
    """One column to sort by; `dictionary` holds the strings of STRING codes."""

    vector: Vector
    dictionary: Dictionary | None
    is_descending: bool
    nulls_first: bool


def sort_order(keys: Sequence[SortKey], rows: int, *, limit: int | None = None) -> Int64Array:
    """Row numbers in ascending order of the keys, the first one weighing most; equal rows keep their order.

    limit: how many of them are wanted at most (None: all).
    """
    parts = [part for key in reversed(keys) for part in _parts(key)]
    order = _candidates(parts[-1], limit) if parts else np.arange(rows, dtype=np.int64)
    for part in parts:
        order = order[np.argsort(part[order], kind="stable")]
    return order if limit is None else order[:limit]


def _candidates(part: Values, limit: int | None) -> Int64Array:
    """The rows, in order, that can be among the first `limit` by the array that weighs most."""
    rows = len(part)
    if limit is None or limit == 0 or limit * _WORTHWHILE > rows or part.dtype == object:
        return np.arange(rows, dtype=np.int64)
    threshold = np.partition(part, limit - 1)[limit - 1]
    return np.flatnonzero(part <= threshold)


def _parts(key: SortKey) -> list[Values]:
    """Arrays to sort by one after the other, the least significant first, all ascending."""
    values = _ascending(key)
    parts: list[Values] = []
    if values.dtype.kind == "f":
        is_nan = np.isnan(values)
        numbers = np.where(is_nan, 0.0, values)
        parts = [-numbers, ~is_nan] if key.is_descending else [numbers, is_nan]
        parts = parts if is_nan.any() else parts[:1]
    elif key.is_descending:
        parts = [-values if values.dtype == object else ~values]  # ~x is -x - 1: it reverses without overflow
    else:
        parts = [values]
    validity = key.vector.validity
    if validity is not None:
        parts = [np.where(validity, part, part.dtype.type(0)) if part.dtype != object else part for part in parts]
        parts.append(validity if key.nulls_first else ~validity)
    return parts


def _ascending(key: SortKey) -> Values:
    """The values as numbers that compare as they should; NULLs hold anything comparable."""
    values = key.vector.values
    if key.vector.type is ColumnType.STRING:
        return _ranks(values, key.dictionary)
    if key.vector.type is ColumnType.BOOL:
        return values.astype(np.int8)
    if values.dtype == object and key.vector.validity is not None:
        return np.where(key.vector.validity, values, 0)
    return values


def _ranks(codes: Values, dictionary: Dictionary | None) -> Int64Array:
    """The place of each code's string among the strings that occur."""
    if dictionary is None:
        raise AssertionError("a STRING key came without its dictionary")
    distinct, inverse = np.unique(codes, return_inverse=True)
    known = len(dictionary.values)  # NULL has any code, also one that no string has
    strings = [dictionary.values[code] if 0 <= code < known else "" for code in distinct.tolist()]
    rank = np.empty(len(distinct), np.int64)
    rank[sorted(range(len(strings)), key=strings.__getitem__)] = np.arange(len(strings))
    return rank[inverse]
