"""What DuckDB runs of a statement: native parts come first, then it reads their rows and those of our tables."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from zeptodb.record import record
from zeptodb.sql.plan import Plan
from zeptodb.sql.relations import Bounds, Columns, EmaColumn
from zeptodb.types import Schema


@record
class Leaf:
    """A part of a statement that runs natively and whose rows DuckDB is handed under a name.

    `offset` is the place of that part in the statement's text (None: no place).
    """

    name: str
    plan: Plan
    offset: int | None = None


@record
class TableRead:
    """Rows of a table of ours that DuckDB reads as the table `view`.

    Attributes:
        view: the name in DuckDB's statement.
        table, schema: the table, with the schema that it had when the plan was made.
        columns: indexes of the columns that the statement can name.
        bounds: rows that can matter.
        row_name: of the column of row numbers; None: not needed.
        keep: of rows with equal symbol and time only the last arrived, or all.
        fraction: the share of the rows that SAMPLE leaves; None: all.
        emas: further columns, of moving averages.
    """

    view: str
    table: str
    schema: Schema = field(repr=False)
    columns: tuple[int, ...]
    bounds: Bounds
    row_name: str | None
    keep: Literal["all", "last"]
    fraction: float | None = None
    emas: tuple[EmaColumn, ...] = ()


@record
class DuckdbPlan:
    """A statement that DuckDB runs over what native leaves left and over rows of our tables.

    Attributes:
        sql: in DuckDB's words.
        leaves: run first.
        reads: of our tables.
        columns: names and kinds of the answer's columns; None: unknown.
        placeholders: names of the parameters that `sql` has.
        shows_schemas: whether it looks at information_schema, which is to know all tables.
    """

    sql: str
    leaves: tuple[Leaf, ...]
    reads: tuple[TableRead, ...]
    columns: Columns
    placeholders: frozenset[str]
    shows_schemas: bool
