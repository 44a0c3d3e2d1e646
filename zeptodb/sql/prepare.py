"""A statement on its way to DuckDB: words expanded, tables bounded, columns chosen; nothing is read yet."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

from sqlglot import exp

from zeptodb.errors import UnknownTableError, unknown_table
from zeptodb.record import record
from zeptodb.sql import duckdb_errors, information_schema
from zeptodb.sql.duckdb_plan import DuckdbPlan, Leaf, TableRead
from zeptodb.sql.expand import ColumnsOf, Expansion, FindTable, expand, no_columns
from zeptodb.sql.relations import Columns, Occurrence
from zeptodb.sql.source_text import NOT_AS_WRITTEN, pointed
from zeptodb.types import Schema

__all__ = ["FindTable", "is_volatile", "prepare"]

_MOMENTS = (exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.Localtimestamp, exp.Localtime)
_MOMENT_FUNCTIONS = frozenset(
    ("now", "today", "get_current_timestamp", "transaction_timestamp", "current_localtimestamp", "current_localtime")
)


def prepare(
    expression: exp.Expr,
    parameters: MutableMapping[str, object],
    find_table: FindTable,
    tables: Sequence[str],
    *,
    now_ns: int,
    text: str = "",
    within: str = "",
    leaves: Sequence[Leaf] = (),
    handed: Mapping[str, Columns] | None = None,
    columns_of: ColumnsOf = no_columns,
) -> DuckdbPlan:
    """What DuckDB is to run for a statement whose parameters all have names.

    Parameters
    ----------
    parameters
        Values by name; they take part in the bounds of what is read.
    find_table, tables
        Find the name and schema of a table by any spelling of its name; the names of all.
    now_ns
        What now() means.
    text, within
        The statement as it was written, or for a part of one the text that it is a part of.
    leaves, handed
        Native parts of the statement that stand in it as tables, and the columns of these by lower-case name.
    columns_of
        Gives the columns of a file.

    Raises QueryError, UnknownTableError or NotSupportedError.
    """
    written = "" if leaves else _as_written(expression, text)
    text = text or within
    expansion = expand(
        expression,
        parameters,
        find_table=find_table,
        unknown_table=lambda name: _unknown_table(name, tables, text),
        now_ns=now_ns,
        text=written,
        handed=handed,
        columns_of=columns_of,
    )
    rewritten = expansion.expression
    views = _name_views(expansion, tables)
    # A ? has a number in the tree, under which its value is given.
    is_as_written = bool(written) and "?" not in written and not expansion.has_changed and views.are_plain
    wanted = _Wanted.of(rewritten)
    return DuckdbPlan(
        written if is_as_written else rewritten.sql("duckdb"),
        tuple(leaves),
        tuple(_read(view, occurrence, wanted) for view, occurrence in views.by_name.items()),
        expansion.columns,
        frozenset(p.name for p in rewritten.find_all(exp.Placeholder)),
        information_schema.is_read_by(rewritten),
    )


def is_volatile(expression: exp.Expr) -> bool:
    """Whether the statement asks for the present moment."""
    return any(
        isinstance(node, _MOMENTS) or (isinstance(node, exp.Anonymous) and node.name.lower() in _MOMENT_FUNCTIONS)
        for node in expression.find_all(*_MOMENTS, exp.Anonymous)
    )


def _as_written(expression: exp.Expr, text: str) -> str:
    """The text if it is the statement's own and nothing else, else "" (a part of a statement, or several of them)."""
    has_others = expression.parent is not None or ";" in text.rstrip().removesuffix(";")
    return "" if has_others or expression.meta_get(NOT_AS_WRITTEN) else text


def _unknown_table(name: str, tables: Sequence[str], text: str) -> UnknownTableError:
    error = unknown_table(name, tables)
    return UnknownTableError(pointed(str(error), text, duckdb_errors.place_of(name, text)))


@record
class _Views:
    by_name: dict[str, Occurrence]
    are_plain: bool


def _name_views(expansion: Expansion, tables: Sequence[str]) -> _Views:
    """Give each different set of rows a view name: the table's own for the first one, a new one for each other."""
    taken = {name.lower() for name in tables}
    taken |= {cte.alias.lower() for cte in expansion.expression.find_all(exp.CTE)}
    names: dict[object, str] = {}
    by_name: dict[str, Occurrence] = {}
    are_plain = True
    for occurrence in expansion.occurrences:
        table = occurrence.table
        rows = occurrence.row_name if occurrence.needs_rows else None
        key = (table, occurrence.bounds, occurrence.keep, occurrence.fraction, tuple(occurrence.emas), rows)
        if key not in names:
            name, counter = table, 1
            while name in by_name or (counter > 1 and name.lower() in taken):
                counter += 1
                name = f"{table}_{counter}"
            names[key] = name
            by_name[name] = occurrence
        if names[key] != table:
            are_plain = False
            # Words that name an argument twice have copied the subqueries in it.
            for node in expansion.expression.find_all(exp.Table):
                if node.meta_get("occurrence") == occurrence.row_name:
                    _rename(node, names[key])
    return _Views(by_name, are_plain)


def _rename(node: exp.Table, name: str) -> None:
    if not node.alias:
        node.set("alias", exp.TableAlias(this=node.this.copy()))
    node.set("this", exp.to_identifier(name, quoted=True))


def _read(view: str, occurrence: Occurrence, wanted: _Wanted) -> TableRead:
    return TableRead(
        view,
        occurrence.table,
        occurrence.schema,
        wanted.indexes(occurrence.schema),
        occurrence.bounds,
        occurrence.row_name if occurrence.needs_rows else None,
        occurrence.keep,
        occurrence.fraction,
        tuple(occurrence.emas),
    )


@record
class _Wanted:
    """Which columns a statement can name: those in `names` (lower case), or all."""

    names: frozenset[str]
    needs_all: bool

    @classmethod
    def of(cls, expression: exp.Expr) -> _Wanted:
        names = frozenset(identifier.name.lower() for identifier in expression.find_all(exp.Identifier))
        aliases = {t.alias_or_name.lower() for t in expression.find_all(exp.Table)}
        whole_rows = any(
            not column.table and column.name.lower() in aliases for column in expression.find_all(exp.Column)
        )
        stars = any(not isinstance(star.parent, exp.Count) for star in expression.find_all(exp.Star))
        others = (exp.Columns, exp.Pivot, exp.Summarize, exp.Describe, exp.Copy)
        natural = any(str(j.args.get("method") or "").upper() == "NATURAL" for j in expression.find_all(exp.Join))
        renamed = any(a.args.get("columns") for a in expression.find_all(exp.TableAlias))
        every = whole_rows or stars or natural or renamed or expression.find(*others) is not None
        return cls(names, every)

    def indexes(self, schema: Schema) -> tuple[int, ...]:
        """Positions of the wanted columns; at least one."""
        found = tuple(i for i, name in enumerate(schema.names) if self.needs_all or name.lower() in self.names)
        return found or (max(0, schema.symbol_index),)
