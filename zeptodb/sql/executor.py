"""Runs SQL: parse, plan, run natively or in DuckDB, and wrap the answer; errors become results.

What only some statements need is imported by the first of them: the answer of a new process waits for all imports.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from sqlglot import exp

from zeptodb.backends import control, placement
from zeptodb.backends.control import Control
from zeptodb.backends.placement import Placement, engine_name
from zeptodb.errors import (
    InvalidInputError,
    InvalidTypeError,
    MemoryLimitError,
    QueryCancelledError,
    QueryTimeoutError,
    ZeptoError,
)
from zeptodb.sql import information_schema, native
from zeptodb.sql.constants import now_ns
from zeptodb.sql.dialect import Explain, parse
from zeptodb.sql.engine import Engine
from zeptodb.sql.limits import room_for_depth
from zeptodb.sql.literals import named_values, with_literals
from zeptodb.sql.parameters import Parameters, bind
from zeptodb.sql.plan import JoinedPlan, Plan, Planned, Reason
from zeptodb.sql.plan_cache import PlanCache, Prepared, Validity
from zeptodb.sql.planner import plan
from zeptodb.sql.result import QueryResult
from zeptodb.sql.running import RunningQueries, RunningQuery
from zeptodb.sql.scanned_bytes import scanned_bytes
from zeptodb.sql.scans import StalePlanError
from zeptodb.sql.source_text import NOT_AS_WRITTEN, query_error
from zeptodb.sql.view_names import inline

if TYPE_CHECKING:
    import pyarrow as pa

    from zeptodb.sql.fallback import FallbackAnswer
    from zeptodb.sql.trace import Trace

Timestamps = Literal["ns", "datetime"]

_CHARACTERS_PER_LEVEL = 8
"""A statement of so many levels, or of so long a chain of operators, has at least so many times as many characters."""


class _Request(NamedTuple):
    """One statement with all that it is run with; None as the statement stands for one that is not parsed yet.

    is_part: whether it is part of a statement, whose text that is then.
    shares_memory: whether runs of stored rows may lie in the answer as they are; see `QueryResult.to_encoded_arrow`.
    """

    statement: exp.Expr | None
    text: str
    params: Parameters
    timestamps: Timestamps
    is_part: bool = False
    shares_memory: bool = False

    def of(self, statement: exp.Expr | None, params: Parameters) -> _Request:
        """The same of another statement; `dataclasses.replace` takes ten times as long."""
        return _Request(statement, self.text, params, self.timestamps, self.is_part, self.shares_memory)

    @property
    def parsed(self) -> exp.Expr:
        """The statement."""
        return parse(self.text)[0] if self.statement is None else self.statement


class QueryExecutor:
    """Runs SQL statements on a Pipeline, from any number of threads."""

    def __init__(self, pipeline: Engine) -> None:
        """`pipeline` supplies the tables and the backend."""
        self._engine = pipeline
        self._cache = PlanCache()
        self._running = RunningQueries()

    def enable_parallel(self, num_threads: int | None = None, row_threshold: int = 100_000) -> None:
        """Let native operators over at least `row_threshold` rows use `num_threads` threads (None: one per core)."""
        if num_threads is not None and num_threads < 1:
            raise InvalidInputError(f"num_threads is {num_threads!r}; give a whole number of at least 1, or None.")
        if row_threshold < 0:
            raise InvalidInputError(f"row_threshold is {row_threshold!r}; give a whole number of at least 0.")
        self._engine.backend.configure_threads(num_threads, row_threshold=row_threshold)

    def disable_parallel(self) -> None:
        """Run native operators in the caller's thread alone."""
        self._engine.backend.configure_threads(1)

    def execute(
        self,
        sql: str,
        params: Parameters = None,
        timeout: float | None = None,
        *,
        timestamps: Timestamps = "ns",
        query_id: str | None = None,
        shares_memory: bool = False,
    ) -> QueryResult:
        """The answer to `sql`; of several statements separated by semicolons, run in turn, the last one's.

        Never raises for bad SQL: `result.ok()` is False then and `result.error` has the message, with line, column and
        the offending line where a place is known.

        params: values for `?` and `$1` (a sequence) or `$name` (a mapping); they never pass through SQL text.
        timeout: seconds after which the statement ends with an error (QueryTimeoutError); None: never.
        timestamps: "ns" gives int64 nanoseconds since the epoch, "datetime" real datetimes.
        query_id: what `running` and `cancel` shall know it by; None: a number.
        shares_memory: runs of stored rows are not copied; see `QueryResult.to_encoded_arrow`.
        """
        if not isinstance(sql, str):
            raise InvalidTypeError(f"sql is a {type(sql).__name__}; give a string.")
        if timestamps not in ("ns", "datetime"):
            raise InvalidInputError(f'timestamps is {timestamps!r}; allowed: "ns" or "datetime".')
        limits = Control(
            timeout=None if timeout is None else _checked_timeout(timeout),
            memory_limit=self._engine.config.memory_limit,
        )
        key = self._running.begin(sql, limits, query_id)
        before = control.enter(limits)
        try:
            return self._answer(sql, params, timestamps, shares_memory=shares_memory)
        finally:
            control.enter(before)
            self._running.end(key)

    def answer_within(self, sql: str) -> QueryResult:
        """The answer to a part of the statement that runs in this thread, under its limits; with real datetimes."""
        return self._answer(sql, None, "datetime")

    def rows_of(self, query: exp.Expr, params: Parameters, *, within: str) -> FallbackAnswer:
        """The rows of a query that is part of the statement `within`, which runs in this thread; raises its errors."""
        from zeptodb.sql.fallback import FallbackAnswer

        query = query.copy()
        query.meta[NOT_AS_WRITTEN] = True
        result = self._run_query(_Request(query, within, params, "ns", is_part=True), None)
        return FallbackAnswer(result.to_arrow(), result.timestamp_columns, result.rows_scanned, "")

    def running(self) -> tuple[RunningQuery, ...]:
        """The statements that run at this moment, in the order in which they began."""
        return self._running.list()

    def cancel(self, query_id: str) -> bool:
        """End the statement that runs under this id; its result is an error (QueryCancelledError).

        From any thread, and without waiting for it: native operators look for it every few million rows, DuckDB is
        interrupted. A statement that has changed rows is not undone, one that has not does not change them any more.
        False when no such statement runs (any more).
        """
        return self._running.cancel(query_id)

    def _answer(
        self, sql: str, params: Parameters, timestamps: Timestamps, *, shares_memory: bool = False
    ) -> QueryResult:
        """The answer, or the error as a result."""
        started, outer = time.perf_counter_ns(), placement.current()
        try:
            result = self._execute(_Request(None, sql, params, timestamps, shares_memory=shares_memory))
        except ZeptoError as error:
            result = QueryResult(error=str(error), error_type=type(error))
        except RecursionError:
            result = QueryResult(error="The statement is nested too deeply; flatten it.")
        except MemoryError:
            result = QueryResult(error="There is not enough memory for this statement.")
        except Exception as error:  # noqa: BLE001 - the promised border: no statement raises
            result = QueryResult(error=f"The statement cannot be run: {type(error).__name__}: {error}")
        finally:
            placement.resume(outer)
        result.execution_time_us = (time.perf_counter_ns() - started) / 1_000
        return result

    def _execute(self, request: _Request) -> QueryResult:
        self._engine.catch_up()
        if any(table.ttl_ns is not None for table in self._engine.catalog.tables()):
            from zeptodb.sql.expiry import remove_expired

            remove_expired(self._engine)
        prepared = self._cache.find(request.text, request.params, self._engine.catalog)
        planned = None if prepared is None else prepared.planned
        if prepared is not None and planned is not None and (planned.plan is not None or planned.duckdb is not None):
            return self._run_query(request.of(prepared.statement, request.params), prepared.planned)
        with room_for_depth(len(request.text) // _CHARACTERS_PER_LEVEL):
            if prepared is not None:
                return self._run_query(request.of(prepared.statement, request.params), prepared.planned)
            return self._run_text(request)

    def _run_text(self, text: _Request) -> QueryResult:
        """Run every statement of a text that no plan is known for."""
        statements = parse(text.text)
        result = QueryResult()
        for statement in statements:
            control.check()
            statement = self._with_names(statement)  # noqa: PLW2901
            own = text.params if len(statements) == 1 else _parameters_of(statement, text.params)
            request = text.of(statement, own)
            if not isinstance(statement, exp.Query):
                result = self._run_other(request)
                continue
            prepared = self._prepare(request)
            if len(statements) == 1:
                self._cache.keep(text.text, text.params, prepared)
            result = self._run_query(request, prepared.planned)
        return result

    def _with_names(self, statement: exp.Expr) -> exp.Expr:
        """The statement with the queries of views in the place of their names."""
        catalog = self._engine.catalog
        return information_schema.with_kinds(inline(statement, catalog), catalog)

    # ---- queries --------------------------------------------------------------------------------------------------

    def _prepare(self, request: _Request) -> Prepared:
        """Plan a query; the tables' schemas are read first, so that a change meanwhile makes the plan stale."""
        catalog = self._engine.catalog
        version = catalog.version
        tables = ((node.name, catalog.find(node.name)) for node in request.parsed.find_all(exp.Table))
        schemas = tuple((name, table.schema) for name, table in tables if table is not None)
        planned = self._plan(request)
        validity = Validity(version, schemas)
        return Prepared(request.parsed, None if planned.is_volatile else planned, validity)

    def _plan(self, request: _Request) -> Planned:
        statement = request.parsed
        bind(statement, request.params)
        bound = with_literals(statement, named_values(request.params))
        catalog, capabilities, moment = self._engine.catalog, self._engine.backend.capabilities, now_ns()
        planned = plan(bound, request.text, catalog, capabilities, now_ns=moment)
        if planned.plan is not None:
            return planned
        from zeptodb.sql.compose import plan_in_parts
        from zeptodb.sql.file_columns import columns_of_file
        from zeptodb.sql.rewrites.select_planner import SelectPlanner

        planner = SelectPlanner(
            request.text,
            named_values(request.params),
            catalog,
            capabilities,
            moment,
            lambda node: columns_of_file(self._engine, node),
        )
        return plan_in_parts(statement, request.params, planner, planned.reasons)

    def _describe(
        self, planned: Planned, text: str, ran: Sequence[Placement] | None = None, summarized_rows: int | None = None
    ) -> str:
        """How a statement runs (with `ran`: has run), or why not natively."""
        from zeptodb.sql.places import describe

        return describe(self._engine, planned, text, ran, summarized_rows)

    def _run_query(self, request: _Request, planned: Planned | None, trace: Trace | None = None) -> QueryResult:
        if planned is None:
            planned = self._plan(request)
        if planned.plan is None:
            return self._run_in_parts(request, planned, trace)
        ran = placement.begin()
        try:
            stored = self._stored_rows(request, planned) if request.shares_memory else None
            if stored is not None:
                return stored
            answer = native.run(planned.plan, self._engine) if trace is None else self._traced(planned.plan, trace)
        except StalePlanError:
            return self._run_query(request, self._plan(request), trace)
        except native.NOT_NATIVE_AFTER_ALL as error:
            return self._run_in_duckdb(request, (native.reason_of(error),))
        self._record(request, answer.rows_scanned)
        if isinstance(planned.plan, JoinedPlan):
            return self._finish_in_duckdb(request, planned, planned.plan, answer, ran, trace)
        # Not the answer, which a result would keep alive with itself.
        made_of, rows, right_rows, summarized_rows = (
            planned.plan,
            answer.rows_scanned,
            answer.right_rows,
            answer.summarized_rows,
        )
        return QueryResult(
            answer.columns,
            rows_scanned=rows,
            bytes_scanned=lambda: scanned_bytes(made_of, rows, right_rows),
            engine=engine_name(self._engine.backend.name, ran),
            plan=lambda: self._describe(planned, request.text, ran, summarized_rows),
            timestamps=request.timestamps,
            accelerator=self._engine.backend.accelerator,
        )

    def _stored_rows(self, request: _Request, planned: Planned) -> QueryResult | None:
        """The answer over the tables' own memory, if it is a run of stored rows."""
        from zeptodb.sql.stored_rows import stored_rows

        plan = planned.plan
        stored = None if plan is None else stored_rows(plan, self._engine)
        if plan is None or stored is None:
            return None
        self._record(request, stored.rows_scanned)
        return QueryResult.over_stored_rows(
            stored.table,
            timestamp_columns=stored.timestamp_columns,
            rows_scanned=stored.rows_scanned,
            bytes_scanned=lambda: scanned_bytes(plan, stored.rows_scanned, 0),
            engine=engine_name(self._engine.backend.name, ()),
            plan=lambda: self._describe(planned, request.text, ()),
            timestamps=request.timestamps,
        )

    def _traced(self, plan: Plan, trace: Trace) -> native.NativeAnswer:
        from zeptodb.sql import parts

        return parts.run_native(plan, self._engine, trace=trace)

    def _finish_in_duckdb(
        self,
        request: _Request,
        planned: Planned,
        joined: JoinedPlan,
        answer: native.NativeAnswer,
        ran: Sequence[Placement],
        trace: Trace | None,
    ) -> QueryResult:
        from zeptodb.sql.fallback import run_over_arrow
        from zeptodb.sql.joined_rows import JOINED

        rows = QueryResult(answer.columns).to_arrow()

        def finish() -> pa.Table:
            return run_over_arrow(self._engine, joined.sql, {JOINED: rows})

        return QueryResult.from_arrow(
            finish() if trace is None else trace.run("the rest", "duckdb", finish, lambda table: int(table.num_rows)),
            timestamp_columns=joined.timestamp_columns,
            rows_scanned=answer.rows_scanned,
            bytes_scanned=scanned_bytes(joined, answer.rows_scanned, answer.right_rows),
            engine=f"{engine_name(self._engine.backend.name, ran)}+duckdb",
            plan=lambda: self._describe(planned, request.text, ran),
            timestamps=request.timestamps,
            accelerator=self._engine.backend.accelerator,
        )

    def _run_in_parts(self, request: _Request, planned: Planned, trace: Trace | None) -> QueryResult:
        """Native leaves first, then DuckDB over what they left and over our tables, all of one moment."""
        from zeptodb.sql import fallback, parts

        if planned.duckdb is None:
            return self._run_in_duckdb(request, planned.reasons)
        parameters = bind(request.parsed, request.params)
        ran = placement.begin()
        try:
            answer = parts.run_parts(self._engine, planned.duckdb, parameters, request.text, trace)
        except (fallback.StaleReadError, StalePlanError):
            return self._run_query(request, self._plan(request), trace)
        except native.NOT_NATIVE_AFTER_ALL as error:
            return self._run_in_duckdb(request, (*planned.reasons, native.reason_of(error)))
        except ZeptoError as error:
            raise _better(error, planned.reasons, request.text) from error
        self._record(request, answer.rows_scanned)
        return QueryResult.from_arrow(
            answer.table,
            timestamp_columns=answer.timestamp_columns,
            rows_scanned=answer.rows_scanned,
            bytes_scanned=answer.bytes_scanned,
            engine=f"{engine_name(self._engine.backend.name, ran)}+duckdb" if planned.duckdb.leaves else "duckdb",
            plan=lambda: self._describe(planned, request.text, ran),
            timestamps=request.timestamps,
            accelerator=self._engine.backend.accelerator,
        )

    def _run_in_duckdb(self, request: _Request, reasons: tuple[Reason, ...]) -> QueryResult:
        from zeptodb.sql.explain import fallback_plan
        from zeptodb.sql.fallback import run_fallback

        try:
            answer = run_fallback(self._engine, request.parsed, request.params, text=request.text)
        except ZeptoError as error:
            raise _better(error, reasons, request.text) from error
        self._record(request, answer.rows_scanned)
        return QueryResult.from_arrow(
            answer.table,
            timestamp_columns=answer.timestamp_columns,
            rows_scanned=answer.rows_scanned,
            bytes_scanned=answer.bytes_scanned,
            plan=fallback_plan(reasons, request.text),
            timestamps=request.timestamps,
            accelerator=self._engine.backend.accelerator,
        )

    def _record(self, request: _Request, rows_scanned: int) -> None:
        if not request.is_part:
            self._engine.record_query(rows_scanned)

    # ---- everything else ------------------------------------------------------------------------------------------

    def _run_other(self, request: _Request) -> QueryResult:
        from zeptodb.sql.statements import run_statement

        statement = request.parsed
        if isinstance(statement, Explain):
            return self._explain(request, statement)
        if isinstance(statement, exp.Condition) and not isinstance(statement, (exp.Command, exp.Summarize)):
            raise query_error("This is an expression, not a statement; write SELECT before it.", request.text, 0)
        result = run_statement(self._engine, statement, request.params, text=request.text)
        if result is not None:
            self._engine.record_query(result.rows_scanned)
            return result
        return self._run_in_duckdb(request, (Reason(f"{statement.key.upper()} runs in DuckDB"),))

    def _explain(self, request: _Request, explained: Explain) -> QueryResult:
        from zeptodb.sql.explain import text_column

        inner = request.of(explained.this, request.params)
        if explained.args.get("analyze"):
            return self._analyze(inner)
        if isinstance(inner.parsed, exp.Query):
            text = self._describe(self._plan(inner), inner.text)
        else:
            text = f"statement: {inner.parsed.key.upper()}"
        return QueryResult([text_column("plan", text.splitlines())], engine="none", plan=text)

    def _analyze(self, request: _Request) -> QueryResult:
        from zeptodb.sql.explain import text_column
        from zeptodb.sql.trace import Trace

        started = time.perf_counter_ns()
        is_query = isinstance(request.parsed, exp.Query)
        trace = Trace()
        ran = self._run_query(request, None, trace) if is_query else self._run_other(request)
        elapsed_us = (time.perf_counter_ns() - started) / 1_000
        lines = [
            *(ran.plan or f"engine: {ran.engine}").splitlines(),
            *trace.lines(),
            f"time: {elapsed_us:,.0f} us",
            f"rows scanned: {ran.rows_scanned:,}",
            f"rows returned: {len(ran):,}",
        ]
        column = text_column("plan", lines)
        return QueryResult([column], rows_scanned=ran.rows_scanned, engine=ran.engine, plan="\n".join(lines))


def _better(error: ZeptoError, reasons: tuple[Reason, ...], text: str) -> ZeptoError:
    """The planner's own words about a statement that no engine can run, if it has any; else the error."""
    better = next((reason for reason in reasons if reason.is_error), None)
    is_final = isinstance(error, (QueryCancelledError, QueryTimeoutError, MemoryLimitError))
    return error if better is None or is_final else query_error(better.message, text, better.offset)


def _checked_timeout(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise InvalidTypeError(f"timeout is {timeout!r:.60}; give seconds as a positive number, or None.")
    if not timeout > 0:
        raise InvalidInputError(f"timeout is {timeout!r}; give seconds as a positive number, or None.")
    return timeout


def _parameters_of(statement: exp.Expr, params: Parameters) -> Parameters:
    """Of several statements each takes the named parameters that it mentions."""
    if not isinstance(params, Mapping):
        return params
    used = {node.name for node in statement.find_all(exp.Placeholder)}
    return {name: value for name, value in params.items() if name in used}
