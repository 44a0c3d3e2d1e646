"""Types of arithmetic and of numeric comparisons, as DuckDB resolves them; what it resolves otherwise is rejected."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import cast

import numpy as np

from zeptodb.backends.expression import Arithmetic, ArithmeticOp, ComparisonOp, Constant, Expression, Kind, ToFloat
from zeptodb.sql import constants
from zeptodb.sql.bound import Bound, BoundConstant, BoundExpression, Rejection, SqlType
from zeptodb.types import INT64_MAX, INT64_MIN

MAX_DECIMAL_DIGITS = 15
"""Decimal literals of at most this many digits turn into the same float64 by every road."""

_NO_DECIMAL = Rejection("DECIMAL arithmetic has no native form (write 1.5e0 for a float)")
_NO_FLOAT32 = Rejection("arithmetic in FLOAT32 has no native form")
_NO_INT32 = Rejection("arithmetic in INT32 has no native form")


def arithmetic(op: ArithmeticOp, left: Bound, right: Bound) -> BoundExpression | Rejection:
    """`left op right` where at least one side is computed per row."""
    for side in (left, right):
        if not side.type.is_numeric and side.type is not SqlType.INTERVAL:
            return Rejection(f"arithmetic with a {side.type.value} has no native form")
    if SqlType.INTERVAL in (left.type, right.type):
        return _shift_timestamp(op, left, right)
    if op == "/":
        return _divide(left, right)
    if left.type.is_integer and right.type.is_integer:
        return _integer_arithmetic(op, left, right)
    if SqlType.DOUBLE in (left.type, right.type):
        return _double_arithmetic(op, left, right)
    return _NO_FLOAT32 if SqlType.FLOAT in (left.type, right.type) else _NO_DECIMAL


def _shift_timestamp(op: ArithmeticOp, left: Bound, right: Bound) -> BoundExpression | Rejection:
    is_shift = (op == "+" or (op == "-" and right.type is SqlType.INTERVAL)) and SqlType.TIMESTAMP in (
        left.type,
        right.type,
    )
    if not is_shift:
        return Rejection("this arithmetic with an INTERVAL has no native form")
    return BoundExpression(Arithmetic(op, as_integer(left), as_integer(right)), SqlType.TIMESTAMP)


def _divide(left: Bound, right: Bound) -> BoundExpression | Rejection:
    if SqlType.FLOAT in (left.type, right.type) and SqlType.DOUBLE not in (left.type, right.type):
        return _NO_FLOAT32
    return _double_arithmetic("/", left, right)


def _double_arithmetic(op: ArithmeticOp, left: Bound, right: Bound) -> BoundExpression | Rejection:
    if op in ("//", "%"):
        return Rejection(f"{op} of floats has no native form")
    a, b = as_float(left), as_float(right)
    if isinstance(a, Rejection):
        return a
    return b if isinstance(b, Rejection) else BoundExpression(Arithmetic(op, a, b), SqlType.DOUBLE)


def _integer_arithmetic(op: ArithmeticOp, left: Bound, right: Bound) -> BoundExpression | Rejection:
    wider = left if left.type.integer_rank >= right.type.integer_rank else right
    result = SqlType.BIGINT if wider.type is SqlType.TIMESTAMP else wider.type
    if result is SqlType.INTEGER:
        return _NO_INT32
    for side in (left, right):
        if isinstance(side, BoundConstant) and not _is_int64(side):
            return Rejection("a number beyond INT64 has no native form")
    return BoundExpression(Arithmetic(op, as_integer(left), as_integer(right)), result)


def fold_constants(op: ArithmeticOp, left: BoundConstant, right: BoundConstant) -> BoundConstant | Rejection:
    """`left op right` of two constants: moments shifted by intervals, and INTEGER and BIGINT arithmetic."""
    a, b = left.value, right.value
    if isinstance(a, int) and isinstance(b, int) and op in ("+", "-", "*"):
        value = a + b if op == "+" else a - b if op == "-" else a * b
        result = _folded_type(op, left.type, right.type)
        low, high = (constants.INT32_MIN, constants.INT32_MAX) if result is SqlType.INTEGER else (INT64_MIN, INT64_MAX)
        if result is not None and low <= value <= high:
            return BoundConstant(value, result)
    return Rejection("this arithmetic of constants has no native form")


def _folded_type(op: ArithmeticOp, left: SqlType, right: SqlType) -> SqlType | None:
    if {left, right} <= {SqlType.INTEGER, SqlType.BIGINT}:
        return SqlType.BIGINT if SqlType.BIGINT in (left, right) else SqlType.INTEGER
    if op == "*":
        return None
    if left is SqlType.INTERVAL and right is SqlType.INTERVAL:
        return SqlType.INTERVAL
    is_shift = (left, right) == (SqlType.TIMESTAMP, SqlType.INTERVAL)
    return (
        SqlType.TIMESTAMP
        if is_shift or (op == "+" and {left, right} == {SqlType.TIMESTAMP, SqlType.INTERVAL})
        else None
    )


def comparable_pair(
    op: ComparisonOp, left: BoundExpression, right: Bound
) -> tuple[ComparisonOp, Expression, Expression] | Rejection:
    """The operator and both sides of a numeric comparison, brought to one kind."""
    if left.type is SqlType.TIMESTAMP and isinstance(right, BoundConstant) and isinstance(right.value, str):
        moment = constants.timestamp_ns(right.value)
        if moment is None:
            return Rejection(f"'{right.value}' is no ISO date or time")
        right = BoundConstant(moment, SqlType.TIMESTAMP)
    if not (left.type.is_numeric and right.type.is_numeric):
        return Rejection(f"comparing {left.type.value} with {right.type.value} has no native form")
    if SqlType.TIMESTAMP in (left.type, right.type) and (left.type.is_float or right.type.is_float):
        return Rejection("comparing a timestamp with a float has no native form")
    if left.type.is_integer and right.type.is_integer:
        if isinstance(right, BoundConstant) and not _is_int64(right):
            return Rejection("a number beyond INT64 has no native form")
        return op, as_integer(left), as_integer(right)
    if left.type.is_integer and isinstance(right, BoundConstant) and isinstance(right.value, Decimal):
        return _compare_with_decimal(op, left, right.value)
    if left.type is SqlType.FLOAT or right.type is SqlType.FLOAT:
        return _compare_float32(op, left, right)
    a, b = as_float(left), as_float(right)
    if isinstance(a, Rejection):
        return a
    return b if isinstance(b, Rejection) else (op, a, b)


def _compare_with_decimal(
    op: ComparisonOp, left: BoundExpression, value: Decimal
) -> tuple[ComparisonOp, Expression, Expression] | Rejection:
    """An integer against a decimal literal, exactly: x > 1.5 is x > 1."""
    if _digits(value) > MAX_DECIMAL_DIGITS:
        return Rejection(f"a DECIMAL of more than {MAX_DECIMAL_DIGITS} digits has no native form")
    floor = math.floor(value)
    if floor != value:
        if op in ("=", "!="):
            return Rejection("an integer is compared for equality with a fraction")
        op = "<=" if op in ("<", "<=") else ">"
    return op, left.expression, Constant(floor, Kind.INT)


def _compare_float32(
    op: ComparisonOp, left: BoundExpression, right: Bound
) -> tuple[ComparisonOp, Expression, Expression] | Rejection:
    """FLOAT against FLOAT or DOUBLE; a literal of another type is rounded to FLOAT first, as DuckDB does."""
    if isinstance(right, BoundExpression):
        if {left.type, right.type} <= {SqlType.FLOAT, SqlType.DOUBLE}:
            return op, left.expression, right.expression
        return Rejection("comparing FLOAT32 with an integer column has no native form")
    value = as_float(right)
    if isinstance(value, Constant) and right.type is not SqlType.DOUBLE:
        value = Constant(float(np.float32(cast(float, value.value))), Kind.FLOAT)
    return value if isinstance(value, Rejection) else (op, left.expression, value)


def as_integer(bound: Bound) -> Expression:
    """A whole number as an INT expression."""
    return Constant(cast(int, bound.value), Kind.INT) if isinstance(bound, BoundConstant) else bound.expression


def as_float(bound: Bound) -> Expression | Rejection:
    """A number as a FLOAT expression, rounded to nearest as DuckDB's cast to DOUBLE does."""
    if isinstance(bound, BoundExpression):
        return bound.expression if bound.type.is_float else ToFloat(bound.expression)
    if isinstance(bound.value, Decimal) and _digits(bound.value) > MAX_DECIMAL_DIGITS:
        return Rejection(f"a DECIMAL of more than {MAX_DECIMAL_DIGITS} digits has no native form")
    return Constant(float(bound.value), Kind.FLOAT)


def _digits(value: Decimal) -> int:
    return max(len(value.as_tuple().digits), -cast(int, value.as_tuple().exponent))


def _is_int64(constant: BoundConstant) -> bool:
    return INT64_MIN <= cast(int, constant.value) <= INT64_MAX
