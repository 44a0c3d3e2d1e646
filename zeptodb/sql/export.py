"""Stored rows as an Arrow table over the segments' own memory, for users to keep as long as they like."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zeptodb.backends.base import Backend, Ranges
from zeptodb.sql.arrow_columns import arrow_type
from zeptodb.sql.register import Lease, arrow_table
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.types import ColumnType, Schema

CODED = pa.dictionary(pa.int32(), pa.string())


class ViewLease(Lease):
    """A lease whose memory survives `close()`.

    A snapshot keeps every block that segments give up while it is open, for as long as it is open; views keep only the
    blocks that they show.
    """

    __slots__ = ("views",)

    def __init__(self, snapshot: Snapshot, views: list[npt.NDArray[np.generic]]) -> None:
        super().__init__(snapshot)
        self.views = views


def export_table(table: Table, backend: Backend, *, segment: int | None = None) -> pa.Table:
    """The rows that a table (or one segment of it) has now, time-ordered within each symbol, at one moment.

    Columns stand in the table's order; for one segment without the symbol and with the timestamp first. Long segments
    become one chunk each over their own memory, which stays as it is whatever is ingested later; short ones are copied
    together. Copies are also BOOL columns (Arrow packs them into bits), the bitmaps of NULLs, and the symbols, which
    are not stored by row. Timestamps are int64 nanoseconds, strings dictionary-coded.
    """
    with table.frozen():
        snapshot = table.snapshot()
        segments = np.arange(len(snapshot.lengths)) if segment is None else np.array([segment], dtype=np.int64)
        stored = [c for c in range(len(snapshot.schema.fields)) if c != snapshot.schema.symbol_index]
        occupied = segments[snapshot.lengths[segments] > 0]
        views = [table.view(s, c) for s in occupied.tolist() for c in stored]
    lease = ViewLease(snapshot, views)
    try:
        ranges = Ranges(occupied, np.zeros_like(occupied), snapshot.lengths[occupied])
        columns = export_columns(snapshot.schema, with_symbol=segment is None)
        exported = arrow_table(lease, ranges, columns, backend, may_gather=segment is None)
        if segment is None and snapshot.schema.symbol is not None:
            symbols = _symbols(snapshot, ranges)
            exported = exported.set_column(snapshot.schema.symbol_index, snapshot.schema.symbol, symbols)
        return exported.cast(export_schema(snapshot.schema, with_symbol=segment is None))
    finally:
        lease.close()


def export_columns(schema: Schema, *, with_symbol: bool) -> list[int]:
    """Indexes of the columns of an export, in its order."""
    if with_symbol:
        return list(range(len(schema.fields)))
    first = [] if schema.timestamp is None else [schema.timestamp_index]
    return first + [c for c in range(len(schema.fields)) if c not in (schema.symbol_index, schema.timestamp_index)]


def export_schema(schema: Schema, *, with_symbol: bool) -> pa.Schema:
    """The Arrow schema of an export: strings dictionary-coded, everything else as in results."""
    fields = [schema.fields[c] for c in export_columns(schema, with_symbol=with_symbol)]
    return pa.schema([(f.name, CODED if f.type is ColumnType.STRING else arrow_type(f.type)) for f in fields])


def _symbols(snapshot: Snapshot, ranges: Ranges) -> pa.Array:
    """The symbol of each row."""
    keys = np.repeat(snapshot.symbols[ranges.segments], ranges.ends - ranges.starts)
    dictionary = snapshot.dictionaries[snapshot.schema.symbol_index]
    if dictionary is None:
        return pa.array(keys)
    return pa.DictionaryArray.from_arrays(pa.array(keys.astype(np.int32)), dictionary.to_arrow())
