"""AggregateScan by keys on the CPU: values of the keys into places of a dense table, and back."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from zeptodb.backends import control, reused
from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateResult,
    AggregateScan,
    Scan,
    Vector,
)
from zeptodb.backends.cpu import dense
from zeptodb.backends.cpu.aggregate import aggregate
from zeptodb.backends.cpu.columns import Columns, scratch
from zeptodb.backends.cpu.expression import interpreter
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.cpu.select import Rows, write
from zeptodb.backends.expression import Expression
from zeptodb.backends.finish import FINISHERS, Groups
from zeptodb.backends.keys import Key, find_keys, groups_of, key_values
from zeptodb.backends.pieces import Pieces, as_words, cut
from zeptodb.backends.primitives import FIRST, Plan, lower
from zeptodb.backends.results import nullable_columns, overflow
from zeptodb.backends.states import combine

Int64Array = npt.NDArray[np.int64]

_TABLE_WORDS = 1 << 22
"""Words that the tables of all chunks take at most, unless that would leave fewer than `_MIN_CHUNKS`."""

_MIN_CHUNKS = 8
_NO_TIMES = np.empty((0, 0), dtype=np.int64)


def group(pool: WorkerPool, operation: AggregateScan) -> AggregateResult:
    """Run an AggregateScan that has keys."""
    scan = operation.scan
    keys = find_keys(operation, partial(aggregate, pool))
    groups, ranges = groups_of(operation, keys)
    plan, registers = _lower(operation, keys)
    pieces = cut(scan.ranges.segments, scan.ranges.starts, scan.ranges.ends)
    grid = _Grid(pool, operation, plan, pieces, groups, ranges)
    words, ends = grid.run(keys, registers)
    chosen = np.flatnonzero(words[plan.rows_slot] > 0)
    found = Groups(words[:, chosen])
    vectors = tuple(
        _end_column(pool, scan, pieces, ends[plan.slots[k][0]][chosen], item.arguments[0])
        if k in plan.ends
        else FINISHERS[item.op](found, plan.slots[k], item)
        for k, item in enumerate(operation.aggregates)
    )
    segments = scan.ranges.segments[chosen // groups] if operation.by_symbol else None
    columns = [key_values(key, chosen % groups) for key in keys]
    buckets = None if operation.bucket is None else columns.pop(0).values.astype(np.int64, copy=False)
    return AggregateResult(segments, buckets, vectors, tuple(columns))


# ---- kernels -----------------------------------------------------------------------------------------------------


def _lower(operation: AggregateScan, keys: list[Key]) -> tuple[Plan, Int64Array]:
    """The plan of the aggregates, and rows (section, register, key) that say where the keys' values stand.

    Keys are lowered as if they were aggregated under every condition; what would aggregate them is left out.
    """
    scan = operation.scan
    conditions = dict.fromkeys([None, *(item.condition for item in operation.aggregates)])
    asked = [Aggregate(AggregateOp.MIN, (key.expression,), c) for c in conditions for key in keys]
    nullable = nullable_columns(scan.snapshot)
    plain = lower(operation.aggregates, scan.predicate, nullable, scan.snapshot.schema)
    plan = lower((*operation.aggregates, *asked), scan.predicate, nullable, scan.snapshot.schema)
    registers = []
    for k in range(len(asked)):
        place = int(np.flatnonzero(plan.primitives[:, 3] == plan.slots[len(operation.aggregates) + k][0])[0])
        section = int(np.flatnonzero((plan.sections[:, 5] <= place) & (place < plan.sections[:, 6]))[0])
        registers.append((section, int(plan.primitives[place, 1]), k % len(keys)))
    kept = plan.primitives[:, 3] < plain.width
    before = np.concatenate(([0], np.cumsum(kept)))
    sections = plan.sections.copy()
    sections[:, 5:7] = before[plan.sections[:, 5:7]]
    kept_plan = plan._replace(sections=sections, primitives=plan.primitives[kept], width=plain.width)
    return kept_plan, np.array(registers, dtype=np.int64).reshape(-1, 3)


class _Grid:
    """The dense tables of one scan: chunks x groups x words of a line."""

    def __init__(
        self, pool: WorkerPool, operation: AggregateScan, plan: Plan, pieces: Pieces, groups: int, ranges: int
    ) -> None:
        self.pool = pool
        self.operation = operation
        self.plan = plan
        self.pieces = pieces
        self.groups = groups
        self.places = groups * max(ranges, 1)
        self.ends = np.flatnonzero(plan.primitives[:, 0] >= FIRST)
        self.width = plan.width + len(self.ends) + len(plan.sections)
        self.chunks = self._cut_chunks()

    def run(self, keys: list[Key], registers: Int64Array) -> tuple[Int64Array, dict[int, Int64Array]]:
        """The words of every group, [slot, group], and per slot of FIRST and LAST the place of its row in the scan."""
        plan, pieces = self.plan, self.pieces
        columns = Columns.of(self.operation.scan.snapshot)
        count = len(self.chunks) - 1
        control.reserve(8 * plan.width * count * self.places)
        partials = reused.empty((plan.width, count * self.places), np.int64)
        times = np.zeros((len(plan.primitives), count * self.places), dtype=np.int64) if len(self.ends) else _NO_TIMES
        lengths = pieces.ends - pieces.starts
        ordinals, bases, table = np.cumsum(lengths) - lengths, self._bases(), self._key_table(keys, registers)
        program, run_section, flags = plan.program, interpreter(), np.zeros(1, dtype=np.int64)
        words = dense.dense_words(program.registers, self.places * self.width)
        stamp = self.operation.scan.snapshot.schema.timestamp_index

        def work(counter: Int64Array, budget: int) -> None:
            dense.accumulate_groups(
                run_section, counter, budget, self.chunks, pieces.segments, pieces.starts, pieces.ends, ordinals, bases,
                program.code, program.lists, program.constants, program.registers, plan.sections, plan.primitives,
                table, columns.words, stamp, self.places, self.width, plan.width, partials, times, scratch(words),
                flags,
            )  # fmt: skip

        self.pool.run(work, count, rows=pieces.rows)
        if flags[0]:
            raise overflow()
        return self._combine(partials, times)

    def _combine(self, partials: Int64Array, times: Int64Array) -> tuple[Int64Array, dict[int, Int64Array]]:
        """Add up the chunks of each group, in order."""
        plan, count = self.plan, len(self.chunks) - 1
        order = np.arange(count * self.places, dtype=np.int64).reshape(count, self.places).T.ravel()
        bounds = np.arange(self.places + 1, dtype=np.int64) * count
        words = reused.empty((plan.width, self.places), np.int64)
        combine(as_words(order), bounds, plan.primitives, times, partials, words)
        ends = {}
        for slot in plan.primitives[self.ends, 3].tolist():
            found = words[slot]
            ends[slot] = np.where(found >= 0, partials[slot][found], -1) if count else found
        return words, ends

    def _cut_chunks(self) -> Int64Array:
        """Bounds of the chunks over the pieces; they depend on the scan and the table alone."""
        morsels = self.pieces.morsels
        table = self.places * self.width
        most = max(_MIN_CHUNKS, _TABLE_WORDS // table, self.pieces.rows // (dense.MAX_CHUNK_ROWS // 2))
        step = -(-self.pieces.morsel_count // most)
        return morsels if step <= 1 else as_words(np.append(morsels[:-1:step], morsels[-1]))

    def _bases(self) -> Int64Array:
        pieces = self.pieces
        if not self.operation.by_symbol:
            return np.zeros(pieces.count, dtype=np.int64)
        ranges = np.arange(pieces.count, dtype=np.int64) if pieces.ranges is None else pieces.ranges
        return ranges * (self.groups * self.width)

    def _key_table(self, keys: list[Key], registers: Int64Array) -> Int64Array:
        rows = []
        for section, register, k in registers.tolist():
            key, stride = keys[k], keys[k].stride * self.width
            rows.append((section, register, key.least, key.width, stride, (key.count - 1) * stride))
        return np.array(rows, dtype=np.int64).reshape(-1, 6)


def _end_column(pool: WorkerPool, scan: Scan, pieces: Pieces, ordinals: Int64Array, expression: Expression) -> Vector:
    """The expression in the rows at these places of the scan; NULL for place -1."""
    lengths = pieces.ends - pieces.starts
    firsts = np.cumsum(lengths) - lengths
    owners = np.maximum(np.searchsorted(firsts + lengths, ordinals, side="right"), 0)
    is_missing = ordinals < 0
    owners = np.where(is_missing, 0, owners)
    rows = np.where(is_missing, -1, ordinals - firsts[owners] + pieces.starts[owners]) if pieces.count else ordinals
    segments = np.where(is_missing, -1, pieces.segments[owners]) if pieces.count else ordinals
    places = np.arange(len(ordinals), dtype=np.int64)
    chosen = Rows(as_words(segments), places, np.ones(len(places), dtype=np.int64), places, as_words(rows))
    columns = Columns.of(scan.snapshot)
    has_missing = bool(is_missing.any())
    return write(pool, scan.snapshot, columns, chosen, len(places), (expression,), has_missing=has_missing)[0]
