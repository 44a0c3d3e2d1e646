"""Answers that are runs of stored rows, as Arrow columns over the segments' own memory: nothing is gathered."""

from __future__ import annotations

import pyarrow as pa

from zeptodb.backends.expression import ColumnRef
from zeptodb.record import record
from zeptodb.sql.engine import Engine
from zeptodb.sql.export import ViewLease
from zeptodb.sql.plan import Plan, SelectPlan
from zeptodb.sql.register import MIN_CHUNK_ROWS, arrow_table
from zeptodb.sql.scans import has_null_keys, scan_of, trimmed
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType

MIN_ROWS = 65_536
"""Fewer rows are gathered sooner than their segments are looked up one by one."""


@record
class StoredRows:
    """Columns over stored rows: one chunk per segment, symbols and strings dictionary-coded, times int64 ns.

    `timestamp_columns` are the indexes of those times.
    """

    table: pa.Table
    rows_scanned: int
    timestamp_columns: frozenset[int]


def stored_rows(plan: Plan, engine: Engine) -> StoredRows | None:
    """The answer of a plan that takes whole runs of rows as they are stored.

    None when rows are chosen by their values, computed or sorted, when they are few, or in short segments. The memory
    stays as it is, whatever is written later, for as long as the table or a part of it lives. Raises StalePlanError.
    """
    if not isinstance(plan, SelectPlan) or not _takes_columns(plan):
        return None
    table = engine.catalog.get(plan.scan.table)
    with table.frozen():
        snapshot = table.snapshot()
        lease = ViewLease(snapshot, [])
        try:
            scan = scan_of(plan.scan, table, snapshot, engine, in_symbol_order=plan.storage_order is not None)
            ranges = trimmed(scan.ranges, plan.finish.offset, plan.finish.limit)
            if not _is_stored_so(plan, snapshot) or ranges.rows < max(MIN_ROWS, MIN_CHUNK_ROWS * len(ranges.segments)):
                return None
            indexes = [_column(plan, output.expression) for output in plan.finish.outputs]
            stored = sorted({c for c in indexes if c != snapshot.schema.symbol_index})
            lease.views += [table.view(s, c) for s in ranges.segments.tolist() for c in stored]
            columns = arrow_table(lease, ranges, list(dict.fromkeys(indexes)), engine.backend, may_gather=False)
        finally:
            lease.close()
    names = [output.name for output in plan.finish.outputs]
    arrays = [columns.column(snapshot.schema.fields[c].name) for c in indexes]
    schema = pa.schema([pa.field(name, array.type) for name, array in zip(names, arrays, strict=True)])
    times = [i for i, output in enumerate(plan.finish.outputs) if output.type is ColumnType.TIMESTAMP_NS]
    return StoredRows(pa.Table.from_arrays(arrays, schema=schema), scan.ranges.rows, frozenset(times))


def _takes_columns(plan: SelectPlan) -> bool:
    """Whether the answer's columns are columns of the table, rows neither chosen by their values nor sorted anew."""
    finish = plan.finish
    if plan.scan.predicate is not None or finish.predicate is not None or not finish.outputs:
        return False
    if finish.order and plan.storage_order != "ascending":
        return False
    if not all(isinstance(expression, ColumnRef) for expression in plan.columns):
        return False
    return all(
        isinstance(output.expression, ColumnRef) and plan.slots[output.expression.index].type is output.type
        for output in finish.outputs
    )


def _column(plan: SelectPlan, expression: object) -> int:
    """Index of the table's column that an output shows."""
    assert isinstance(expression, ColumnRef)
    column = plan.columns[expression.index]
    assert isinstance(column, ColumnRef)
    return column.index


def _is_stored_so(plan: SelectPlan, snapshot: Snapshot) -> bool:
    return not plan.finish.order or not has_null_keys(snapshot)
