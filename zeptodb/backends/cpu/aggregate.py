"""AggregateScan on the CPU: aggregates into primitives, row ranges into groups, partial results into columns."""

from __future__ import annotations

from collections.abc import Container
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends import control, reused
from zeptodb.backends.base import AggregateResult, AggregateScan, Scan, Vector
from zeptodb.backends.cpu import accumulate as kernels
from zeptodb.backends.cpu.bars import find_bars
from zeptodb.backends.cpu.columns import Columns, scratch
from zeptodb.backends.cpu.expression import interpreter
from zeptodb.backends.cpu.finish_one import can_finish_one, finish_one
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.cpu.select import Rows, write
from zeptodb.backends.cpu.summaries import PIECE_ROWS, Summaries, SummarizedPlan, uncut
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.backends.finish import FINISHERS, Groups, all_above
from zeptodb.backends.pieces import Pieces, as_words, cut
from zeptodb.backends.primitives import FIRST, Plan, lower
from zeptodb.backends.results import nullable_columns, overflow, result_type
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

_FIRST = np.zeros(1, dtype=np.int64)
_NO_TIMES = np.empty((0, 0), dtype=np.int64)
_NO_COLUMNS = np.empty((0, 2), dtype=np.int64)


class _Layout(NamedTuple):
    """How partial results, one per piece, make groups.

    Attributes:
        pieces: what to accumulate.
        order, bounds: group g is the pieces order[bounds[g]:bounds[g + 1]]; None when each piece is a group.
        segments: per group, with by_symbol.
        buckets: per group, with a bucket.
        is_mixed: whether a group's pieces lie in several segments, so that time decides what is first.
        is_summarized: whether summaries answer, for pieces of any length.
    """

    pieces: Pieces
    order: Int64Array | None
    bounds: Int64Array | None
    segments: Int64Array | None
    buckets: Int64Array | None
    is_mixed: bool
    is_summarized: bool


def aggregate(pool: WorkerPool, operation: AggregateScan, summaries: Summaries | None = None) -> AggregateResult:
    """Run an AggregateScan, with what `summaries` (None: nothing) knows of its rows."""
    scan = operation.scan
    summarized = None if summaries is None else summaries.plan(operation)
    if summaries is not None and summarized is not None and _is_one_value(operation, summarized):
        return _aggregate_one(pool, operation, summaries, summarized)
    columns = Columns.of(scan.snapshot)
    if summarized is not None:
        plan = summarized.plan
    else:
        plan = lower(operation.aggregates, scan.predicate, nullable_columns(scan.snapshot), scan.snapshot.schema)
    if _is_one_piece(operation, plan):
        words = _accumulate(pool, columns, plan, cut(scan.ranges.segments, scan.ranges.starts, scan.ranges.ends))
        return AggregateResult(None, None, finish_one(words.reshape(-1), plan.slots, operation.aggregates))
    layout = _lay_out(pool, operation, columns, may_summarize=summarized is not None)
    is_known = summaries is not None and summarized is not None and layout.is_summarized
    along = plan.plain_ends if layout.order is None and not is_known else {}  # what the kernel takes along
    taken_columns = np.array(list(along.values()), dtype=np.int64) if along else _NO_COLUMNS
    taken = reused.empty((len(along), layout.pieces.count), np.int64)
    accumulate = partial(_accumulate, pool, columns, plan, taken_columns=taken_columns, taken=taken)
    summarized_rows = 0
    if summaries is not None and summarized is not None and layout.is_summarized:
        partials, scanned_rows = summaries.partials(summarized, scan.snapshot, layout.pieces, accumulate)
        summarized_rows = layout.pieces.rows - scanned_rows
    else:
        partials = accumulate(layout.pieces)
    words = _combine(pool, scan, columns, plan, layout, partials)
    segments, buckets = layout.segments, layout.buckets
    if segments is not None or buckets is not None:
        rows = words[plan.rows_slot]
        if not all_above(rows, 0):
            chosen = rows > 0
            words = words[:, chosen]
            taken = taken[:, chosen] if along else taken
            segments = None if segments is None else segments[chosen]
            buckets = None if buckets is None else buckets[chosen]
    groups = Groups(words)
    ends = _end_values(pool, scan, columns, plan, layout, partials, groups, known=along) if plan.ends else {}
    for k, values in zip(along, taken, strict=False):
        ends[k] = _taken(groups.ints(plan.slots[k][0]), values, plan.ends[k])
    if words.shape[1] == 1 and can_finish_one(operation.aggregates):
        vectors = finish_one(words.reshape(-1), plan.slots, operation.aggregates, ends=ends)
    else:
        vectors = tuple(
            ends[k] if k in ends else FINISHERS[item.op](groups, plan.slots[k], item)
            for k, item in enumerate(operation.aggregates)
        )
    return AggregateResult(segments, buckets, vectors, summarized_rows=summarized_rows)


def _is_one_piece(operation: AggregateScan, plan: Plan) -> bool:
    """Whether there is one group of rows that kernels take at once, and no row whose values are the answer."""
    if operation.by_symbol or operation.bucket is not None or plan.ends or len(operation.scan.ranges.segments) != 1:
        return False
    return operation.scan.ranges.rows <= PIECE_ROWS and can_finish_one(operation.aggregates)


def _is_one_value(operation: AggregateScan, summarized: SummarizedPlan) -> bool:
    """Whether there is one group of one range, and no row whose values are the answer."""
    if operation.by_symbol or operation.bucket is not None or summarized.plan.ends:
        return False
    return len(operation.scan.ranges.segments) == 1


def _aggregate_one(
    pool: WorkerPool, operation: AggregateScan, summaries: Summaries, summarized: SummarizedPlan
) -> AggregateResult:
    """What direct queries run: little Python and few arrays, because the answer is mostly known."""
    scan, plan = operation.scan, summarized.plan

    def accumulate(pieces: Pieces) -> Int64Array:
        return _accumulate(pool, Columns.of(scan.snapshot), plan, pieces)

    ranges = scan.ranges
    start, end = int(ranges.starts[0]), int(ranges.ends[0])
    rows = end - start
    if rows <= PIECE_ROWS and (start % PIECE_ROWS or end != scan.snapshot.lengths[ranges.segments[0]]):
        words, scanned_rows = accumulate(cut(ranges.segments, ranges.starts, ranges.ends)).reshape(-1), rows
    else:
        words, scanned_rows = summaries.one_range(summarized, scan.snapshot, ranges, rows, accumulate)
    found = finish_one(words, plan.slots, operation.aggregates)
    return AggregateResult(None, None, found, summarized_rows=rows - scanned_rows)


def _lay_out(pool: WorkerPool, operation: AggregateScan, columns: Columns, *, may_summarize: bool) -> _Layout:
    scan = operation.scan
    ranges = scan.ranges
    segments, starts, ends, buckets = ranges.segments, ranges.starts, ranges.ends, None
    if operation.bucket is not None:
        times = columns.address_row(scan.snapshot.schema.timestamp_index)
        bars = find_bars(pool, times, segments, starts, ends, operation.bucket)
        segments, starts, ends, buckets = bars.segments, bars.starts, bars.ends, bars.buckets
        # Short bars are no blocks, and finding that out bar by bar takes time.
        may_summarize = may_summarize and ranges.rows >= PIECE_ROWS <= int((ends - starts).max(initial=0))
    # Of one range, too, each bar is a group of its own, and bars ascend.
    is_apart = operation.by_symbol or len(ranges.segments) == 1
    make_pieces = uncut if may_summarize and is_apart else cut
    pieces, known = make_pieces(segments, starts, ends), may_summarize
    if is_apart:
        owners = segments if operation.by_symbol else None
        if pieces.ranges is None:
            return _Layout(pieces, None, None, owners, buckets, is_mixed=False, is_summarized=known)
        bounds = np.searchsorted(pieces.ranges, np.arange(len(segments) + 1))
        return _Layout(pieces, np.arange(pieces.count), bounds, owners, buckets, is_mixed=False, is_summarized=known)
    if buckets is None:
        bounds = np.array([0, pieces.count], dtype=np.int64)
        return _Layout(pieces, np.arange(pieces.count), bounds, None, None, is_mixed=True, is_summarized=known)
    keys = buckets if pieces.ranges is None else buckets[pieces.ranges]
    order = np.argsort(keys, kind="stable")
    distinct, firsts = np.unique(keys[order], return_index=True)
    bounds = np.append(firsts, len(keys))
    return _Layout(pieces, order, bounds, None, distinct, is_mixed=True, is_summarized=known)


def _taken(rows: Int64Array, values: Int64Array, expression: Expression) -> Vector:
    """What the kernel took in `rows`; NULL where there is none."""
    kind = result_type(expression)
    if all_above(rows, -1):
        return Vector(values.view(kind.dtype), None, kind)
    is_there = rows >= 0
    return Vector(np.where(is_there, values, 0).view(kind.dtype), is_there, kind)


def _accumulate(
    pool: WorkerPool,
    columns: Columns,
    plan: Plan,
    pieces: Pieces,
    *,
    taken_columns: Int64Array = _NO_COLUMNS,
    taken: Int64Array = _NO_TIMES,
) -> Int64Array:
    """The table of partial results, [slot, piece]; fills `taken` from `taken_columns`, too."""
    control.reserve(8 * plan.width * pieces.count)
    partials = reused.empty((plan.width, pieces.count), np.int64)
    flags = np.zeros(1, dtype=np.int64)
    program, run_section = plan.program, interpreter()
    words = kernels.accumulator_words(program.registers)

    def work(counter: Int64Array, budget: int) -> None:
        kernels.accumulate(
            run_section, counter, budget, pieces.morsels, pieces.segments, pieces.starts, pieces.ends, program.code,
            program.lists, program.constants, program.registers, plan.sections, plan.primitives, columns.words,
            partials, taken_columns, taken, scratch(words), flags,
        )  # fmt: skip

    pool.run(work, pieces.morsel_count, rows=pieces.rows)
    if flags[0]:
        raise overflow()
    return partials


def _combine(
    pool: WorkerPool, scan: Scan, columns: Columns, plan: Plan, layout: _Layout, partials: Int64Array
) -> Int64Array:
    """The words of every group, [slot, group]."""
    if layout.order is None or layout.bounds is None:
        return partials
    groups = reused.empty((plan.width, len(layout.bounds) - 1), np.int64)
    times = _end_times(pool, scan, columns, plan, layout, partials)
    kernels.combine(
        as_words(layout.order), as_words(layout.bounds), plan.primitives, times,
        partials, groups,
    )  # fmt: skip
    return groups


def _end_times(
    pool: WorkerPool, scan: Scan, columns: Columns, plan: Plan, layout: _Layout, partials: Int64Array
) -> Int64Array:
    """[primitive, piece] time of the first or last row that a piece found; 0 where the order of pieces decides."""
    if not plan.ends:
        return _NO_TIMES
    ends = np.flatnonzero(plan.primitives[:, 0] >= FIRST)
    times = np.zeros((len(plan.primitives), layout.pieces.count), dtype=np.int64)
    timestamp = scan.snapshot.schema.timestamp_index
    if layout.is_mixed and timestamp >= 0:
        column = ColumnRef(timestamp, ColumnType.TIMESTAMP_NS)
        rows = partials[plan.primitives[ends, 3]].ravel()
        segments = np.tile(layout.pieces.segments, len(ends))
        (vector,) = _values_at(pool, scan, columns, segments, rows, (column,))
        times[ends] = vector.values.reshape(len(ends), -1)
    return times


def _end_values(
    pool: WorkerPool,
    scan: Scan,
    columns: Columns,
    plan: Plan,
    layout: _Layout,
    partials: Int64Array,
    groups: Groups,
    *,
    known: Container[int],
) -> dict[int, Vector]:
    """The columns of FIRST and LAST, by the place of the aggregate, but for those that are known."""
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
        ends = [_end_rows(plan, layout, partials, groups, slot) for slot in slots]
        segments, rows = (np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*ends, strict=True))
        vectors = _values_at(pool, scan, columns, segments, rows, expressions)
        count = len(rows) // len(slots)
        for i, slot in enumerate(slots):
            parts = (_part(vector, i * count, (i + 1) * count) for vector in vectors)
            columns_at.update(zip(places[slot], parts, strict=True))
    return columns_at


def _end_rows(
    plan: Plan, layout: _Layout, partials: Int64Array, groups: Groups, slot: int
) -> tuple[Int64Array, Int64Array]:
    """Segment and row of the end that each group found; row -1: none."""
    found, pieces = groups.ints(slot), layout.pieces
    if layout.order is None:
        if len(found) == pieces.count:
            return pieces.segments, found
        return pieces.segments[partials[plan.rows_slot] > 0], found  # groups without rows are gone
    if pieces.count:
        return pieces.segments[found], np.where(found >= 0, partials[slot][found], -1)
    return np.zeros(len(found), dtype=np.int64), found


def _part(vector: Vector, low: int, high: int) -> Vector:
    validity = None if vector.validity is None else vector.validity[low:high]
    return Vector(vector.values[low:high], validity, vector.type)


def _values_at(
    pool: WorkerPool,
    scan: Scan,
    columns: Columns,
    segments: Int64Array,
    rows: Int64Array,
    expressions: tuple[Expression, ...],
) -> tuple[Vector, ...]:
    """Expressions at single rows; NULL where the row is -1."""
    listed = as_words(rows)
    missing = listed < 0
    has_missing = bool(missing.any())
    if len(scan.ranges.segments) == 1 and not has_missing:
        count = np.array([len(listed)], dtype=np.int64)
        chosen = Rows(as_words(scan.ranges.segments), _FIRST, count, _FIRST, listed)
        return write(pool, scan.snapshot, columns, chosen, len(listed), expressions, has_missing=False)
    owners = np.where(missing, -1, segments) if has_missing else segments
    changes = np.flatnonzero(owners[1:] != owners[:-1]) + 1
    bounds = np.concatenate(([0], changes, [len(owners)] if len(owners) else [])).astype(np.int64)
    runs = cut(owners[bounds[:-1]], bounds[:-1], bounds[1:])
    chosen = Rows(runs.segments, runs.starts, runs.ends - runs.starts, runs.starts, listed)
    return write(pool, scan.snapshot, columns, chosen, len(listed), expressions, has_missing=has_missing)
