"""The one place where the server asks the engine to run something: with a time limit, and until it is cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from sqlglot import exp

from zeptodb.backends import control
from zeptodb.backends.control import Control
from zeptodb.pipeline import Pipeline
from zeptodb.server.codes import Code, failure, failure_of
from zeptodb.server.running import RunningStatement
from zeptodb.sql.fallback import run_over_arrow

Timestamps = Literal["ns", "datetime"]


@dataclass(frozen=True, slots=True)
class Columns:
    """An answer's columns, and how many rows were read for them."""

    table: pa.Table
    rows_read: int
    engine: str


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
    return Columns(result.to_encoded_arrow(), result.rows_scanned, result.engine)


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
    limits = Control(timeout=timeout_seconds, memory_limit=pipeline.config.memory_limit)
    statement.end = limits.cancel
    before = control.enter(limits)
    try:
        if statement.is_cancelled.is_set():
            raise failure(Code.QUERY_WAS_CANCELLED, "The statement was cancelled before it began.")
        answer = run_over_arrow(pipeline, expression, tables, dict(params) or None)
    finally:
        control.enter(before)
        statement.end = None
    return Columns(answer, sum(table.num_rows for table in tables.values()), "duckdb")


def cancel(pipeline: Pipeline, statement: RunningStatement) -> None:
    """End a statement that runs, if it does."""
    statement.is_cancelled.set()
    end = statement.end
    if end is not None:
        end()
    pipeline.cancel(statement.query_id)
