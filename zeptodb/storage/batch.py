"""Rows on their way into a table: checked, typed, column by column, not yet scattered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Strings:
    """Strings as codes into their own list of distinct values; the code of a NULL is -1."""

    codes: npt.NDArray[np.int32]
    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class ColumnBatch:
    """Rows to append, one entry per field of the table's schema and in its order.

    Attributes:
        columns: C-contiguous 1-d arrays of exactly the field's dtype; `Strings` for STRING fields (and for a symbol
            column of strings; int64 for one of integers). None at the timestamp's place: rows get the time of arrival.
        validity: per column None (no NULL) or a bool array, True where there is a value.
        rows: length of every array.
    """

    columns: tuple[npt.NDArray[np.generic] | Strings | None, ...]
    validity: tuple[npt.NDArray[np.bool_] | None, ...]
    rows: int
