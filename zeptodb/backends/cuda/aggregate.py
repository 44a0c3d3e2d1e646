"""AggregateScan on the device: tiles into partial results, these into pieces and groups, and one copy back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Aggregate, AggregateResult, AggregateScan, Vector
from zeptodb.backends.cuda.batch import ResultBuffer, allocate, upload
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.evaluate import Outputs, Rows
from zeptodb.backends.cuda.operands import Operands, Program
from zeptodb.backends.expression import Expression, Logical
from zeptodb.backends.finish import FINISHERS, Groups
from zeptodb.backends.pieces import cut
from zeptodb.backends.primitives import Plan, lower
from zeptodb.backends.program import BLOCK_ROWS
from zeptodb.backends.results import nullable_columns, overflow
from zeptodb.types import Schema

Int64Array = npt.NDArray[np.int64]

TEAM = 16
"""Threads that work on a tile together."""

MANY_PIECES = 1 << 16
"""With so many pieces a team takes a whole one; with fewer each tile has a team of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class DevicePlan:
    """What the kernels need to compute a list of aggregates.

    Attributes:
        plan: the primitives and where their words stand.
        program: computes predicates and arguments.
        sections, primitives: tables of `aggregate_tiles`.
        columns: what is read.
    """

    plan: Plan
    program: Program
    sections: Int64Array
    primitives: Int64Array
    columns: frozenset[int]


@lru_cache(maxsize=512)
def lower_for_device(
    aggregates: tuple[Aggregate, ...], predicate: Expression | None, nullable: frozenset[int], schema: Schema
) -> DevicePlan:
    """Plan `aggregates` over the rows that pass `predicate`; raises CannotRunError."""
    plan = lower(aggregates, predicate, nullable, schema)
    operands = Operands(schema.symbol_index)
    tests = [
        operands.place(_both(predicate, condition))
        for condition in dict.fromkeys([None, *(item.condition for item in aggregates)])
    ]
    sides = [
        (operands.place(nodes[0] if nodes else None), operands.place(nodes[1] if len(nodes) > 1 else None))
        for nodes in plan.operands
    ]
    program = operands.finish()
    sections = np.zeros((len(tests), 6), dtype=np.int64)
    sections[:, :4] = program.operands[tests]
    sections[:, 4:] = plan.sections[:, 5:7]
    primitives = np.zeros((len(sides), 10), dtype=np.int64)
    primitives[:, :2] = plan.primitives[:, [0, 3]]
    primitives[:, 2:6] = program.operands[[left for left, _ in sides]]
    primitives[:, 6:] = program.operands[[right for _, right in sides]]
    return DevicePlan(plan, program, sections, primitives, frozenset(operands.columns))


def _both(predicate: Expression | None, condition: Expression | None) -> Expression | None:
    if predicate is None or condition is None:
        return predicate if condition is None else condition
    return Logical("and", predicate, condition)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How partial results, one per piece, make groups.

    Attributes:
        count: pieces.
        segments, starts, ends: the rows of each piece, on the device.
        tile_bounds: tiles before each piece, on the device; None when a team takes a whole piece.
        tiles: how many there are.
        order, bounds: group g is the pieces order[bounds[g]:bounds[g + 1]] (no order: in their own); no bounds: each
            piece is a group.
        groups: how many there are.
        owners: per group the segment, with by_symbol.
        is_mixed: whether a group's pieces lie in several segments, so that time decides what is first.
    """

    count: int
    segments: DeviceArray
    starts: DeviceArray
    ends: DeviceArray
    tile_bounds: DeviceArray | None
    tiles: int
    order: DeviceArray | None
    bounds: DeviceArray | None
    groups: int
    owners: Int64Array | None
    is_mixed: bool


def aggregate(
    driver: Driver, columns: DeviceColumns, operation: AggregateScan, *, many_pieces: int = MANY_PIECES
) -> AggregateResult:
    """Run an AggregateScan without keys; raises CannotRunError for what the device does not run."""
    scan = operation.scan
    plan = lower_for_device(operation.aggregates, scan.predicate, nullable_columns(scan.snapshot), scan.snapshot.schema)
    columns.require(scan.snapshot, plan.columns)
    layout = _lay_out(driver, operation, many_pieces)
    buffer = ResultBuffer(driver)
    words_place, flags_place = buffer.add(plan.plan.width * layout.groups), buffer.add(1)
    ends = {
        k: Outputs(buffer, scan.snapshot, (expression,), layout.groups, has_missing=True)
        for k, expression in plan.plan.ends.items()
    }
    buffer.allocate()
    flags, words = buffer.device(flags_place), buffer.device(words_place)
    driver.clear(flags.address, flags.size_bytes)
    program = plan.program.upload(driver, plan.sections, plan.primitives)
    partials = _accumulate(driver, columns, plan, program, layout, words if layout.bounds is None else None, flags)
    if layout.bounds is not None:
        _combine(driver, columns, operation, plan, program, layout, partials, words)
    _write_ends(driver, columns, plan.plan, layout, partials, words, ends, flags)
    buffer.fetch()
    if buffer.host(flags_place)[0]:
        raise overflow()
    return _finish(operation, plan.plan, layout, buffer.host(words_place).view(np.int64), ends)


def _lay_out(driver: Driver, operation: AggregateScan, many_pieces: int) -> _Layout:
    ranges = operation.scan.ranges
    pieces = cut(ranges.segments, ranges.starts, ranges.ends)
    tiles = np.where(pieces.ends > pieces.starts, (pieces.ends - 1) // BLOCK_ROWS - pieces.starts // BLOCK_ROWS + 1, 0)
    tile_bounds = np.append(0, np.cumsum(tiles))
    total = int(tile_bounds[-1])
    bounds, owners = None, None
    groups = pieces.count
    if operation.by_symbol or len(ranges.segments) == 1:
        owners = ranges.segments if operation.by_symbol else None
        if pieces.ranges is not None:
            groups = len(ranges.segments)
            bounds = np.searchsorted(pieces.ranges, np.arange(groups + 1)).astype(np.int64)
    else:
        groups, bounds = 1, np.array([0, pieces.count], dtype=np.int64)
    is_mixed = bounds is not None and not operation.by_symbol and len(ranges.segments) != 1
    arrays = [pieces.segments, pieces.starts, pieces.ends, tile_bounds]
    segments, starts, ends, tile_array, *more = upload(driver, *arrays, *([] if bounds is None else [bounds]))
    is_by_tile = total > pieces.count and pieces.count < many_pieces
    return _Layout(
        pieces.count, segments, starts, ends, tile_array if is_by_tile else None, total, None,
        more[0] if more else None, groups, owners, is_mixed,
    )  # fmt: skip


def _accumulate(
    driver: Driver,
    columns: DeviceColumns,
    plan: DevicePlan,
    program: tuple[DeviceArray, ...],
    layout: _Layout,
    target: DeviceArray | None,
    flags: DeviceArray,
) -> DeviceArray:
    """The table of partial results, [word, piece], in `target` if there is one."""
    width, count = plan.plan.width, layout.count
    if target is None:
        target = allocate(driver, width * count)
    if count == 0:
        return target
    items = count if layout.tile_bounds is None else layout.tiles
    partials = target if layout.tile_bounds is None else allocate(driver, width * items)
    words, *_, sections, primitives = program
    driver.launch(
        "aggregate_tiles", TEAM * items,
        (columns.words, words, sections, len(plan.sections), primitives, layout.segments, layout.starts, layout.ends,
         count, layout.tile_bounds, items, partials, flags),
    )  # fmt: skip
    if layout.tile_bounds is not None:
        driver.launch(
            "fold_tiles", count * len(plan.primitives),
            (primitives, len(plan.primitives), layout.tile_bounds, count, partials, items, target),
        )  # fmt: skip
    return target


def _combine(
    driver: Driver,
    columns: DeviceColumns,
    operation: AggregateScan,
    plan: DevicePlan,
    program: tuple[DeviceArray, ...],
    layout: _Layout,
    partials: DeviceArray,
    words: DeviceArray,
) -> None:
    """The words of every group."""
    if layout.groups == 0:
        return
    time_column = operation.scan.snapshot.schema.timestamp_index if layout.is_mixed and plan.plan.ends else -1
    if time_column >= 0:
        columns.require(operation.scan.snapshot, (time_column,))
    driver.launch(
        "combine_groups", layout.groups * len(plan.primitives),
        (columns.words, time_column, program[-1], len(plan.primitives), layout.segments, layout.order, layout.bounds,
         layout.groups, partials, layout.count, words),
    )  # fmt: skip


def _write_ends(
    driver: Driver,
    columns: DeviceColumns,
    plan: Plan,
    layout: _Layout,
    partials: DeviceArray,
    words: DeviceArray,
    ends: dict[int, Outputs],
    flags: DeviceArray,
) -> None:
    """The columns of FIRST and LAST."""
    if layout.groups == 0:
        return
    located: dict[int, Rows] = {}
    for k, outputs in ends.items():
        (slot,) = plan.slots[k]
        if slot not in located:
            segments, rows = allocate(driver, layout.groups), allocate(driver, layout.groups)
            found = None if layout.bounds is None else words
            driver.launch(
                "locate_ends", layout.groups,
                (slot, found, layout.groups, partials, layout.count, layout.segments, segments, rows),
            )  # fmt: skip
            located[slot] = Rows(layout.groups, segments, None, None, rows)
        outputs.write(driver, columns, located[slot], flags)


def _finish(
    operation: AggregateScan, plan: Plan, layout: _Layout, flat: Int64Array, ends: dict[int, Outputs]
) -> AggregateResult:
    """Words into columns; groups without rows go, but for the one over everything."""
    words = flat.reshape(plan.width, layout.groups)
    owners = layout.owners
    chosen: npt.NDArray[np.bool_] | None = None
    if owners is not None:
        chosen = words[plan.rows_slot] > 0
        if chosen.all():
            chosen = None
        else:
            words, owners = words[:, chosen], owners[chosen]
    groups = Groups(words)
    vectors = tuple(
        _taken(ends[k].vectors()[0], chosen) if k in ends else FINISHERS[item.op](groups, plan.slots[k], item)
        for k, item in enumerate(operation.aggregates)
    )
    return AggregateResult(owners, None, vectors)


def _taken(vector: Vector, chosen: npt.NDArray[np.bool_] | None) -> Vector:
    if chosen is None:
        return vector
    validity = None if vector.validity is None else vector.validity[chosen]
    return Vector(vector.values[chosen], None if validity is None or validity.all() else validity, vector.type)
