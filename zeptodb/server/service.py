"""What a statement does, from its text to an answer or a number of rows; runs in a worker thread."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import field, replace

import pyarrow as pa

from zeptodb.errors import ServerError
from zeptodb.pipeline import Pipeline
from zeptodb.record import record
from zeptodb.server.access import Grant
from zeptodb.server.catalog_statements import catalog_answer, query_to_describe
from zeptodb.server.codes import Code, failure
from zeptodb.server.execution import Columns, Timestamps, cancel, run_beside, run_over, run_sql
from zeptodb.server.external_tables import external_tables
from zeptodb.server.formats.answer import Answer, answer_of
from zeptodb.server.formats.input_text import NotLiteralError
from zeptodb.server.formats.output import OutputFormat, output_format
from zeptodb.server.inserts import insert_arrow, insert_rows, scales_of
from zeptodb.server.parameters import bind_parameters
from zeptodb.server.requests import Options, as_text
from zeptodb.server.running import RunningStatement, RunningStatements
from zeptodb.server.sessions import Sessions, assignments
from zeptodb.server.settings import ServerSettings
from zeptodb.server.statement import HEAD_BYTES, InsertData, Statement, read_insert, read_statement, tokens
from zeptodb.server.system_tables import DATABASE, Facts, described, system_table
from zeptodb.server.translate import needs_translation, parse_clickhouse, system_tables_of, translated
from zeptodb.sql.limits import MAX_STATEMENT_BYTES
from zeptodb.storage.table import Table


@record
class Outcome:
    """What came of a statement: an answer and its format, or rows written."""

    answer: Answer | None
    format: OutputFormat | None
    rows_read: int = 0
    rows_written: int = 0
    elapsed_seconds: float = 0.0
    bytes_written: int = 0
    bytes_read: int = 0


@record
class Call:
    """A statement's circumstances: what the request asks for, what its key may do, and its place in the list.

    `files` are tables that the request brings along, `tables` the same after they have been read.
    """

    options: Options
    grant: Grant
    entry: RunningStatement
    files: Mapping[str, bytes] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)


NEWLINE = 0x0A
_RETRIED = frozenset(
    (Code.SYNTAX_ERROR.number, Code.UNKNOWN_FUNCTION.number, Code.BAD_ARGUMENTS.number, Code.NOT_IMPLEMENTED.number)
)
"""Errors after which a statement is tried again as ClickHouse's."""


_KILL = re.compile(r"KILL\s+QUERY\s+WHERE\s+query_id\s*=\s*'((?:[^']|'')*)'(?:\s+(?:SYNC|ASYNC))?", re.IGNORECASE)


class Service:
    """Runs statements on one Pipeline."""

    def __init__(self, pipeline: Pipeline, settings: ServerSettings, running: RunningStatements) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.running = running
        self.sessions = Sessions()

    def run(self, data: bytes, call: Call) -> Outcome:
        """Run one statement; raises ServerError or another ZeptoError."""
        began = time.perf_counter()
        call = replace(call, options=self._with_session(call.options, call.grant))
        _require_database(call.options.database)
        head = read_insert(data[:HEAD_BYTES].decode("latin-1"))
        if head is not None:
            insert, end = head
            call.entry.text = data[:end].decode("utf-8", "replace")
            return self._insert(insert, data, end, call, began)
        text = _statement_text(data)
        call.entry.text = text
        statement = read_statement(text)
        call.grant.require(statement.kind, read_only=call.options.read_only)
        if statement.kind == "session":
            self._change_session(statement, call)
            return Outcome(None, None)
        if call.files:
            if statement.kind != "read":
                raise failure(Code.NOT_IMPLEMENTED, "Only a SELECT may read tables that come in a form.")
            call = replace(call, tables=external_tables(self.pipeline, call.files, call.options))
        chosen = output_format(statement.format or call.options.default_format or "TabSeparated")
        columns = self._columns(statement, call)
        elapsed = time.perf_counter() - began
        if statement.kind not in ("read", "kill"):
            written = _count_of(columns.table)
            return Outcome(None, None, columns.rows_read, written, elapsed, bytes_read=columns.bytes_read)
        self._check_rows(columns.table, call.options)
        answer = answer_of(
            columns.table,
            elapsed_seconds=elapsed,
            rows_read=columns.rows_read,
            bytes_read=columns.bytes_read,
            protocol_version=call.options.number("client_protocol_version"),
            quotes_integers=call.options.flag("output_format_json_quote_64bit_integers"),
            block_rows=max(call.options.number("max_block_size"), 0),
            takes_runs=call.options.flag("arrow_runs"),
        )
        return Outcome(answer, chosen, columns.rows_read, 0, elapsed, bytes_read=columns.bytes_read)

    def insert_arrow(self, data: bytes, options: Options, grant: Grant) -> int:
        """Store the rows of an Arrow IPC stream or file; returns how many. All or none."""
        grant.require("write")
        name = options.parameters.get("table") or "trades"
        grant.require_table(name)
        if self.pipeline.catalog.find(name) is None:
            grant.require("define")
        return insert_arrow(self.pipeline, name, data, scales_of(options))

    def _insert(self, insert: InsertData, data: bytes, end: int, call: Call, began: float) -> Outcome:
        call.grant.require("write", read_only=call.options.read_only)
        call.grant.require_table(insert.table)
        _require_writable(insert.database or call.options.database)
        start = end
        while start < len(data) and data[start] in b" \t\r\n":
            start += 1
            if data[start - 1] == NEWLINE:
                break
        try:
            rows = insert_rows(self.pipeline, insert, memoryview(data)[start:])
        except NotLiteralError:  # expressions among the values: the engine works them out
            rows = _count_of(self._columns(read_statement(_statement_text(data)), call).table)
        return Outcome(None, None, 0, rows, time.perf_counter() - began, len(data) - start)

    # ---- queries ---------------------------------------------------------------------------------------------------

    def _columns(self, statement: Statement, call: Call) -> Columns:
        if statement.kind == "kill":
            return _own(self._kill(statement))
        if statement.keyword in ("SHOW", "DESCRIBE", "DESC", "EXISTS"):
            facts = self.facts(call.grant)
            query = query_to_describe(statement, facts)
            if query is not None:
                return self._described(query, call)
            table = catalog_answer(statement, facts)
            if table is not None:
                return _own(table)
        sql, params = bind_parameters(statement.text, call.options.query_parameters)
        if needs_translation(sql):
            return self._run_translated(sql, params, call)
        try:
            return self._run(sql, params, call)
        except ServerError as error:
            if error.code not in _RETRIED:
                raise
            try:
                return self._run_translated(sql, params, call)
            except ServerError as second:
                raise _better(error, second) from second

    def _described(self, query: str, call: Call) -> Columns:
        """The columns of a query, which is not run."""
        nested = query if query.startswith("(") else f"({query})"
        inner = read_statement(f"SELECT * FROM {nested} AS described LIMIT 0")
        answer = answer_of(self._columns(inner, call).table)
        return _own(described(answer.names, answer.types))

    def _run(self, sql: str, params: Mapping[str, object], call: Call) -> Columns:
        call.grant.require_tables_of(sql, self.pipeline.catalog)
        timeout_seconds, timestamps = self._timeout(call.options), _timestamps(call.options)
        if call.tables:
            return run_beside(
                self.pipeline,
                sql,
                call.tables,
                params,
                statement=call.entry,
                timeout_seconds=timeout_seconds,
                timestamps=timestamps,
            )
        return run_sql(
            self.pipeline, sql, params, statement=call.entry, timeout_seconds=timeout_seconds, timestamps=timestamps
        )

    def _run_translated(self, sql: str, params: Mapping[str, object], call: Call) -> Columns:
        """Run a statement of ClickHouse's; over the system tables alone if it names some."""
        facts = self.facts(call.grant)
        facts = replace(facts, tables=[*facts.tables, *call.tables.values()])
        tree = translated(parse_clickhouse(sql), facts)
        named = system_tables_of(tree)
        if named:
            tables = {own: system_table(name, facts) for own, name in named.items()}
            return run_over(
                self.pipeline, tree, tables, params, statement=call.entry, timeout_seconds=self._timeout(call.options)
            )
        return self._run(tree.sql("duckdb"), params, call)

    # ---- sessions and running statements ---------------------------------------------------------------------------

    def _with_session(self, options: Options, grant: Grant) -> Options:
        settings = self.sessions.settings(
            grant.user,
            options.parameters.get("session_id", ""),
            timeout_seconds=options.number("session_timeout"),
            must_exist=options.flag("session_check"),
        )
        if not settings:
            return options
        database = options.database or settings.get("database", "")
        return replace(options, parameters={**settings, **options.parameters}, database=database)

    def _change_session(self, statement: Statement, call: Call) -> None:
        settings = assignments(list(tokens(statement.text)))
        _require_database(settings.get("database", ""))
        self.sessions.change(call.grant.user, call.options.parameters.get("session_id", ""), settings)

    def cancel(self, entry: RunningStatement) -> None:
        """End a statement at its next step."""
        cancel(self.pipeline, entry)

    def _kill(self, statement: Statement) -> pa.Table:
        """KILL QUERY WHERE query_id = '...'."""
        found = _KILL.fullmatch(statement.text)
        if found is None:
            raise failure(Code.SYNTAX_ERROR, "Syntax error: write KILL QUERY WHERE query_id = 'the id'.")
        query_id = found[1].replace("''", "'")
        entry = self.running.find(query_id)
        if entry is not None:
            self.cancel(entry)
        killed = [] if entry is None else [entry]
        return pa.table(
            {
                "kill_status": pa.array(["waiting" for _ in killed], pa.string()),
                "query_id": pa.array([one.query_id for one in killed], pa.string()),
                "user": pa.array([one.user for one in killed], pa.string()),
                "query": pa.array([one.text for one in killed], pa.string()),
            }
        )

    def facts(self, grant: Grant) -> Facts:
        """What system tables may tell the holder of a grant."""
        catalog = self.pipeline.catalog
        tables: list[Table] = [table for table in catalog.tables() if grant.may_see(table.name)]
        views = [view.name for view in catalog.views() if view.table is None and grant.may_see(view.name)]
        return Facts(tables, self.running.entries() if grant.is_admin else (), grant.user, views)

    def _timeout(self, options: Options) -> float:
        asked = options.number("max_execution_time")
        most = self.settings.max_execution_seconds
        return min(asked, most) if asked > 0 else most

    def _check_rows(self, table: pa.Table, options: Options) -> None:
        limits = [limit for limit in (self.settings.max_result_rows, options.number("max_result_rows")) if limit > 0]
        if limits and table.num_rows > min(limits):
            raise failure(
                Code.TOO_MANY_ROWS_OR_BYTES,
                f"The answer has {table.num_rows:,} rows, more than max_result_rows = {min(limits):,}; add a LIMIT.",
            )


def _better(first: ServerError, second: ServerError) -> ServerError:
    """Of the errors as our statement and as ClickHouse's, the one that says more."""
    is_ours = second.code in _RETRIED and first.code != Code.UNKNOWN_FUNCTION.number
    return first if is_ours or second.code == Code.SYNTAX_ERROR.number else second


def _statement_text(data: bytes) -> str:
    """A statement as text; raises when it is longer than any may be, before anything looks at it."""
    if len(data) > MAX_STATEMENT_BYTES:
        raise failure(
            Code.QUERY_IS_TOO_LARGE,
            f"The statement has {len(data):,} bytes, and {MAX_STATEMENT_BYTES:,} are allowed; give long lists as "
            "parameters, and rows as data in a format.",
        )
    return as_text(data)


def _own(table: pa.Table) -> Columns:
    return Columns(table, table.num_rows, int(table.nbytes))


def _timestamps(options: Options) -> Timestamps:
    """How columns of time come out: int64 nanoseconds, or datetimes when a client asks for them."""
    chosen = options.parameters.get("timestamps", "ns")
    if chosen not in ("ns", "datetime"):
        raise failure(Code.BAD_ARGUMENTS, f"timestamps is {chosen[:40]!r}; allowed: ns, datetime.")
    return "datetime" if chosen == "datetime" else "ns"


def _require_database(name: str) -> None:
    if name and name.lower() not in (DATABASE, "system"):
        raise failure(Code.UNKNOWN_DATABASE, f'There is no database "{name[:60]}". Known: {DATABASE}, system.')


def _require_writable(name: str) -> None:
    if name and name.lower() != DATABASE:
        raise failure(Code.UNKNOWN_DATABASE, f'There is no database "{name[:60]}" to write to. Known: default.')


def _count_of(table: pa.Table) -> int:
    """The rows that a statement wrote, as the engine counts them."""
    if table.column_names == ["Count"] and table.num_rows == 1:
        return int(table.column(0)[0].as_py())
    return 0
