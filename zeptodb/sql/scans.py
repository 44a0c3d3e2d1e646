"""What native plans read: rows of a snapshot by symbol and time, and expressions with the codes of its strings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Aggregate, Ranges, Scan, Vector, WindowFunction
from zeptodb.backends.expression import Expression
from zeptodb.backends.results import nullable_columns
from zeptodb.sql.evaluate import true_rows
from zeptodb.sql.plan import TableScan
from zeptodb.sql.string_codes import with_codes
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType

if TYPE_CHECKING:
    from zeptodb.sql.trace import Device

Int64Array = npt.NDArray[np.int64]


class StalePlanError(Exception):
    """The table's schema is not the one that the plan was made for; plan the statement again."""


def scan_of(scan: TableScan, table: Table, snapshot: Snapshot, engine: Device, *, in_symbol_order: bool) -> Scan:
    """The rows of a table that a plan reads; raises StalePlanError when the snapshot has another schema."""
    if snapshot.schema is not scan.schema:
        raise StalePlanError
    ranges = _segments(scan, table, snapshot, in_symbol_order=in_symbol_order)
    if scan.from_ns is not None or scan.to_ns is not None:
        ranges = engine.backend.time_ranges(snapshot, ranges.segments, from_ns=scan.from_ns, to_ns=scan.to_ns)
    return Scan(snapshot, ranges, None if scan.predicate is None else coded(scan.predicate, snapshot))


def _segments(scan: TableScan, table: Table, snapshot: Snapshot, *, in_symbol_order: bool) -> Ranges:
    """All rows of the segments whose symbols are asked for."""
    if scan.is_empty:
        return whole_segments(snapshot, np.zeros(0, np.int64))
    if scan.symbols is not None:
        found = [_segment(symbol, table, snapshot) for symbol in scan.symbols]
        ranges = whole_segments(snapshot, np.array([s for s in found if s >= 0], dtype=np.int64))
    else:
        ranges = _all_rows(snapshot, in_symbol_order=in_symbol_order)
    if scan.symbol_filter is None or not len(ranges.segments):
        return ranges
    segments = ranges.segments
    columns: dict[int, Vector] = {snapshot.schema.symbol_index: symbol_column(snapshot.symbols[segments], snapshot)}
    condition = coded(scan.symbol_filter, snapshot)
    return whole_segments(snapshot, segments[true_rows(condition, columns, len(segments))])  # type: ignore[arg-type]


def _all_rows(snapshot: Snapshot, *, in_symbol_order: bool) -> Ranges:
    """Every segment, made once per version of the table."""
    name = "ranges_in_symbol_order" if in_symbol_order else "ranges"
    known: Ranges | None = snapshot.derived.get(name)
    if known is None:
        segments = snapshot.segment_order if in_symbol_order else np.arange(len(snapshot.lengths), dtype=np.int64)
        known = snapshot.derived[name] = whole_segments(snapshot, segments)
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


def whole_segments(snapshot: Snapshot, segments: Int64Array) -> Ranges:
    """All rows of these segments, in this order."""
    return Ranges(segments, np.zeros(len(segments), np.int64), snapshot.lengths[segments])


def last_rows(ranges: Ranges, count: int) -> Ranges:
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


def right_segments(left: Snapshot, segments: Int64Array, right: Snapshot) -> Int64Array:
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


def in_segment_order(ranges: Ranges) -> Ranges:
    """The ranges as segments follow one another: of equal times the row of the earlier segment is the first."""
    if len(ranges.segments) == 1:
        return ranges
    order = np.argsort(ranges.segments, kind="stable")
    return Ranges(ranges.segments[order], ranges.starts[order], ranges.ends[order])


def has_null_keys(snapshot: Snapshot) -> bool:
    """Whether the times by which rows are kept in order may be NULL."""
    index = snapshot.schema.timestamp_index
    return index in nullable_columns(snapshot)


def coded_column(column: Expression | WindowFunction, snapshot: Snapshot) -> Expression | WindowFunction:
    """As `coded`, also of what a window computes with."""
    if isinstance(column, WindowFunction):
        return replace(column, argument=coded(column.argument, snapshot))
    return coded(column, snapshot)


def coded(expression: Expression, snapshot: Snapshot) -> Expression:
    """The expression with the codes of the snapshot's dictionaries instead of strings."""
    return with_codes(expression, snapshot.dictionaries)


def coded_aggregate(aggregate: Aggregate, snapshot: Snapshot) -> Aggregate:
    """Strings occur in conditions only: no aggregate computes with them."""
    if aggregate.condition is None:
        return aggregate
    return replace(aggregate, condition=coded(aggregate.condition, snapshot))


def symbol_column(symbols: Int64Array, snapshot: Snapshot) -> Vector:
    """Symbols, or what a dictionary has for them."""
    if snapshot.schema.symbol is None or snapshot.dictionaries[snapshot.schema.symbol_index] is None:
        return Vector(symbols, None, ColumnType.INT64)
    return Vector(symbols.astype(np.int32), None, ColumnType.STRING)
