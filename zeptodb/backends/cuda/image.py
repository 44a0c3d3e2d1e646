"""The device's image of the arenas: each has a mirror in device memory, a column lies there at the same offset.

Which rows of a mirror are up to date is remembered per table contents, column and segment: as many as have been copied
from the block in which the rows lie now, less those that late rows have displaced since. A query brings up what is
missing of the columns that it reads, in as few copies as possible, and sees no rows beyond its snapshot; so ingest
goes on beside it. When device memory is short, mirrors that have not been used for longest go first.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.driver import DeviceMemory, Driver, OutOfDeviceMemoryError
from zeptodb.backends.cuda.memory import PinnedMapping, PinnedMemory
from zeptodb.backends.cuda.staging import StagingRing
from zeptodb.storage.history import Origin
from zeptodb.storage.snapshot import Snapshot

Int64Array = npt.NDArray[np.int64]

_SHARE_OF_FREE = 0.8
_MANY_RANGES = 64
_SHORT_BYTES = 64 << 10
_NEAR_BYTES = 4 << 10


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


@dataclass(slots=True)
class _Known:
    """What is up to date of one kind of block, [column, segment]: rows, from which address, in which mirror."""

    rows: Int64Array
    addresses: Int64Array
    mirrors: Int64Array

    @classmethod
    def nothing(cls, columns: int) -> _Known:
        return cls(*(np.zeros((columns, 0), dtype=np.int64) for _ in range(3)))

    def grow(self, segments: int) -> None:
        more = segments - self.rows.shape[1]
        if more > 0:
            self.rows, self.addresses, self.mirrors = (
                np.pad(table, ((0, 0), (0, more))) for table in (self.rows, self.addresses, self.mirrors)
            )

    def void(self, addresses: Int64Array) -> None:
        """Other blocks lie at these addresses now."""
        self.rows[np.isin(self.addresses, addresses)] = 0


@dataclass(slots=True)
class _Contents:
    """What the image knows of one table's contents: values, validity bytes, and after how many merges, per column."""

    values: _Known
    validity: _Known
    merges: Int64Array


@dataclass(slots=True)
class ImageStats:
    """Counters: bytes and ranges brought up, how many of these by the scatter kernel, mirrors that had to go."""

    uploaded_bytes: int = 0
    ranges: int = 0
    evictions: int = 0
    by_kernel: int = 0


@dataclass(frozen=True, slots=True)
class _Note:
    """What will be known once the copies have been made."""

    known: _Known
    column: int
    segments: Int64Array
    rows: Int64Array
    addresses: Int64Array
    mirrors: Int64Array

    def apply(self) -> None:
        for table, values in (
            (self.known.rows, self.rows),
            (self.known.addresses, self.addresses),
            (self.known.mirrors, self.mirrors),
        ):
            table[self.column, self.segments] = values


@dataclass(slots=True)
class _Needed:
    """Ranges to bring up: addresses on the device and on the host, bytes, mapping of each; and what is known then."""

    targets: list[Int64Array] = field(default_factory=list)
    sources: list[Int64Array] = field(default_factory=list)
    sizes: list[Int64Array] = field(default_factory=list)
    mappings: list[Int64Array] = field(default_factory=list)
    notes: list[_Note] = field(default_factory=list)


class DeviceImage:
    """Mirrors of the mappings of one `PinnedMemory`. The owner's lock guards it."""

    def __init__(self, driver: Driver, memory: PinnedMemory, *, limit_bytes: int | None = None) -> None:
        """Hold at most `limit_bytes` in mirrors (None: four fifths of what is free when the first one is made)."""
        self._driver, self._memory = driver, memory
        self._limit = limit_bytes
        self.mirror_bytes = 0
        self.stats = ImageStats()
        self._ring = StagingRing(driver, memory)
        self._mirrors: dict[int, Mirror] = {}  # by serial of the mapping
        self._serials = itertools.count(1)
        self._query = 0
        self._contents: WeakKeyDictionary[Origin, _Contents] = WeakKeyDictionary()

    def begin_query(self) -> None:
        """What the query before this one has used may go."""
        self._query += 1

    def hold(self, mirrors: frozenset[int]) -> bool:
        """Keep mirrors for the running query; False when one of them has gone."""
        by_serial = {mirror.serial: mirror for mirror in self._mirrors.values()}
        if not mirrors <= by_serial.keys():
            return False
        for serial in mirrors:
            by_serial[serial].last_use = self._query
        return True

    def bring(self, snapshot: Snapshot, column: int) -> tuple[Int64Array, Int64Array, frozenset[int]] | None:
        """Bring a column up to date: device addresses of values and validity per segment, and serials of their mirrors.

        None when not all of the column lies in this memory's mappings. Raises OutOfDeviceMemoryError.
        """
        mappings = self._memory.mappings()
        places = _Places.of(mappings)
        used = snapshot.lengths > 0
        rows = [table[column][used & (table[column] != 0)] for table in (snapshot.addresses, snapshot.validity)]
        if not all(places.are_inside(row) for row in rows):
            return None
        contents = self._known_of(snapshot)
        width = snapshot.schema.fields[column].type.dtype.itemsize
        needed = _Needed()
        result = []
        kept: set[int] = set()
        for known, table, size in (
            (contents.values, snapshot.addresses, width),
            (contents.validity, snapshot.validity, 1),
        ):
            there = np.flatnonzero(used & (table[column] != 0))
            result.append(self._collect(snapshot, known, contents, column, table[column], there, size, places,
                                        kept, needed))  # fmt: skip
        self._upload(needed, mappings)
        for note in needed.notes:
            note.apply()
        contents.merges[column] = max(int(contents.merges[column]), snapshot.history.merges)
        return result[0], result[1], frozenset(kept)

    def _collect(
        self,
        snapshot: Snapshot,
        known: _Known,
        contents: _Contents,
        column: int,
        addresses: Int64Array,
        there: Int64Array,
        width: int,
        places: _Places,
        kept: set[int],
        needed: _Needed,
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
        is_same = known.addresses[column, there] == addresses[there]
        is_same &= known.mirrors[column, there] == mirrors[mapping_of]
        valid = np.zeros(len(addresses), dtype=np.int64)
        valid[there] = np.where(is_same, known.rows[column, there], 0)
        if snapshot.history.merges > contents.merges[column]:
            segments, first_rows = snapshot.history.moved_since(int(contents.merges[column]))
            np.minimum.at(valid, segments, first_rows)
        taken_over = addresses[there][~is_same]
        if len(taken_over):
            contents.values.void(taken_over)
            contents.validity.void(taken_over)
        starts, ends = valid[there], np.maximum(valid[there], snapshot.lengths[there])
        is_missing = ends > starts
        needed.targets.append((addresses[there] + deltas[mapping_of] + starts * width)[is_missing])
        needed.sources.append((addresses[there] + starts * width)[is_missing])
        needed.sizes.append(((ends - starts) * width)[is_missing])
        needed.mappings.append(mapping_of[is_missing])
        needed.notes.append(_Note(known, column, there, ends, addresses[there], mirrors[mapping_of]))
        found[there] = addresses[there] + deltas[mapping_of]
        return found

    def _known_of(self, snapshot: Snapshot) -> _Contents:
        contents = self._contents.get(snapshot.history.origin)
        if contents is None:
            columns = len(snapshot.addresses)
            contents = _Contents(_Known.nothing(columns), _Known.nothing(columns), np.zeros(columns, dtype=np.int64))
            self._contents[snapshot.history.origin] = contents
        contents.values.grow(len(snapshot.lengths))
        contents.validity.grow(len(snapshot.lengths))
        return contents

    # ---- mirrors -----------------------------------------------------------------------------------------------

    def _mirror(self, mapping: PinnedMapping) -> Mirror:
        mirror = self._mirrors.get(mapping.serial)
        if mirror is None:
            self._make_room(mapping.size_bytes)
            mirror = Mirror(self._driver.allocate(mapping.size_bytes), mapping.serial, next(self._serials))
            self._mirrors[mapping.serial] = mirror
        return mirror

    def _make_room(self, size_bytes: int) -> None:
        """Drop mirrors whose mapping is gone, then those not used for longest, until the limit holds."""
        living = {mapping.serial: mapping.size_bytes for mapping in self._memory.mappings()}
        for serial in [serial for serial in self._mirrors if serial not in living]:
            del self._mirrors[serial]
        if self._limit is None:
            self._limit = int(self._driver.memory_bytes[0] * _SHARE_OF_FREE)
        if size_bytes > self._limit:
            raise OutOfDeviceMemoryError(
                f"{size_bytes:,} bytes of one arena do not fit into the {self._limit:,} bytes of device memory allowed"
            )
        while self._mirrors and sum(living[serial] for serial in self._mirrors) + size_bytes > self._limit:
            coldest = min(self._mirrors.values(), key=lambda mirror: mirror.last_use)
            if coldest.last_use == self._query:
                raise OutOfDeviceMemoryError("one query needs more device memory than is allowed")
            del self._mirrors[coldest.mapping_serial]
            self.stats.evictions += 1
        self.mirror_bytes = sum(living[serial] for serial in self._mirrors) + size_bytes

    # ---- copies ------------------------------------------------------------------------------------------------

    def _upload(self, needed: _Needed, mappings: list[PinnedMapping]) -> None:
        if not needed.sizes:
            return
        targets, sources, sizes, owners = (
            np.concatenate(parts) for parts in (needed.targets, needed.sources, needed.sizes, needed.mappings)
        )
        if not len(sizes):
            return
        total = int(sizes.sum())
        self.stats.uploaded_bytes += total
        self.stats.ranges += len(sizes)
        if len(sizes) > _MANY_RANGES:
            order = np.argsort(sources, kind="stable")
            targets, sources, sizes, owners = targets[order], sources[order], sizes[order], owners[order]
            targets, sources, sizes, owners = _joined(targets, sources, sizes, owners)
        is_short = sizes < _SHORT_BYTES
        if int(is_short.sum()) > _MANY_RANGES:
            self.stats.by_kernel += int(is_short.sum())
            self._ring.scatter(targets[is_short], sources[is_short], sizes[is_short])
            targets, sources, sizes, owners = (a[~is_short] for a in (targets, sources, sizes, owners))
        for target, source, size, owner in zip(*(a.tolist() for a in (targets, sources, sizes, owners)), strict=True):
            mapping = mappings[owner]
            first = source - mapping.address
            for begin, end, is_pinned in self._memory.parts(mapping, first, first + size):
                copy = self._driver.to_device if is_pinned else self._ring.to_device
                copy(target + begin - first, mapping.address + begin, end - begin)
        self._driver.synchronize()  # the rows may be moved when the snapshot is closed


def _joined(
    targets: Int64Array, sources: Int64Array, sizes: Int64Array, owners: Int64Array
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """Ranges that lie near to one another in one mapping as one: what is between them is the image of what is there."""
    gaps = sources[1:] - (sources[:-1] + sizes[:-1])
    is_near = (owners[1:] == owners[:-1]) & (gaps <= np.maximum(_NEAR_BYTES, sizes[:-1] // 4))
    if not is_near.any() or int(gaps[is_near].sum()) > int(sizes.sum()):
        return targets, sources, sizes, owners
    firsts = np.flatnonzero(np.append(True, ~is_near))
    lasts = np.append(firsts[1:], len(sizes)) - 1
    return targets[firsts], sources[firsts], sources[lasts] + sizes[lasts] - sources[firsts], owners[firsts]


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
