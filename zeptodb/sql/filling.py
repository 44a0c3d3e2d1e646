"""The query inside CREATE TABLE AS and INSERT: its rows, by whichever engine runs it."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.sql.engine import Engine
from zeptodb.sql.fallback import FallbackAnswer
from zeptodb.sql.parameters import Parameters


def rows_of(engine: Engine, query: exp.Expr, params: Parameters, *, within: str) -> FallbackAnswer:
    """The rows of a query that is part of the statement `within`; raises the errors of queries."""
    from zeptodb.sql.executor import QueryExecutor  # which runs this statement

    return QueryExecutor(engine).rows_of(query, params, within=within)
