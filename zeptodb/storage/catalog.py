"""The tables and views of a pipeline, by name."""

from __future__ import annotations

from threading import RLock
from typing import TypeVar

from zeptodb.errors import AlreadyExistsError, InvalidInputError, InvalidTypeError, unknown_table
from zeptodb.record import record
from zeptodb.storage.log import ChangeLog
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.table import Table
from zeptodb.storage.workers import Workers
from zeptodb.types import Schema

Made = TypeVar("Made", bound=Table)


@record
class View:
    """A query under a name.

    Attributes:
        name: as it was spelled.
        text: the query.
        columns: names for its first columns.
        table: holds the rows of a materialized view; None for others.
    """

    name: str
    text: str
    columns: tuple[str, ...] = ()
    table: Table | None = None


class Catalog:
    """Tables and views by name; names are case-insensitive and keep the spelling they were created with.

    A materialized view is a table too. `version` grows with every change of what names mean.
    """

    def __init__(
        self, memory: HostMemory, *, arena_size: int, workers: Workers | None = None, log: ChangeLog | None = None
    ) -> None:
        self.version = 0
        self._memory = memory
        self._arena_size = arena_size
        self._workers = workers
        self._log = log
        self._lock = RLock()
        self._tables: dict[str, Table] = {}
        self._views: dict[str, View] = {}

    def names(self) -> list[str]:
        """Names of all tables and views, tables first, in order of creation."""
        tables = [table.name for table in self._tables.values()]
        return tables + [view.name for view in self._views.values() if view.table is None]

    def tables(self) -> list[Table]:
        """All tables, materialized views among them, in order of creation."""
        return list(self._tables.values())

    def views(self) -> list[View]:
        """All views, in order of creation."""
        return list(self._views.values())

    def find_view(self, name: str) -> View | None:
        """The view called `name`, None when there is none."""
        return self._views.get(name.lower()) if self._views else None

    def find(self, name: str) -> Table | None:
        """The table called `name`, None when there is none; raises InvalidTypeError for what is not a str."""
        if not isinstance(name, str):
            raise InvalidTypeError(f"A table name must be a str, got {name!r:.60}.")
        return self._tables.get(name.lower())

    def get(self, name: str) -> Table:
        """The table called `name`; raises UnknownTableError, which names the known ones."""
        table = self.find(name)
        if table is None:
            raise unknown_table(name, self.names())
        return table

    def create(self, name: str, schema: Schema) -> Table:
        """Create an empty table; raises AlreadyExistsError."""
        with self._lock:
            self._require_free(name)
            if self._log is not None:
                self._log.before_create(name, schema)
            table = Table(
                name, schema, memory=self._memory, arena_size=self._arena_size, workers=self._workers, log=self._log
            )
            self._tables[name.lower()] = table
            self.version += 1
        return table

    def drop(self, name: str) -> None:
        """Remove a table; queries and views that hold its memory keep it. Raises UnknownTableError."""
        with self._lock:
            if name.lower() not in self._tables:
                raise unknown_table(name, self.names())
            if self._log is not None:
                self._log.before_drop(name)
            del self._tables[name.lower()]
            self.version += 1

    def make_table(self, name: str, schema: Schema, kind: type[Made]) -> Made:
        """A table of a class of its own, that is in no catalog and no log yet."""
        return kind(name, schema, memory=self._memory, arena_size=self._arena_size, workers=self._workers)

    def create_view(self, view: View) -> None:
        """Add a view; raises AlreadyExistsError."""
        with self._lock:
            self._require_free(view.name)
            self._views[view.name.lower()] = view
            if view.table is not None:
                self._tables[view.name.lower()] = view.table
            self.version += 1

    def drop_view(self, name: str) -> None:
        """Remove a view; raises UnknownTableError."""
        with self._lock:
            if self._views.pop(name.lower(), None) is None:
                raise unknown_table(name, [view.name for view in self._views.values()])
            self._tables.pop(name.lower(), None)
            self.version += 1

    def rename(self, name: str, new_name: str) -> None:
        """Call a table otherwise; raises UnknownTableError and AlreadyExistsError."""
        with self._lock:
            table = self.get(name)
            if new_name.lower() != name.lower():
                self._require_free(new_name)
            if self._log is not None:
                self._log.before_rename(table.name, new_name)
            self._tables = {(new_name.lower() if known is table else key): known for key, known in self._tables.items()}
            table.rename(new_name)
            self.version += 1

    def note_change(self) -> None:
        """Make what was planned for tables as they were stale."""
        with self._lock:
            self.version += 1

    def _require_free(self, name: str) -> None:
        if not name:
            raise InvalidInputError("A table name must not be empty.")
        if name.lower() in self._views:
            raise AlreadyExistsError(f'"{name}" is a view already; DROP VIEW it first or use another name.')
        if name.lower() in self._tables:
            raise AlreadyExistsError(f'Table "{name}" exists already; DROP TABLE it first or use another name.')
