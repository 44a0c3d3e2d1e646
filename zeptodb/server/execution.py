"""The one place where the server asks the engine to run something: with a time limit, and until it is cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from sqlglot import exp

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
        sql, dict(params) or None, timeout_seconds, timestamps=timestamps, query_id=statement.query_id
    )
    if result.error_type is not None:
        raise failure_of(result.error_type(result.error))
    return Columns(result.to_arrow(), result.rows_scanned, result.engine)


def cancel(pipeline: Pipeline, statement: RunningStatement) -> None:
    """End a statement that the engine runs, if it does."""
    pipeline.cancel(statement.query_id)


def run_over(
    pipeline: Pipeline, expression: exp.Expr, tables: Mapping[str, pa.Table], params: Mapping[str, object]
) -> pa.Table:
    """A statement over these tables alone."""
    return run_over_arrow(pipeline, expression, tables, dict(params) or None)
