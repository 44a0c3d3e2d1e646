"""Comparison of results with lists of Python values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from zeptodb.backends.base import Vector


def to_list(vector: Vector) -> list[Any]:
    """Python values, None for NULL."""
    values = vector.values.tolist()
    if vector.validity is None:
        return values
    return [v if ok else None for v, ok in zip(values, vector.validity.tolist(), strict=True)]


def is_close(actual: Any, expected: Any, *, scale: float = 0.0) -> bool:
    """Equal; floats within 1e-12 of the greater of their size and `scale`."""
    if actual is None or expected is None:
        return actual is expected
    if isinstance(expected, int):
        return type(actual) is type(expected) and actual == expected
    if math.isnan(expected):
        return isinstance(actual, float) and math.isnan(actual)
    if math.isinf(expected):
        return bool(actual == expected)
    return abs(actual - expected) <= 1e-12 * max(abs(expected), scale)


def assert_columns(
    actual: Sequence[Vector], expected: Sequence[Sequence[Any]], scales: Sequence[Sequence[float]] | None = None
) -> None:
    """Every column has the expected values, in order."""
    assert len(actual) == len(expected)
    for k, (vector, values) in enumerate(zip(actual, expected, strict=True)):
        found = to_list(vector)
        assert len(found) == len(values), f"column {k}: {len(found)} rows, expected {len(values)}"
        sizes = [0.0] * len(values) if scales is None else scales[k]
        for i, (one, other, size) in enumerate(zip(found, values, sizes, strict=True)):
            assert is_close(one, other, scale=size), f"column {k}, row {i}: {one!r}, expected {other!r}"
