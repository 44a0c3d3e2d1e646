"""A snapshot as kernels see it, and the memory that a thread lends to them."""

from __future__ import annotations

import ctypes
import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cpu.elementwise import elementwise
from zeptodb.storage.snapshot import Snapshot

Int64Array = npt.NDArray[np.int64]


class Columns(NamedTuple):
    """Addresses of a snapshot's columns.

    Attributes:
        words: what the interpreter takes as `columns`.
        kept: arrays that `words` points into.
    """

    words: Int64Array
    kept: tuple[Int64Array, ...]

    @classmethod
    def of(cls, snapshot: Snapshot) -> Columns:
        """Describe `snapshot`, once per version of its table."""
        known: Columns | None = snapshot.derived.get("cpu_columns")
        if known is not None:
            return known
        addresses, validity = _rows_of_words(snapshot.addresses), _rows_of_words(snapshot.validity)
        symbols = np.ascontiguousarray(snapshot.symbols, dtype=np.int64)
        words = np.array(
            [
                address_of(addresses),
                addresses.strides[0],
                address_of(validity),
                validity.strides[0],
                address_of(symbols),
                elementwise(),
            ],
            dtype=np.int64,
        )
        described = snapshot.derived["cpu_columns"] = cls(words, (addresses, validity, symbols))
        return described

    def address_row(self, column: int) -> int:
        """Address of the row of addresses of a column, one per segment."""
        return int(self.words[0]) + column * int(self.words[1])


def address_of(array: npt.NDArray[np.generic]) -> int:
    """Address of the first element."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # empty, not contiguous or not writable: takes four times as long
        address: int = array.__array_interface__["data"][0]
        return address


def _rows_of_words(table: Int64Array) -> Int64Array:
    if table.dtype == np.int64 and (table.strides[1] == 8 or table.shape[1] <= 1):
        return table
    return np.ascontiguousarray(table, dtype=np.int64)


class _Lent(threading.local):
    def __init__(self) -> None:
        self.words = np.empty(0, dtype=np.int64)


_LENT = _Lent()


def scratch(words: int) -> Int64Array:
    """At least `words` words of memory for a kernel that the calling thread runs; valid until its next call."""
    if len(_LENT.words) < words:
        _LENT.words = np.empty(max(words, 2 * len(_LENT.words)), dtype=np.int64)
    return _LENT.words
