"""Rows that outlive what ALTER TABLE ... SET TTL has set."""

from __future__ import annotations

import numpy as np

from zeptodb.sql.constants import now_ns
from zeptodb.sql.engine import Engine
from zeptodb.storage.batch import ColumnBatch
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table

_CHECKS_PER_LIFE = 64
"""Expired rows are removed when the oldest of them has been so for this part of the time to live."""


def remove_expired(engine: Engine) -> None:
    """Remove the rows of all tables that have outlived SET TTL.

    So that a table is not rewritten for every single row, that is done once the oldest row has been expired for a
    64th of the time to live.
    """
    for table in engine.catalog.tables():
        length = table.ttl_ns
        if length is None:
            continue
        limit = now_ns() - length
        oldest = oldest_time(table)
        if oldest is not None and oldest < limit - length // _CHECKS_PER_LIFE:
            remove_older(engine, table, limit)


def oldest_time(table: Table) -> int | None:
    """The earliest timestamp, None for a table without rows."""
    with table.snapshot() as snapshot:
        column = snapshot.schema.timestamp_index
        occupied = np.flatnonzero(snapshot.lengths)
        if not len(occupied):
            return None
        return min(_first_time(int(address)) for address in snapshot.addresses[column, occupied])


def _first_time(address: int) -> int:
    import pyarrow as pa

    return int(np.frombuffer(pa.foreign_buffer(address, 8), np.int64)[0])


def remove_older(engine: Engine, table: Table, limit: int) -> None:
    """Remove the rows with a time before `limit`."""
    from zeptodb.sql.change_rows import contents_of

    def contents(snapshot: Snapshot) -> ColumnBatch:
        segments = np.arange(len(snapshot.lengths), dtype=np.int64)
        kept = engine.backend.time_ranges(snapshot, segments, from_ns=limit, to_ns=None)
        return contents_of(snapshot, engine.backend, kept)

    table.change(contents)
