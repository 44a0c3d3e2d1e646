"""Column types, fields and schemas: what every layer means by them."""

from __future__ import annotations

from dataclasses import field
from enum import Enum

import numpy as np

from zeptodb.errors import AlreadyExistsError, InvalidInputError, InvalidTypeError, unknown_column
from zeptodb.record import record

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1
NANOSECONDS_PER_SECOND = 1_000_000_000


class ColumnType(Enum):
    """The type of a column; the value is its SQL name.

    STRING columns hold int32 codes into the table's dictionary of that column. A symbol column is never stored
    row by row: each segment has one symbol. SYMBOL is a symbol column whose kind (INT64 or STRING) no data has
    settled yet. HUGEINT occurs in results only: an integer sum beyond int64, as Python ints.
    """

    INT64 = "INT64"
    INT32 = "INT32"
    FLOAT64 = "FLOAT64"
    FLOAT32 = "FLOAT32"
    BOOL = "BOOL"
    TIMESTAMP_NS = "TIMESTAMP_NS"
    STRING = "STRING"
    SYMBOL = "SYMBOL"
    HUGEINT = "HUGEINT"

    __hash__ = object.__hash__  # in C; members are what they are

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy dtype of one stored value (int32 codes for STRING, int64 ns since the epoch for TIMESTAMP_NS)."""
        return _DTYPES[self]

    @property
    def is_float(self) -> bool:
        """Whether values are floating point."""
        return self in (ColumnType.FLOAT64, ColumnType.FLOAT32)

    @property
    def is_integer(self) -> bool:
        """Whether values are plain integers (neither timestamps, nor codes, nor booleans)."""
        return self in (ColumnType.INT64, ColumnType.INT32)

    @property
    def is_numeric(self) -> bool:
        """Whether sums and averages of the column make sense."""
        return self.is_float or self.is_integer


_DTYPES: dict[ColumnType, np.dtype[np.generic]] = {
    ColumnType.INT64: np.dtype(np.int64),
    ColumnType.INT32: np.dtype(np.int32),
    ColumnType.FLOAT64: np.dtype(np.float64),
    ColumnType.FLOAT32: np.dtype(np.float32),
    ColumnType.BOOL: np.dtype(np.bool_),
    ColumnType.TIMESTAMP_NS: np.dtype(np.int64),
    ColumnType.STRING: np.dtype(np.int32),
    ColumnType.SYMBOL: np.dtype(np.int64),
    ColumnType.HUGEINT: np.dtype(object),
}


@record
class Field:
    """One column of a schema: its name, its type, and whether it may hold NULL."""

    name: str
    type: ColumnType
    is_nullable: bool = True


@record
class Schema:
    """The columns of a table in SQL order, and which of them are the symbol and the timestamp (None: has none).

    Attributes:
        names: the columns' names in SQL order.
        symbol_index, timestamp_index: positions of these columns, -1 when there is none.
    """

    fields: tuple[Field, ...]
    symbol: str | None = None
    timestamp: str | None = None
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    symbol_index: int = field(init=False, repr=False, compare=False)
    timestamp_index: int = field(init=False, repr=False, compare=False)
    _positions: dict[str, int] = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Reject duplicate names and roles that no column has."""
        object.__setattr__(self, "names", tuple(column.name for column in self.fields))
        object.__setattr__(self, "_positions", {})
        for position, name in enumerate(self.names):
            if not name:
                raise InvalidInputError("A column has an empty name; give every column a name.")
            if self._positions.setdefault(name.lower(), position) != position:
                raise AlreadyExistsError(f'Column name "{name}" occurs twice; column names must differ.')
        for role, attribute in ((self.symbol, "symbol_index"), (self.timestamp, "timestamp_index")):
            if role is not None and role not in self.names:
                raise unknown_column(role, "(schema)", self.names)
            object.__setattr__(self, attribute, -1 if role is None else self.names.index(role))
        object.__setattr__(self, "_hash", hash((self.fields, self.symbol, self.timestamp)))

    def __hash__(self) -> int:
        """Hash of all fields, computed once: schemas are looked up by each query."""
        return self._hash

    def index(self, name: str, *, table: str = "(schema)") -> int:
        """Position of the column called `name` (case-insensitive); raises UnknownColumnError or InvalidTypeError."""
        if not isinstance(name, str):
            raise InvalidTypeError(f"A column name must be a str, got {name!r:.60}.")
        position = self._positions.get(name.lower())
        if position is None:
            raise unknown_column(name, table, self.names)
        return position

    def field(self, name: str, *, table: str = "(schema)") -> Field:
        """The column called `name`; raises UnknownColumnError."""
        return self.fields[self.index(name, table=table)]


DEFAULT_TABLE = "trades"

TRADES = Schema(
    (
        Field("symbol", ColumnType.SYMBOL, is_nullable=False),
        Field("price", ColumnType.INT64, is_nullable=False),
        Field("volume", ColumnType.INT64, is_nullable=False),
        Field("timestamp", ColumnType.TIMESTAMP_NS, is_nullable=False),
    ),
    symbol="symbol",
    timestamp="timestamp",
)
"""Schema of the default table."""
