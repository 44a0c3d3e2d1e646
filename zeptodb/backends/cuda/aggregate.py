"""AggregateScan on the device: tiles into partial results, these into pieces and groups, and one copy back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import AggregateResult, AggregateScan, Vector
from zeptodb.backends.cuda.accumulate import MANY_PIECES, accumulate, fold
from zeptodb.backends.cuda.batch import ResultBuffer, allocate
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.evaluate import Outputs, Rows
from zeptodb.backends.cuda.layout import Layout, bars_of, lay_out
from zeptodb.backends.cuda.lowering import DevicePlan, lower_for_device
from zeptodb.backends.finish import FINISHERS, Groups
from zeptodb.backends.partials import Bars, Summarized, have_blocks
from zeptodb.backends.results import nullable_columns, overflow

Int64Array = npt.NDArray[np.int64]


def aggregate(
    driver: Driver,
    columns: DeviceColumns,
    operation: AggregateScan,
    summarized: Summarized | None = None,
    *,
    many_pieces: int = MANY_PIECES,
) -> AggregateResult:
    """Run an AggregateScan without keys; raises CannotRunError for what the device does not run.

    summarized: answers when there are long bars; what has none does not come here for them.
    """
    snapshot, predicate = operation.scan.snapshot, operation.scan.predicate
    plan = lower_for_device(operation.aggregates, predicate, nullable_columns(snapshot), snapshot.schema)
    first = () if operation.bucket is None else (snapshot.schema.timestamp_index,)
    columns.ask(snapshot, (*first, *sorted(plan.columns)))  # the rest comes up while bars are found
    bars = bars_of(driver, columns, operation)
    if summarized is not None and isinstance(bars, Bars) and have_blocks(operation.scan.ranges, bars):
        return summarized.answer(operation, bars)
    layout = lay_out(driver, operation, bars, many_pieces=many_pieces)
    columns.require(snapshot, plan.columns)
    answer = Answer(driver, columns, operation, plan, layout)
    answer.run()
    return answer.finish()


class Answer:
    """The words of every group and the columns of FIRST and LAST, side by side in one buffer."""

    def __init__(
        self,
        driver: Driver,
        columns: DeviceColumns,
        operation: AggregateScan,
        plan: DevicePlan,
        layout: Layout,
    ) -> None:
        """Ask for room."""
        self._driver, self._columns = driver, columns
        self._operation, self._device_plan, self._plan, self._layout = operation, plan, plan.plan, layout
        snapshot = operation.scan.snapshot
        self._buffer = buffer = ResultBuffer(driver)
        self._flags_place, self._words_place = buffer.add(1), buffer.add(self._plan.width * layout.groups)
        self._ends = {
            k: Outputs(buffer, snapshot, (expression,), layout.groups, has_missing=True)
            for k, expression in self._plan.ends.items()
        }
        self._owners_place = buffer.add(layout.groups) if isinstance(layout.owners, DeviceArray) else None
        self._buckets_place = buffer.add(layout.groups) if isinstance(layout.buckets, DeviceArray) else None
        buffer.allocate()

    def run(self) -> None:
        """Launch everything, then wait for the one copy back."""
        driver, layout, buffer = self._driver, self._layout, self._buffer
        flags, words = buffer.device(self._flags_place), buffer.device(self._words_place)
        driver.clear(flags.address, flags.size_bytes)
        program = self._device_plan.program.upload(driver, self._device_plan.sections, self._device_plan.primitives)
        target = words if layout.bounds is None else None
        of_pieces = target if layout.range_bounds is None else None
        partials = accumulate(driver, self._columns, self._device_plan, program, layout.pieces, of_pieces, flags)
        if layout.range_bounds is not None:
            count = layout.pieces.count
            partials = fold(driver, self._device_plan, program, layout.range_bounds, partials, count, target)
        if layout.bounds is not None and layout.groups:
            self._combine(program[-1], partials, words)
        if layout.groups:
            self._write_ends(partials, words, flags)
            for source, place in ((layout.owners, self._owners_place), (layout.buckets, self._buckets_place)):
                if place is not None and isinstance(source, DeviceArray):
                    driver.on_device(buffer.device(place).address, source.address, source.size_bytes)
        buffer.fetch()
        if buffer.host(self._flags_place)[0]:
            raise overflow()

    def _combine(self, primitives: DeviceArray, partials: DeviceArray, words: DeviceArray) -> None:
        """The words of every group."""
        layout, snapshot = self._layout, self._operation.scan.snapshot
        time_column = snapshot.schema.timestamp_index if self._plan.ends else -1
        if time_column >= 0:
            self._columns.require(snapshot, (time_column,))
        count = len(self._device_plan.primitives)
        self._driver.launch(
            "combine_groups", layout.groups * count,
            (self._columns.words, time_column, primitives, count, layout.segments, layout.order, layout.bounds,
             layout.groups, partials, layout.ranges, words),
        )  # fmt: skip

    def _write_ends(self, partials: DeviceArray, words: DeviceArray, flags: DeviceArray) -> None:
        """The columns of FIRST and LAST."""
        located: dict[int, Rows] = {}
        for k, outputs in self._ends.items():
            (slot,) = self._plan.slots[k]
            if slot not in located:
                located[slot] = self._locate(slot, partials, words)
            outputs.write(self._driver, self._columns, located[slot], flags)

    def _locate(self, slot: int, partials: DeviceArray, words: DeviceArray) -> Rows:
        """The rows that FIRST or LAST in `slot` found."""
        driver, layout, groups = self._driver, self._layout, self._layout.groups
        segments, rows = allocate(driver, groups), allocate(driver, groups)
        if layout.pieces.listed is not None:
            listed_rows, listed_segments = layout.pieces.listed
            driver.launch(
                "locate_listed_ends", groups, (slot, words, groups, listed_segments, listed_rows, segments, rows)
            )
        else:
            found = None if layout.bounds is None else words
            driver.launch(
                "locate_ends", groups, (slot, found, groups, partials, layout.ranges, layout.segments, segments, rows)
            )
        return Rows(groups, segments, None, None, rows)

    def finish(self) -> AggregateResult:
        """Words into columns; groups without rows go, but for the one over everything."""
        layout, plan = self._layout, self._plan
        words = self._buffer.host(self._words_place).view(np.int64).reshape(plan.width, layout.groups)
        owners = self._on_host(layout.owners, self._owners_place)
        buckets = self._on_host(layout.buckets, self._buckets_place)
        chosen: npt.NDArray[np.bool_] | None = None
        if owners is not None or buckets is not None:
            chosen = words[plan.rows_slot] > 0
            if chosen.all():
                chosen = None
            else:
                words = words[:, chosen]
                owners = None if owners is None else owners[chosen]
                buckets = None if buckets is None else buckets[chosen]
        groups = Groups(words)
        vectors = tuple(
            _taken(self._ends[k].vectors()[0], chosen)
            if k in self._ends
            else FINISHERS[item.op](groups, plan.slots[k], item)
            for k, item in enumerate(self._operation.aggregates)
        )
        return AggregateResult(owners, buckets, vectors)

    def _on_host(self, source: DeviceArray | Int64Array | None, place: int | None) -> Int64Array | None:
        if isinstance(source, DeviceArray):
            assert place is not None
            return self._buffer.host(place).view(np.int64)
        return source


def _taken(vector: Vector, chosen: npt.NDArray[np.bool_] | None) -> Vector:
    if chosen is None:
        return vector
    validity = None if vector.validity is None else vector.validity[chosen]
    kept = None if validity is None or validity.all() else validity
    return replace(vector, values=vector.values[chosen], validity=kept)
