"""AggregateScan by keys on the CPU: values of the keys into places of a dense table, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zeptodb.backends import control
from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateResult,
    AggregateScan,
    Scan,
    TooManyGroupsError,
    Vector,
)
from zeptodb.backends.cpu import accumulate as kernels
from zeptodb.backends.cpu import dense
from zeptodb.backends.cpu.aggregate import aggregate
from zeptodb.backends.cpu.columns import Columns, scratch
from zeptodb.backends.cpu.expression import interpreter
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.cpu.select import Rows, write
from zeptodb.backends.expression import Bucket, ColumnRef, Expression, Kind
from zeptodb.backends.finish import FINISHERS, Groups
from zeptodb.backends.pieces import Pieces, as_words, cut
from zeptodb.backends.primitives import FIRST, Plan, lower
from zeptodb.backends.program import may_be_null
from zeptodb.backends.results import nullable_columns, overflow, result_type
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

MAX_GROUPS = 1 << 17
"""Most places of the dense table."""

_TABLE_WORDS = 1 << 22
"""Words that the tables of all chunks take at most, unless that would leave fewer than `_MIN_CHUNKS`."""

_MIN_CHUNKS = 8
_NO_TIMES = np.empty((0, 0), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Key:
    """One key and the places of its values: (value - least) // width, NULL after all others.

    Attributes:
        expression: the key.
        least, width: as above.
        count: how many places there are, NULL's included if there may be one.
        has_null: whether there may be one.
        stride: how far apart two neighbours of this key lie, in groups.
    """

    expression: Expression
    least: int
    width: int
    count: int
    has_null: bool
    stride: int = 1


def group(pool: WorkerPool, operation: AggregateScan) -> AggregateResult:
    """Run an AggregateScan that has keys."""
    scan = operation.scan
    keys = _keys(pool, operation)
    groups = max(1, keys[0].stride * keys[0].count)
    ranges = len(scan.ranges.segments) if operation.by_symbol else 1
    if groups * max(ranges, 1) > MAX_GROUPS:
        raise TooManyGroupsError(
            f"The keys span {groups * ranges:,} groups; at most {MAX_GROUPS:,} have a place in the dense table."
        )
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
    columns = [_key_values(key, chosen % groups) for key in keys]
    buckets = None if operation.bucket is None else columns.pop(0).values.astype(np.int64, copy=False)
    return AggregateResult(segments, buckets, vectors, tuple(columns))


# ---- keys --------------------------------------------------------------------------------------------------------


def _keys(pool: WorkerPool, operation: AggregateScan) -> list[_Key]:
    """The bucket, if any, and the keys, with the places of their values; the last one varies fastest."""
    scan = operation.scan
    expressions = list(operation.keys)
    if operation.bucket is not None:
        stamp = ColumnRef(scan.snapshot.schema.timestamp_index, ColumnType.TIMESTAMP_NS)
        expressions.insert(0, Bucket(stamp, operation.bucket.width_ns, operation.bucket.origin_ns))
    nullable = nullable_columns(scan.snapshot)
    spans = _spans(pool, scan, expressions)
    keys: list[_Key] = []
    stride = 1
    for expression, (least, greatest) in reversed(list(zip(expressions, spans, strict=True))):
        width = expression.width if isinstance(expression, Bucket) else 1
        has_null = may_be_null(expression, nullable)
        count = max(0, (greatest - least) // width + 1) + has_null
        keys.insert(0, _Key(expression, least, width, count, has_null, stride))
        stride *= max(count, 1)
    return keys


def _spans(pool: WorkerPool, scan: Scan, expressions: list[Expression]) -> list[tuple[int, int]]:
    """Least and greatest value of each key over the rows in range, the predicate left aside; (0, -1) of no value."""
    known = {e: _known_span(scan, e) for e in expressions}
    unknown = [e for e, span in known.items() if span is None]
    if unknown:
        # Buckets ascend with their argument, which is cheaper to look at.
        arguments = [e.argument if isinstance(e, Bucket) else e for e in unknown]
        items = tuple(Aggregate(op, (a,)) for a in arguments for op in (AggregateOp.MIN, AggregateOp.MAX))
        columns = aggregate(pool, AggregateScan(replace(scan, predicate=None), items)).columns
        for i, expression in enumerate(unknown):
            low, high = columns[2 * i], columns[2 * i + 1]
            if low.validity is not None and not low.validity[0]:
                known[expression] = (0, -1)
                continue
            span = (int(low.values[0]), int(high.values[0]))
            if isinstance(expression, Bucket):
                span = (_floor(span[0], expression), _floor(span[1], expression))
            known[expression] = span
    return [known[e] or (0, -1) for e in expressions]


def _known_span(scan: Scan, expression: Expression) -> tuple[int, int] | None:
    """The span of a key that needs no look at the rows."""
    if expression.kind is Kind.BOOL:
        return 0, 1
    if not isinstance(expression, ColumnRef):
        return None
    if expression.index == scan.snapshot.schema.symbol_index:
        symbols = scan.snapshot.symbols[scan.ranges.segments]
        return (int(symbols.min()), int(symbols.max())) if len(symbols) else (0, -1)
    dictionary = scan.snapshot.dictionaries[expression.index]
    return (0, len(dictionary) - 1) if expression.type is ColumnType.STRING and dictionary is not None else None


def _floor(value: int, bucket: Bucket) -> int:
    return bucket.origin + (value - bucket.origin) // bucket.width * bucket.width


def _key_values(key: _Key, groups: Int64Array) -> Vector:
    """The key's values in the given groups."""
    places = groups // key.stride % max(key.count, 1)
    kind = result_type(key.expression)
    is_valid = places < key.count - 1 if key.has_null else np.ones(len(places), dtype=np.bool_)
    values = np.where(is_valid, places, 0) * key.width + key.least
    return Vector(values.astype(kind.dtype), None if is_valid.all() else is_valid, kind)


# ---- kernels -----------------------------------------------------------------------------------------------------


def _lower(operation: AggregateScan, keys: list[_Key]) -> tuple[Plan, Int64Array]:
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
    kept_plan = replace(plan, sections=sections, primitives=plan.primitives[kept], width=plain.width)
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

    def run(self, keys: list[_Key], registers: Int64Array) -> tuple[Int64Array, dict[int, Int64Array]]:
        """The words of every group, [slot, group], and per slot of FIRST and LAST the place of its row in the scan."""
        plan, pieces = self.plan, self.pieces
        columns = Columns.of(self.operation.scan.snapshot)
        count = len(self.chunks) - 1
        control.reserve(8 * plan.width * count * self.places)
        partials = np.empty((plan.width, count * self.places), dtype=np.int64)
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
        words = np.empty((plan.width, self.places), dtype=np.int64)
        kernels.combine(as_words(order), bounds, plan.primitives, times, partials, words)
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

    def _key_table(self, keys: list[_Key], registers: Int64Array) -> Int64Array:
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
