"""The segments of one table: the directory of where rows lie, and every change of it.

Writers are serialised by the table's write lock. They prepare their changes aside (new blocks, rows behind the
visible ones) and make them visible in one step under `_publish_lock`, which readers hold just long enough to copy the
directory. An interrupt (Ctrl-C) can come between any two statements: a change is either given up before that step, or,
once it is written down in `_unfinished`, carried out whole by whoever takes the lock next. `_apply` may therefore
run more than once for the same change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from zeptodb.storage import scatter
from zeptodb.storage.batch import Receipt
from zeptodb.storage.blocks import BlockAllocator
from zeptodb.storage.history import History
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.reclaim import Pin, Reclaimer
from zeptodb.storage.room import Room

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)
MINIMUM_HASH_BITS = 4


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows ready to be scattered.

    Attributes:
        keys: int64 symbols or codes; None for a table without symbols.
        times: int64 ns; None for a table without timestamps.
        values: per stored column a C-contiguous array.
        validity: per stored column None or a bool array.
        count: how many rows.
        receipt: marked when the rows are visible.
    """

    keys: Int64Array | None
    times: Int64Array | None
    values: tuple[npt.NDArray[np.generic], ...]
    validity: tuple[BoolArray | None, ...]
    count: int
    receipt: Receipt | None = None

    def take(self, index: Int64Array) -> Rows:
        """The rows at the positions `index`."""
        return Rows(
            None if self.keys is None else self.keys[index],
            None if self.times is None else self.times[index],
            tuple(column[index] for column in self.values),
            tuple(None if valid is None else valid[index] for valid in self.validity),
            len(index),
        )


def concatenate(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    first, count = parts[0], sum(part.count for part in parts)
    validity: list[BoolArray | None] = []
    for c in range(len(first.values)):
        marks = [part.validity[c] for part in parts]
        if all(mark is None for mark in marks):
            validity.append(None)
        else:
            filled = [np.ones(p.count, np.bool_) if m is None else m for p, m in zip(parts, marks, strict=True)]
            validity.append(np.concatenate(filled))
    return Rows(
        None if first.keys is None else np.concatenate([p.keys for p in parts if p.keys is not None]),
        None if first.times is None else np.concatenate([p.times for p in parts if p.times is not None]),
        tuple(np.concatenate([part.values[c] for part in parts]) for c in range(len(first.values))),
        tuple(validity),
        count,
    )


@dataclass(slots=True)
class _Placement:
    """Which rows of a batch go where: the outcome of `scatter.place_rows` and what grew for it."""

    slot_of_row: npt.NDArray[np.int32]
    touched: Int64Array
    incoming: Int64Array
    newest: Int64Array
    segment_count: int
    late_count: int


@dataclass(frozen=True, slots=True)
class _Merge:
    """Late rows on their way into the visible ones: the arguments of `scatter.merge_late`."""

    targets: Int64Array
    widths: Int64Array
    sources: Int64Array
    lengths: Int64Array
    offsets: Int64Array
    positions: Int64Array
    done: Int64Array
    rows: Rows

    def run(self) -> None:
        """Shift and insert, once."""
        scatter.merge_late(
            self.targets, self.widths, self.sources, self.lengths, self.offsets, self.positions, self.done
        )


@dataclass(frozen=True, slots=True)
class _Change:
    """What becomes visible together; only values that are there afterwards, so that it can be done twice.

    Attributes:
        count: segments.
        touched: segments that change.
        room: their blocks.
        lengths: their rows.
        newest: their newest times; None: unchanged.
        has_null: columns that have met a NULL with these rows.
        late: rows that wait to be merged.
        late_count: how many they are.
        merge: what moves visible rows; before anything else.
        receipt: of the rows.
        version: of the contents.
        history: with the merge that this is, if it is one.
    """

    count: int
    touched: Int64Array
    room: Room
    lengths: Int64Array
    newest: Int64Array | None
    has_null: BoolArray
    late: list[Rows]
    late_count: int
    merge: _Merge | None
    receipt: Receipt | None
    version: int
    history: History


class Segments:
    """The directory of one table and the memory behind it.

    `widths[c]` are the bytes of a value of stored column c (the symbol is not stored); `time_column` is the stored
    column of timestamps, -1 when there is none.
    """

    def __init__(
        self, memory: HostMemory, *, arena_size: int, dtypes: Sequence[np.dtype[np.generic]], time_column: int
    ):
        self.dtypes = tuple(dtypes)
        self.widths = np.array([dtype.itemsize for dtype in dtypes], dtype=np.int64)
        self.time_column = time_column
        self.version = 0
        self.history = History()
        self._allocator = BlockAllocator(memory, arena_size=arena_size)
        self._reclaimer = Reclaimer(self._allocator)
        self._publish_lock = RLock()
        self._unfinished: _Change | None = None
        self._is_placing = False
        self._late: list[Rows] = []
        self._late_count = self._late_patience = 0
        self.count = 0
        self._bits = MINIMUM_HASH_BITS
        self._hash = np.full(1 << self._bits, -1, dtype=np.int32)
        columns = len(self.widths)
        self.symbols = np.zeros(0, dtype=np.int64)
        self.lengths = np.zeros(0, dtype=np.int64)
        self._capacities = np.zeros(0, dtype=np.int64)
        self._last_time = np.zeros(0, dtype=np.int64)
        self._slot_of_segment = np.zeros(0, dtype=np.int32)
        self.addresses = np.zeros((columns, 0), dtype=np.int64)
        self.validity = np.zeros((columns, 0), dtype=np.int64)
        self._has_validity = np.zeros(columns, dtype=np.bool_)
        self._lengths_read = self.lengths
        self._views: dict[tuple[int, int], tuple[int, npt.NDArray[np.generic]]] = {}
        self._index: dict[int, int] = {}
        self._positions = np.empty(scatter.BLOCK_ROWS, dtype=np.int64)

    # ---- reading -----------------------------------------------------------------------------------------------

    @property
    def has_late_rows(self) -> bool:
        """Whether rows wait to be merged at the next read."""
        return bool(self._late)

    @property
    def row_count(self) -> int:
        """Rows of all segments, those that wait to be merged included."""
        with self._published():
            return int(self.lengths[: self.count].sum()) + self._late_count

    @property
    def mapped_bytes(self) -> int:
        """Bytes of address space in use."""
        return self._allocator.mapped_bytes

    def find(self, key: int) -> int | None:
        """The segment of a symbol (or code), None when no row ever had it."""
        index = self._index
        if len(index) < self.count:
            with self._published():
                known = len(index)
                index.update(zip(self.symbols[known : self.count].tolist(), range(known, self.count), strict=True))
        return index.get(key)

    def read(self) -> tuple[int, Pin, Int64Array, Int64Array, Int64Array, Int64Array, History] | None:
        """Version, pin, copies of symbols, lengths, addresses, validity, and history; None when late rows wait."""
        with self._published():
            if self._late:
                return None
            count = self.count
            self._lengths_read = self.lengths[:count].copy()
            return (
                self.version,
                self._reclaimer.pin(),
                self.symbols[:count].copy(),
                self._lengths_read,
                self.addresses[:, :count].copy(),
                self.validity[:, :count].copy(),
                self.history,
            )

    def pin(self, version: int) -> Pin | None:
        """Pin the state that has this version, None when there is a newer one or late rows must be merged."""
        with self._published():
            return self._reclaimer.pin() if version == self.version and not self._late else None

    def view(self, segment: int, column: int) -> npt.NDArray[np.generic]:
        """A read-only view of the rows that a segment has now; late rows must have been merged."""
        cached = self._views.get((segment, column))
        if cached is not None and cached[0] == self.version:
            return cached[1]
        with self._published():
            rows = int(self.lengths[segment])
            if rows == 0:
                return np.empty(0, dtype=self.dtypes[column])
            address = int(self.addresses[column, segment])
            owner = self._reclaimer.owner(address, int(self._capacities[segment]), self.dtypes[column])
            owner.exported_rows = max(owner.exported_rows, rows)
            array = np.asarray(owner)[:rows]
            self._views[(segment, column)] = (self.version, array)
            return array

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing changes and no reader is half-way in while this is held; for fork()."""
        with self._published(), self._reclaimer.frozen():
            yield

    def finish(self) -> None:
        """Carry out what an interrupted writer has begun to publish."""
        with self._published():
            pass

    @contextmanager
    def _published(self) -> Iterator[None]:
        """Changes wait, and none is half done."""
        with self._publish_lock:
            if self._unfinished is not None:
                self._apply(self._unfinished)
            yield

    # ---- appending ---------------------------------------------------------------------------------------------

    def append(self, rows: Rows) -> None:
        """Append rows, all or none; under the table's write lock."""
        if rows.count == 0:
            return
        with self._published():
            if self._is_placing:
                self._forget_placement()
        if rows.receipt is not None:
            rows.receipt.finish = self.finish
        self._reclaimer.collect()
        self._is_placing = True
        placement = self._place(rows)
        self._write(rows, placement)
        self._slot_of_segment[placement.touched] = -1
        self._is_placing = False

    def _forget_placement(self) -> None:
        """Undo what an append that failed or was interrupted has left behind."""
        self._slot_of_segment[:] = -1
        self._rebuild_hash(self.count)
        self._is_placing = False

    def _place(self, rows: Rows) -> _Placement:
        touched, incoming, newest = (np.empty(rows.count, dtype=np.int64) for _ in range(3))
        slot_of_row = np.empty(rows.count, dtype=np.int32)
        state = np.array([self.count, 0, 0], dtype=np.int64)
        keys = 0 if rows.keys is None else rows.keys.ctypes.data
        times = 0 if rows.times is None else rows.times.ctypes.data
        done = 0
        while True:
            done = scatter.place_rows(
                keys, times, done, rows.count, self._bits, self._hash, self.symbols, self._last_time,
                self._slot_of_segment, touched, incoming, newest, slot_of_row, state,
            )  # fmt: skip
            if done == rows.count:
                break
            self._grow_directory(int(state[scatter.SEGMENT_COUNT]))
        segments, slots, late = state.tolist()
        return _Placement(slot_of_row, touched[:slots], incoming[:slots], newest[:slots], segments, late)

    def _grow_directory(self, used: int) -> None:
        """Make room for twice the segments; `used` counts those that the running batch has added, too."""
        size = max(8, 2 * len(self.symbols))
        with self._publish_lock:
            self.lengths = _grown(self.lengths, size)
            self._capacities = _grown(self._capacities, size)
            self._last_time = _grown(self._last_time, size)
            self._slot_of_segment = _grown(self._slot_of_segment, size)
            self.addresses = _grown(self.addresses, size)
            self.validity = _grown(self.validity, size)
            self.symbols = _grown(self.symbols, size)  # last: its size is what counts
        while (1 << self._bits) < 2 * size:
            self._bits += 1
        self._rebuild_hash(used)

    def _rebuild_hash(self, used: int) -> None:
        self._hash = np.full(1 << self._bits, -1, dtype=np.int32)
        scatter.rebuild_hash(self.symbols, used, self._bits, self._hash)

    def _write(self, rows: Rows, placement: _Placement) -> None:
        touched = placement.touched
        late = self._late_rows(rows, placement) if placement.late_count else None
        incoming = placement.incoming
        if late is not None:
            incoming = incoming + np.bincount(late[0], minlength=len(touched))
        has_null = _columns_with_null(rows)
        room = self._room(touched, incoming, has_null=has_null)
        try:
            targets, widths, sources = self._physical_columns(rows, room, has_null)
            cursors = self.lengths[touched]
            scatter.scatter_rows(
                sources, widths, targets, cursors, placement.slot_of_row, rows.count,
                self._positions,
            )  # fmt: skip
        except BaseException:
            room.give_back()
            raise
        change = _Change(
            count=placement.segment_count,
            touched=touched,
            room=room,
            lengths=cursors,
            newest=placement.newest,
            has_null=has_null,
            late=self._late if late is None else [*self._late, late[1]],
            late_count=self._late_count + placement.late_count,
            merge=None,
            receipt=rows.receipt,
            version=self.version + 1,
            history=self.history,
        )
        with self._publish_lock:
            self._publish(change)
            if late is not None:
                self._merge_late(may_copy=False)

    def _publish(self, change: _Change) -> None:
        """Make a change visible; from the first statement on it will be, whatever interrupts this call."""
        self._unfinished = change
        self._apply(change)

    def _apply(self, change: _Change) -> None:
        touched = change.touched
        if change.merge is not None:
            change.merge.run()
        self.count = change.count
        self._install(touched, change.room)
        self._has_validity |= change.has_null
        self.lengths[touched] = change.lengths
        if change.newest is not None:
            self._last_time[touched] = change.newest
        self._late, self._late_count = change.late, change.late_count
        self.version = change.version
        self.history = change.history
        if change.receipt is not None:
            change.receipt.mark()
        self._unfinished = None

    def _physical_columns(
        self, rows: Rows, room: Room, has_null: BoolArray
    ) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Target addresses [column, segment], widths, source addresses: values first, then validity where it is kept.

        A validity column without NULL among these rows has source 0.
        """
        marked = np.flatnonzero(self._has_validity | has_null)
        sources = [column.ctypes.data for column in rows.values]
        sources += [0 if (marks := rows.validity[column]) is None else marks.ctypes.data for column in marked]
        widths = np.append(self.widths, np.ones(len(marked), dtype=np.int64))
        return np.concatenate([room.addresses, room.validity[marked]]), widths, np.array(sources, dtype=np.int64)

    def _late_rows(self, rows: Rows, placement: _Placement) -> tuple[npt.NDArray[np.int32], Rows]:
        """The slots and the rows that are older than one before them, in order of arrival; keys become segments."""
        index = np.flatnonzero(placement.slot_of_row < 0)
        slots = ~placement.slot_of_row[index]
        late = rows.take(index)
        return slots, Rows(placement.touched[slots], late.times, late.values, late.validity, late.count)

    # ---- room --------------------------------------------------------------------------------------------------

    def _room(
        self, touched: Int64Array, incoming: Int64Array, *, has_null: BoolArray, must_move: BoolArray | None = None
    ) -> Room:
        """Blocks for the touched segments with room for `incoming` more rows each; `_install` makes them theirs."""
        room = Room(
            self._allocator,
            widths=self.widths,
            lengths=self.lengths[touched],
            capacities=self._capacities[touched],
            addresses=np.take(self.addresses, touched, axis=1),
            validity=np.take(self.validity, touched, axis=1),
        )
        room.grow(incoming, has_null=has_null, must_move=must_move)
        return room

    def _install(self, touched: Int64Array, room: Room) -> None:
        """Make new blocks those of their segments; under the publish lock."""
        self._capacities[touched] = room.capacities
        self.addresses[:, touched] = room.addresses
        self.validity[:, touched] = room.validity
        if room.retired:
            self._forget_views(touched)
        while room.retired:
            # Taken off first: an interrupt here costs the blocks, where retiring them twice would cost the table.
            blocks, sizes = room.retired.pop()
            self._reclaimer.retire(blocks, sizes)

    def _forget_views(self, touched: Int64Array) -> None:
        """Drop cached views of these segments, so that only views that somebody holds keep their blocks."""
        if self._views:
            segments = set(touched.tolist())
            for key in [key for key in self._views if key[0] in segments]:
                del self._views[key]

    # ---- late rows ---------------------------------------------------------------------------------------------

    def merge_late(self) -> None:
        """Merge all rows that wait; under the table's write lock."""
        with self._published():
            self._merge_late(may_copy=True)

    def _merge_late(self, *, may_copy: bool) -> None:
        """Merge waiting rows in place where nobody can reach the displaced ones; else copy, or leave them waiting.

        After a vain try the next one waits until twice as many rows have come, so that tries stay cheap on average.
        """
        if not self._late or (not may_copy and (self._reclaimer.has_pins or self._late_count < self._late_patience)):
            return
        rows = concatenate(self._late)
        segments, times = rows.keys, rows.times
        if segments is None or times is None:
            return
        order = order_by_segment_and_time(segments, times)
        rows = rows.take(order)
        touched, counts = np.unique(segments, return_counts=True)
        offsets = np.append(0, np.cumsum(counts))
        has_null = _columns_with_null(rows)
        lengths = self.lengths[touched]
        positions = np.empty(rows.count, dtype=np.int64)
        late_times = rows.values[self.time_column].ctypes.data
        time_addresses = np.ascontiguousarray(self.addresses[self.time_column, touched])
        scatter.late_positions(time_addresses, lengths, late_times, offsets, positions)
        reachable = self._reachable(touched, positions[offsets[:-1]])
        if reachable.any() and not may_copy:
            self._late_patience = 2 * self._late_count
            return
        room = self._room(touched, counts, has_null=has_null, must_move=reachable)
        targets, widths, sources = self._physical_columns(rows, room, has_null)
        done = np.zeros(1, dtype=np.int64)
        self._publish(
            _Change(
                count=self.count,
                touched=touched,
                room=room,
                lengths=lengths + counts,
                newest=None,
                has_null=has_null,
                late=[],
                late_count=0,
                merge=_Merge(targets, widths, sources, lengths, offsets, positions, done, rows),
                receipt=None,
                version=self.version + 1,
                history=self.history.with_merge(touched, positions[offsets[:-1]]),
            )
        )
        self._late_patience = 0

    def _reachable(self, touched: Int64Array, first_displaced: Int64Array) -> BoolArray:
        """Per segment whether a query or a view can reach a row that a merge would displace."""
        self._forget_views(touched)
        exported = [self._reclaimer.exported_rows(self.addresses[:, segment]) for segment in touched]
        seen = np.array(exported, dtype=np.int64)
        if self._reclaimer.has_pins:
            read = np.zeros(len(self.lengths), dtype=np.int64)
            read[: len(self._lengths_read)] = self._lengths_read
            seen = np.maximum(seen, read[touched])
        return seen > first_displaced


def order_by_segment_and_time(segments: Int64Array, times: Int64Array) -> Int64Array:
    """Permutation that sorts rows by segment, then time, ties in their order; cheap when times are in order already."""
    # numpy sorts 16-bit integers by radix, everything else by comparison.
    is_narrow = int(segments.max()) < 2**16
    order = np.argsort(segments.astype(np.uint16) if is_narrow else segments, kind="stable")
    sorted_times, sorted_segments = times[order], segments[order]
    is_back = (sorted_times[1:] < sorted_times[:-1]) & (sorted_segments[1:] == sorted_segments[:-1])
    unordered = np.unique(sorted_segments[1:][is_back])
    if len(unordered):
        place = np.flatnonzero(np.isin(sorted_segments, unordered))
        order[place] = order[place][np.lexsort((sorted_times[place], sorted_segments[place]))]
    return order


def _grown(array: npt.NDArray[Scalar], size: int) -> npt.NDArray[Scalar]:
    """A copy whose last axis has `size` entries, the new ones zero."""
    out = np.zeros((*array.shape[:-1], size), dtype=array.dtype)
    out[..., : array.shape[-1]] = array
    return out


def _columns_with_null(rows: Rows) -> BoolArray:
    return np.array([valid is not None and not valid.all() for valid in rows.validity], dtype=np.bool_)
