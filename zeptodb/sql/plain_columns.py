"""Columns of native answers as plain Python values and numpy arrays: small answers need neither Arrow nor pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Vector
from zeptodb.storage.dictionary import Dictionary
from zeptodb.types import ColumnType


def python_values(vector: Vector, dictionary: Dictionary | None) -> list[Any]:
    """The column as plain Python values: exact ints, strings decoded, timestamps int ns, None for NULL."""
    values: list[Any] = vector.values.tolist()
    if vector.type is ColumnType.STRING:
        if dictionary is None:
            raise AssertionError("a STRING vector came without its dictionary")
        strings = dictionary.values
        known = len(strings)  # NULL has any code, also one that no string has
        values = [strings[code] if 0 <= code < known else None for code in values]
    elif vector.type is ColumnType.HUGEINT:
        values = [int(value) for value in values]
    if vector.validity is None:
        return values
    return [value if is_valid else None for value, is_valid in zip(values, vector.validity.tolist(), strict=True)]


def numpy_values(vector: Vector) -> npt.NDArray[np.generic] | None:
    """The column as an array over the same memory; None for strings, HUGEINT and columns with NULL, which need more."""
    if vector.validity is not None or vector.type in (ColumnType.STRING, ColumnType.HUGEINT):
        return None
    return vector.values.view()


def distinct_names(names: list[str]) -> list[str]:
    """The names with a counter appended to repeated ones, as DuckDB does for DataFrames: a, a_1, a_2.

    >>> distinct_names(["a", "a", "a_1"])
    ['a', 'a_2', 'a_1']
    """
    taken = set(names)
    seen: set[str] = set()
    result = []
    for name in names:
        unique, counter = name, 0
        while unique in seen or (counter and unique in taken):
            counter += 1
            unique = f"{name}_{counter}"
        seen.add(unique)
        result.append(unique)
    return result
