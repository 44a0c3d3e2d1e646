"""What the answers of operators have in common on every device: types of values, columns with NULLs, one error."""

from __future__ import annotations

import numpy as np

from zeptodb.backends.base import ArithmeticOverflowError
from zeptodb.backends.expression import ColumnRef, Expression, Kind
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType

_KIND_TYPES = {Kind.INT: ColumnType.INT64, Kind.FLOAT: ColumnType.FLOAT64, Kind.BOOL: ColumnType.BOOL}


def overflow() -> ArithmeticOverflowError:
    """The error for integer arithmetic that left int64 or divided by zero."""
    return ArithmeticOverflowError(
        "Integer arithmetic left the range of a 64-bit integer or divided by zero; "
        "cast an operand to DOUBLE to compute with floats."
    )


def result_type(expression: Expression) -> ColumnType:
    """Type of an expression's values: a column's own, else INT64, FLOAT64 or BOOL."""
    return expression.type if isinstance(expression, ColumnRef) else _KIND_TYPES[expression.kind]


def nullable_columns(snapshot: Snapshot) -> frozenset[int]:
    """Columns with a NULL somewhere, found out once per version of the table."""
    known: frozenset[int] | None = snapshot.derived.get("nullable_columns")
    if known is None:
        known = frozenset(np.flatnonzero(snapshot.validity.any(axis=1)).tolist())
        snapshot.derived["nullable_columns"] = known
    return known
