"""Statements that DuckDB runs over our rows: tables registered as Arrow, words expanded, answers fetched as Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from zeptodb.errors import UnknownTableError, unknown_table
from zeptodb.sql import duckdb_session
from zeptodb.sql.arrow_columns import arrow_type
from zeptodb.sql.constants import now_ns
from zeptodb.sql.engine import Engine
from zeptodb.sql.expand import Expansion, expand
from zeptodb.sql.parameters import Parameters, bind
from zeptodb.sql.register import Lease, arrow_table, rows_within
from zeptodb.sql.relations import Columns, Occurrence, ValueKind
from zeptodb.sql.source_text import pointed
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import Schema

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class FallbackAnswer:
    """What DuckDB returned.

    Attributes:
        table: the columns; sums of integers are decimal128(38, 0).
        timestamp_columns: indexes of columns that hold our timestamps (int64 nanoseconds).
        rows_scanned: rows of our tables that were handed to DuckDB.
        sql: what DuckDB ran.
    """

    table: pa.Table
    timestamp_columns: frozenset[int]
    rows_scanned: int
    sql: str


def run_fallback(
    engine: Engine,
    expression: exp.Expr,
    params: Parameters = None,
    *,
    text: str = "",
    within: str = "",
    at_ns: int | None = None,
    leases: dict[str, Lease] | None = None,
) -> FallbackAnswer:
    """Run any statement that DuckDB can run, with our tables and words in it.

    Parameters
    ----------
    params
        Values for `?` (a sequence) or `$name` (a mapping).
    text
        The statement as it was written: DuckDB runs it as it is when nothing in it had to be rewritten, and errors
        point into it. A text of several statements is not run as it is.
    within
        For a part of a statement: the text that it is a part of, for errors to point into.
    at_ns
        What now() means; None: the present.
    leases
        Snapshots to use, by lower-case table name; others are taken as needed and added. All are closed at the end.

    Raises QueryError, UnknownTableError, UnknownColumnError or NotSupportedError.
    """
    parameters = bind(expression, params)
    leases = {} if leases is None else leases
    written = _as_written(expression, text)
    text = text or within
    try:
        expansion = expand(
            expression,
            parameters,
            find_table=lambda name: _snapshot(engine, name, leases),
            unknown_table=lambda name: _unknown_table(engine, name, text),
            now_ns=now_ns() if at_ns is None else at_ns,
            text=written,
        )
        return _run(engine, expansion, parameters, leases, written, text)
    finally:
        for lease in leases.values():
            lease.close()


def _as_written(expression: exp.Expr, text: str) -> str:
    """The text if it is the statement's own and nothing else, else "" (a part of a statement, or several of them)."""
    has_others = expression.parent is not None or ";" in text.rstrip().removesuffix(";")
    return "" if has_others else text


def run_over_arrow(
    engine: Engine, statement: str | exp.Expr, tables: Mapping[str, pa.Table], params: Parameters = None
) -> pa.Table:
    """Run a DuckDB statement over these Arrow tables, to finish what a native plan began; words are not expanded."""
    sql = statement if isinstance(statement, str) else statement.sql("duckdb")
    given = params if isinstance(statement, str) else bind(statement, params)
    columns = [name for table in tables.values() for name in table.column_names]
    with duckdb_session.cursor(engine) as cursor:
        for name, table in tables.items():
            cursor.register(name, table)
        return _fetch(cursor, sql, given, columns, sql)


# ---- tables --------------------------------------------------------------------------------------------------------


def snapshots_of(engine: Engine, expression: exp.Expr) -> dict[str, Lease]:
    """Snapshots of every table of ours that a statement may name, to hand to `run_fallback`."""
    leases: dict[str, Lease] = {}
    for node in expression.find_all(exp.Table):
        _snapshot(engine, node.name, leases)
    return leases


def _snapshot(engine: Engine, name: str, leases: dict[str, Lease]) -> Snapshot | None:
    """One snapshot per table and statement, however often the table is named."""
    lease = leases.get(name.lower())
    if lease is None:
        table = engine.catalog.find(name)
        if table is None:
            return None
        lease = leases[name.lower()] = Lease(table.snapshot())
    return lease.snapshot


def _unknown_table(engine: Engine, name: str, text: str) -> UnknownTableError:
    error = unknown_table(name, engine.catalog.names())
    return UnknownTableError(pointed(str(error), text, duckdb_session.place_of(name, text)))


def _run(
    engine: Engine,
    expansion: Expansion,
    parameters: dict[str, object],
    leases: dict[str, Lease],
    written: str,
    text: str,
) -> FallbackAnswer:
    expression = expansion.expression
    views = _name_views(engine, expansion)
    # A ? has a number in the tree, under which its value is given.
    is_as_written = bool(written) and "?" not in written and not expansion.has_changed and views.are_plain
    wanted = _Wanted.of(expression)
    scanned = 0
    with duckdb_session.cursor(engine) as cursor:
        for name, occurrence in views.by_name.items():
            table = _register(cursor, name, occurrence, leases, wanted, engine)
            scanned += table.num_rows
        if any(t.db.lower() == "information_schema" for t in expression.find_all(exp.Table)):
            _register_schemas(cursor, engine, views.by_name)
        used = {p.name for p in expression.find_all(exp.Placeholder)}
        values = {name: value for name, value in parameters.items() if name in used}
        sql = written if is_as_written else expression.sql("duckdb")
        columns = [c for o in expansion.occurrences for c in o.snapshot.schema.names]
        answer = _fetch(cursor, sql, values, columns, text)
    return FallbackAnswer(answer, _timestamp_columns(answer, expansion.columns), scanned, sql)


@dataclass(frozen=True, slots=True)
class _Views:
    by_name: dict[str, Occurrence]
    are_plain: bool


def _name_views(engine: Engine, expansion: Expansion) -> _Views:
    """Give each different set of rows a view name: the table's own for the first one, a new one for each other."""
    taken = {name.lower() for name in engine.catalog.names()}
    taken |= {cte.alias.lower() for cte in expansion.expression.find_all(exp.CTE)}
    names: dict[object, str] = {}
    by_name: dict[str, Occurrence] = {}
    are_plain = True
    for occurrence in expansion.occurrences:
        table = occurrence.snapshot.name
        rows = occurrence.row_name if occurrence.needs_rows else None
        key = (table, occurrence.bounds, occurrence.keep, rows)
        if key not in names:
            name, counter = table, 1
            while name in by_name or (counter > 1 and name.lower() in taken):
                counter += 1
                name = f"{table}_{counter}"
            names[key] = name
            by_name[name] = occurrence
        if names[key] != table:
            are_plain = False
            _rename(occurrence.node, names[key])
    return _Views(by_name, are_plain)


def _rename(node: exp.Table, name: str) -> None:
    if not node.alias:
        node.set("alias", exp.TableAlias(this=node.this.copy()))
    node.set("this", exp.to_identifier(name, quoted=True))


@dataclass(frozen=True, slots=True)
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

    def indexes(self, schema: Schema) -> list[int]:
        """Positions of the wanted columns; at least one."""
        found = [i for i, name in enumerate(schema.names) if self.needs_all or name.lower() in self.names]
        return found or [max(0, schema.symbol_index)]


def _register(
    cursor: duckdb.DuckDBPyConnection,
    name: str,
    occurrence: Occurrence,
    leases: dict[str, Lease],
    wanted: _Wanted,
    engine: Engine,
) -> pa.Table:
    lease = leases[occurrence.snapshot.name.lower()]
    snapshot = occurrence.snapshot
    table = arrow_table(
        lease,
        rows_within(snapshot, occurrence.bounds, engine.backend),
        wanted.indexes(snapshot.schema),
        engine.backend,
        row_name=occurrence.row_name if occurrence.needs_rows else None,
        keep=occurrence.keep,
    )
    cursor.register(name, table)
    return table


def _register_schemas(cursor: duckdb.DuckDBPyConnection, engine: Engine, known: Mapping[str, Occurrence]) -> None:
    """Let information_schema show every table of ours."""
    for table in engine.catalog.tables():
        if table.name not in known:
            fields = [pa.field(f.name, arrow_type(f.type), f.is_nullable) for f in table.schema.fields]
            cursor.register(table.name, pa.schema(fields).empty_table())


# ---- running -------------------------------------------------------------------------------------------------------


def _fetch(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: object, columns: list[str], text: str) -> pa.Table:
    import duckdb

    try:
        return duckdb_session.interruptible(cursor, lambda: _answer(cursor, sql, parameters))
    except duckdb.Error as error:
        raise duckdb_session.query_error(error, columns, text) from error


def _answer(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: object) -> pa.Table:
    relation = cursor.sql(sql, params=parameters or None)
    # None for a statement without an answer, whatever the type hints say.
    return pa.table({}) if relation is None else relation.to_arrow_table()  # type: ignore[redundant-expr]


def _timestamp_columns(table: pa.Table, columns: Columns) -> frozenset[int]:
    if columns is None or len(columns) != table.num_columns:
        return frozenset()
    types = table.schema.types
    return frozenset(i for i, (_, kind) in enumerate(columns) if kind is ValueKind.TIME and types[i] == pa.int64())
