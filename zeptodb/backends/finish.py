"""The last step of aggregation: accumulated words of all groups into result columns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from zeptodb.backends import reused
from zeptodb.backends.base import Aggregate, AggregateOp, Vector
from zeptodb.backends.expression import Kind
from zeptodb.backends.pieces import as_words
from zeptodb.backends.results import result_type
from zeptodb.jit import kernel
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]


@kernel
def _add_halves(high: Int64Array, low: Int64Array, total: Int64Array) -> int:
    """total = high * 2^32 + low, wrapped to int64; how often that does not fit."""
    misfits = 0
    for i in range(total.shape[0]):
        carried = high[i] + (low[i] >> 32)
        total[i] = (carried << 32) | (low[i] & 0xFFFFFFFF)
        misfits += 1 if (carried < -(2**31)) | (carried >= 2**31) else 0
    return misfits


@kernel
def _add_compensations(total: Float64Array, compensation: Float64Array, exact: Float64Array) -> None:
    """Add to sums what rounding took off; what is off an infinite or NaN sum means nothing."""
    for i in range(total.shape[0]):
        exact[i] = total[i] + (compensation[i] if abs(total[i]) < np.inf else 0.0)


@kernel
def _divide(products: Float64Array, volumes: Float64Array, rows: Int64Array, prices: Float64Array) -> int:
    """Divide by the volume, by 1 where there is none or there are no rows; how often that is so."""
    without = 0
    for i in range(products.shape[0]):
        is_valid = (rows[i] > 0) & (volumes[i] != 0.0)
        prices[i] = products[i] / (volumes[i] if is_valid else 1.0)
        without += 0 if is_valid else 1
    return without


@kernel
def _least(values: Int64Array) -> int:
    """The least of one or more values, at once for many columns of few groups."""
    least: int = values[0]
    for i in range(values.shape[0]):
        least = min(least, values[i])
    return least


def all_above(values: Int64Array, bound: int) -> bool:
    """Whether all values are greater than `bound`."""
    return len(values) == 0 or _least(as_words(values)) > bound


class Groups:
    """The words of every group, [slot, group]."""

    def __init__(self, words: Int64Array) -> None:
        self._words = words

    def ints(self, slot: int) -> Int64Array:
        """One word of every group."""
        word: Int64Array = self._words[slot]
        return word

    def floats(self, slot: int) -> Float64Array:
        """One word of every group, as the float64 that it holds."""
        return np.ascontiguousarray(self._words[slot]).view(np.float64)

    def float_sum(self, slot: int) -> Float64Array:
        """A compensated sum."""
        total, compensation = self.floats(slot), self.floats(slot + 1)
        exact = reused.empty(len(total), np.float64)
        _add_compensations(total, compensation, exact)
        return exact

    def int_sum(self, slot: int) -> tuple[Int64Array, npt.NDArray[np.bool_] | None]:
        """An exact integer sum, wrapped to int64, and where it does not fit; None: it fits everywhere."""
        high, low = as_words(self.ints(slot)), as_words(self.ints(slot + 1))
        total = reused.empty(len(high), np.int64)
        if _add_halves(high, low, total) == 0:
            return total, None
        high = high + (low >> 32)
        return total, (high < -(2**31)) | (high >= 2**31)

    def int_sum_as_float(self, slot: int) -> Float64Array:
        """An exact integer sum, rounded once."""
        total, is_wide = self.int_sum(slot)
        rounded = total.astype(np.float64)
        for group in [] if is_wide is None else np.flatnonzero(is_wide).tolist():
            rounded[group] = float(self.wide_sum(slot, group))
        return rounded

    def wide_sum(self, slot: int, group: int) -> int:
        """The exact integer sum of one group."""
        return (int(self.ints(slot)[group]) << 32) + int(self.ints(slot + 1)[group])


def _with_nulls(values: npt.NDArray[np.generic], rows: Int64Array, kind: ColumnType) -> Vector:
    """A column that is NULL where there are no `rows`."""
    return Vector(values, None if all_above(rows, 0) else rows > 0, kind)


def _is_float(item: Aggregate) -> bool:
    return item.arguments[0].kind is Kind.FLOAT


def _counts(groups: Groups, slots: tuple[int, ...], item: Aggregate) -> Vector:  # noqa: ARG001
    return Vector(groups.ints(slots[0]), None, ColumnType.INT64)


def _sum(groups: Groups, slots: tuple[int, ...], item: Aggregate) -> Vector:
    (slot,) = slots
    rows = groups.ints(slot + 2)
    if _is_float(item):
        return _with_nulls(groups.float_sum(slot), rows, ColumnType.FLOAT64)
    total, is_wide = groups.int_sum(slot)
    if is_wide is None:
        return _with_nulls(total, rows, ColumnType.INT64)
    exact = np.empty(len(total), dtype=object)
    exact[:] = [groups.wide_sum(slot, group) for group in range(len(total))]
    return _with_nulls(exact, rows, ColumnType.HUGEINT)


def _average(groups: Groups, slots: tuple[int, ...], item: Aggregate) -> Vector:
    (slot,) = slots
    rows = groups.ints(slot + 2)
    total = groups.float_sum(slot) if _is_float(item) else groups.int_sum_as_float(slot)
    return _with_nulls(total / np.maximum(rows, 1), rows, ColumnType.FLOAT64)


def _extreme(offset: int) -> Callable[[Groups, tuple[int, ...], Aggregate], Vector]:
    def finish(groups: Groups, slots: tuple[int, ...], item: Aggregate) -> Vector:
        (slot,) = slots
        kind = result_type(item.arguments[0])
        found: npt.NDArray[np.generic]
        found = groups.floats(slot + offset) if _is_float(item) else groups.ints(slot + offset)
        rows = groups.ints(slot + 2)
        if found.dtype != kind.dtype:
            found = np.where(rows > 0, found, 0).astype(kind.dtype)
        return _with_nulls(found, rows, kind)

    return finish


def _vwap(groups: Groups, slots: tuple[int, ...], item: Aggregate) -> Vector:
    products, volumes = slots
    has_float_volume = item.arguments[1].kind is Kind.FLOAT
    volume = groups.float_sum(volumes) if has_float_volume else groups.int_sum_as_float(volumes)
    rows, price = as_words(groups.ints(products + 2)), reused.empty(len(volume), np.float64)
    without = _divide(groups.float_sum(products), volume, rows, price)
    return Vector(price, None if without == 0 else (rows > 0) & (volume != 0), ColumnType.FLOAT64)


def _variance(*, is_sample: bool, is_root: bool) -> Callable[[Groups, tuple[int, ...], Aggregate], Vector]:
    def finish(groups: Groups, slots: tuple[int, ...], item: Aggregate) -> Vector:  # noqa: ARG001
        (slot,) = slots
        rows = groups.ints(slot + 5)
        freedom = rows - 1 if is_sample else rows
        squares = np.maximum(groups.float_sum(slot + 3), 0.0)
        variance = squares / np.maximum(freedom, 1)
        return _with_nulls(np.sqrt(variance) if is_root else variance, freedom, ColumnType.FLOAT64)

    return finish


FINISHERS: dict[AggregateOp, Callable[[Groups, tuple[int, ...], Aggregate], Vector]] = {
    AggregateOp.COUNT_ROWS: _counts,
    AggregateOp.COUNT: _counts,
    AggregateOp.SUM: _sum,
    AggregateOp.AVG: _average,
    AggregateOp.MIN: _extreme(0),
    AggregateOp.MAX: _extreme(1),
    AggregateOp.VWAP: _vwap,
    AggregateOp.VARIANCE_SAMP: _variance(is_sample=True, is_root=False),
    AggregateOp.VARIANCE_POP: _variance(is_sample=False, is_root=False),
    AggregateOp.STDDEV_SAMP: _variance(is_sample=True, is_root=True),
    AggregateOp.STDDEV_POP: _variance(is_sample=False, is_root=True),
}
"""(groups, first slots of its primitives, aggregate) -> column; FIRST and LAST are read from the rows instead."""
