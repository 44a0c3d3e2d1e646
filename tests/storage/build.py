"""Tables and batches for storage tests, and a slow truth to compare them with."""

from __future__ import annotations

import ctypes

import numpy as np

from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.storage.batch import ColumnBatch
from zeptodb.storage.catalog import Catalog
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.types import TRADES, Schema

SMALL_ARENA = 64 * 1024


def make_table(schema: Schema = TRADES, *, arena_size: int = SMALL_ARENA) -> Table:
    """An empty table of its own catalog."""
    return Catalog(AnonymousMemory(), arena_size=arena_size).create("trades", schema)


def trades_batch(symbols, prices, volumes, timestamps) -> ColumnBatch:
    """A batch for the default schema from anything numpy takes."""
    columns = tuple(np.ascontiguousarray(c, dtype=np.int64) for c in (symbols, prices, volumes, timestamps))
    return ColumnBatch(columns, (None,) * 4, len(columns[0]))


def read_column(snapshot: Snapshot, segment: int, column: int) -> np.ndarray:
    """A copy of one column of one segment, read by address."""
    dtype = snapshot.schema.fields[column].type.dtype
    rows = int(snapshot.lengths[segment])
    raw = ctypes.string_at(int(snapshot.addresses[column, segment]), rows * dtype.itemsize) if rows else b""
    return np.frombuffer(raw, dtype=dtype)


def read_validity(snapshot: Snapshot, segment: int, column: int) -> np.ndarray:
    """Validity of one column of one segment."""
    rows = int(snapshot.lengths[segment])
    address = int(snapshot.validity[column, segment])
    return np.frombuffer(ctypes.string_at(address, rows), np.bool_) if address else np.ones(rows, np.bool_)


class Truth:
    """What a trades table must hold: per symbol a list of rows in stable time order."""

    def __init__(self) -> None:
        self.rows: dict[int, list[tuple[int, int, int]]] = {}

    def append(self, symbols, prices, volumes, timestamps) -> None:
        """Append row by row, in order of arrival."""
        for row in zip(symbols, prices, volumes, timestamps, strict=True):
            symbol, price, volume, timestamp = map(int, row)
            self.rows.setdefault(symbol, []).append((timestamp, price, volume))

    def check(self, table: Table) -> None:
        """Compare with a snapshot of the table."""
        with table.snapshot() as snapshot:
            assert sorted(snapshot.symbols.tolist()) == sorted(self.rows)
            for segment, symbol in enumerate(snapshot.symbols.tolist()):
                want = sorted(self.rows[symbol], key=lambda row: row[0])
                columns = [read_column(snapshot, segment, c).tolist() for c in (3, 1, 2)]
                assert list(zip(*columns, strict=True)) == want
