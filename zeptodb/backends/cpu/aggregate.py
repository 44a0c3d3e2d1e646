"""AggregateScan on the CPU: aggregates into primitives, row ranges into groups, partial results into columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import AggregateResult, AggregateScan, Scan, Vector
from zeptodb.backends.cpu import accumulate as kernels
from zeptodb.backends.cpu.bars import find_bars
from zeptodb.backends.cpu.columns import Columns, scratch
from zeptodb.backends.cpu.expression import interpreter
from zeptodb.backends.cpu.finish import FINISHERS, Groups
from zeptodb.backends.cpu.pieces import Pieces, as_words, cut
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.cpu.primitives import Plan, lower
from zeptodb.backends.cpu.select import Rows, nullable_columns, overflow, write
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

_NO_TIMES = np.empty((0, 0), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How partial results, one per piece, make groups.

    Attributes:
        pieces: what to accumulate.
        order, bounds: group g is the pieces order[bounds[g]:bounds[g + 1]]; None when each piece is a group.
        segments: per group, with by_symbol.
        buckets: per group, with a bucket.
        is_mixed: whether a group's pieces lie in several segments, so that time decides what is first.
    """

    pieces: Pieces
    order: Int64Array | None
    bounds: Int64Array | None
    segments: Int64Array | None
    buckets: Int64Array | None
    is_mixed: bool


def aggregate(pool: WorkerPool, operation: AggregateScan) -> AggregateResult:
    """Run an AggregateScan."""
    scan = operation.scan
    columns = Columns.of(scan.snapshot)
    plan = lower(operation.aggregates, scan.predicate, nullable_columns(scan.snapshot), scan.snapshot.schema)
    layout = _lay_out(pool, operation, columns)
    partials = _accumulate(pool, columns, plan, layout.pieces)
    words = _combine(pool, scan, columns, plan, layout, partials)
    segments, buckets = layout.segments, layout.buckets
    if segments is not None or buckets is not None:
        chosen = words[plan.rows_slot] > 0
        if not chosen.all():
            words = words[:, chosen]
            segments = None if segments is None else segments[chosen]
            buckets = None if buckets is None else buckets[chosen]
    groups = Groups(words)
    ends = _end_values(pool, scan, columns, plan, layout, partials, groups)
    vectors = tuple(
        ends[k] if k in ends else FINISHERS[item.op](groups, plan.slots[k], item)
        for k, item in enumerate(operation.aggregates)
    )
    return AggregateResult(segments, buckets, vectors)


def _lay_out(pool: WorkerPool, operation: AggregateScan, columns: Columns) -> _Layout:
    scan = operation.scan
    ranges = scan.ranges
    segments, starts, ends, buckets = ranges.segments, ranges.starts, ranges.ends, None
    if operation.bucket is not None:
        times = columns.address_row(scan.snapshot.schema.timestamp_index)
        bars = find_bars(pool, times, segments, starts, ends, operation.bucket)
        segments, starts, ends, buckets = segments[bars.ranges], bars.starts, bars.ends, bars.buckets
    pieces = cut(segments, starts, ends)
    if operation.by_symbol:
        if pieces.ranges is None:
            return _Layout(pieces, None, None, segments, buckets, is_mixed=False)
        bounds = np.searchsorted(pieces.ranges, np.arange(len(segments) + 1))
        return _Layout(pieces, np.arange(pieces.count), bounds, segments, buckets, is_mixed=False)
    if buckets is None:
        bounds = np.array([0, pieces.count], dtype=np.int64)
        return _Layout(pieces, np.arange(pieces.count), bounds, None, None, is_mixed=True)
    keys = buckets if pieces.ranges is None else buckets[pieces.ranges]
    order = np.argsort(keys, kind="stable")
    distinct, firsts = np.unique(keys[order], return_index=True)
    return _Layout(pieces, order, np.append(firsts, len(keys)), None, distinct, is_mixed=True)


def _accumulate(pool: WorkerPool, columns: Columns, plan: Plan, pieces: Pieces) -> Int64Array:
    """The table of partial results, [slot, piece]."""
    partials = np.empty((plan.width, pieces.count), dtype=np.int64)
    flags = np.zeros(1, dtype=np.int64)
    program, run_section = plan.program, interpreter()
    words = kernels.accumulator_words(program.registers, plan.width)

    def work(counter: Int64Array, budget: int) -> None:
        kernels.accumulate(
            run_section, counter, budget, pieces.morsels, pieces.segments, pieces.starts, pieces.ends, program.code,
            program.lists, program.constants, program.registers, plan.sections, plan.primitives, columns.words,
            partials, scratch(words), flags,
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
    ends = np.flatnonzero(plan.primitives[:, 0] >= kernels.FIRST)
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
) -> dict[int, Vector]:
    """The columns of FIRST and LAST, by the place of the aggregate."""
    columns_at: dict[int, Vector] = {}
    for slot in dict.fromkeys(plan.slots[k][0] for k in plan.ends):
        places = [k for k in plan.ends if plan.slots[k][0] == slot]
        expressions = tuple(plan.ends[k] for k in places)
        found = groups.ints(slot)
        if layout.order is None:
            rows, segments = found, layout.segments
            if len(rows) != layout.pieces.count:  # groups without rows are gone
                segments = layout.pieces.segments[partials[plan.rows_slot] > 0]
            assert segments is not None
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
