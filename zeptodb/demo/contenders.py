"""One question as each engine takes it, until the answer's columns are in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from zeptodb.demo.comparison import Answer, Contender, fastest
from zeptodb.pipeline import Pipeline

if TYPE_CHECKING:
    import duckdb
    import polars as pl

ZEPTODB, DUCKDB, POLARS = "ZeptoDB", "DuckDB", "polars"

PolarsEngine = Literal["in-memory", "streaming"]
POLARS_ENGINES: tuple[PolarsEngine, ...] = ("in-memory", "streaming")


def zeptodb_sql(pipeline: Pipeline, sql: str) -> Contender:
    """ZeptoDB's SQL, answered in Arrow; a statement that fails raises QueryError."""

    def ask() -> Answer:
        answer: Answer = pipeline.execute(sql).raise_for_error().to_arrow()
        return answer

    return Contender(ZEPTODB, ask)


def duckdb_sql(connection: duckdb.DuckDBPyConnection, sql: str) -> Contender:
    """DuckDB's SQL, answered in Arrow."""

    def ask() -> Answer:
        answer: Answer = connection.sql(sql).to_arrow_table()
        return answer

    return Contender(DUCKDB, ask)


def polars_lazy(lazy: pl.LazyFrame) -> Contender:
    """A lazy polars query, collected by whichever engine of polars is faster in a trial."""

    def collecting(engine: PolarsEngine) -> Callable[[], Answer]:
        return lambda: lazy.collect(engine=engine)

    return Contender(POLARS, fastest(collecting(engine) for engine in POLARS_ENGINES))
