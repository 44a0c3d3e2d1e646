"""AggregateScan by keys on the device: rows side by side by the group's place, then aggregated as pieces of a list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import AggregateResult, AggregateScan
from zeptodb.backends.cuda.accumulate import MANY_PIECES, listed_pieces
from zeptodb.backends.cuda.aggregate import Answer
from zeptodb.backends.cuda.batch import allocate, read_word
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.groups import gathered, group_by_key
from zeptodb.backends.cuda.layout import layout_of
from zeptodb.backends.cuda.lowering import lower_for_device
from zeptodb.backends.cuda.operands import Operands
from zeptodb.backends.cuda.select import Found, find_rows
from zeptodb.backends.keys import Key, find_keys, groups_of, key_values
from zeptodb.backends.results import nullable_columns, overflow

Int64Array = npt.NDArray[np.int64]


def group(
    driver: Driver,
    columns: DeviceColumns,
    operation: AggregateScan,
    aggregate: Callable[[AggregateScan], AggregateResult],
    *,
    many_pieces: int = MANY_PIECES,
) -> AggregateResult:
    """Run an AggregateScan that has keys; `aggregate` runs one without."""
    snapshot, predicate = operation.scan.snapshot, operation.scan.predicate
    keys = find_keys(operation, aggregate)
    groups, _ = groups_of(operation, keys)
    plan = lower_for_device(operation.aggregates, predicate, nullable_columns(snapshot), snapshot.schema)
    columns.require(snapshot, plan.columns)
    found = find_rows(driver, columns, operation.scan)
    places, rows, segments = _find_groups(driver, columns, operation, keys, groups, found)
    order = None
    is_mixed = not operation.by_symbol and len(operation.scan.ranges.segments) > 1
    if plan.plan.ends and is_mixed and snapshot.schema.timestamp_index >= 0:
        # In order of time, the first row of a group is what FIRST wants.
        order = _time_order(driver, columns, operation, segments, rows)
    by_key = group_by_key(driver, places, order=order)
    if by_key.order is not None:
        rows, segments = gathered(driver, rows, by_key.order), gathered(driver, segments, by_key.order)
    pieces = listed_pieces(driver, by_key.bounds, rows, segments, many_pieces=many_pieces)
    layout = layout_of(pieces, None, by_key.keys)
    # The rows of the list have passed the predicate already, but conditions stand for themselves.
    answer = Answer(driver, columns, operation, plan, layout)
    answer.run()
    return _with_keys(operation, keys, groups, answer.finish())


def _find_groups(
    driver: Driver, columns: DeviceColumns, operation: AggregateScan, keys: list[Key], groups: int, found: Found
) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """The group's place, the row and the segment of each row found."""
    snapshot = operation.scan.snapshot
    operands = Operands(snapshot.schema.symbol_index)
    chosen = [operands.place(key.expression) for key in keys]
    program = operands.finish()
    columns.require(snapshot, operands.columns)
    table = np.zeros((len(keys), 8), dtype=np.int64)
    table[:, :4] = program.operands[chosen]
    table[:, 4:] = [(key.least, key.width, key.stride, key.count - 1) for key in keys]
    words, *_, key_table = program.upload(driver, table)
    places, rows, segments, flags = (allocate(driver, n) for n in (found.total, found.total, found.total, 1))
    driver.clear(flags.address, flags.size_bytes)
    driver.launch(
        "find_groups", found.total,
        (columns.words, words, key_table, len(keys), found.segments, found.starts, found.bounds, len(found.bounds) - 1,
         found.listed, groups if operation.by_symbol else 0, found.total, places, rows, segments, flags),
    )  # fmt: skip
    if read_word(driver, flags, 0):
        raise overflow()
    return places, rows, segments


def _time_order(
    driver: Driver, columns: DeviceColumns, operation: AggregateScan, segments: DeviceArray, rows: DeviceArray
) -> DeviceArray:
    snapshot = operation.scan.snapshot
    time_column = snapshot.schema.timestamp_index
    columns.require(snapshot, (time_column,))
    times, order = allocate(driver, len(rows)), allocate(driver, len(rows))
    driver.launch("gather_times", len(rows), (columns.address_row(time_column), segments, rows, len(rows), times))
    driver.sorted_order(times, order)
    return order


def _with_keys(operation: AggregateScan, keys: list[Key], groups: int, result: AggregateResult) -> AggregateResult:
    """Places into segments, buckets and keys."""
    assert result.buckets is not None
    places = result.buckets
    segments = operation.scan.ranges.segments[places // groups] if operation.by_symbol else None
    columns = [key_values(key, places % groups) for key in keys]
    buckets = None if operation.bucket is None else columns.pop(0).values.astype(np.int64, copy=False)
    return replace(result, segments=segments, buckets=buckets, keys=tuple(columns))
