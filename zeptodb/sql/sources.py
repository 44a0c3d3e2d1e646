"""The tables that a SELECT reads, and what a column name means there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlglot import exp

from zeptodb.errors import did_you_mean
from zeptodb.storage.catalog import Catalog
from zeptodb.storage.table import Table
from zeptodb.types import Schema


class Source(NamedTuple):
    """A table of the FROM clause under the name that the statement calls it by."""

    name: str
    table: Table
    schema: Schema

    def find(self, column: str) -> int | None:
        """Position of the column of that name (case-insensitive)."""
        lower = column.lower()
        return next((i for i, field in enumerate(self.schema.fields) if field.name.lower() == lower), None)


def source_of(node: exp.Expr, catalog: Catalog) -> Source | str:
    """The table that `node` of a FROM clause names, or why it is no plain table of ours."""
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        return "FROM holds something else than a table"
    extra = [key for key, value in node.args.items() if value and key not in ("this", "alias", "joins")]
    if "fraction" in extra:
        return f"SAMPLE of {node.name} has no native form"
    if extra:
        return f"the table {node.name} is given with {', '.join(sorted(extra))}"
    alias = node.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        return "a table alias renames columns"
    table = catalog.find(node.name)
    if table is None:
        return f'"{node.name}" is no table'
    return Source(alias.name if alias is not None else table.name, table, table.schema)


def is_qualified_by(node: exp.Column, source: Source) -> bool:
    """Whether the column reference may mean a column of `source` by its qualifier."""
    qualifier = node.args.get("table")
    return qualifier is None or qualifier.name.lower() == source.name.lower()


def unknown_column_message(node: exp.Column, sources: list[Source]) -> str:
    """The text of the error for a column that none of the tables has."""
    qualifier = node.args.get("table")
    names = [source.name for source in sources]
    if qualifier is not None and qualifier.name.lower() not in [name.lower() for name in names]:
        return f'No table is called "{qualifier.name}" in FROM.{did_you_mean(qualifier.name, names)}'
    known = list(dict.fromkeys(name for source in sources for name in source.schema.names))
    tables = " and ".join(f'"{source.name}"' for source in sources)
    return f'There is no column "{node.name}" in {tables}.{did_you_mean(node.name, known)}'


def outputs_of(select: exp.Expr) -> Iterator[tuple[exp.Expr, str | None]]:
    """The items of the select list without their aliases, each with its alias (None: has none)."""
    for node in select.expressions:
        if isinstance(node, exp.Alias):
            yield node.this, node.alias
        else:
            yield node, None


def is_star(node: exp.Expr) -> bool:
    """Whether the item is `*` or `t.*`."""
    return isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star))


def is_modified_star(node: exp.Expr) -> bool:
    """Whether a star has EXCLUDE, REPLACE or RENAME."""
    star = node if isinstance(node, exp.Star) else node.this
    return any(star.args.values())
