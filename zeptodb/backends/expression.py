"""Expressions over the columns of one table, as operators receive them: bound, typed, free of SQL.

Three kinds of value are computed: int64, float64 and three-valued booleans. Columns of INT32, BOOL, TIMESTAMP_NS and
dictionary codes are read as int64, FLOAT32 as float64. NULL in, NULL out, except for AND, OR (Kleene) and IS NULL.
Floats compare as DuckDB compares them: NaN equals NaN and is greater than every other number. Integer arithmetic that
leaves int64 raises `ArithmeticOverflowError`, so that the planner's caller can let DuckDB word the error.
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import Literal

from zeptodb.record import record
from zeptodb.types import ColumnType

ComparisonOp = Literal["=", "!=", "<", "<=", ">", ">="]
ArithmeticOp = Literal["+", "-", "*", "/", "//", "%"]


class Kind(Enum):
    """What an expression evaluates to."""

    INT = "int64"
    FLOAT = "float64"
    BOOL = "three-valued boolean"

    __hash__ = object.__hash__  # in C; members are what they are


@record
class ColumnRef:
    """The value of column `index` of the table's schema. A symbol column reads as its segment's symbol (or code)."""

    index: int
    type: ColumnType

    @property
    def kind(self) -> Kind:
        """BOOL columns are booleans, floats FLOAT, all others INT."""
        if self.type.is_float:
            return Kind.FLOAT
        return Kind.BOOL if self.type is ColumnType.BOOL else Kind.INT


@record
class Constant:
    """A value known before the scan; None is NULL of the given kind. 0.0 and -0.0 are different constants."""

    value: int | float | bool | None
    kind: Kind

    def __eq__(self, other: object) -> bool:
        """Whether both stand for the same bits."""
        return isinstance(other, Constant) and self._key == other._key

    def __hash__(self) -> int:
        """Hash of what is compared."""
        return hash(self._key)

    @property
    def _key(self) -> tuple[Kind, int | float | bool | None, str]:
        if self.value is None or self.kind is not Kind.FLOAT:
            return self.kind, self.value, ""
        # What a float prints tells its sign, and makes NaN equal to itself.
        return self.kind, None, repr(float(self.value))


@record
class ToFloat:
    """An INT expression as float64 (rounded to nearest)."""

    argument: Expression

    @property
    def kind(self) -> Kind:
        """FLOAT."""
        return Kind.FLOAT


@record
class Arithmetic:
    """`left op right`, both of the same kind; "/" wants FLOAT and gives FLOAT, "//" and "%" want INT.

    "/" by zero follows IEEE 754 (infinite or NaN), as in DuckDB. Integer "//" and "%" truncate toward zero, as in
    DuckDB; by zero they raise `ArithmeticOverflowError`, where DuckDB raises or, by a setting of its own, gives NULL.
    """

    op: ArithmeticOp
    left: Expression
    right: Expression

    @property
    def kind(self) -> Kind:
        """The kind of the operands."""
        return self.left.kind


@record
class Bucket:
    """Floor of an INT expression to `origin + a multiple of width` (xbar, date_trunc); also before the origin."""

    argument: Expression
    width: int
    origin: int = 0

    @property
    def kind(self) -> Kind:
        """INT."""
        return Kind.INT


@record
class Comparison:
    """`left op right`, both of the same kind; NULL when either side is NULL."""

    op: ComparisonOp
    left: Expression
    right: Expression

    @property
    def kind(self) -> Kind:
        """BOOL."""
        return Kind.BOOL


@record
class InList:
    """Whether `argument` (INT or FLOAT) equals one of `values`; a NULL argument gives NULL."""

    argument: Expression
    values: tuple[int, ...] | tuple[float, ...]

    @property
    def kind(self) -> Kind:
        """BOOL."""
        return Kind.BOOL


@record
class Logical:
    """AND / OR of two booleans with Kleene's rules for NULL."""

    op: Literal["and", "or"]
    left: Expression
    right: Expression
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Hash once: each part of a long chain is looked up, and has the rest of the chain below it."""
        object.__setattr__(self, "_hash", hash((self.op, self.left, self.right)))

    def __hash__(self) -> int:
        """Hash of all fields."""
        return self._hash

    @property
    def kind(self) -> Kind:
        """BOOL."""
        return Kind.BOOL


@record
class Not:
    """Negation; NULL stays NULL."""

    argument: Expression

    @property
    def kind(self) -> Kind:
        """BOOL."""
        return Kind.BOOL


@record
class IsNull:
    """Whether the argument is NULL; never NULL itself."""

    argument: Expression

    @property
    def kind(self) -> Kind:
        """BOOL."""
        return Kind.BOOL


@record
class Parameter:
    """Stands for the `position`-th number of a predicate in what backends keep of it; no operator holds any."""

    position: int
    kind: Kind


Expression = (
    ColumnRef | Constant | ToFloat | Arithmetic | Bucket | Comparison | InList | Logical | Not | IsNull | Parameter
)
