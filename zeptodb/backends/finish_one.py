"""The last step of aggregation for one group, in plain Python: numpy takes several times longer for single values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Aggregate, AggregateOp, Vector
from zeptodb.backends.expression import Kind
from zeptodb.backends.results import result_type
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType

Int64Array = npt.NDArray[np.int64]

_NO_ENDS: Mapping[int, Vector] = MappingProxyType({})
_NULL = np.zeros(1, dtype=np.bool_)
_NULL.flags.writeable = False


class _Words:
    """The words of the group."""

    def __init__(self, words: Int64Array) -> None:
        self.ints: list[int] = words.tolist()
        self.float: Callable[[int], float] = words.view(np.float64).item

    def sum(self, slot: int, *, is_float: bool) -> int | float:
        """An exact integer sum, or a compensated one."""
        if not is_float:
            return (self.ints[slot] << 32) + self.ints[slot + 1]
        total = self.float(slot)
        return total + self.float(slot + 1) if math.isfinite(total) else total


_OPS = frozenset(
    {
        AggregateOp.COUNT_ROWS, AggregateOp.COUNT, AggregateOp.SUM, AggregateOp.AVG, AggregateOp.MIN, AggregateOp.MAX,
        AggregateOp.VWAP, AggregateOp.FIRST, AggregateOp.LAST,
    }
)  # fmt: skip


def can_finish_one(items: tuple[Aggregate, ...]) -> bool:
    """Whether `finish_one` knows all of these aggregates."""
    return all(item.op in _OPS for item in items)


def finish_one(
    words: Int64Array,
    slots: tuple[tuple[int, ...], ...],
    items: tuple[Aggregate, ...],
    *,
    ends: Mapping[int, Vector] = _NO_ENDS,
) -> tuple[Vector, ...]:
    """The columns of one group, as FINISHERS makes them; `ends` are those of FIRST and LAST, by place."""
    group = _Words(words)
    if not ends:
        return tuple([_finish(group, first, item) for first, item in zip(slots, items, strict=True)])
    return tuple(ends[k] if k in ends else _finish(group, slots[k], item) for k, item in enumerate(items))


def _finish(group: _Words, slots: tuple[int, ...], item: Aggregate) -> Vector:
    slot, op = slots[0], item.op
    if op is AggregateOp.COUNT_ROWS or op is AggregateOp.COUNT:
        return _vector(group.ints[slot], ColumnType.INT64)
    rows, is_float = group.ints[slot + 2], item.arguments[-1].kind is Kind.FLOAT
    if op is AggregateOp.VWAP:
        volume = float(group.sum(slots[1], is_float=is_float))
        if rows == 0 or volume == 0:
            return _vector(0.0, ColumnType.FLOAT64, is_null=True)
        return _vector(group.sum(slot, is_float=True) / volume, ColumnType.FLOAT64)
    if op is AggregateOp.AVG:
        total = float(group.sum(slot, is_float=is_float))  # rounded once, then divided, as for many groups
        return _vector(total / max(rows, 1), ColumnType.FLOAT64, is_null=rows == 0)
    if op is AggregateOp.SUM:
        total = group.sum(slot, is_float=is_float)
        if is_float:
            return _vector(total, ColumnType.FLOAT64, is_null=rows == 0)
        is_wide = not INT64_MIN <= total <= INT64_MAX
        return _vector(total, ColumnType.HUGEINT if is_wide else ColumnType.INT64, is_null=rows == 0)
    place = slot + (op is AggregateOp.MAX)
    value = 0 if not rows else group.float(place) if is_float else group.ints[place]
    return _vector(value, result_type(item.arguments[0]), is_null=rows == 0)


def _vector(value: float, kind: ColumnType, *, is_null: bool = False) -> Vector:
    return Vector(np.array([value], dtype=kind.dtype), _NULL if is_null else None, kind)
