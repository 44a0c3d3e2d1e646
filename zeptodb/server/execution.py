"""The one place where the server asks the engine to run something: with a time limit, and until it is cancelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import pyarrow as pa
from sqlglot import exp

from zeptodb.backends import control
from zeptodb.backends.control import Control
from zeptodb.errors import ZeptoError
from zeptodb.pipeline import Pipeline
from zeptodb.record import record
from zeptodb.server.codes import Code, failure, failure_of
from zeptodb.server.running import RunningStatement
from zeptodb.sql.dialect import parse
from zeptodb.sql.fallback import run_fallback, run_over_arrow
from zeptodb.sql.register import Lease
from zeptodb.sql.result import QueryResult
from zeptodb.sql.view_names import inline
from zeptodb.storage.table import Table

Timestamps = Literal["ns", "datetime"]


@record
class Columns:
    """An answer's columns, and what was read for them."""

    table: pa.Table
    rows_read: int
    bytes_read: int


def run_sql(
    pipeline: Pipeline,
    sql: str,
    params: Mapping[str, object],
    *,
    statement: RunningStatement,
    timeout_seconds: float,
    timestamps: Timestamps,
) -> Columns:
    """The answer of the engine; raises ServerError with the code that fits."""
    if statement.is_cancelled.is_set():
        raise failure(Code.QUERY_WAS_CANCELLED, "The statement was cancelled before it began.")
    result = pipeline.execute(
        sql,
        dict(params) or None,
        timeout_seconds,
        timestamps=timestamps,
        query_id=statement.query_id,
        shares_memory=True,
    )
    if result.error_type is not None:
        raise failure_of(result.error_type(result.error))
    return Columns(result.to_encoded_arrow(), result.rows_scanned, result.bytes_scanned)


def run_over(
    pipeline: Pipeline,
    expression: exp.Expr,
    tables: Mapping[str, pa.Table],
    params: Mapping[str, object],
    *,
    statement: RunningStatement,
    timeout_seconds: float,
) -> Columns:
    """A statement over these tables alone, under the same limits."""
    with _limited(pipeline, statement, timeout_seconds):
        answer = run_over_arrow(pipeline, expression, tables, dict(params) or None)
    rows, size = (sum(map(count, tables.values())) for count in (_rows, _bytes))
    return Columns(answer, rows, size)


def _rows(table: pa.Table) -> int:
    return int(table.num_rows)


def _bytes(table: pa.Table) -> int:
    return int(table.nbytes)


def run_beside(
    pipeline: Pipeline,
    sql: str,
    tables: Mapping[str, Table],
    params: Mapping[str, object],
    *,
    statement: RunningStatement,
    timeout_seconds: float,
    timestamps: Timestamps,
) -> Columns:
    """A query that reads these tables beside those of the Pipeline, under the same limits; DuckDB runs it."""
    try:
        with _limited(pipeline, statement, timeout_seconds):
            pipeline.catch_up()
            (query,) = parse(sql)
            leases = {name: Lease(table.snapshot()) for name, table in tables.items()}
            answer = run_fallback(pipeline, inline(query, pipeline.catalog), dict(params) or None, leases=leases)
    except ZeptoError as error:
        raise failure_of(error) from error
    times = answer.timestamp_columns
    result = QueryResult.from_arrow(answer.table, timestamp_columns=times, timestamps=timestamps)
    return Columns(result.to_arrow(), answer.rows_scanned, answer.bytes_scanned)


@contextmanager
def _limited(pipeline: Pipeline, statement: RunningStatement, timeout_seconds: float) -> Iterator[None]:
    """What runs within ends when its time is up, when it takes too much memory, and when it is cancelled."""
    limits = Control(timeout=timeout_seconds, memory_limit=pipeline.config.memory_limit)
    statement.end = limits.cancel
    before = control.enter(limits)
    try:
        if statement.is_cancelled.is_set():
            raise failure(Code.QUERY_WAS_CANCELLED, "The statement was cancelled before it began.")
        yield
    finally:
        control.enter(before)
        statement.end = None


def cancel(pipeline: Pipeline, statement: RunningStatement) -> None:
    """End a statement that runs, if it does."""
    statement.is_cancelled.set()
    end = statement.end
    if end is not None:
        end()
    pipeline.cancel(statement.query_id)
