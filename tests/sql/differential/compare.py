"""Whether two results are the same: names, types, values and, where it is decided, order."""

from __future__ import annotations

import math
from typing import Any

from zeptodb.sql.result import QueryResult

RELATIVE = 1e-9


def scale_of(host: Any) -> float:
    """The sum of the absolute values of all numbers that sums of floats can be made of."""
    (found,) = host.oracle.sql(
        "SELECT 1 + (SELECT coalesce(sum(abs(price)) FILTER (WHERE NOT isnan(price)), 0) FROM ticks) * 500"
    ).fetchall()
    return float(found[0])


def same(left: Any, right: Any, scale: float) -> bool:
    """Equal; floats to 1e-9 of the larger one or of the sum of absolute terms."""
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return math.isclose(left, right, rel_tol=RELATIVE, abs_tol=RELATIVE * scale)
    return type(left) is type(right) and bool(left == right)


def difference(result: QueryResult, truth: QueryResult, *, is_ordered: bool, scale: float) -> str:
    """What differs; "" for nothing."""
    if result.column_names != truth.column_names:
        return f"names {result.column_names} are not {truth.column_names}"
    types = [[str(t) for t in answer.to_arrow().schema.types] for answer in (result, truth)]
    if types[0] != types[1]:
        return f"types {types[0]} are not {types[1]}"
    left, right = result.rows, truth.rows
    if len(left) != len(right):
        return f"{len(left)} rows are not {len(right)}"
    if not is_ordered:
        left, right = sorted(left, key=_sort_key), sorted(right, key=_sort_key)
    for a, b in zip(left, right, strict=True):
        if not all(same(x, y, scale) for x, y in zip(a, b, strict=True)):
            return f"{a} is not {b}"
    return ""


def _sort_key(row: list[Any]) -> tuple[Any, ...]:
    """Other values before floats, these rounded, so that rows that are the same within the tolerance meet."""
    exact = tuple((v is None, str(v)) for v in row if not isinstance(v, float))
    return exact, tuple(_place(v) for v in row)


def _place(value: Any) -> tuple[int, float]:
    if not isinstance(value, float):
        return 0, 0.0
    return (2, 0.0) if math.isnan(value) else (1, value if math.isinf(value) else round(value, 5))
