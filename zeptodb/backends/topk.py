"""TopScan by means of other operators: the extremes of ranges tell which of them to look at, and from which key on.

When k ranges hold a row at least as good as some bound, no row worse than the bound can be among the first k. So the
extremes are asked for by symbol first, which summaries may know, then of short pieces of the symbols that are left, by
the kernels of aggregation; only what reaches the bound is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateResult,
    AggregateScan,
    Ranges,
    Scan,
    SelectScan,
    TooManyRowsError,
    TopScan,
    Vector,
)
from zeptodb.backends.expression import Comparison, ComparisonOp, Constant, Expression, IsNull, Logical, Not
from zeptodb.backends.program import BLOCK_ROWS, may_be_null
from zeptodb.backends.results import nullable_columns
from zeptodb.record import record

Int64Array = npt.NDArray[np.int64]

_FEW_ROWS = 1 << 18
"""So many rows are looked at again without narrowing them down further."""

_PIECES_PER_ROW = 4
"""How many pieces there should be for each row that is wanted."""

_PIECE_ROWS = (16 * BLOCK_ROWS, 4 * BLOCK_ROWS, BLOCK_ROWS)
"""Lengths of pieces, the longest that gives enough of them being taken."""


@record
class Operators:
    """What a backend does it with.

    Attributes:
        aggregate: runs an AggregateScan whose ranges may hold a segment repeatedly.
        summarized: likewise of whole ranges of segments, from what the backend may know of them.
        select: runs a SelectScan.
    """

    aggregate: Callable[[AggregateScan], AggregateResult]
    summarized: Callable[[AggregateScan], AggregateResult]
    select: Callable[[SelectScan], tuple[Vector, ...]]


def top(operators: Operators, operation: TopScan) -> tuple[Vector, ...]:
    """Run a TopScan; one Vector per output."""
    search = _Search(operators, operation)
    if not may_be_null(operation.key, nullable_columns(operation.scan.snapshot)):
        return search.values(operation.scan, operation.limit)
    nulls = search.rows(operation.scan, IsNull(operation.key), operation.limit if operation.is_only_key else None)
    not_null = _where(operation.scan, Not(IsNull(operation.key)))
    if operation.nulls_first:
        return _joined(nulls, search.values(not_null, max(0, operation.limit - len(nulls[0].values))))
    found = search.values(not_null, operation.limit)
    return found if len(found[0].values) >= operation.limit else _joined(found, nulls)


@record
class _Bound:
    """A key that at least as many rows reach as are wanted.

    Attributes:
        key: the key.
        better, reaching: ranges that may hold a row better than it, or at least as good.
    """

    key: int | float
    better: Ranges
    reaching: Ranges


@record
class _Search:
    """Finds the first rows of one TopScan."""

    operators: Operators
    operation: TopScan

    def values(self, scan: Scan, limit: int) -> tuple[Vector, ...]:
        """Those of rows whose key is not NULL, the first `limit`."""
        if limit == 0:
            return self.rows(scan, None, 0)
        scan = replace(scan, ranges=_occupied(scan.ranges))
        bound = self._bound(scan, limit, self.operators.summarized)
        if bound is None or (bound.better if self.operation.is_only_key else bound.reaching).rows > _FEW_ROWS:
            if bound is not None:
                scan = replace(scan, ranges=bound.reaching)
            scan = replace(scan, ranges=_cut(scan.ranges, limit))
            bound = self._bound(scan, limit, self.operators.aggregate)
        if bound is None:
            return self.rows(scan, None, None)
        is_descending, key = self.operation.is_descending, self.operation.key
        value = Constant(bound.key, key.kind)
        if not self.operation.is_only_key:
            within: ComparisonOp = ">=" if is_descending else "<="
            return self.rows(replace(scan, ranges=bound.reaching), Comparison(within, key, value), None)
        beyond: ComparisonOp = ">" if is_descending else "<"
        return _joined(
            self.rows(replace(scan, ranges=bound.better), Comparison(beyond, key, value), None),
            self.rows(replace(scan, ranges=bound.reaching), Comparison("=", key, value), limit),
        )

    def rows(self, scan: Scan, condition: Expression | None, limit: int | None) -> tuple[Vector, ...]:
        """The outputs of a scan's rows; raises TooManyRowsError when there are more than `max_rows`."""
        operation = self.operation
        most = operation.max_rows + 1 if limit is None else limit
        found = self.operators.select(SelectScan(_where(scan, condition), operation.outputs, limit=most))
        if len(found[0].values) > operation.max_rows:
            raise TooManyRowsError(f"More than {operation.max_rows:,} rows may come first.")
        return found

    def _bound(self, scan: Scan, limit: int, aggregate: Callable[[AggregateScan], AggregateResult]) -> _Bound | None:
        """A bound from the best key of each range; None when no more ranges than rows wanted have one."""
        if len(scan.ranges.segments) <= limit:
            return None
        op = AggregateOp.MAX if self.operation.is_descending else AggregateOp.MIN
        # As a condition of the aggregate the predicate leaves every range in the result.
        item = Aggregate(op, (self.operation.key,), scan.predicate)
        whole = AggregateScan(Scan(scan.snapshot, scan.ranges), (item,), by_symbol=True)
        (best,) = aggregate(whole).columns
        chosen = np.arange(len(best.values)) if best.validity is None else np.flatnonzero(best.validity)
        if len(chosen) <= limit:
            return None
        values = best.values[chosen]
        ranks = _ranks(values, is_descending=self.operation.is_descending)
        last = int(np.argpartition(ranks, limit - 1)[limit - 1])
        better, reaching = chosen[ranks < ranks[last]], chosen[ranks <= ranks[last]]
        return _Bound(values[last].item(), _taken(scan.ranges, better), _taken(scan.ranges, reaching))


def _occupied(ranges: Ranges) -> Ranges:
    return _taken(ranges, np.flatnonzero(ranges.ends > ranges.starts))


def _cut(ranges: Ranges, limit: int) -> Ranges:
    """The ranges in pieces, in order, enough of them if possible; a piece is no range of its own elsewhere."""
    wanted = _PIECES_PER_ROW * limit
    length = next((n for n in _PIECE_ROWS if ranges.rows // n >= wanted), _PIECE_ROWS[-1])
    counts = np.maximum(-(-(ranges.ends - ranges.starts) // length), 0)
    owners = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    steps = np.arange(len(owners), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = ranges.starts[owners] + steps * length
    return Ranges(ranges.segments[owners], starts, np.minimum(starts + length, ranges.ends[owners]))


def _ranks(values: npt.NDArray[np.generic], *, is_descending: bool) -> Int64Array:
    """Integers that ascend from the best value on; NaN counts as the greatest, -0.0 as 0.0."""
    if values.dtype.kind == "f":
        numbers = values.astype(np.float64) + 0.0
        bits = np.where(np.isnan(numbers), np.nan, numbers).view(np.int64)
        ascending = np.where(bits < 0, ~bits ^ np.int64(-(2**63)), bits)
        ascending = np.where(np.isnan(numbers), np.int64(2**63 - 1), ascending)
    else:
        ascending = values.astype(np.int64)
    return ~ascending if is_descending else ascending


def _taken(pieces: Ranges, chosen: Int64Array) -> Ranges:
    return Ranges(pieces.segments[chosen], pieces.starts[chosen], pieces.ends[chosen])


def _where(scan: Scan, condition: Expression | None) -> Scan:
    if condition is None:
        return scan
    predicate = condition if scan.predicate is None else Logical("and", scan.predicate, condition)
    return replace(scan, predicate=predicate)


def _joined(first: tuple[Vector, ...], second: tuple[Vector, ...]) -> tuple[Vector, ...]:
    return tuple(_concatenated(a, b) for a, b in zip(first, second, strict=True))


def _concatenated(first: Vector, second: Vector) -> Vector:
    validity = None
    if first.validity is not None or second.validity is not None:
        masks = (np.ones(len(v.values), np.bool_) if v.validity is None else v.validity for v in (first, second))
        validity = np.concatenate(list(masks))
    return Vector(np.concatenate([first.values, second.values]), validity, first.type)
