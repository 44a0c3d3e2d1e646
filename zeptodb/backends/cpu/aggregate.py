"""AggregateScan on the CPU: aggregates into primitives, row ranges into groups, partial results into columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import AggregateResult, AggregateScan, Scan, Vector
from zeptodb.backends.cpu import accumulate as kernels
from zeptodb.backends.cpu.bars import find_bars
from zeptodb.backends.cpu.columns import Columns, scratch
from zeptodb.backends.cpu.expression import interpreter
from zeptodb.backends.cpu.finish_one import finish_one
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.cpu.select import Rows, write
from zeptodb.backends.cpu.summaries import PIECE_ROWS, Summaries, SummarizedPlan, nullable_in, uncut
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.backends.finish import FINISHERS, Groups
from zeptodb.backends.pieces import Pieces, as_words, cut
from zeptodb.backends.primitives import FIRST, Plan, lower
from zeptodb.backends.results import overflow, result_type
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

_NO_TIMES = np.empty((0, 0), dtype=np.int64)
_EIGHT_BYTES = frozenset({ColumnType.INT64, ColumnType.TIMESTAMP_NS, ColumnType.FLOAT64})


@dataclass(frozen=True, slots=True)
class _Layout:
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
    columns = _columns(scan.snapshot)
    if summarized is not None:
        plan = summarized.plan
    else:
        plan = lower(operation.aggregates, scan.predicate, nullable_in(scan.snapshot), scan.snapshot.schema)
    layout = _lay_out(pool, operation, columns, may_summarize=summarized is not None)
    is_known = summaries is not None and summarized is not None and layout.is_summarized
    along = _ends_to_take(plan, scan) if layout.order is None and not is_known else {}
    taken = np.empty((len(along), layout.pieces.count), dtype=np.int64)
    accumulate = partial(_accumulate, pool, columns, plan, taken_columns=tuple(along.values()), taken=taken)
    summarized_rows = 0
    if summaries is not None and summarized is not None and layout.is_summarized:
        partials, scanned_rows = summaries.partials(summarized, scan.snapshot, layout.pieces, accumulate)
        summarized_rows = layout.pieces.rows - scanned_rows
    else:
        partials = accumulate(layout.pieces)
    words = _combine(pool, scan, columns, plan, layout, partials)
    segments, buckets = layout.segments, layout.buckets
    if segments is not None or buckets is not None:
        chosen = words[plan.rows_slot] > 0
        if not chosen.all():
            words = words[:, chosen]
            taken = taken[:, chosen] if along else taken
            segments = None if segments is None else segments[chosen]
            buckets = None if buckets is None else buckets[chosen]
    groups = Groups(words)
    ends = _end_values(pool, scan, columns, plan, layout, partials, groups, known=frozenset(along))
    for k, values in zip(along, taken, strict=True):
        ends[k] = _taken(groups.ints(plan.slots[k][0]), values, plan.ends[k])
    vectors = tuple(
        ends[k] if k in ends else FINISHERS[item.op](groups, plan.slots[k], item)
        for k, item in enumerate(operation.aggregates)
    )
    return AggregateResult(segments, buckets, vectors, summarized_rows=summarized_rows)


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
        return _accumulate(pool, _columns(scan.snapshot), plan, pieces)

    rows = int(scan.ranges.ends[0] - scan.ranges.starts[0])
    words, scanned_rows = summaries.one_range(summarized, scan.snapshot, scan.ranges, rows, accumulate)
    found = finish_one(words, plan.slots, operation.aggregates)
    return AggregateResult(None, None, found, summarized_rows=rows - scanned_rows)


def _columns(snapshot: Snapshot) -> Columns:
    """The snapshot's columns, described once per version of the table."""
    found = snapshot.derived.get("cpu_columns")
    if found is None:
        found = snapshot.derived["cpu_columns"] = Columns.of(snapshot)
    result: Columns = found
    return result


def _lay_out(pool: WorkerPool, operation: AggregateScan, columns: Columns, *, may_summarize: bool) -> _Layout:
    scan = operation.scan
    ranges = scan.ranges
    segments, starts, ends, buckets = ranges.segments, ranges.starts, ranges.ends, None
    if operation.bucket is not None:
        times = columns.address_row(scan.snapshot.schema.timestamp_index)
        bars = find_bars(pool, times, segments, starts, ends, operation.bucket)
        segments, starts, ends, buckets = bars.segments, bars.starts, bars.ends, bars.buckets
        # Short bars are no blocks, and finding that out bar by bar takes time.
        may_summarize = may_summarize and int((ends - starts).max(initial=0)) >= PIECE_ROWS
    is_apart = operation.by_symbol or (buckets is None and len(segments) == 1)
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


def _ends_to_take(plan: Plan, scan: Scan) -> dict[int, tuple[int, int]]:
    """Slot and column of each FIRST and LAST (by the place of the aggregate) whose values the kernel can take along."""
    nullable, symbol = nullable_in(scan.snapshot), scan.snapshot.schema.symbol_index
    return {
        k: (plan.slots[k][0], expression.index)
        for k, expression in plan.ends.items()
        if isinstance(expression, ColumnRef)
        and expression.type in _EIGHT_BYTES
        and expression.index not in nullable
        and expression.index != symbol
    }


def _taken(rows: Int64Array, values: Int64Array, expression: Expression) -> Vector:
    """What the kernel took in `rows`; NULL where there is none."""
    is_there = rows >= 0
    kind = result_type(expression)
    if is_there.all():
        return Vector(values.view(kind.dtype), None, kind)
    return Vector(np.where(is_there, values, 0).view(kind.dtype), is_there, kind)


def _accumulate(
    pool: WorkerPool,
    columns: Columns,
    plan: Plan,
    pieces: Pieces,
    *,
    taken_columns: tuple[tuple[int, int], ...] = (),
    taken: Int64Array = _NO_TIMES,
) -> Int64Array:
    """The table of partial results, [slot, piece]; fills `taken` from `taken_columns`, too."""
    taken_table = np.array(taken_columns, dtype=np.int64).reshape(-1, 2)
    partials = np.empty((plan.width, pieces.count), dtype=np.int64)
    flags = np.zeros(1, dtype=np.int64)
    program, run_section = plan.program, interpreter()
    words = kernels.accumulator_words(program.registers)

    def work(counter: Int64Array, budget: int) -> None:
        kernels.accumulate(
            run_section, counter, budget, pieces.morsels, pieces.segments, pieces.starts, pieces.ends, program.code,
            program.lists, program.constants, program.registers, plan.sections, plan.primitives, columns.words,
            partials, taken_table, taken, scratch(words), flags,
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
    groups = np.empty((plan.width, len(layout.bounds) - 1), dtype=np.int64)
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
    ends = np.flatnonzero(plan.primitives[:, 0] >= FIRST)
    if not len(ends):
        return _NO_TIMES
    times = np.zeros((len(plan.primitives), layout.pieces.count), dtype=np.int64)
    timestamp = scan.snapshot.schema.timestamp_index
    if layout.is_mixed and timestamp >= 0:
        column = ColumnRef(timestamp, ColumnType.TIMESTAMP_NS)
        for k in ends.tolist():
            rows = partials[plan.primitives[k, 3]]
            (vector,) = _values_at(pool, scan, columns, layout.pieces.segments, rows, (column,))
            times[k] = vector.values
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
    known: frozenset[int],
) -> dict[int, Vector]:
    """The columns of FIRST and LAST, by the place of the aggregate, but for those that are known."""
    columns_at: dict[int, Vector] = {}
    sought = [k for k in plan.ends if k not in known]
    for slot in dict.fromkeys(plan.slots[k][0] for k in sought):
        places = [k for k in sought if plan.slots[k][0] == slot]
        expressions = tuple(plan.ends[k] for k in places)
        found = groups.ints(slot)
        if layout.order is None:
            rows, segments = found, layout.pieces.segments
            if len(rows) != layout.pieces.count:  # groups without rows are gone
                segments = segments[partials[plan.rows_slot] > 0]
        elif layout.pieces.count:
            rows = np.where(found >= 0, partials[slot][found], -1)
            segments = layout.pieces.segments[found]
        else:
            rows, segments = found, np.zeros(len(found), dtype=np.int64)
        vectors = _values_at(pool, scan, columns, segments, rows, expressions)
        columns_at.update(zip(places, vectors, strict=True))
    return columns_at


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
    owners = np.where(missing, -1, segments) if has_missing else segments
    changes = np.flatnonzero(owners[1:] != owners[:-1]) + 1
    bounds = np.concatenate(([0], changes, [len(owners)] if len(owners) else [])).astype(np.int64)
    runs = cut(owners[bounds[:-1]], bounds[:-1], bounds[1:])
    chosen = Rows(runs.segments, runs.starts, runs.ends - runs.starts, runs.starts, listed)
    return write(pool, scan.snapshot, columns, chosen, len(listed), expressions, has_missing=has_missing)
