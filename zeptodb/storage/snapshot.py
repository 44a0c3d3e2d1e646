"""What a query sees: the rows of a table at one moment, readable without locks while ingest goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from zeptodb.record import record
from zeptodb.storage.dictionary import Dictionary
from zeptodb.storage.history import History
from zeptodb.types import Schema

Int64Array = npt.NDArray[np.int64]


@record
class Snapshot:
    """The segments of one table as they were when the snapshot was taken.

    Row `i` of column `c` in segment `s` lies at `addresses[c, s] + i * width of the column`. Within a segment rows are
    in time order (ties by arrival). Segments stand in the order in which their symbols first arrived.
    The memory stays as it is until `close()`; use the snapshot as a context manager.

    Attributes:
        name: the table's name.
        schema: its columns at that moment.
        symbols: per segment the symbol, or its code in `dictionaries[schema.symbol_index]` when symbols are strings.
        lengths: rows per segment.
        addresses: [column, segment] address of the first value; 0 in the symbol column's row (it is not stored).
        validity: [column, segment] address of one byte per row, 1 where there is a value; 0 where nothing is NULL.
        dictionaries: per column the strings behind its codes, or None.
        version: grows with every change of the table's contents.
        history: whose contents these are, and which of their rows have moved so far.
        release: called by `close()`.
        retake: called for the rows of the table as they are then, for work that outlives this snapshot; None when the
            table is gone.
        derived: facts computed from the above when asked for, shared by all snapshots of the same version.
    """

    name: str
    schema: Schema
    symbols: Int64Array
    lengths: Int64Array
    addresses: Int64Array
    validity: Int64Array
    dictionaries: tuple[Dictionary | None, ...]
    version: int
    history: History = field(default_factory=History, repr=False, compare=False)
    release: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)
    retake: Callable[[], Snapshot | None] = field(default=lambda: None, repr=False, compare=False)
    derived: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def rows(self) -> int:
        """Rows in all segments."""
        if "rows" not in self.derived:
            self.derived["rows"] = int(self.lengths.sum())
        return cast(int, self.derived["rows"])

    @property
    def segment_order(self) -> Int64Array:
        """Segment indexes in ascending order of their symbols (strings by code point)."""
        if "segment_order" not in self.derived:
            self.derived["segment_order"] = self._sort_segments()
        return cast(Int64Array, self.derived["segment_order"])

    def _sort_segments(self) -> Int64Array:
        dictionary = self.dictionaries[self.schema.symbol_index] if self.schema.symbol is not None else None
        if dictionary is None:
            return np.argsort(self.symbols, kind="stable").astype(np.int64)
        names = dictionary.values
        return np.array(sorted(range(len(self.symbols)), key=lambda s: names[self.symbols[s]]), dtype=np.int64)

    def released_by(self, release: Callable[[], None]) -> Snapshot:
        """The same snapshot under another pin; `dataclasses.replace` takes several times as long."""
        return Snapshot(
            self.name,
            self.schema,
            self.symbols,
            self.lengths,
            self.addresses,
            self.validity,
            self.dictionaries,
            self.version,
            self.history,
            release,
            self.retake,
            self.derived,
        )

    def close(self) -> None:
        """Give the memory back to the table; the snapshot must not be read afterwards."""
        self.release()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
