"""Runs native plans: takes snapshots, turns lookups into ranges, calls the backend, finishes its small result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends import reused
from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateResult,
    AggregateScan,
    ArithmeticOverflowError,
    AsofJoin,
    Ranges,
    Scan,
    SelectScan,
    TooManyGroupsError,
    TooManyRowsError,
    TopScan,
    Vector,
    WindowFunction,
    WindowScan,
)
from zeptodb.backends.expression import ColumnRef, Expression, Kind
from zeptodb.backends.results import nullable_columns
from zeptodb.sql.evaluate import evaluate, true_rows
from zeptodb.sql.plan import (
    AggregatePlan,
    Finish,
    JoinedPlan,
    JoinPlan,
    Plan,
    Reason,
    SelectPlan,
    Slot,
    TableScan,
    WindowPlan,
)
from zeptodb.sql.string_codes import with_codes
from zeptodb.storage.dictionary import Dictionary
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.storage.workers import Workers
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType

if TYPE_CHECKING:
    from zeptodb.sql.trace import Device

Int64Array = npt.NDArray[np.int64]
ResultColumn = tuple[str, Vector, Dictionary | None]

MAX_SORTED_ROWS = 4_000_000
"""ORDER BY over more scanned rows than this is faster in DuckDB, which sorts in parallel."""

_TOP_SHARE = 4
"""Only if fewer than one row in this many is wanted does it pay to look for the first ones before sorting."""

_ENDS = frozenset({AggregateOp.FIRST, AggregateOp.LAST})

_FEW_ROWS = 4_096
"""So many rows are sorted sooner than the first ones are found."""


class SortTooLargeError(Exception):
    """A native plan turned out to sort more rows than it should; run the statement in DuckDB."""


class NullTimesError(Exception):
    """The order of rows decides, and some of their times are NULL; run the statement in DuckDB."""


class StalePlanError(Exception):
    """The table's schema is not the one that the plan was made for; plan the statement again."""


NOT_NATIVE_AFTER_ALL = (ArithmeticOverflowError, TooManyGroupsError, NullTimesError, SortTooLargeError)
"""What `run` raises when only the rows show that DuckDB has to run the statement."""


def reason_of(error: Exception) -> Reason:
    """Why DuckDB has to run the statement."""
    return Reason(_REASONS[type(error)])


_REASONS: dict[type[Exception], str] = {
    ArithmeticOverflowError: "integer arithmetic leaves INT64",
    TooManyGroupsError: "the keys of GROUP BY span too many values",
    NullTimesError: "the order of rows decides, and some of their times are NULL",
    SortTooLargeError: f"DuckDB sorts more than {MAX_SORTED_ROWS:,} rows faster",
}

Open = Callable[[Table], AbstractContextManager[Snapshot]]


class NativeAnswer(NamedTuple):
    """Columns of an answer, over how many rows it is, and for how many of these summaries spared the reading.

    `right_rows` are those of the right side of a join.
    """

    columns: list[ResultColumn]
    rows_scanned: int
    summarized_rows: int = 0
    right_rows: int = 0


class _Slots(NamedTuple):
    """What an operator left: one vector and, for strings, one dictionary per slot."""

    vectors: list[Vector]
    dictionaries: list[Dictionary | None]
    rows: int


def latest(table: Table) -> Snapshot:
    """The rows of a table as they are now; a materialized view has a way of its own to take them."""
    return table.snapshot()


def run(plan: Plan, engine: Device, open_table: Open = latest) -> NativeAnswer:
    """The answer of `plan` over the tables as they are now; of a JoinedPlan the rows that DuckDB is to finish.

    open_table: gives the snapshots to run on.

    Raises ArithmeticOverflowError when integer arithmetic leaves its type, TooManyGroupsError when keys span more than
    the backend has room for, NullTimesError, SortTooLargeError when DuckDB would sort faster, StalePlanError when a
    table's schema has changed since, UnknownTableError when a table has gone.
    """
    if isinstance(plan, AggregatePlan):
        return _run_aggregate(plan, engine, open_table)
    if isinstance(plan, SelectPlan):
        return _run_select(plan, engine, open_table)
    if isinstance(plan, WindowPlan):
        return _run_window(plan, engine, open_table)
    return _run_join(plan.join if isinstance(plan, JoinedPlan) else plan, engine, open_table)


# ---- operators ---------------------------------------------------------------------------------------------------


def _run_aggregate(plan: AggregatePlan, engine: Device, open_table: Open) -> NativeAnswer:
    table = engine.catalog.get(plan.scan.table)
    with open_table(table) as snapshot:
        # Segments lie in memory as their symbols came, and short ones are read faster so; the rows are sorted after.
        is_sorted_after = plan.by_symbol and plan.bucket is None and not plan.keys and plan.scan.symbols is None
        scan = scan_of(plan.scan, table, snapshot, engine, in_symbol_order=plan.by_symbol and not is_sorted_after)
        if not plan.by_symbol and _has_ends(plan):
            if has_null_keys(snapshot):
                raise NullTimesError
            scan = Scan(snapshot, _in_segment_order(scan.ranges), scan.predicate)
        aggregates = plan.aggregates
        if any(a.condition is not None for a in aggregates):
            aggregates = tuple(_coded_aggregate(a, snapshot) for a in aggregates)
        keys = tuple(_coded(key, snapshot) for key in plan.keys)
        result = engine.backend.aggregate(AggregateScan(scan, aggregates, plan.by_symbol, plan.bucket, keys))
        vectors: list[Vector] = []
        if is_sorted_after:
            symbols, found = _in_symbol_order(result, snapshot, engine.backend.workers)
            vectors += [_symbol_column(symbols, snapshot), *found]
        else:
            if result.segments is not None:
                vectors.append(_symbols_of(snapshot, result.segments, engine.backend.workers))
            if result.buckets is not None:
                vectors.append(Vector(result.buckets, None, ColumnType.TIMESTAMP_NS))
            vectors += [*result.keys, *result.columns]
        dictionaries = [_dictionary(slot, snapshot) for slot in plan.slots]
        rows, finish = len(vectors[0].values), plan.finish
        if finish.order and plan.comes_sorted:
            finish = Finish(finish.outputs, finish.predicate, (), finish.offset, finish.limit)
        columns = _finish(finish, plan.slots, vectors, dictionaries, rows)
        return NativeAnswer(columns, scan.ranges.rows, result.summarized_rows)


def _in_symbol_order(
    result: AggregateResult, snapshot: Snapshot, workers: Workers
) -> tuple[Int64Array, tuple[Vector, ...]]:
    """Symbols and columns of one row per segment, some of them missing, in the order of symbols.

    They come in the order of segments.
    """
    found, order = result.segments, snapshot.segment_order
    assert found is not None
    symbols = snapshot.symbols
    if len(found) < len(order):
        places = np.full(len(order), -1, dtype=np.int64)
        places[found] = np.arange(len(found))
        order = places[order]
        order = order[order >= 0]
        symbols = symbols[found]
    sorted_symbols, *values = reused.take([symbols, *(vector.values for vector in result.columns)], order, workers)
    columns = tuple(
        Vector(column, None if vector.validity is None else vector.validity[order], vector.type)
        for column, vector in zip(values, result.columns, strict=True)
    )
    return sorted_symbols.view(np.int64), columns


def _run_select(plan: SelectPlan, engine: Device, open_table: Open) -> NativeAnswer:
    table = engine.catalog.get(plan.scan.table)
    with open_table(table) as snapshot:
        finish = plan.finish
        scan = scan_of(plan.scan, table, snapshot, engine, in_symbol_order=plan.storage_order is not None)
        is_stored_so = plan.storage_order is not None and not has_null_keys(snapshot)
        if is_stored_so and plan.storage_order == "descending" and scan.predicate is None and finish.limit is not None:
            scan = replace(scan, ranges=_last_rows(scan.ranges, finish.offset + finish.limit))
        is_sorted = not finish.order or (is_stored_so and plan.storage_order == "ascending")
        columns = tuple(_coded(e, snapshot) for e in plan.columns)
        if is_sorted:
            vectors = list(engine.backend.select(SelectScan(scan, columns, finish.offset, finish.limit)))
            finish = Finish(finish.outputs, finish.predicate)
        else:
            vectors = _rows_to_sort(scan, columns, plan, engine)
        dictionaries = [_dictionary(slot, snapshot) for slot in plan.slots]
        rows = len(vectors[0].values)
        return NativeAnswer(_finish(finish, plan.slots, vectors, dictionaries, rows), scan.ranges.rows)


def _run_window(plan: WindowPlan, engine: Device, open_table: Open) -> NativeAnswer:
    table = engine.catalog.get(plan.scan.table)
    with open_table(table) as snapshot:
        if has_null_keys(snapshot):
            raise NullTimesError
        finish = plan.finish
        scan = scan_of(plan.scan, table, snapshot, engine, in_symbol_order=plan.storage_order is not None)
        rows_scanned = scan.ranges.rows
        if plan.storage_order == "ascending":
            finish = finish._replace(order=())
        if finish.order and rows_scanned > MAX_SORTED_ROWS:
            raise SortTooLargeError
        if finish.limit is not None and not finish.order and scan.predicate is None:
            # Windows look back only, so that the first rows do not depend on later ones.
            scan = replace(scan, ranges=trimmed(scan.ranges, 0, finish.offset + finish.limit))
        columns = tuple(_coded_column(column, snapshot) for column in plan.columns)
        vectors = list(engine.backend.window(WindowScan(scan, columns)))
        dictionaries = [_dictionary(slot, snapshot) for slot in plan.slots]
        rows = len(vectors[0].values)
        return NativeAnswer(_finish(finish, plan.slots, vectors, dictionaries, rows), rows_scanned)


def _rows_to_sort(scan: Scan, columns: tuple[Expression, ...], plan: SelectPlan, engine: Device) -> list[Vector]:
    """The rows among which the first ones are, in the order of the scan."""
    top = _top_scan(scan, columns, plan)
    if top is not None and TopScan in engine.backend.capabilities.operators:
        try:
            return list(engine.backend.top(top))
        except TooManyRowsError as error:
            raise SortTooLargeError from error
    if scan.ranges.rows > MAX_SORTED_ROWS:
        raise SortTooLargeError
    return list(engine.backend.select(SelectScan(scan, columns)))


def _top_scan(scan: Scan, columns: tuple[Expression, ...], plan: SelectPlan) -> TopScan | None:
    """The operator that finds the first rows by the first key of ORDER BY; None where sorting all is as well."""
    finish = plan.finish
    if finish.limit is None:
        return None
    limit, first, rows = finish.offset + finish.limit, finish.order[0], scan.ranges.rows
    if rows <= _FEW_ROWS or limit * _TOP_SHARE > rows or not isinstance(first.expression, ColumnRef):
        return None
    slot = first.expression.index
    if plan.slots[slot].type in (ColumnType.STRING, ColumnType.BOOL) or columns[slot].kind is Kind.BOOL:
        return None
    is_only_key = len(finish.order) == 1
    return TopScan(
        scan, columns[slot], first.is_descending, first.nulls_first, is_only_key, columns, limit, MAX_SORTED_ROWS
    )


def _run_join(plan: JoinPlan, engine: Device, open_table: Open) -> NativeAnswer:
    left_table, right_table = engine.catalog.get(plan.left.table), engine.catalog.get(plan.right.table)
    with ExitStack() as stack:
        left = stack.enter_context(open_table(left_table))
        right = left if right_table is left_table else stack.enter_context(open_table(right_table))
        if right.schema is not plan.right.schema:
            raise StalePlanError
        scan = scan_of(plan.left, left_table, left, engine, in_symbol_order=False)
        segments = _right_segments(left, scan.ranges.segments, right)
        wanted = np.unique(segments[segments >= 0])
        right_scan = Scan(right, _whole_segments(right, wanted))
        operation = AsofJoin(
            scan, right_scan, segments, plan.op, plan.keep_unmatched, plan.left_columns, plan.right_columns
        )
        result = engine.backend.asof_join(operation)
        sides = {"left": iter(result[: len(plan.left_columns)]), "right": iter(result[len(plan.left_columns) :])}
        vectors = [next(sides[slot.side]) for slot in plan.slots]
        dictionaries = [_dictionary(slot, left if slot.side == "left" else right) for slot in plan.slots]
        rows = len(vectors[0].values)
        columns = _finish(plan.finish, plan.slots, vectors, dictionaries, rows)
        right_rows = right_scan.ranges.rows
        return NativeAnswer(columns, scan.ranges.rows + right_rows, right_rows=right_rows)


# ---- scans -------------------------------------------------------------------------------------------------------


def scan_of(scan: TableScan, table: Table, snapshot: Snapshot, engine: Device, *, in_symbol_order: bool) -> Scan:
    """The rows of a table that a plan reads; raises StalePlanError when the snapshot has another schema."""
    if snapshot.schema is not scan.schema:
        raise StalePlanError
    ranges = _segments(scan, table, snapshot, in_symbol_order=in_symbol_order)
    if scan.from_ns is not None or scan.to_ns is not None:
        ranges = engine.backend.time_ranges(snapshot, ranges.segments, from_ns=scan.from_ns, to_ns=scan.to_ns)
    return Scan(snapshot, ranges, None if scan.predicate is None else _coded(scan.predicate, snapshot))


def _segments(scan: TableScan, table: Table, snapshot: Snapshot, *, in_symbol_order: bool) -> Ranges:
    """All rows of the segments whose symbols are asked for."""
    if scan.is_empty:
        return _whole_segments(snapshot, np.zeros(0, np.int64))
    if scan.symbols is not None:
        found = [_segment(symbol, table, snapshot) for symbol in scan.symbols]
        ranges = _whole_segments(snapshot, np.array([s for s in found if s >= 0], dtype=np.int64))
    else:
        ranges = _all_rows(snapshot, in_symbol_order=in_symbol_order)
    if scan.symbol_filter is None or not len(ranges.segments):
        return ranges
    segments = ranges.segments
    columns: dict[int, Vector] = {snapshot.schema.symbol_index: _symbol_column(snapshot.symbols[segments], snapshot)}
    condition = _coded(scan.symbol_filter, snapshot)
    return _whole_segments(snapshot, segments[true_rows(condition, columns, len(segments))])  # type: ignore[arg-type]


def _all_rows(snapshot: Snapshot, *, in_symbol_order: bool) -> Ranges:
    """Every segment, made once per version of the table."""
    name = "ranges_in_symbol_order" if in_symbol_order else "ranges"
    known: Ranges | None = snapshot.derived.get(name)
    if known is None:
        segments = snapshot.segment_order if in_symbol_order else np.arange(len(snapshot.lengths), dtype=np.int64)
        known = snapshot.derived[name] = _whole_segments(snapshot, segments)
    return known


def _segment(symbol: int | str, table: Table, snapshot: Snapshot) -> int:
    """The segment of a symbol in this snapshot, -1 when it has none."""
    if isinstance(symbol, int) and not INT64_MIN <= symbol <= INT64_MAX:
        return -1
    dictionary = snapshot.dictionaries[snapshot.schema.symbol_index]
    key = symbol if isinstance(symbol, int) else None if dictionary is None else dictionary.find(symbol)
    if key is None or (isinstance(symbol, int) and dictionary is not None):
        return -1
    segment = table.contents.find(key)
    if segment is not None and segment < len(snapshot.symbols) and int(snapshot.symbols[segment]) == key:
        return segment
    # The table's contents were swapped since the snapshot was taken, or the symbol is newer than it.
    matches = np.flatnonzero(snapshot.symbols == key)
    return int(matches[0]) if len(matches) else -1


def _whole_segments(snapshot: Snapshot, segments: Int64Array) -> Ranges:
    return Ranges(segments, np.zeros(len(segments), np.int64), snapshot.lengths[segments])


def _last_rows(ranges: Ranges, count: int) -> Ranges:
    """The last `count` rows of the ranges of one segment."""
    return Ranges(ranges.segments, np.maximum(ranges.starts, ranges.ends - count), ranges.ends)


def trimmed(ranges: Ranges, offset: int, limit: int | None) -> Ranges:
    """The ranges without the first `offset` rows and without what lies beyond `limit`; empty ones left out."""
    rows = ranges.ends - ranges.starts
    before = np.cumsum(rows) - rows
    last = ranges.rows if limit is None else offset + limit
    starts = ranges.starts + np.clip(offset - before, 0, rows)
    ends = ranges.starts + np.clip(last - before, 0, rows)
    kept = ends > starts
    return Ranges(ranges.segments[kept], starts[kept], ends[kept])


def _right_segments(left: Snapshot, segments: Int64Array, right: Snapshot) -> Int64Array:
    """Per segment of the left snapshot the right one's segment of the same symbol, -1 when there is none."""
    if left is right:
        return segments
    if left.schema.symbol is None:
        return np.full(len(segments), 0 if len(right.lengths) else -1, np.int64)
    symbols = left.symbols[segments]
    left_names = left.dictionaries[left.schema.symbol_index]
    right_names = right.dictionaries[right.schema.symbol_index]
    if left_names is not None and right_names is not None:
        codes = [right_names.find(left_names.values[code]) for code in symbols.tolist()]
        symbols = np.array([-1 if code is None else code for code in codes], dtype=np.int64)
    elif left_names is not right_names:
        return np.full(len(segments), -1, np.int64)
    order = np.argsort(right.symbols, kind="stable")
    known = right.symbols[order]
    places = np.searchsorted(known, symbols)
    is_found = places < len(known)
    is_found[is_found] = known[places[is_found]] == symbols[is_found]
    return np.where(is_found, order[np.where(is_found, places, 0)] if len(order) else -1, -1).astype(np.int64)


def _symbols_of(snapshot: Snapshot, segments: Int64Array, workers: Workers) -> Vector:
    (symbols,) = reused.take([snapshot.symbols], segments, workers)
    return _symbol_column(symbols.view(np.int64), snapshot)


def _symbol_column(symbols: Int64Array, snapshot: Snapshot) -> Vector:
    """Symbols, or what a dictionary has for them."""
    if snapshot.schema.symbol is None or snapshot.dictionaries[snapshot.schema.symbol_index] is None:
        return Vector(symbols, None, ColumnType.INT64)
    return Vector(symbols.astype(np.int32), None, ColumnType.STRING)


def _dictionary(slot: Slot, snapshot: Snapshot) -> Dictionary | None:
    return None if slot.dictionary is None else snapshot.dictionaries[slot.dictionary]


def _has_ends(plan: AggregatePlan) -> bool:
    return any(a.op in _ENDS for a in plan.aggregates)


def _in_segment_order(ranges: Ranges) -> Ranges:
    """The ranges as segments follow one another: of equal times the row of the earlier segment is the first."""
    if len(ranges.segments) == 1:
        return ranges
    order = np.argsort(ranges.segments, kind="stable")
    return Ranges(ranges.segments[order], ranges.starts[order], ranges.ends[order])


def has_null_keys(snapshot: Snapshot) -> bool:
    """Whether the times by which rows are kept in order may be NULL."""
    index = snapshot.schema.timestamp_index
    return index in nullable_columns(snapshot)


def _coded_column(column: Expression | WindowFunction, snapshot: Snapshot) -> Expression | WindowFunction:
    if isinstance(column, WindowFunction):
        return replace(column, argument=_coded(column.argument, snapshot))
    return _coded(column, snapshot)


def _coded(expression: Expression, snapshot: Snapshot) -> Expression:
    return with_codes(expression, snapshot.dictionaries)


def _coded_aggregate(aggregate: Aggregate, snapshot: Snapshot) -> Aggregate:
    """Strings occur in conditions only: no aggregate computes with them."""
    if aggregate.condition is None:
        return aggregate
    return replace(aggregate, condition=_coded(aggregate.condition, snapshot))


# ---- what is left after the operator -----------------------------------------------------------------------------


def _finish(
    finish: Finish, slots: Sequence[Slot], vectors: list[Vector], dictionaries: list[Dictionary | None], rows: int
) -> list[ResultColumn]:
    state = _Slots([_typed(v, slot.type) for v, slot in zip(vectors, slots, strict=False)], dictionaries, rows)
    if finish.predicate is not None:
        predicate = with_codes(finish.predicate, dictionaries)
        state = _taken(state, np.flatnonzero(true_rows(predicate, state.vectors, rows)))
    if finish.order:
        state = _taken(state, _sorted_rows(finish, state))
    elif finish.offset or finish.limit is not None:
        state = _taken(state, np.arange(state.rows)[_window(finish)])
    columns = []
    for item in finish.outputs:
        vector = _value(item.expression, state)
        dictionary = None if item.dictionary_slot is None else dictionaries[item.dictionary_slot]
        columns.append((item.name, result_vector(vector, item.type), dictionary))
    return columns


def _window(finish: Finish) -> slice:
    return slice(finish.offset, None if finish.limit is None else finish.offset + finish.limit)


def _sorted_rows(finish: Finish, state: _Slots) -> Int64Array:
    from zeptodb.sql.order import SortKey, sort_order

    keys = []
    for key in finish.order:
        dictionary = None if key.dictionary_slot is None else state.dictionaries[key.dictionary_slot]
        keys.append(SortKey(_value(key.expression, state), dictionary, key.is_descending, key.nulls_first))
    limit = None if finish.limit is None else min(finish.offset + finish.limit, state.rows)
    return sort_order(keys, state.rows, limit=limit)[_window(finish)]


def _value(expression: Expression, state: _Slots) -> Vector:
    """The value of an expression over the slots; a slot itself is passed on with its type."""
    if isinstance(expression, ColumnRef):
        return state.vectors[expression.index]
    return evaluate(with_codes(expression, state.dictionaries), state.vectors, state.rows)


def _taken(state: _Slots, rows: Int64Array) -> _Slots:
    vectors = [Vector(v.values[rows], None if v.validity is None else v.validity[rows], v.type) for v in state.vectors]
    return _Slots(vectors, state.dictionaries, len(rows))


def _typed(vector: Vector, column_type: ColumnType) -> Vector:
    """A slot's vector under the type that SQL gives it."""
    return vector if vector.type is column_type else Vector(vector.values, vector.validity, column_type)


def result_vector(vector: Vector, column_type: ColumnType) -> Vector:
    """A column of the answer: in its type's dtype, HUGEINT as INT64 when every value fits."""
    values, validity = vector.values, vector.validity
    is_typed = vector.type is column_type and values.dtype == column_type.dtype
    if is_typed and validity is None and column_type is not ColumnType.HUGEINT:
        return vector
    if validity is not None and validity.all():
        validity = None
    if column_type is ColumnType.HUGEINT:
        if values.dtype != object:
            return Vector(values, validity, ColumnType.INT64)
        valid = values if validity is None else np.where(validity, values, 0)
        if all(INT64_MIN <= v <= INT64_MAX for v in valid):
            return Vector(valid.astype(np.int64), validity, ColumnType.INT64)
        return Vector(valid, validity, ColumnType.HUGEINT)
    return Vector(values.astype(column_type.dtype, copy=False), validity, column_type)
