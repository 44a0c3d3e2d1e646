"""What the binder makes of SQL expressions: typed as DuckDB types them, free of names."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from zeptodb.backends.expression import Constant, Expression, InList, Kind
from zeptodb.record import record
from zeptodb.types import ColumnType


class SqlType(Enum):
    """The type that DuckDB gives an expression; the value is its SQL name.

    TIMESTAMP is ours: int64 ns since the epoch, BIGINT to DuckDB. DECIMAL, VARCHAR constants and INTERVAL occur only
    as constants that wait for an operand.
    """

    BOOLEAN = "BOOLEAN"
    INTEGER = "INTEGER"
    BIGINT = "BIGINT"
    HUGEINT = "HUGEINT"
    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    DECIMAL = "DECIMAL"
    TIMESTAMP = "TIMESTAMP_NS"
    VARCHAR = "VARCHAR"
    INTERVAL = "INTERVAL"

    __hash__ = object.__hash__  # in C; members are what they are

    @property
    def is_integer(self) -> bool:
        """Whether values are whole numbers, timestamps among them."""
        return self in _INTEGER_RANK

    @property
    def is_float(self) -> bool:
        """Whether values are floating point."""
        return self in (SqlType.FLOAT, SqlType.DOUBLE)

    @property
    def is_numeric(self) -> bool:
        """Whether arithmetic is defined."""
        return self.is_integer or self.is_float or self is SqlType.DECIMAL

    @property
    def integer_rank(self) -> int:
        """Order of the integer types by width."""
        return _INTEGER_RANK[self]

    @property
    def column_type(self) -> ColumnType:
        """The type of a result column of this type."""
        return _COLUMN_TYPES[self]


_INTEGER_RANK = {SqlType.INTEGER: 0, SqlType.TIMESTAMP: 1, SqlType.BIGINT: 1, SqlType.HUGEINT: 2}

_COLUMN_TYPES = {
    SqlType.BOOLEAN: ColumnType.BOOL,
    SqlType.INTEGER: ColumnType.INT32,
    SqlType.BIGINT: ColumnType.INT64,
    SqlType.HUGEINT: ColumnType.HUGEINT,
    SqlType.FLOAT: ColumnType.FLOAT32,
    SqlType.DOUBLE: ColumnType.FLOAT64,
    SqlType.TIMESTAMP: ColumnType.TIMESTAMP_NS,
    SqlType.VARCHAR: ColumnType.STRING,
}

SQL_TYPES = {
    ColumnType.INT64: SqlType.BIGINT,
    ColumnType.INT32: SqlType.INTEGER,
    ColumnType.FLOAT64: SqlType.DOUBLE,
    ColumnType.FLOAT32: SqlType.FLOAT,
    ColumnType.BOOL: SqlType.BOOLEAN,
    ColumnType.TIMESTAMP_NS: SqlType.TIMESTAMP,
    ColumnType.STRING: SqlType.VARCHAR,
    ColumnType.SYMBOL: SqlType.BIGINT,
    ColumnType.HUGEINT: SqlType.HUGEINT,
}
"""The SQL type of a stored column."""


class BoundConstant(NamedTuple):
    """A value known when the statement is planned.

    Attributes:
        value: int for INTEGER to HUGEINT, TIMESTAMP (ns) and INTERVAL (ns); Decimal for DECIMAL; float for DOUBLE.
        type: of a literal as DuckDB sees it.
    """

    value: int | float | bool | str | Decimal
    type: SqlType


class BoundExpression(NamedTuple):
    """A value computed per row.

    Attributes:
        expression: over the columns of one table, or over the slots of a small result.
        type: what DuckDB would call it.
        dictionary: for VARCHAR the column whose dictionary holds the strings, else None.
    """

    expression: Expression
    type: SqlType
    dictionary: int | None = None


Bound = BoundConstant | BoundExpression


class Rejection(NamedTuple):
    """Why something cannot be bound with exactly DuckDB's answer; `is_error`: no engine can run it either."""

    message: str
    is_error: bool = False


ALREADY_NOTED = Rejection("")
"""A rejection whose reason stands in the list of reasons already."""


@record
class StringCode(Constant):
    """The code of `text` in the dictionary of `column`; looked up when the plan runs, as codes come with the data."""

    text: str = ""
    column: int = -1


@record
class StringCodeList(InList):
    """Membership of a code in the codes of `texts`; looked up when the plan runs."""

    texts: tuple[str, ...] = ()
    column: int = -1


def string_code(text: str, column: int) -> StringCode:
    """The constant that stands for `text` until its code is known."""
    return StringCode(None, Kind.INT, text, column)
