"""The tables of a pipeline, by name."""

from __future__ import annotations

from threading import Lock

from zeptodb.errors import AlreadyExistsError, InvalidInputError, InvalidTypeError, unknown_table
from zeptodb.storage.log import ChangeLog
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.table import Table
from zeptodb.storage.workers import Workers
from zeptodb.types import Schema


class Catalog:
    """Tables by name; names are case-insensitive and keep the spelling they were created with."""

    def __init__(
        self, memory: HostMemory, *, arena_size: int, workers: Workers | None = None, log: ChangeLog | None = None
    ) -> None:
        self.version = 0
        self._memory = memory
        self._arena_size = arena_size
        self._workers = workers
        self._log = log
        self._lock = Lock()
        self._tables: dict[str, Table] = {}

    def names(self) -> list[str]:
        """Names of all tables, in order of creation."""
        return [table.name for table in self._tables.values()]

    def tables(self) -> list[Table]:
        """All tables, in order of creation."""
        return list(self._tables.values())

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
        if not name:
            raise InvalidInputError("A table name must not be empty.")
        with self._lock:
            if name.lower() in self._tables:
                raise AlreadyExistsError(f'Table "{name}" exists already; DROP TABLE it first or use another name.')
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
