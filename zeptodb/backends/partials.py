"""Partial results of pieces into the answer of an AggregateScan, whoever made them: the CPU, a device, summaries."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends import reused
from zeptodb.backends.base import AggregateResult, AggregateScan, Ranges, Scan, Vector
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.backends.finish import FINISHERS, Groups, all_above
from zeptodb.backends.finish_one import can_finish_one, finish_one
from zeptodb.backends.pieces import PIECE_ROWS, Pieces, as_words, cut
from zeptodb.backends.primitives import FIRST, Plan
from zeptodb.backends.results import result_type
from zeptodb.backends.states import combine
from zeptodb.backends.summaries import Accumulate, Summaries, SummarizedPlan
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]


ValuesAt = Callable[[Int64Array, Int64Array, tuple[Expression, ...]], tuple[Vector, ...]]
"""(segments, rows, expressions) -> their values in single rows; NULL where the row is -1, whatever the segment."""

_NO_MORSELS = np.zeros(1, dtype=np.int64)
_NO_TIMES = np.empty((0, 0), dtype=np.int64)
_NOTHING_TAKEN: Mapping[int, Int64Array] = MappingProxyType({})


class Bars(NamedTuple):
    """Ranges of rows with one bucket each, in the order of the given ranges and of time.

    Attributes:
        segments: per bar the segment that it lies in.
        starts, ends: its rows.
        buckets: start of its bucket in ns.
    """

    segments: Int64Array
    starts: Int64Array
    ends: Int64Array
    buckets: Int64Array


Cut = Callable[[Ranges | Bars], Pieces]
"""ranges -> pieces"""


class Layout(NamedTuple):
    """How partial results, one per piece, make ranges, and ranges groups.

    Attributes:
        pieces: what to accumulate.
        bounds: range r is the pieces bounds[r] to bounds[r + 1] (exclusive); None when each range is one piece.
        segments: of each range.
        order, group_bounds: group g is the ranges order[group_bounds[g]:group_bounds[g + 1]], in several segments, so
            that time decides what is first; None when each range is a group.
        owners: per group its segment, with by_symbol.
        buckets: per group, with a bucket.
    """

    pieces: Pieces
    bounds: Int64Array | None
    segments: Int64Array
    order: Int64Array | None
    group_bounds: Int64Array | None
    owners: Int64Array | None
    buckets: Int64Array | None


def pieces_of(ranges: Ranges | Bars) -> Pieces:
    """The pieces of ranges; those that may serve several queries, more than one range, keep them."""
    if isinstance(ranges, Bars) or len(ranges.segments) == 1:
        return cut(ranges.segments, ranges.starts, ranges.ends)
    found: Pieces | None = ranges.derived.get("pieces")
    if found is None:
        found = ranges.derived["pieces"] = cut(ranges.segments, ranges.starts, ranges.ends)
    return found


def uncut(ranges: Ranges | Bars) -> Pieces:
    """Each range as one piece, however long, in no morsels: summaries answer for it."""
    rows = int((ranges.ends - ranges.starts).sum())
    return Pieces(ranges.segments, ranges.starts, ranges.ends, None, _NO_MORSELS, rows)


def lay_out(operation: AggregateScan, bars: Bars | None, *, make_pieces: Cut = pieces_of) -> Layout:
    """The layout of a scan without keys; `bars` are those of its bucket, if it has one."""
    ranges = operation.scan.ranges
    segments, buckets = (ranges.segments, None) if bars is None else (bars.segments, bars.buckets)
    pieces = make_pieces(ranges if bars is None else bars)
    bounds = None if pieces.ranges is None else np.searchsorted(pieces.ranges, np.arange(len(segments) + 1))
    # Of one range, too, each bar is a group of its own, and bars ascend.
    if operation.by_symbol or len(ranges.segments) == 1:
        return Layout(pieces, bounds, segments, None, None, segments if operation.by_symbol else None, buckets)
    if buckets is None:
        everything = np.array([0, len(segments)], dtype=np.int64)
        return Layout(pieces, bounds, segments, np.arange(len(segments)), everything, None, None)
    order, group_bounds, distinct = grouped(buckets)
    return Layout(pieces, bounds, segments, order, group_bounds, None, distinct)


def grouped(keys: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Places of equal keys side by side, in their order; where each group begins, one entry more; the group's key."""
    order = np.argsort(keys, kind="stable")
    distinct, firsts = np.unique(keys[order], return_index=True)
    return order, np.append(firsts, len(keys)), distinct


class Summarized(NamedTuple):
    """An AggregateScan that summaries can answer, and who does what they cannot.

    Attributes:
        summaries: what is known.
        plan: the operation's.
        accumulate: makes what is not.
        values_at: reads what FIRST and LAST have found.
    """

    summaries: Summaries
    plan: SummarizedPlan
    accumulate: Accumulate
    values_at: ValuesAt

    def answer(self, operation: AggregateScan, bars: Bars | None = None) -> AggregateResult:
        """The answer of a scan without keys; `bars` are those of its bucket, if it has one (see `have_blocks`)."""
        if _is_one_value(operation, self.plan.plan):
            return self._one_value(operation)
        snapshot, layout = operation.scan.snapshot, lay_out(operation, bars, make_pieces=uncut)
        partials, scanned_rows = self.summaries.partials(self.plan, snapshot, layout.pieces, self.accumulate)
        known = layout.pieces.rows - scanned_rows
        return answer(operation, self.plan.plan, layout, partials, self.values_at, summarized_rows=known)

    def _one_value(self, operation: AggregateScan) -> AggregateResult:
        """What direct queries run: little Python and few arrays, because the answer is mostly known."""
        snapshot, ranges = operation.scan.snapshot, operation.scan.ranges
        start, end = int(ranges.starts[0]), int(ranges.ends[0])
        rows = end - start
        if rows <= PIECE_ROWS and (start % PIECE_ROWS or end != snapshot.lengths[ranges.segments[0]]):
            words, scanned_rows = self.accumulate(cut(ranges.segments, ranges.starts, ranges.ends)).reshape(-1), rows
        else:
            words, scanned_rows = self.summaries.one_range(self.plan, snapshot, ranges, rows, self.accumulate)
        found = finish_one(words, self.plan.plan.slots, operation.aggregates)
        return AggregateResult(None, None, found, summarized_rows=rows - scanned_rows)


def _is_one_value(operation: AggregateScan, plan: Plan) -> bool:
    """Whether there is one group of one range, and no row whose values are the answer."""
    if operation.by_symbol or operation.bucket is not None or plan.ends:
        return False
    return len(operation.scan.ranges.segments) == 1


def have_blocks(ranges: Ranges, bars: Bars) -> bool:
    """Whether one of the bars of `ranges` may hold a block; to look for them bar by bar takes time."""
    return _most_rows(ranges) >= PIECE_ROWS and _most_rows(bars) >= PIECE_ROWS


def _most_rows(ranges: Ranges | Bars) -> int:
    return int((ranges.ends - ranges.starts).max(initial=0))


def answer(
    operation: AggregateScan,
    plan: Plan,
    layout: Layout,
    partials: Int64Array,
    values_at: ValuesAt,
    *,
    taken: Mapping[int, Int64Array] = _NOTHING_TAKEN,
    summarized_rows: int = 0,
) -> AggregateResult:
    """The columns of every group that has rows; of everything as one group always.

    partials: [slot, piece]. taken: per FIRST or LAST (by its place among the aggregates) the values that the kernel has
    taken in the rows that it found, 8 bytes each; only where each piece is a range and each range a group.
    """
    partials = _by_range(plan, layout, partials)
    words = _by_group(operation.scan, plan, layout, partials, values_at)
    owners, buckets, chosen = layout.owners, layout.buckets, None
    if owners is not None or buckets is not None:
        rows = words[plan.rows_slot]
        if not all_above(rows, 0):
            chosen = rows > 0
            words = words[:, chosen]
            owners = None if owners is None else owners[chosen]
            buckets = None if buckets is None else buckets[chosen]
    groups = Groups(words)
    ends = {}
    if plan.ends:
        segments = layout.segments if chosen is None or layout.order is not None else layout.segments[chosen]
        ends = _end_values(plan, layout, segments, partials, groups, values_at, known=taken)
    for k, values in taken.items():
        kept = values if chosen is None else values[chosen]
        ends[k] = _taken(groups.ints(plan.slots[k][0]), kept, plan.ends[k])
    if words.shape[1] == 1 and can_finish_one(operation.aggregates):
        vectors = finish_one(words.reshape(-1), plan.slots, operation.aggregates, ends=ends)
    else:
        vectors = tuple(
            ends[k] if k in ends else FINISHERS[item.op](groups, plan.slots[k], item)
            for k, item in enumerate(operation.aggregates)
        )
    return AggregateResult(owners, buckets, vectors, summarized_rows=summarized_rows)


def _taken(rows: Int64Array, values: Int64Array, expression: Expression) -> Vector:
    """What the kernel took in `rows`; NULL where there is none."""
    kind = result_type(expression)
    if all_above(rows, -1):
        return Vector(values.view(kind.dtype), None, kind)
    is_there = rows >= 0
    return Vector(np.where(is_there, values, 0).view(kind.dtype), is_there, kind)


def _by_range(plan: Plan, layout: Layout, partials: Int64Array) -> Int64Array:
    """Partial results of ranges, [slot, range]."""
    if layout.bounds is None:
        return partials
    count = layout.pieces.count
    found = reused.empty((plan.width, len(layout.bounds) - 1), np.int64)
    same_time = np.zeros((len(plan.primitives), count), dtype=np.int64)  # pieces follow one another
    combine(np.arange(count), as_words(layout.bounds), plan.primitives, same_time, partials, found)
    for slot in plan.primitives[plan.primitives[:, 0] >= FIRST, 3].tolist():
        pieces = found[slot]
        found[slot] = np.where(pieces >= 0, partials[slot][pieces], -1)
    return found


def _by_group(scan: Scan, plan: Plan, layout: Layout, partials: Int64Array, values_at: ValuesAt) -> Int64Array:
    """The words of every group, [slot, group]; where ranges make groups, FIRST and LAST become ranges."""
    if layout.order is None or layout.group_bounds is None:
        return partials
    groups = reused.empty((plan.width, len(layout.group_bounds) - 1), np.int64)
    times = _end_times(scan, plan, layout, partials, values_at)
    combine(as_words(layout.order), as_words(layout.group_bounds), plan.primitives, times, partials, groups)
    return groups


def _end_times(scan: Scan, plan: Plan, layout: Layout, partials: Int64Array, values_at: ValuesAt) -> Int64Array:
    """[primitive, range] time of the first or last row that a range has; 0 where the order of ranges decides."""
    if not plan.ends:
        return _NO_TIMES
    ends = np.flatnonzero(plan.primitives[:, 0] >= FIRST)
    times = np.zeros((len(plan.primitives), len(layout.segments)), dtype=np.int64)
    timestamp = scan.snapshot.schema.timestamp_index
    if timestamp >= 0:
        rows = partials[plan.primitives[ends, 3]].ravel()
        segments = np.tile(layout.segments, len(ends))
        (vector,) = values_at(segments, rows, (ColumnRef(timestamp, ColumnType.TIMESTAMP_NS),))
        times[ends] = vector.values.reshape(len(ends), -1)
    return times


def _end_values(
    plan: Plan,
    layout: Layout,
    segments: Int64Array,
    partials: Int64Array,
    groups: Groups,
    values_at: ValuesAt,
    *,
    known: Container[int],
) -> dict[int, Vector]:
    """The columns of FIRST and LAST, by the place of the aggregate, but for those that are known.

    segments: per range, or, where each range is a group, of the groups that are left.
    """
    places: dict[int, list[int]] = {}
    for k in plan.ends:
        if k in known:
            continue
        places.setdefault(plan.slots[k][0], []).append(k)
    slots_of: dict[tuple[Expression, ...], list[int]] = {}
    for slot, found in places.items():
        slots_of.setdefault(tuple(plan.ends[k] for k in found), []).append(slot)
    columns_at: dict[int, Vector] = {}
    for expressions, slots in slots_of.items():  # the first and the last of the same columns are read together
        ends = [_end_rows(layout, segments, partials, groups, slot) for slot in slots]
        owners, rows = (np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*ends, strict=True))
        vectors = values_at(owners, rows, expressions)
        count = len(rows) // len(slots)
        for i, slot in enumerate(slots):
            parts = (_part(vector, i * count, (i + 1) * count) for vector in vectors)
            columns_at.update(zip(places[slot], parts, strict=True))
    return columns_at


def _end_rows(
    layout: Layout, segments: Int64Array, partials: Int64Array, groups: Groups, slot: int
) -> tuple[Int64Array, Int64Array]:
    """Segment and row of the end that each group found; row -1: none."""
    found = groups.ints(slot)
    if layout.order is None:
        return segments, found
    if len(segments):
        return segments[found], np.where(found >= 0, partials[slot][found], -1)
    return np.zeros(len(found), dtype=np.int64), found


def _part(vector: Vector, low: int, high: int) -> Vector:
    validity = None if vector.validity is None else vector.validity[low:high]
    return Vector(vector.values[low:high], validity, vector.type)
