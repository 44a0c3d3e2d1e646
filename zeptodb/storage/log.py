"""The hook through which a write-ahead log sees every change before it becomes visible."""

from __future__ import annotations

from typing import Protocol

from zeptodb.storage.batch import ColumnBatch
from zeptodb.types import Schema


class ChangeLog(Protocol):
    """Called under the write lock of the table, in the order of the changes; raising prevents the change."""

    def before_create(self, table: str, schema: Schema) -> None:
        """A table is about to exist."""
        ...

    def before_drop(self, table: str) -> None:
        """A table is about to vanish."""
        ...

    def before_rename(self, table: str, new_name: str) -> None:
        """A table is about to be called otherwise."""
        ...

    def before_append(self, table: str, schema: Schema, batch: ColumnBatch) -> None:
        """Rows are about to be appended; missing timestamps have been filled in."""
        ...

    def before_replace(self, table: str, schema: Schema, batch: ColumnBatch) -> None:
        """The rows are about to become the table's whole contents (UPDATE, DELETE)."""
        ...
