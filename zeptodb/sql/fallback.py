"""Statements that DuckDB runs over our rows: tables registered as Arrow, words expanded, answers fetched as Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from zeptodb.record import record
from zeptodb.sql import duckdb_errors, duckdb_session, information_schema
from zeptodb.sql.constants import now_ns
from zeptodb.sql.duckdb_plan import DuckdbPlan, TableRead
from zeptodb.sql.engine import Engine
from zeptodb.sql.file_columns import columns_of_file
from zeptodb.sql.parameters import Parameters, bind
from zeptodb.sql.prepare import FindTable, prepare
from zeptodb.sql.register import Lease, arrow_table, rows_within
from zeptodb.sql.relations import Columns, ValueKind
from zeptodb.sql.trace import Trace
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import Schema

if TYPE_CHECKING:
    import duckdb

Leases = dict[str, Lease]
"""One snapshot per table, by lower-case name, for all that a statement reads of it."""


class StaleReadError(Exception):
    """The table's schema is not the one that the plan was made for; prepare the statement again."""


@record
class FallbackAnswer:
    """What DuckDB returned.

    Attributes:
        table: the columns; sums of integers are decimal128(38, 0).
        timestamp_columns: indexes of columns that hold our timestamps (int64 nanoseconds).
        rows_scanned: rows of our tables that were handed to DuckDB.
        sql: what DuckDB ran.
        bytes_scanned: bytes of the columns that were handed to DuckDB.
    """

    table: pa.Table
    timestamp_columns: frozenset[int]
    rows_scanned: int
    sql: str
    bytes_scanned: int = 0


def run_fallback(
    engine: Engine,
    expression: exp.Expr,
    params: Parameters = None,
    *,
    text: str = "",
    within: str = "",
    at_ns: int | None = None,
    leases: Leases | None = None,
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
    try:
        plan = prepare(
            expression,
            parameters,
            table_finder(engine, leases),
            engine.catalog.names(),
            now_ns=now_ns() if at_ns is None else at_ns,
            text=text,
            within=within,
            columns_of=lambda node: columns_of_file(engine, node),
        )
        return run_prepared(engine, plan, parameters, leases, text or within)
    finally:
        close(leases)


def close(leases: Leases) -> None:
    """Give back the snapshots."""
    for lease in leases.values():
        lease.close()


def run_prepared(
    engine: Engine,
    plan: DuckdbPlan,
    parameters: Mapping[str, object],
    leases: Leases,
    text: str,
    handed: Mapping[str, pa.Table] | None = None,
    trace: Trace | None = None,
) -> FallbackAnswer:
    """Run a prepared statement over the tables as they are in `leases` (taken as needed) and what leaves left.

    Raises StaleReadError when a table's schema has changed since, and the errors of `run_fallback`.
    """
    scanned = scanned_bytes = 0
    with duckdb_session.cursor(engine) as cursor:
        for read in plan.reads:
            table = _rows(read, leases, engine, trace)
            cursor.register(read.view, table)
            scanned += table.num_rows
            scanned_bytes += int(table.nbytes)
        for name, rows in (handed or {}).items():
            cursor.register(name, rows)
        if plan.shows_schemas:
            information_schema.register(cursor, engine, {read.view for read in plan.reads})
        values = {name: value for name, value in parameters.items() if name in plan.placeholders}
        columns = [name for read in plan.reads for name in read.schema.names]
        columns += [name for rows in (handed or {}).values() for name in rows.column_names]
        answer = _fetch(cursor, plan.sql, values, columns, text)
    return FallbackAnswer(answer, _timestamp_columns(answer, plan.columns), scanned, plan.sql, scanned_bytes)


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


def snapshots_of(engine: Engine, expression: exp.Expr) -> Leases:
    """Snapshots of every table of ours that a statement may name, to hand to `run_fallback`."""
    leases: Leases = {}
    for node in expression.find_all(exp.Table):
        snapshot_of(engine, node.name, leases)
    return leases


def table_finder(engine: Engine, leases: Leases) -> FindTable:
    """What finds tables for `prepare` as the snapshots in `leases` show them, which are taken as needed."""

    def find(name: str) -> tuple[str, Schema] | None:
        snapshot = snapshot_of(engine, name, leases)
        return None if snapshot is None else (snapshot.name, snapshot.schema)

    return find


def snapshot_of(engine: Engine, name: str, leases: Leases) -> Snapshot | None:
    """One snapshot per table and statement, however often the table is named."""
    lease = leases.get(name.lower())
    if lease is None:
        table = engine.catalog.find(name)
        if table is None:
            return None
        lease = leases[name.lower()] = Lease(table.snapshot())
    return lease.snapshot


def _rows(read: TableRead, leases: Leases, engine: Engine, trace: Trace | None = None) -> pa.Table:
    if trace is not None:
        name, where = f"read {read.view}", "Arrow over segments"
        return trace.run(name, where, lambda: _rows(read, leases, engine), lambda table: int(table.num_rows))
    snapshot = snapshot_of(engine, read.table, leases)
    if snapshot is None or snapshot.schema is not read.schema:
        raise StaleReadError
    ranges = rows_within(snapshot, read.bounds, engine.backend)
    lease = leases[read.table.lower()]
    return arrow_table(
        lease,
        ranges,
        read.columns,
        engine.backend,
        row_name=read.row_name,
        keep=read.keep,
        fraction=read.fraction,
        emas=read.emas,
    )


# ---- running -------------------------------------------------------------------------------------------------------


def _fetch(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: object, columns: list[str], text: str) -> pa.Table:
    import duckdb

    try:
        return duckdb_session.interruptible(cursor, lambda: _answer(cursor, sql, parameters))
    except duckdb.Error as error:
        raise duckdb_errors.query_error(error, columns, text) from error


def _answer(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: object) -> pa.Table:
    relation = cursor.sql(sql, params=parameters or None)
    # None for a statement without an answer, whatever the type hints say.
    return pa.table({}) if relation is None else relation.to_arrow_table()  # type: ignore[redundant-expr]


def _timestamp_columns(table: pa.Table, columns: Columns) -> frozenset[int]:
    if columns is None or len(columns) != table.num_columns:
        return frozenset()
    types = table.schema.types
    return frozenset(i for i, (_, kind) in enumerate(columns) if kind is ValueKind.TIME and types[i] == pa.int64())
