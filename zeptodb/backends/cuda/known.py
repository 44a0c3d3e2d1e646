"""Which rows the device's image has, of one table's contents: counted per column and segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeptodb.storage.snapshot import Snapshot

Int64Array = npt.NDArray[np.int64]


@dataclass(slots=True)
class Known:
    """What is up to date of one kind of block, [column, segment]: rows, from which address, in which mirror.

    `places` is where the blocks lie by the latest snapshot seen: only of these is anything known.
    """

    rows: Int64Array
    addresses: Int64Array
    mirrors: Int64Array
    places: Int64Array

    @classmethod
    def nothing(cls, columns: int) -> Known:
        """Of columns without segments."""
        return cls(*(np.zeros((columns, 0), dtype=np.int64) for _ in range(4)))

    def grow(self, segments: int) -> None:
        """Have places for at least so many segments."""
        more = segments - self.rows.shape[1]
        if more > 0:
            self.rows, self.addresses, self.mirrors, self.places = (
                np.pad(table, ((0, 0), (0, more))) for table in (self.rows, self.addresses, self.mirrors, self.places)
            )

    def see(self, places: Int64Array) -> None:
        """The blocks lie here now. Those that lay elsewhere may be something else's, and come back with other rows."""
        self.places[:, : places.shape[1]] = places
        self.rows[self.addresses != self.places] = 0

    def are_here(self, column: int, segments: Int64Array, addresses: Int64Array) -> npt.NDArray[np.bool_]:
        """Whether the latest snapshot seen has the blocks of these segments at these addresses, too."""
        found: npt.NDArray[np.bool_] = self.places[column, segments] == addresses
        return found

    def displace(self, column: int, segments: Int64Array, first_rows: Int64Array) -> None:
        """Rows from these on have moved."""
        is_known = segments < self.rows.shape[1]
        np.minimum.at(self.rows[column], segments[is_known], first_rows[is_known])

    def valid_rows(
        self, column: int, segments: Int64Array, addresses: Int64Array, mirrors: Int64Array
    ) -> tuple[Int64Array, npt.NDArray[np.bool_]]:
        """Per segment the rows that are up to date where they lie now, and whether it is still the same block."""
        is_same = self.addresses[column, segments] == addresses
        is_same &= self.mirrors[column, segments] == mirrors
        return np.where(is_same, self.rows[column, segments], 0), is_same

    def void(self, addresses: Int64Array) -> None:
        """Other blocks lie at these addresses now."""
        self.rows[np.isin(self.addresses, addresses)] = 0


@dataclass(slots=True)
class Contents:
    """What the image knows of one table's contents: values, validity bytes, and after how many merges, per column.

    Attributes:
        version: of the latest snapshot seen.
    """

    values: Known
    validity: Known
    merges: Int64Array
    version: int = -1

    def see(self, snapshot: Snapshot) -> None:
        """Learn from a snapshot where blocks lie now, unless a later one has said it."""
        self.values.grow(len(snapshot.lengths))
        self.validity.grow(len(snapshot.lengths))
        if snapshot.version > self.version:
            self.version = snapshot.version
            self.values.see(snapshot.addresses)
            self.validity.see(snapshot.validity)


@dataclass(frozen=True, slots=True)
class Note:
    """What will be known once the copies have been made."""

    known: Known
    column: int
    segments: Int64Array
    rows: Int64Array
    addresses: Int64Array
    mirrors: Int64Array

    def apply(self) -> None:
        """Know it, but for blocks that have been left since: an older snapshot may read them, no later one."""
        is_here = self.known.are_here(self.column, self.segments, self.addresses)
        for table, values in (
            (self.known.rows, self.rows),
            (self.known.addresses, self.addresses),
            (self.known.mirrors, self.mirrors),
        ):
            table[self.column, self.segments[is_here]] = values[is_here]
