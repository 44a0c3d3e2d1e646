"""The strings behind a dictionary-coded column; codes are handed out in order of arrival and never change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeptodb.storage.batch import Strings

if TYPE_CHECKING:
    import pyarrow as pa


class Dictionary:
    """An append-only list of distinct strings and the code of each.

    `values[code]` is the string. Appending is done under the table's write lock; readers see a prefix that never
    changes.
    """

    __slots__ = ("_arrow", "_codes", "values")

    def __init__(self) -> None:
        self.values: list[str] = []
        self._codes: dict[str, int] = {}
        self._arrow: pa.StringArray | None = None

    def __len__(self) -> int:
        """How many distinct strings there are."""
        return len(self.values)

    def find(self, value: str) -> int | None:
        """The code of `value`, None when no row ever had it."""
        return self._codes.get(value)

    def code(self, value: str) -> int:
        """The code of `value`, a new one if need be."""
        code = self._codes.get(value)
        if code is None:
            code = len(self.values)
            self.values.append(value)
            self._codes[value] = code
        return code

    def translate(self, strings: Strings) -> npt.NDArray[np.int32]:
        """The codes of `strings` in this dictionary; NULL stays -1."""
        if not len(strings.values):
            return np.full(len(strings.codes), -1, dtype=np.int32)
        table = np.fromiter((self.code(v) for v in strings.values), dtype=np.int32, count=len(strings.values))
        table = np.append(table, np.int32(-1))
        return table[strings.codes]

    def to_arrow(self) -> pa.StringArray:
        """All strings, in order of their codes."""
        import pyarrow as pa

        cached = self._arrow
        if cached is None or len(cached) != len(self.values):
            cached = pa.array(list(self.values), pa.string())
            self._arrow = cached
        return cached
