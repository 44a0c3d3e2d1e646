"""The segments of one table: the directory of where rows lie, read at any time and changed in one step.

Writers are serialised by the table's write lock. They prepare a change aside (`writer.py`) and make it visible in one
step under `_publish_lock`, which readers hold just long enough to copy the directory. An interrupt (Ctrl-C) can come
between any two statements: a change is either given up before that step, or, once it is written down in
`_unfinished`, carried out whole by whoever takes the lock next. `_apply` may therefore run more than once for the
same change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeptodb.record import record
from zeptodb.storage.batch import Receipt
from zeptodb.storage.blocks import BlockAllocator
from zeptodb.storage.directory import put_entries
from zeptodb.storage.history import History
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.placing import Placer, enlarged
from zeptodb.storage.reclaim import Pin, Reclaimer
from zeptodb.storage.room import Room
from zeptodb.storage.rows import Rows
from zeptodb.storage.workers import Workers

if TYPE_CHECKING:
    from zeptodb.storage.late import Merge

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@record
class Change:
    """What becomes visible together; only values that are there afterwards, so that it can be done twice.

    Attributes:
        count: segments.
        touched: segments that change.
        room: their blocks.
        lengths: their rows.
        has_null: columns that have met a NULL with these rows.
        late: rows that wait to be merged.
        late_count: how many they are.
        history: with the merge that this is, if it is one.
        newest: the newest times of the touched segments; None: unchanged.
        merge: what moves visible rows; before anything else.
        receipt: of the rows.
        version: of the contents.
    """

    count: int
    touched: Int64Array
    room: Room
    lengths: Int64Array
    has_null: BoolArray
    late: list[Rows]
    late_count: int
    history: History
    version: int
    newest: Int64Array | None = None
    merge: Merge | None = None
    receipt: Receipt | None = None


class Segments:
    """The directory of one table and the memory behind it.

    `widths[c]` are the bytes of a value of stored column c (the symbol is not stored), `columns` the numbers of all of
    them; `time_column` is the stored column of timestamps, -1 when there is none. What writers need besides:
    `allocator`, `reclaimer`, `placer`, `late` and `late_count` (rows that wait to be merged), `has_validity` (per
    column whether it has met a NULL) and `capacities`, all of them theirs to use under the table's write lock only.
    """

    def __init__(
        self,
        memory: HostMemory,
        *,
        workers: Workers,
        arena_size: int,
        dtypes: Sequence[np.dtype[np.generic]],
        time_column: int,
    ) -> None:
        self.dtypes = tuple(dtypes)
        self.widths = np.array([dtype.itemsize for dtype in dtypes], dtype=np.int64)
        self.columns = np.arange(len(self.widths), dtype=np.int64)
        self.time_column = time_column
        self.workers = workers
        self.version = 0
        self.history = History()
        self.allocator = BlockAllocator(memory, arena_size=arena_size)
        self.reclaimer = Reclaimer(self.allocator)
        self.placer = Placer()
        self.late: list[Rows] = []
        self.late_count = 0
        self.count = 0
        columns = len(self.widths)
        self.lengths = np.zeros(0, dtype=np.int64)
        self.capacities = np.zeros(0, dtype=np.int64)
        self.addresses = np.zeros((columns, 0), dtype=np.int64)
        self.validity = np.zeros((columns, 0), dtype=np.int64)
        self.has_validity = np.zeros(columns, dtype=np.bool_)
        self._publish_lock = RLock()
        self._unfinished: Change | None = None
        self._lengths_read = self.lengths
        self._views: dict[tuple[int, int], tuple[int, npt.NDArray[np.generic]]] = {}
        self._index: dict[int, int] = {}

    # ---- reading -----------------------------------------------------------------------------------------------

    @property
    def has_late_rows(self) -> bool:
        """Whether rows wait to be merged at the next read."""
        return bool(self.late)

    @property
    def row_count(self) -> int:
        """Rows of all segments, those that wait to be merged included."""
        with self.published():
            return int(self.lengths[: self.count].sum()) + self.late_count

    @property
    def mapped_bytes(self) -> int:
        """Bytes of address space in use."""
        return self.allocator.mapped_bytes

    def find(self, key: int) -> int | None:
        """The segment of a symbol (or code), None when no row ever had it."""
        index = self._index
        if len(index) < self.count:
            with self.published():
                known = len(index)
                index.update(
                    zip(self.placer.symbols[known : self.count].tolist(), range(known, self.count), strict=True)
                )
        return index.get(key)

    def read(self) -> tuple[int, Pin, Int64Array, Int64Array, Int64Array, Int64Array, History] | None:
        """Version, pin, copies of symbols, lengths, addresses, validity, and history; None when late rows wait."""
        with self.published():
            if self.late:
                return None
            count = self.count
            self._lengths_read = self.lengths[:count].copy()
            return (
                self.version,
                self.reclaimer.pin(self),
                self.placer.symbols[:count].copy(),
                self._lengths_read,
                self.addresses[:, :count].copy(),
                self.validity[:, :count].copy(),
                self.history,
            )

    def pin(self, version: int) -> Pin | None:
        """Pin the state that has this version, None when there is a newer one or late rows must be merged."""
        with self._publish_lock:  # as `published()`, in a fifth of the time
            if self._unfinished is not None:
                self._apply(self._unfinished)
            return self.reclaimer.pin(self) if version == self.version and not self.late else None

    def view(self, segment: int, column: int) -> npt.NDArray[np.generic]:
        """A read-only view of the rows that a segment has now; late rows must have been merged."""
        cached = self._views.get((segment, column))
        if cached is not None and cached[0] == self.version:
            return cached[1]
        with self.published():
            rows = int(self.lengths[segment])
            if rows == 0:
                return np.empty(0, dtype=self.dtypes[column])
            address = int(self.addresses[column, segment])
            owner = self.reclaimer.owner(address, int(self.capacities[segment]), self.dtypes[column])
            owner.exported_rows = max(owner.exported_rows, rows)
            array = np.asarray(owner)[:rows]
            self._views[(segment, column)] = (self.version, array)
            return array

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing changes and no reader is half-way in while this is held; for fork()."""
        with self.published(), self.reclaimer.frozen():
            yield

    def finish(self) -> None:
        """Carry out what an interrupted writer has begun to publish."""
        with self.published():
            pass

    @contextmanager
    def published(self) -> Iterator[None]:
        """Readers and changes wait while this is held, and no change is half done."""
        with self._publish_lock:
            if self._unfinished is not None:
                self._apply(self._unfinished)
            yield

    def reachable_rows(self, segments: Int64Array) -> Int64Array:
        """Of each of these segments how many rows a query or a view may be reading."""
        self._forget_views(segments)
        exported = [self.reclaimer.exported_rows(self.addresses[:, segment]) for segment in segments]
        seen = np.array(exported, dtype=np.int64)
        if self.reclaimer.has_pins:
            read = np.zeros(len(self.lengths), dtype=np.int64)
            read[: len(self._lengths_read)] = self._lengths_read
            seen = np.maximum(seen, read[segments])
        return seen

    # ---- changing ----------------------------------------------------------------------------------------------

    def make_places(self, count: int) -> None:
        """Make the directory hold at least so many segments; those behind `self.count` are empty."""
        if count <= len(self.lengths):
            return
        size = len(self.placer.symbols)
        with self._publish_lock:
            self.capacities = enlarged(self.capacities, size)
            self.addresses = enlarged(self.addresses, size)
            self.validity = enlarged(self.validity, size)
            self.lengths = enlarged(self.lengths, size)  # last: its size is what counts

    def publish(self, change: Change) -> None:
        """Make a change visible; from the first statement on it will be, whatever interrupts this call.

        Under the table's write lock and `published()`.
        """
        self._unfinished = change
        self._apply(change)

    def _apply(self, change: Change) -> None:
        touched = change.touched
        if change.merge is not None:
            change.merge.run(self.workers)
        self.count = change.count
        self._install(touched, change.room)
        self.has_validity |= change.has_null
        self.lengths[touched] = change.lengths
        if change.newest is not None:
            self.placer.newest[touched] = change.newest
        self.late, self.late_count = change.late, change.late_count
        self.version = change.version
        self.history = change.history
        if change.receipt is not None:
            change.receipt.mark()
        self._unfinished = None

    def _install(self, touched: Int64Array, room: Room) -> None:
        """Make new blocks those of their segments."""
        self.capacities[touched] = room.capacities
        put_entries(self.addresses, self.columns, touched, room.addresses)
        put_entries(self.validity, room.marked, touched, room.validity)
        if room.retired:
            self._forget_views(touched)
        while room.retired:
            # Taken off first: an interrupt here costs the blocks, where retiring them twice would cost the table.
            blocks, sizes = room.retired.pop()
            self.reclaimer.retire(blocks, sizes)

    def _forget_views(self, touched: Int64Array) -> None:
        """Drop cached views of these segments, so that only views that somebody holds keep their blocks."""
        if self._views:
            segments = set(touched.tolist())
            for key in [key for key in self._views if key[0] in segments]:
                del self._views[key]
