"""Runs native plans: takes snapshots and asks the backend; `scans` has what is read, `finishing` what is left to do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends import reused
from zeptodb.backends.base import (
    AggregateOp,
    AggregateResult,
    AggregateScan,
    ArithmeticOverflowError,
    AsofJoin,
    Scan,
    SelectScan,
    TooManyGroupsError,
    TooManyRowsError,
    TopScan,
    Vector,
    WindowScan,
)
from zeptodb.backends.expression import ColumnRef, Expression, Kind
from zeptodb.sql.finishing import finished_columns
from zeptodb.sql.plan import (
    AggregatePlan,
    Finish,
    JoinedPlan,
    JoinPlan,
    Plan,
    Reason,
    SelectPlan,
    Slot,
    WindowPlan,
)
from zeptodb.sql.result import ResultColumn
from zeptodb.sql.scans import (
    StalePlanError,
    coded,
    coded_aggregate,
    coded_column,
    has_null_keys,
    in_segment_order,
    last_rows,
    right_segments,
    scan_of,
    symbol_column,
    trimmed,
    whole_segments,
)
from zeptodb.storage.dictionary import Dictionary
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.storage.workers import Workers
from zeptodb.types import ColumnType

if TYPE_CHECKING:
    from zeptodb.sql.trace import Device

Int64Array = npt.NDArray[np.int64]

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


def _run_aggregate(plan: AggregatePlan, engine: Device, open_table: Open) -> NativeAnswer:
    table = engine.catalog.get(plan.scan.table)
    with open_table(table) as snapshot:
        # Segments lie in memory as their symbols came, and short ones are read faster so; the rows are sorted after.
        is_sorted_after = plan.by_symbol and plan.bucket is None and not plan.keys and plan.scan.symbols is None
        scan = scan_of(plan.scan, table, snapshot, engine, in_symbol_order=plan.by_symbol and not is_sorted_after)
        if not plan.by_symbol and _has_ends(plan):
            if has_null_keys(snapshot):
                raise NullTimesError
            scan = Scan(snapshot, in_segment_order(scan.ranges), scan.predicate)
        aggregates = plan.aggregates
        if any(a.condition is not None for a in aggregates):
            aggregates = tuple(coded_aggregate(a, snapshot) for a in aggregates)
        keys = tuple(coded(key, snapshot) for key in plan.keys)
        result = engine.backend.aggregate(AggregateScan(scan, aggregates, plan.by_symbol, plan.bucket, keys))
        vectors: list[Vector] = []
        if is_sorted_after:
            symbols, found = _in_symbol_order(result, snapshot, engine.backend.workers)
            vectors += [symbol_column(symbols, snapshot), *found]
        else:
            if result.segments is not None:
                taken = reused.take([snapshot.symbols], result.segments, engine.backend.workers)
                vectors.append(symbol_column(taken[0].view(np.int64), snapshot))
            if result.buckets is not None:
                vectors.append(Vector(result.buckets, None, ColumnType.TIMESTAMP_NS))
            vectors += [*result.keys, *result.columns]
        dictionaries = [_dictionary(slot, snapshot) for slot in plan.slots]
        rows, finish = len(vectors[0].values), plan.finish
        if finish.order and plan.comes_sorted:
            finish = Finish(finish.outputs, finish.predicate, (), finish.offset, finish.limit)
        columns = finished_columns(finish, plan.slots, vectors, dictionaries, rows)
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
            scan = replace(scan, ranges=last_rows(scan.ranges, finish.offset + finish.limit))
        is_sorted = not finish.order or (is_stored_so and plan.storage_order == "ascending")
        columns = tuple(coded(e, snapshot) for e in plan.columns)
        if is_sorted:
            vectors = list(engine.backend.select(SelectScan(scan, columns, finish.offset, finish.limit)))
            finish = Finish(finish.outputs, finish.predicate)
        else:
            vectors = _rows_to_sort(scan, columns, plan, engine)
        dictionaries = [_dictionary(slot, snapshot) for slot in plan.slots]
        rows = len(vectors[0].values)
        return NativeAnswer(finished_columns(finish, plan.slots, vectors, dictionaries, rows), scan.ranges.rows)


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
        columns = tuple(coded_column(column, snapshot) for column in plan.columns)
        vectors = list(engine.backend.window(WindowScan(scan, columns)))
        dictionaries = [_dictionary(slot, snapshot) for slot in plan.slots]
        rows = len(vectors[0].values)
        return NativeAnswer(finished_columns(finish, plan.slots, vectors, dictionaries, rows), rows_scanned)


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
        segments = right_segments(left, scan.ranges.segments, right)
        wanted = np.unique(segments[segments >= 0])
        right_scan = Scan(right, whole_segments(right, wanted))
        operation = AsofJoin(
            scan, right_scan, segments, plan.op, plan.keep_unmatched, plan.left_columns, plan.right_columns
        )
        result = engine.backend.asof_join(operation)
        sides = {"left": iter(result[: len(plan.left_columns)]), "right": iter(result[len(plan.left_columns) :])}
        vectors = [next(sides[slot.side]) for slot in plan.slots]
        dictionaries = [_dictionary(slot, left if slot.side == "left" else right) for slot in plan.slots]
        rows = len(vectors[0].values)
        columns = finished_columns(plan.finish, plan.slots, vectors, dictionaries, rows)
        right_rows = right_scan.ranges.rows
        return NativeAnswer(columns, scan.ranges.rows + right_rows, right_rows=right_rows)


def _dictionary(slot: Slot, snapshot: Snapshot) -> Dictionary | None:
    return None if slot.dictionary is None else snapshot.dictionaries[slot.dictionary]


def _has_ends(plan: AggregatePlan) -> bool:
    return any(a.op in _ENDS for a in plan.aggregates)
