"""Every change of a table's segments: rows are placed and written aside, then published in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeptodb.storage.directory import entries_of, place_ends
from zeptodb.storage.placing import Placement
from zeptodb.storage.room import Room
from zeptodb.storage.rows import Rows, concatenate
from zeptodb.storage.scatter import MORSEL_ROWS, scatter_rows
from zeptodb.storage.segments import Change, Segments

if TYPE_CHECKING:
    from zeptodb.storage.late import Merge

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SORTED_SHARE = 8
"""A batch of which more than one row in so many is late is sorted and merged, not scattered."""


class SegmentWriter:
    """Appends rows to segments and merges late ones; every call under the table's write lock."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        self._late_patience = 0

    # ---- appending ---------------------------------------------------------------------------------------------

    def append(self, rows: Rows) -> None:
        """Append rows, all or none."""
        if rows.count == 0:
            return
        segments = self.segments
        segments.finish()
        if rows.receipt is not None:
            rows.receipt.finish = segments.finish
        segments.reclaimer.collect()
        placement = segments.placer.place(rows, segments.count)
        segments.make_places(placement.segment_count)
        if placement.late_count * SORTED_SHARE <= rows.count or not self._merge_batch(rows, placement):
            self._scatter(rows, placement)
        segments.placer.finish()

    def _scatter(self, rows: Rows, placement: Placement) -> None:
        """Write what is in order behind the visible rows; late rows are merged if that moves none in use, or wait."""
        segments, touched = self.segments, placement.touched
        late = _late_rows(rows, placement) if placement.late_count else None
        has_null = rows.columns_with_null
        room = self._room(touched, placement.incoming, has_null=has_null)
        lengths = segments.lengths[touched]
        try:
            targets, widths, sources = self._physical_columns(rows, room)
            bases = np.empty_like(targets)
            place_ends(targets, lengths, widths, bases)
            slot_of_row, position_of_row = placement.slot_of_row, placement.position_of_row
            segments.workers.run(
                lambda counter, budget: scatter_rows(
                    counter, budget, sources, widths, bases, slot_of_row, position_of_row
                ),
                -(-rows.count // MORSEL_ROWS),
                rows=rows.count,
            )
        except BaseException:
            room.give_back()
            raise
        change = Change(
            count=placement.segment_count,
            touched=touched,
            room=room,
            lengths=lengths + placement.incoming,
            newest=placement.newest,
            has_null=has_null,
            late=segments.late if late is None else [*segments.late, late],
            late_count=segments.late_count + placement.late_count,
            receipt=rows.receipt,
            version=segments.version + 1,
            history=segments.history,
        )
        with segments.published():
            segments.publish(change)
            if late is not None:
                self._merge_late(may_copy=False)

    def _physical_columns(self, rows: Rows, room: Room) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Target addresses [column, segment], widths, source addresses: values first, then validity where it is kept.

        A validity column without NULL among these rows has source 0.
        """
        sources = [column.ctypes.data for column in rows.values]
        sources += [0 if (marks := rows.validity[column]) is None else marks.ctypes.data for column in room.marked]
        widths = np.append(self.segments.widths, np.ones(len(room.marked), dtype=np.int64))
        return np.concatenate([room.addresses, room.validity]), widths, np.array(sources, dtype=np.int64)

    def _room(
        self, touched: Int64Array, incoming: Int64Array, *, has_null: BoolArray, must_move: BoolArray | None = None
    ) -> Room:
        """Blocks for the touched segments with room for `incoming` more rows each."""
        segments = self.segments
        marked = np.flatnonzero(segments.has_validity | has_null)
        room = Room(
            segments.allocator,
            widths=segments.widths,
            lengths=segments.lengths[touched],
            capacities=segments.capacities[touched],
            addresses=entries_of(segments.addresses, segments.columns, touched),
            marked=marked,
            validity=entries_of(segments.validity, marked, touched),
        )
        room.grow(incoming, has_null=has_null, must_move=must_move)
        return room

    # ---- late rows ---------------------------------------------------------------------------------------------

    def merge_late(self) -> None:
        """Merge all rows that wait."""
        with self.segments.published():
            self._merge_late(may_copy=True)

    def _merge_late(self, *, may_copy: bool) -> None:
        """Merge waiting rows in place where nobody can reach the displaced ones; else copy, or leave them waiting.

        After a vain try the next one waits until twice as many rows have come, so that tries stay cheap on average.
        """
        segments = self.segments
        if not segments.late or (
            not may_copy and (segments.reclaimer.has_pins or segments.late_count < self._late_patience)
        ):
            return
        rows = concatenate(segments.late)
        if rows.keys is None:
            return
        touched, slots = _slots(rows.keys, segments.count)
        merged = self._merged(rows, touched, slots, may_copy=may_copy)
        if merged is None:
            self._late_patience = 2 * segments.late_count
            return
        room, merge, first_displaced = merged
        segments.publish(
            Change(
                count=segments.count,
                touched=touched,
                room=room,
                lengths=merge.lengths + np.diff(merge.starts),
                has_null=rows.columns_with_null,
                late=[],
                late_count=0,
                merge=merge,
                version=segments.version + 1,
                history=segments.history.with_merge(touched, first_displaced),
            )
        )
        self._late_patience = 0

    def _merge_batch(self, rows: Rows, placement: Placement) -> bool:
        """Merge a whole batch; False, and nothing has happened, when that would displace rows that are in use."""
        segments, touched = self.segments, placement.touched
        if segments.late:  # they came first
            return False
        merged = self._merged(rows, touched, placement.slot_of_row, may_copy=False)
        if merged is None:
            return False
        room, merge, first_displaced = merged
        history = segments.history
        if merge.displaces_rows:
            history = history.with_merge(touched, first_displaced)
        else:  # nobody has to wait for what happens behind the visible rows
            try:
                merge.run(segments.workers)
            except BaseException:
                room.give_back()
                raise
        with segments.published():
            if merge.displaces_rows and (segments.reachable_rows(touched) > first_displaced).any():
                room.give_back()  # since it was found that nobody reads them, somebody does
                return False
            segments.publish(
                Change(
                    count=placement.segment_count,
                    touched=touched,
                    room=room,
                    lengths=merge.lengths + np.diff(merge.starts),
                    newest=placement.newest,
                    has_null=rows.columns_with_null,
                    late=[],
                    late_count=0,
                    merge=merge,
                    receipt=rows.receipt,
                    version=segments.version + 1,
                    history=history,
                )
            )
        return True

    def _merged(
        self, rows: Rows, touched: Int64Array, slots: npt.NDArray[np.int32], *, may_copy: bool
    ) -> tuple[Room, Merge, Int64Array] | None:
        """What merging rows takes: room, the merge itself, and per segment the first row that it displaces.

        Segments whose displaced rows are in use are to be copied, or, unless `may_copy`, the answer is None.
        """
        # Few batches are late, and a process's first answer waits for its imports.
        from zeptodb.storage.late import Merge, find_positions
        from zeptodb.storage.ordering import order_rows

        segments = self.segments
        if rows.times is None:
            raise AssertionError("rows without times are never late")
        order, starts, times = order_rows(slots, rows.times, len(touched), segments.workers)
        lengths = segments.lengths[touched]
        positions = np.empty(rows.count, dtype=np.int64)
        time_addresses = np.ascontiguousarray(segments.addresses[segments.time_column, touched])
        segments.workers.run(
            lambda counter, budget: find_positions(counter, budget, time_addresses, lengths, starts, times, positions),
            len(touched),
            rows=rows.count,
        )
        first_displaced = positions[starts[:-1]]
        is_reachable = segments.reachable_rows(touched) > first_displaced
        if is_reachable.any() and not may_copy:
            return None
        has_null = rows.columns_with_null
        room = self._room(touched, np.diff(starts), has_null=has_null, must_move=is_reachable)
        targets, widths, sources = self._physical_columns(rows, room)
        done = np.zeros(targets.shape, dtype=np.uint8)
        merge = Merge(targets, widths, sources, lengths, starts, positions, order, done, rows)
        return room, merge, first_displaced


def _late_rows(rows: Rows, placement: Placement) -> Rows:
    """The late rows of a batch, in order of arrival; their keys are segments."""
    index = np.flatnonzero(placement.slot_of_row < 0)
    late = rows.take(index)
    segments = placement.touched[~placement.slot_of_row[index]]
    return Rows(segments, late.times, late.values, late.validity, late.count)


def _slots(segments: Int64Array, segment_count: int) -> tuple[Int64Array, npt.NDArray[np.int32]]:
    """The distinct segments, and for each row the index of its own among them."""
    slot_of_segment = np.empty(segment_count, dtype=np.int32)  # only where a row is: no cost per segment
    numbers = np.arange(len(segments), dtype=np.int32)
    slot_of_segment[segments] = numbers
    touched = segments[slot_of_segment[segments] == numbers]
    slot_of_segment[touched] = numbers[: len(touched)]
    return touched, slot_of_segment[segments]
