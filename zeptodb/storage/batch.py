"""Rows on their way into a table: checked, typed, column by column, not yet scattered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from zeptodb.record import record
from zeptodb.types import ColumnType


@record
class Strings:
    """Strings as codes into their own list of distinct values; the code of a NULL is -1."""

    codes: npt.NDArray[np.int32]
    values: Sequence[str]


class Receipt:
    """Says whether the rows of a batch are in their table, also to a caller whose append was interrupted.

    `finish` is set by who stores the rows: called to carry out a change that an interrupt has left half done.
    """

    __slots__ = ("_is_marked", "finish")

    def __init__(self) -> None:
        self._is_marked = False
        self.finish: Callable[[], None] | None = None

    def mark(self) -> None:
        """Called in the same step that makes the rows visible."""
        self._is_marked = True

    @property
    def is_stored(self) -> bool:
        """Whether the rows are in the table; final once the append has returned or raised."""
        if not self._is_marked and self.finish is not None:
            self.finish()
        return self._is_marked


@record
class ColumnBatch:
    """Rows to append, one entry per field of the table's schema and in its order.

    Attributes:
        columns: C-contiguous 1-d arrays of exactly the field's dtype; `Strings` for STRING fields (and for a symbol
            column of strings; int64 for one of integers). None at the timestamp's place: rows get the time of arrival.
        validity: per column None (no NULL) or a bool array, True where there is a value.
        rows: length of every array.
        receipt: marked when the rows are in the table.
    """

    columns: tuple[npt.NDArray[np.generic] | Strings | None, ...]
    validity: tuple[npt.NDArray[np.bool_] | None, ...]
    rows: int
    receipt: Receipt | None = None


def null_column(rows: int, column_type: ColumnType) -> npt.NDArray[np.generic] | Strings:
    """A column of NULLs, to go with a validity of False."""
    if column_type is ColumnType.STRING:
        return Strings(np.full(rows, -1, np.int32), [])
    return np.zeros(rows, column_type.dtype)
