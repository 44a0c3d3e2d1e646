"""What a request may do: by the role of its key, and by the tables that the key names."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from sqlglot import exp

from zeptodb.errors import ZeptoError
from zeptodb.record import record
from zeptodb.server.codes import Code, failure
from zeptodb.server.statement import Kind
from zeptodb.server.translate import parse_clickhouse
from zeptodb.sql.dialect import parse
from zeptodb.storage.catalog import Catalog

Role = Literal["admin", "writer", "reader"]
ROLES: tuple[Role, ...] = ("admin", "writer", "reader")

_ALLOWED: dict[Role, frozenset[Kind]] = {
    "admin": frozenset(("read", "write", "define", "copy", "session", "kill")),
    "writer": frozenset(("read", "write", "session")),
    "reader": frozenset(("read", "session")),
}

_TABLE_FUNCTIONS = frozenset(("range", "generate_series", "unnest", "generateseries"))


@record
class Grant:
    """The rights of a request.

    Attributes:
        user: the name of the key, for lists and logs.
        role: what kinds of statements it may run.
        tables: the only tables it may touch, in lower case; None: all.
    """

    user: str
    role: Role
    tables: frozenset[str] | None = None

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return self.role == "admin"

    def require(self, kind: Kind, *, read_only: bool = False) -> None:
        """Raise READONLY or ACCESS_DENIED unless a kind of statement is allowed."""
        if read_only and kind not in ("read", "session"):
            raise failure(Code.READONLY, "A GET request, or readonly=1, cannot write; send the statement with POST.")
        if kind not in _ALLOWED[self.role]:
            raise failure(
                Code.ACCESS_DENIED,
                f'The key "{self.user}" has the role {self.role}, which may not do that ({kind}); it takes the role '
                f"{'writer' if kind == 'write' else 'admin'}.",
            )
        if kind == "copy" and self.tables is not None:
            raise failure(Code.ACCESS_DENIED, f'The key "{self.user}" is for single tables and may not copy files.')

    def may_see(self, table: str) -> bool:
        """Whether a table is among the key's."""
        return self.tables is None or table.lower() in self.tables

    def require_table(self, table: str) -> None:
        """Raise ACCESS_DENIED unless a table is among the key's."""
        if not self.may_see(table):
            raise failure(
                Code.ACCESS_DENIED,
                f'The key "{self.user}" may not touch table "{table[:60]}"; it may touch '
                f"{', '.join(sorted(self.tables or ()))}.",
            )

    def require_tables_of(self, sql: str, catalog: Catalog) -> None:
        """Raise ACCESS_DENIED when a statement names a table that is not among the key's."""
        if self.tables is None:
            return
        for name in _tables_of(sql):
            if name.startswith(("(", "information_schema.")):
                raise failure(
                    Code.ACCESS_DENIED,
                    f'The key "{self.user}" is for single tables and may not use {name.strip("()")}.',
                )
            if catalog.find(name) is not None or catalog.find_view(name) is not None:
                self.require_table(name)


@lru_cache(maxsize=4096)
def _tables_of(sql: str) -> frozenset[str]:
    """Names of all tables in a statement, in lower case; a table function as (name)."""
    try:
        statements = parse(sql)
    except ZeptoError:
        statements = [parse_clickhouse(sql)]
    names: set[str] = set()
    for statement in statements:
        for command in statement.find_all(exp.Command):
            names.add(f"({command.name})")
        for table in statement.find_all(exp.Table):
            if isinstance(table.this, exp.Identifier):
                database = table.db.lower()
                names.add(f"{database}.{table.name.lower()}" if database else table.name.lower())
            elif table.this is not None and table.this.name.lower() not in _TABLE_FUNCTIONS:
                names.add(f"({table.this.name or table.this.key})")
    return frozenset(name.removeprefix("default.") for name in names)


OPEN = Grant("default", "admin")
"""The rights of everybody on a server that requires no keys."""
