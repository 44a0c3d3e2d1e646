"""Which rows the device's image has, of one table's contents: counted per column and segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]


@dataclass(slots=True)
class Known:
    """What is up to date of one kind of block, [column, segment]: rows, from which address, in which mirror."""

    rows: Int64Array
    addresses: Int64Array
    mirrors: Int64Array

    @classmethod
    def nothing(cls, columns: int) -> Known:
        """Of columns without segments."""
        return cls(*(np.zeros((columns, 0), dtype=np.int64) for _ in range(3)))

    def grow(self, segments: int) -> None:
        """Have places for at least so many segments."""
        more = segments - self.rows.shape[1]
        if more > 0:
            self.rows, self.addresses, self.mirrors = (
                np.pad(table, ((0, 0), (0, more))) for table in (self.rows, self.addresses, self.mirrors)
            )

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
    """What the image knows of one table's contents: values, validity bytes, and after how many merges, per column."""

    values: Known
    validity: Known
    merges: Int64Array


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
        """Know it."""
        for table, values in (
            (self.known.rows, self.rows),
            (self.known.addresses, self.addresses),
            (self.known.mirrors, self.mirrors),
        ):
            table[self.column, self.segments] = values
