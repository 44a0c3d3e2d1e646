"""A snapshot's columns on the device: which are there, and the tables of their addresses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.batch import aligned, upload_described, wait
from zeptodb.backends.cuda.driver import DeviceArray, DeviceMemory, Driver
from zeptodb.backends.cuda.image import DeviceImage
from zeptodb.storage.snapshot import Snapshot

Int64Array = npt.NDArray[np.int64]


class DeviceColumns:
    """The columns of one snapshot on the device: in the image of the arenas, or, of other memory, copies.

    An operation asks for what it needs with `require`, under the lock of the owner; with `ask` before that, columns
    come up while it is laid out.

    `words` holds how many segments there are, and the addresses of the tables that kernels take: of values and of
    validity bytes, [column, segment] both, and of symbols.
    """

    def __init__(self, driver: Driver, image: DeviceImage, snapshot: Snapshot) -> None:
        """Nothing is there yet."""
        self._driver, self._image = driver, image
        self._addresses = np.zeros(snapshot.addresses.shape, dtype=np.int64)
        self._validity = np.zeros(snapshot.validity.shape, dtype=np.int64)
        self._symbols = np.ascontiguousarray(snapshot.symbols, dtype=np.int64)
        self._present: dict[int, frozenset[int]] = {}  # serials of the mirrors that a column lies in
        self._kept: list[DeviceMemory] = []
        self._tables: tuple[DeviceArray, ...] | None = None

    @property
    def words(self) -> DeviceArray:
        """What kernels take as the columns."""
        return self._described()[0]

    def _described(self) -> tuple[DeviceArray, ...]:
        if self._tables is None:
            tables = (self._addresses, self._validity, self._symbols)
            self._tables = upload_described(self._driver, tables, len(self._symbols))
        return self._tables

    def address_row(self, column: int) -> DeviceArray:
        """The addresses of a column's values, one per segment."""
        _, addresses, *_ = self._described()
        count = len(self._symbols)
        return addresses.part(column * count, (column + 1) * count)

    def addresses_of(self, column: int) -> tuple[Int64Array, Int64Array]:
        """Device addresses of a column's values and validity per segment (0: nothing is NULL), once it is there."""
        return self._addresses[column], self._validity[column]

    def require(self, snapshot: Snapshot, columns: Iterable[int]) -> None:
        """Bring the columns to the device that are not there yet; kernels launched from now on find them there."""
        wanted = sorted(columns)
        self.ask(snapshot, wanted)
        for column in wanted:
            self._image.follow(snapshot, column)

    def ask(self, snapshot: Snapshot, columns: Iterable[int]) -> None:
        """Ask for the columns that are not on the device yet, in this order; only what `require` names may be read."""
        wanted = [c for c in dict.fromkeys(columns) if c != snapshot.schema.symbol_index]
        missing = [c for c in wanted if c not in self._present or not self._image.hold(self._present[c])]
        for column in missing:
            brought = self._image.bring(snapshot, column)
            if brought is None:
                self._bring(snapshot, column)
                self._present[column] = frozenset()
            else:
                self._addresses[column], self._validity[column], self._present[column] = brought
        if missing:
            self._tables = None

    def _bring(self, snapshot: Snapshot, column: int) -> None:
        lengths = snapshot.lengths
        width = snapshot.schema.fields[column].type.dtype.itemsize
        for source, target, size in (
            (snapshot.addresses[column], self._addresses[column], width),
            (snapshot.validity[column], self._validity[column], 1),
        ):
            there = np.flatnonzero((source != 0) & (lengths > 0))
            if not len(there):
                continue
            sizes = [aligned(int(n) * size) for n in lengths[there]]
            memory = self._driver.allocate(sum(sizes))
            self._kept.append(memory)
            address = memory.address
            try:
                for segment, room in zip(there.tolist(), sizes, strict=True):
                    self._driver.to_device(address, int(source[segment]), int(lengths[segment]) * size)
                    target[segment] = address
                    address += room
            finally:
                wait(self._driver)  # the rows may be moved when the snapshot is closed
