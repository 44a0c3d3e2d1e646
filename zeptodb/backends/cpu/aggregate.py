"""AggregateScan on the CPU: aggregates into primitives, row ranges into pieces, and their partial results."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from zeptodb.backends import control, reused
from zeptodb.backends.base import AggregateResult, AggregateScan, Scan, Vector
from zeptodb.backends.cpu import accumulate as kernels
from zeptodb.backends.cpu.bars import find_bars
from zeptodb.backends.cpu.columns import Columns, scratch
from zeptodb.backends.cpu.expression import interpreter
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.cpu.select import Rows, write
from zeptodb.backends.expression import Expression
from zeptodb.backends.finish_one import can_finish_one, finish_one
from zeptodb.backends.partials import Bars, Summarized, answer, have_blocks, lay_out
from zeptodb.backends.pieces import PIECE_ROWS, Pieces, as_words, cut
from zeptodb.backends.primitives import Plan, lower
from zeptodb.backends.results import nullable_columns, overflow
from zeptodb.backends.summaries import Summaries
from zeptodb.storage.snapshot import Snapshot

Int64Array = npt.NDArray[np.int64]

_FIRST = np.zeros(1, dtype=np.int64)
_NOTHING_TAKEN = np.empty((0, 0), dtype=np.int64)
_NO_COLUMNS = np.empty((0, 2), dtype=np.int64)


def aggregate(pool: WorkerPool, operation: AggregateScan, summaries: Summaries | None = None) -> AggregateResult:
    """Run an AggregateScan, with what `summaries` (None: nothing) knows of its rows."""
    scan = operation.scan
    values_at = partial(_values_at, pool, scan)
    known = None if summaries is None else summaries.plan(operation)
    summarized = None
    if summaries is not None and known is not None:
        plan = known.plan
        summarized = Summarized(summaries, known, partial(_accumulate, pool, scan.snapshot, plan), values_at)
        if operation.bucket is None:
            return summarized.answer(operation)
    else:
        plan = lower(operation.aggregates, scan.predicate, nullable_columns(scan.snapshot), scan.snapshot.schema)
    if _is_one_piece(operation, plan):
        words = _accumulate(pool, scan.snapshot, plan, cut(scan.ranges.segments, scan.ranges.starts, scan.ranges.ends))
        return AggregateResult(None, None, finish_one(words.reshape(-1), plan.slots, operation.aggregates))
    bars = _bars(pool, operation)
    if summarized is not None and bars is not None and have_blocks(scan.ranges, bars):
        return summarized.answer(operation, bars)
    layout = lay_out(operation, bars)
    along = plan.plain_ends if layout.bounds is None and layout.order is None else {}  # what the kernel takes along
    taken_columns = np.array(list(along.values()), dtype=np.int64) if along else _NO_COLUMNS
    taken = reused.empty((len(along), layout.pieces.count), np.int64)
    partials = _accumulate(pool, scan.snapshot, plan, layout.pieces, taken_columns=taken_columns, taken=taken)
    return answer(operation, plan, layout, partials, values_at, taken=dict(zip(along, taken, strict=True)))


def _is_one_piece(operation: AggregateScan, plan: Plan) -> bool:
    """Whether there is one group of rows that kernels take at once, and no row whose values are the answer."""
    if operation.by_symbol or operation.bucket is not None or plan.ends or len(operation.scan.ranges.segments) != 1:
        return False
    return operation.scan.ranges.rows <= PIECE_ROWS and can_finish_one(operation.aggregates)


def _bars(pool: WorkerPool, operation: AggregateScan) -> Bars | None:
    """The bars of the scan's ranges; None without a bucket."""
    if operation.bucket is None:
        return None
    snapshot = operation.scan.snapshot
    times = Columns.of(snapshot).address_row(snapshot.schema.timestamp_index)
    return find_bars(pool, times, operation.scan.ranges, operation.bucket)


def _accumulate(
    pool: WorkerPool,
    snapshot: Snapshot,
    plan: Plan,
    pieces: Pieces,
    *,
    taken_columns: Int64Array = _NO_COLUMNS,
    taken: Int64Array = _NOTHING_TAKEN,
) -> Int64Array:
    """The table of partial results, [slot, piece]; fills `taken` from `taken_columns`, too."""
    control.reserve(8 * plan.width * pieces.count)
    partials = reused.empty((plan.width, pieces.count), np.int64)
    flags = np.zeros(1, dtype=np.int64)
    program, run_section, columns = plan.program, interpreter(), Columns.of(snapshot)
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


def _values_at(
    pool: WorkerPool,
    scan: Scan,
    segments: Int64Array,
    rows: Int64Array,
    expressions: tuple[Expression, ...],
) -> tuple[Vector, ...]:
    """Expressions at single rows; NULL where the row is -1."""
    columns = Columns.of(scan.snapshot)
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
