"""What the names of a statement refer to on its way to DuckDB: tables, subqueries, columns, and kinds of values.

DuckDB sees our timestamps as BIGINT nanoseconds, so the rewriter has to know which expressions are moments (to read
`timestamp > '2024-01-31'` or `date_trunc('hour', timestamp)` as meant). Kinds are only ever known or OTHER: an
expression of kind OTHER is left to DuckDB as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from enum import Enum
from typing import Literal

from sqlglot import exp

from zeptodb.record import record
from zeptodb.types import ColumnType, Schema


class ValueKind(Enum):
    """What an expression is, as far as rewriting it matters."""

    TIME = "nanoseconds since the epoch"
    INTEGER = "integer"
    FLOAT = "floating point"
    TEXT = "string"
    BOOL = "boolean"
    MOMENT = "a timestamp or date of DuckDB's own"
    INTERVAL = "an interval"
    OTHER = "anything else"


KIND_OF_COLUMN = {
    ColumnType.INT64: ValueKind.INTEGER,
    ColumnType.INT32: ValueKind.INTEGER,
    ColumnType.FLOAT64: ValueKind.FLOAT,
    ColumnType.FLOAT32: ValueKind.FLOAT,
    ColumnType.BOOL: ValueKind.BOOL,
    ColumnType.TIMESTAMP_NS: ValueKind.TIME,
    ColumnType.STRING: ValueKind.TEXT,
    ColumnType.SYMBOL: ValueKind.INTEGER,
    ColumnType.HUGEINT: ValueKind.INTEGER,
}

Role = Literal["symbol", "time"]

OutputColumn = tuple[str, ValueKind]
Columns = tuple[OutputColumn, ...] | None
"""Names and kinds of a relation's columns; None: unknown."""


@record
class Bounds:
    """Which rows a statement can need from one occurrence of a table: symbols (None: all) and from <= time < to."""

    symbols: frozenset[int | str] | None = None
    from_ns: int | None = None
    to_ns: int | None = None


@record
class EmaColumn:
    """A hidden column of a table: the exponential moving average of another one by symbol, in the order of time."""

    name: str
    column: int
    alpha: float


@record(frozen=False, eq=False)
class Occurrence:
    """One place in a statement where one of our tables is read.

    Attributes:
        table: its name.
        schema: its columns.
        node: the table in the syntax tree; its name becomes `view` when the rows are registered.
        row_name: name of the hidden column of row numbers; it is registered when `needs_rows`.
        bounds: rows that can matter.
        keep: of rows with equal symbol and time, register only the last arrived (for an ASOF JOIN).
        fraction: of the rows, register this share (for SAMPLE); None: all.
        emas: hidden columns to register.
        is_wrapped: whether a subquery around the table hides the row numbers again.
    """

    table: str
    schema: Schema
    node: exp.Table
    row_name: str
    needs_rows: bool = False
    bounds: Bounds = field(default_factory=Bounds)
    keep: Literal["all", "last"] = "all"
    fraction: float | None = None
    emas: list[EmaColumn] = field(default_factory=list)
    is_wrapped: bool = False


@record(frozen=False, eq=False)
class WindowJoin:
    """A WINDOW JOIN: aggregates of the right rows that match a left row.

    Attributes:
        join: the join in the syntax tree.
        query: SELECT of the right side, whose list holds the aggregates.
    """

    join: exp.Expr
    query: exp.Select


@record(frozen=False, eq=False)
class Relation:
    """One item of a FROM clause.

    Attributes:
        alias: the name by which columns are qualified; "" when there is none.
        columns: what it offers; None: unknown.
        occurrence: set when it is one of our tables.
        prunable: columns, by role, on which the WHERE clause may limit which rows are read.
        merged: columns (lower case) that `*` leaves out because USING or NATURAL merged them with an earlier one.
        is_hidden: whether `*` leaves it out altogether (right side of SEMI and ANTI JOIN).
        other_names: further qualifiers of its columns (lower case), of tables that a tick join merged into it.
        substitutes: columns that stand in place of its own, by lower-case name (for AJ0 JOIN).
        window: set on the right side of a WINDOW JOIN, whose columns are seen inside wj_ functions only.
    """

    alias: str
    columns: Columns
    occurrence: Occurrence | None = None
    prunable: frozenset[Role] = frozenset(("symbol", "time"))
    merged: frozenset[str] = frozenset()
    is_hidden: bool = False
    other_names: frozenset[str] = frozenset()
    substitutes: dict[str, exp.Column] = field(default_factory=dict)
    window: WindowJoin | None = None

    def is_called(self, qualifier: str) -> bool:
        """Whether `qualifier.column` may be a column of it."""
        return qualifier.lower() == self.alias.lower() or qualifier.lower() in self.other_names

    def find(self, name: str) -> OutputColumn | None:
        """The column called `name` (case-insensitive)."""
        lower = name.lower()
        return next((c for c in self.columns or () if c[0].lower() == lower), None)

    @property
    def time_column(self) -> str | None:
        """The column that says when: the table's timestamp, or the only moment of a subquery."""
        if self.columns is None:
            return None
        if self.occurrence is not None:
            index = self.occurrence.schema.timestamp_index
            return self.columns[index][0] if index >= 0 else None
        moments = [name for name, kind in self.columns if kind is ValueKind.TIME]
        return moments[0] if len(moments) == 1 else None

    def role(self, name: str) -> Role | None:
        """Whether the column is the symbol or the timestamp of one of our tables."""
        if self.occurrence is None:
            return None
        if name == self.symbol_column:
            return "symbol"
        return "time" if name == self.time_column else None

    @property
    def symbol_column(self) -> str | None:
        """The symbol column of one of our tables."""
        if self.columns is None or self.occurrence is None:
            return None
        index = self.occurrence.schema.symbol_index
        return self.columns[index][0] if index >= 0 else None


@record(frozen=False, eq=False)
class Scope:
    """The names visible at one place of a statement.

    Attributes:
        relations: of this SELECT, in order.
        ctes: columns of the common table expressions in force, by lower-case name.
        parent: the enclosing SELECT (for correlated subqueries), or None.
        aliases: kinds of the aliases of the SELECT list, by lower-case name.
        is_grouped: whether the SELECT aggregates, so that its windows see groups and not rows.
        has_ema: whether it calls ema(x, n) OVER.
    """

    relations: list[Relation] = field(default_factory=list)
    ctes: dict[str, Columns] = field(default_factory=dict)
    parent: Scope | None = None
    aliases: dict[str, ValueKind] = field(default_factory=dict)
    is_grouped: bool = False
    has_ema: bool = False

    def outward(self) -> Iterator[Scope]:
        """This scope and the enclosing ones, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def resolve(self, column: exp.Column) -> tuple[Relation, OutputColumn] | None:
        """Where a column comes from; None when that is unknown or ambiguous."""
        for scope in self.outward():
            found = scope.resolve_here(column)
            if found is not None:
                return found
            if any(r.columns is None for r in scope.relations):
                return None
        return None

    def resolve_here(self, column: exp.Column) -> tuple[Relation, OutputColumn] | None:
        """Where a column comes from, if from this SELECT's own FROM clause."""
        qualifier = column.table.lower()
        candidates = [r for r in self.relations if not qualifier or r.is_called(qualifier)]
        if not qualifier and len(self.relations) > 1 and any(r.columns is None for r in self.relations):
            return None
        for relation in candidates:
            found = relation.find(column.name)
            if found is not None:
                return relation, found
        return None

    def kind_of(self, column: exp.Column) -> ValueKind:
        """What a column or alias is."""
        found = self.resolve(column)
        if found is not None:
            return found[1][1]
        if not column.table:
            return self.aliases.get(column.name.lower(), ValueKind.OTHER)
        return ValueKind.OTHER

    @property
    def order_relation(self) -> Relation | None:
        """The relation whose rows give the order in which `first`, `last` and windows see things: the leftmost."""
        return self.relations[0] if self.relations else None

    def order_keys(self) -> list[exp.Expr]:
        """Time, then arrival, of the leftmost relation, as far as they are known; marks the row numbers as needed."""
        relation = self.order_relation
        if relation is None:
            return []
        keys: list[exp.Expr] = []
        time = relation.time_column
        if time is not None:
            keys.append(exp.column(exp.to_identifier(time, quoted=True), _table(relation)))
        arrival = self.arrival_key()
        return keys if arrival is None else [*keys, arrival]

    def arrival_key(self) -> exp.Expr | None:
        """The row number of the leftmost relation if that is one of our tables; marks it as needed."""
        relation = self.order_relation
        if relation is None or relation.occurrence is None:
            return None
        relation.occurrence.needs_rows = True
        return exp.column(exp.to_identifier(relation.occurrence.row_name, quoted=True), _table(relation))


def _table(relation: Relation) -> exp.Identifier | None:
    return exp.to_identifier(relation.alias, quoted=True) if relation.alias else None
