"""The device's image of the arenas: each has a mirror in device memory, a column lies there at the same offset.

Which rows of a mirror are up to date is remembered per table contents, column and segment: as many as have been copied
from the block in which the rows lie now, less those that late rows have displaced since. A query brings up what is
missing of the columns that it reads, in as few copies as possible, and sees no rows beyond its snapshot; so ingest
goes on beside it. When device memory is short, mirrors that have not been used for longest go first.

Copies run on a stream of their own. What they bring is noted when they have been asked for, and whoever reads it comes
after their event (`under_way.py`): kernels of queries on the device, `array` and the end of a query on the host, as
rows may move when the snapshot is closed. When copies fail, nothing that is on the device is believed any more.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.batch import allocate_for_copies
from zeptodb.backends.cuda.driver import (
    DeviceArray,
    DeviceError,
    DeviceMemory,
    Driver,
    OutOfDeviceMemoryError,
    Stream,
)
from zeptodb.backends.cuda.known import Contents, Known, Note
from zeptodb.backends.cuda.memory import PinnedMapping, PinnedMemory
from zeptodb.backends.cuda.ranges import ImageStats, Needed, RangeCopies
from zeptodb.backends.cuda.under_way import Copies, UnderWay
from zeptodb.storage.history import Origin
from zeptodb.storage.snapshot import Snapshot

Int64Array = npt.NDArray[np.int64]

_IMAGES = itertools.count()

_SHARE_OF_FREE = 0.8
_UNLIMITED = 1 << 62

PIECE_BYTES = 64 << 20
"""So much of a column is asked for at once in the background: queries wait for the asking, not for the copies."""


@dataclass(slots=True, eq=False)
class Mirror:
    """The device memory that mirrors one mapping.

    Attributes:
        memory: as long as the mapping.
        mapping_serial: what it mirrors.
        serial: no two mirrors share it.
        last_use: the number of the last query that read it.
    """

    memory: DeviceMemory
    mapping_serial: int
    serial: int
    last_use: int = 0


@dataclass(frozen=True, slots=True)
class Absent:
    """What a query would have to bring up.

    Attributes:
        pinned_bytes: of these in page-locked memory.
        pageable_bytes: of these elsewhere.
        mirror_bytes: device memory that mirrors all of what the query reads, whether or not it is there.
        is_mapped: whether all of it lies in mappings that have mirrors; else all is copied for the query.
    """

    pinned_bytes: int
    pageable_bytes: int
    mirror_bytes: int
    is_mapped: bool = True


class DeviceImage:
    """Mirrors of the mappings of one `PinnedMemory`. The owner's lock guards it."""

    def __init__(self, driver: Driver, memory: PinnedMemory, *, limit_bytes: int | None = None) -> None:
        """Hold at most `limit_bytes` in mirrors (None: four fifths of what is free when first asked for)."""
        self._driver, self._memory = driver, memory
        self._limit = limit_bytes
        self._changes = 0  # of what is on the device
        self._key = f"absent from device image {next(_IMAGES)}"
        self.mirror_bytes = 0
        self.stats = ImageStats()
        self._ranges = RangeCopies(driver, memory, self.stats)
        self._mirrors: dict[int, Mirror] = {}  # by serial of the mapping
        self._serials = itertools.count(1)
        self._query = 0
        self._under_way = UnderWay(driver)
        self._asked: list[Copies] = []  # by the running query
        self._contents: WeakKeyDictionary[Origin, Contents] = WeakKeyDictionary()

    @contextmanager
    def query(self) -> Iterator[None]:
        """A query runs: what the one before it has used may go, and what it has asked for has come when it ends.

        Raises DeviceError at the end when its copies have failed.
        """
        self._query += 1
        try:
            yield
        finally:
            asked, self._asked = self._asked, []
            self.finish(asked)

    def hold(self, mirrors: frozenset[int]) -> bool:
        """Keep mirrors for the running query; False when one of them has gone."""
        by_serial = {mirror.serial: mirror for mirror in self._mirrors.values()}
        if not mirrors <= by_serial.keys():
            return False
        for serial in mirrors:
            by_serial[serial].last_use = self._query
        return True

    @property
    def limit_bytes(self) -> int:
        """Device memory that mirrors may take."""
        if self._limit is None:
            self._limit = int(self._driver.memory_bytes[0] * _SHARE_OF_FREE)
        return self._limit

    def absent(self, snapshot: Snapshot, columns: frozenset[int]) -> Absent:
        """What of these columns is not on the device; changes nothing."""
        changes, known = snapshot.derived.get(self._key, (-1, {}))
        if changes != self._changes:
            known = {}
            snapshot.derived[self._key] = self._changes, known
        found: Absent | None = known.get(columns)
        if found is None:
            found = known[columns] = self._absent(snapshot, columns)
        return found

    def _absent(self, snapshot: Snapshot, columns: frozenset[int]) -> Absent:
        mappings = self._memory.mappings()
        places = _Places.of(mappings)
        serials = np.array([self._serial_of(mapping) for mapping in mappings], dtype=np.int64)
        pinned = total = 0
        touched: set[int] = set()
        is_mapped = True
        for column in columns:
            for kind, table, width in self._kinds(snapshot, column):
                there = np.flatnonzero((snapshot.lengths > 0) & (table[column] != 0))
                addresses, lengths = table[column][there], snapshot.lengths[there]
                if not places.are_inside(addresses):
                    is_mapped = False
                    total += int(lengths.sum()) * width
                    continue
                owners = places.indexes(addresses)
                touched.update(np.unique(owners).tolist())
                valid, _ = kind.valid_rows(column, there, addresses, serials[owners])
                missing = np.maximum(lengths - valid, 0) * width
                is_pinned = self._memory.are_pinned(mappings, owners, addresses + valid * width)
                total += int(missing.sum())
                pinned += int(missing[is_pinned].sum())
        return Absent(pinned, total - pinned, sum(mappings[k].size_bytes for k in touched), is_mapped)

    def _serial_of(self, mapping: PinnedMapping) -> int:
        """The serial of a mapping's mirror, 0 when it has none."""
        mirror = self._mirrors.get(mapping.serial)
        return 0 if mirror is None else mirror.serial

    def _kinds(self, snapshot: Snapshot, column: int) -> tuple[tuple[Known, Int64Array, int], ...]:
        """What is known of a column's values and validity, after what late rows have moved; where; bytes per row."""
        contents = self._known_of(snapshot)
        if snapshot.history.merges > contents.merges[column]:
            segments, first_rows = snapshot.history.moved_since(int(contents.merges[column]))
            contents.values.displace(column, segments, first_rows)
            contents.validity.displace(column, segments, first_rows)
            contents.merges[column] = snapshot.history.merges
        width = snapshot.schema.fields[column].type.dtype.itemsize
        return (contents.values, snapshot.addresses, width), (contents.validity, snapshot.validity, 1)

    def bring(
        self, snapshot: Snapshot, column: int, *, segment: int | None = None
    ) -> tuple[Int64Array, Int64Array, frozenset[int]] | None:
        """Bring a column up to date: device addresses of values and validity per segment, and serials of their mirrors.

        The copies have been asked for then; `follow` says what comes after them. segment: this one only. None when not
        all of it lies in this memory's mappings. Raises OutOfDeviceMemoryError.
        """
        brought = self._bring(snapshot, column, segment=segment, most_bytes=_UNLIMITED)
        if brought is None:
            return None
        result, kept, copies = brought
        if copies is not None:
            self._asked.append(copies)
        return result[0], result[1], kept

    def bring_piece(self, snapshot: Snapshot, column: int) -> Copies | None:
        """Ask for a bounded part of what is missing of a column; None when nothing is.

        The snapshot must stay open until the copies have been finished. Raises OutOfDeviceMemoryError.
        """
        self._query += 1
        brought = self._bring(snapshot, column, segment=None, most_bytes=PIECE_BYTES)
        return None if brought is None else brought[2]

    def _bring(
        self, snapshot: Snapshot, column: int, *, segment: int | None, most_bytes: int
    ) -> tuple[list[Int64Array], frozenset[int], Copies | None] | None:
        mappings = self._memory.mappings()
        places = _Places.of(mappings)
        used = snapshot.lengths > 0
        if segment is not None:
            used &= np.arange(len(used)) == segment
        rows = [table[column][used & (table[column] != 0)] for table in (snapshot.addresses, snapshot.validity)]
        if not all(places.are_inside(row) for row in rows):
            return None
        needed = Needed(most_bytes)
        result = []
        kept: set[int] = set()
        for known, table, size in self._kinds(snapshot, column):
            there = np.flatnonzero(used & (table[column] != 0))
            if most_bytes < _UNLIMITED:  # for later queries, which do not look at blocks that have been left
                there = there[known.are_here(column, there, table[column][there])]
            result.append(self._collect(snapshot, known, column, table[column], there, size, places, kept, needed))
        if not self._ranges.ask(needed, mappings):
            for note in needed.notes:
                note.apply()
            return result, frozenset(kept), None
        self._changes += 1
        memory = [mirror.memory for mirror in self._mirrors.values() if mirror.serial in kept]
        event = self._driver.record(Stream.COPIES)
        copies = Copies(self._known_of(snapshot), column, event, (mappings, memory), needed.left)
        self._under_way.add(copies)
        for note in needed.notes:
            note.apply()
        return result, frozenset(kept), copies

    def follow(self, snapshot: Snapshot, column: int) -> None:
        """Let kernels that are launched from now on find what has been asked for of a column."""
        if self._under_way:
            self._under_way.follow(self._known_of(snapshot), column)

    def finish(self, copies: Collection[Copies]) -> None:
        """Wait until copies are done; raises DeviceError, and knows nothing any more, when they have failed."""
        try:
            self._under_way.finish(copies)
        except DeviceError:
            self._contents.clear()
            self._mirrors.clear()
            self.mirror_bytes = 0
            self._changes += 1
            raise

    def array(self, snapshot: Snapshot, column: int, segment: int) -> DeviceArray | None:
        """The values of one segment, brought up; the mirror stays as long as the array, even where it has to go here.

        None when they do not lie in this memory's mappings. Raises OutOfDeviceMemoryError.
        """
        brought = self.bring(snapshot, column, segment=segment)
        if brought is None:
            return None
        self.finish(self._under_way.of(self._known_of(snapshot), column))  # it is read on other streams, too
        address = int(brought[0][segment])
        mirror = next(m for m in self._mirrors.values() if 0 <= address - m.memory.address < m.memory.size_bytes)
        dtype = snapshot.schema.fields[column].type.dtype
        return DeviceArray(mirror.memory, address, int(snapshot.lengths[segment]), dtype)

    def _collect(
        self,
        snapshot: Snapshot,
        known: Known,
        column: int,
        addresses: Int64Array,
        there: Int64Array,
        width: int,
        places: _Places,
        kept: set[int],
        needed: Needed,
    ) -> Int64Array:
        """Note what must be brought up of one column; the device addresses per segment."""
        found = np.zeros(len(addresses), dtype=np.int64)
        if not len(there):
            return found
        mapping_of = places.indexes(addresses[there])
        mirrors = np.zeros(len(places.begins), dtype=np.int64)
        deltas = np.zeros(len(places.begins), dtype=np.int64)
        for index in np.unique(mapping_of).tolist():
            mirror = self._mirror(places.mappings[index])
            mirror.last_use = self._query
            kept.add(mirror.serial)
            mirrors[index] = mirror.serial
            deltas[index] = mirror.memory.address - places.mappings[index].address
        starts, is_same = known.valid_rows(column, there, addresses[there], mirrors[mapping_of])
        taken_over = addresses[there][~is_same]
        if len(taken_over):
            contents = self._known_of(snapshot)
            contents.values.void(taken_over)
            contents.validity.void(taken_over)
        ends = starts + needed.take(np.maximum(snapshot.lengths[there] - starts, 0) * width, width) // width
        is_missing = ends > starts
        needed.targets.append((addresses[there] + deltas[mapping_of] + starts * width)[is_missing])
        needed.sources.append((addresses[there] + starts * width)[is_missing])
        needed.sizes.append(((ends - starts) * width)[is_missing])
        needed.mappings.append(mapping_of[is_missing])
        needed.notes.append(Note(known, column, there, ends, addresses[there], mirrors[mapping_of]))
        found[there] = addresses[there] + deltas[mapping_of]
        return found

    def _known_of(self, snapshot: Snapshot) -> Contents:
        contents = self._contents.get(snapshot.history.origin)
        if contents is None:
            columns = len(snapshot.addresses)
            contents = Contents(Known.nothing(columns), Known.nothing(columns), np.zeros(columns, dtype=np.int64))
            self._contents[snapshot.history.origin] = contents
        contents.see(snapshot)
        return contents

    # ---- mirrors -----------------------------------------------------------------------------------------------

    def _mirror(self, mapping: PinnedMapping) -> Mirror:
        mirror = self._mirrors.get(mapping.serial)
        if mirror is None:
            self._make_room(mapping.size_bytes)
            memory = allocate_for_copies(self._driver, mapping.size_bytes)
            mirror = Mirror(memory, mapping.serial, next(self._serials))
            self._mirrors[mapping.serial] = mirror
        return mirror

    def _make_room(self, size_bytes: int) -> None:
        """Drop mirrors whose mapping is gone, then those not used for longest, until the limit holds."""
        living = {mapping.serial: mapping.size_bytes for mapping in self._memory.mappings()}
        for serial in [serial for serial in self._mirrors if serial not in living]:
            del self._mirrors[serial]
        if size_bytes > self.limit_bytes:
            raise OutOfDeviceMemoryError(
                f"{size_bytes:,} bytes of one arena do not fit into the {self.limit_bytes:,} bytes of device memory "
                "allowed"
            )
        while self._mirrors and sum(living[serial] for serial in self._mirrors) + size_bytes > self.limit_bytes:
            coldest = min(self._mirrors.values(), key=lambda mirror: mirror.last_use)
            if coldest.last_use == self._query:
                raise OutOfDeviceMemoryError("one query needs more device memory than is allowed")
            del self._mirrors[coldest.mapping_serial]
            self.finish(self._under_way.into(coldest.memory))  # else its memory would not be free
            self._changes += 1
            self.stats.evictions += 1
        self.mirror_bytes = sum(living[serial] for serial in self._mirrors) + size_bytes


@dataclass(frozen=True, slots=True)
class _Places:
    """Where mappings begin and end, ascending."""

    mappings: list[PinnedMapping]
    begins: Int64Array
    ends: Int64Array

    @classmethod
    def of(cls, mappings: list[PinnedMapping]) -> _Places:
        begins = np.array([mapping.address for mapping in mappings], dtype=np.int64)
        sizes = np.array([mapping.size_bytes for mapping in mappings], dtype=np.int64)
        return cls(mappings, begins, begins + sizes)

    def indexes(self, addresses: Int64Array) -> Int64Array:
        return np.searchsorted(self.begins, addresses, side="right").astype(np.int64) - 1

    def are_inside(self, addresses: Int64Array) -> bool:
        if not len(addresses):
            return True
        found = self.indexes(addresses)
        return bool((found >= 0).all() and (addresses < self.ends[found]).all())
