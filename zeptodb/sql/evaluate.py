"""Evaluates expressions over small columns in numpy, with DuckDB's rules for NULL, NaN and overflow.

Used for what is left after an operator: arithmetic over aggregates, HAVING, conditions on joined rows, sort keys, and
conditions on symbols alone (one row per segment).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import ArithmeticOverflowError, Vector
from zeptodb.backends.expression import (
    Arithmetic,
    Bucket,
    ColumnRef,
    Comparison,
    Constant,
    Expression,
    InList,
    IsNull,
    Kind,
    Logical,
    Not,
    ToFloat,
)
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType

BoolArray = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]
HUGEINT_MAX = 2**127 - 1
_SAFE_MAGNITUDE = 2.0**62

_CONSTANT_TYPES = {Kind.INT: ColumnType.INT64, Kind.FLOAT: ColumnType.FLOAT64, Kind.BOOL: ColumnType.BOOL}


def evaluate(expression: Expression, columns: Sequence[Vector], rows: int) -> Vector:
    """The value of `expression` per row; `ColumnRef(i)` is `columns[i]`.

    Integers are INT64 or, when a HUGEINT takes part, HUGEINT. Raises ArithmeticOverflowError when a result leaves its
    type.
    """
    return _EVALUATORS[type(expression)](expression, columns, rows)


def true_rows(expression: Expression, columns: Sequence[Vector], rows: int) -> BoolArray:
    """Where the condition is true, neither false nor NULL."""
    vector = evaluate(expression, columns, rows)
    is_true = np.asarray(vector.values, dtype=np.bool_)
    return is_true if vector.validity is None else is_true & vector.validity


def _column(node: ColumnRef, columns: Sequence[Vector], rows: int) -> Vector:  # noqa: ARG001
    vector = columns[node.index]
    if vector.values.dtype == object and vector.validity is not None:
        return Vector(np.where(vector.validity, vector.values, 0), vector.validity, vector.type)
    if vector.type is ColumnType.HUGEINT or vector.type is ColumnType.BOOL:
        return vector
    if vector.type.is_float:
        return Vector(vector.values.astype(np.float64, copy=False), vector.validity, ColumnType.FLOAT64)
    return Vector(vector.values.astype(np.int64, copy=False), vector.validity, ColumnType.INT64)


def _constant(node: Constant, columns: Sequence[Vector], rows: int) -> Vector:  # noqa: ARG001
    column_type = _CONSTANT_TYPES[node.kind]
    if node.value is None:
        return Vector(np.zeros(rows, column_type.dtype), np.zeros(rows, np.bool_), column_type)
    return Vector(np.full(rows, node.value, column_type.dtype), None, column_type)


def _to_float(node: ToFloat, columns: Sequence[Vector], rows: int) -> Vector:
    vector = evaluate(node.argument, columns, rows)
    if vector.values.dtype == object:
        values = np.fromiter((float(v) for v in vector.values), np.float64, rows)
    else:
        values = vector.values.astype(np.float64)
    return Vector(values, vector.validity, ColumnType.FLOAT64)


def _arithmetic(node: Arithmetic, columns: Sequence[Vector], rows: int) -> Vector:
    left, right = evaluate(node.left, columns, rows), evaluate(node.right, columns, rows)
    validity = _both(left.validity, right.validity)
    if node.kind is Kind.FLOAT:
        with np.errstate(all="ignore"):
            values = _FLOAT_OPERATIONS[node.op](left.values, right.values)
        return Vector(values, validity, ColumnType.FLOAT64)
    is_huge = ColumnType.HUGEINT in (left.type, right.type)
    result_type = ColumnType.HUGEINT if is_huge else ColumnType.INT64
    if node.op in ("//", "%"):
        nonzero = np.asarray(right.values != 0, dtype=np.bool_)
        values = _divide_integers(node.op, left.values, np.where(nonzero, right.values, 1))
        return Vector(values, _both(validity, None if nonzero.all() else nonzero), result_type)
    values = _integer_operation(node.op, left.values, right.values)
    if values.dtype == object:
        values = _checked(values, validity, is_huge=is_huge)
    return Vector(values, validity, result_type)


def _integer_operation(op: str, left: Values, right: Values) -> Values:
    """The exact result: int64 where nothing can overflow, else Python ints."""
    compute = _INTEGER_OPERATIONS[op]
    if not _has_objects(left, right):
        a, b = _magnitude(left), _magnitude(right)
        if (a * b if op == "*" else a + b) < _SAFE_MAGNITUDE:
            return compute(left, right)
    return compute(left.astype(object), right.astype(object))


def _has_objects(left: Values, right: Values) -> bool:
    return bool(left.dtype == object) or bool(right.dtype == object)


def _magnitude(values: Values) -> float:
    if not len(values):
        return 0.0
    return max(abs(float(values.max())), abs(float(values.min())))


def _checked(values: Values, validity: BoolArray | None, *, is_huge: bool) -> Values:
    """Python ints as int64 if they fit; raises ArithmeticOverflowError when a valid one leaves its type."""
    if validity is not None:
        values = np.where(validity, values, 0)
    if all(INT64_MIN <= v <= INT64_MAX for v in values):
        return values.astype(np.int64)
    if not is_huge or any(abs(v) > HUGEINT_MAX for v in values):
        raise ArithmeticOverflowError("An integer result does not fit its type.")
    return values


def _divide_integers(op: str, left: Values, right: Values) -> Values:
    """Truncating // and % by divisors other than 0."""
    if not _has_objects(left, right) and bool(((left == INT64_MIN) & (right == -1)).any()):
        raise ArithmeticOverflowError("An integer result does not fit its type.")
    if _has_objects(left, right):
        quotient = np.empty(len(left), dtype=object)
        for i, (a, b) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
            quotient[i] = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    else:
        floored = np.floor_divide(left, right)
        quotient = floored + ((floored < 0) & (floored * right != left))
    return quotient if op == "//" else left - quotient * right


def _bucket(node: Bucket, columns: Sequence[Vector], rows: int) -> Vector:
    vector = evaluate(node.argument, columns, rows)
    shifted = vector.values.astype(np.int64) - node.origin
    return Vector(shifted - np.mod(shifted, node.width) + node.origin, vector.validity, ColumnType.INT64)


def _comparison(node: Comparison, columns: Sequence[Vector], rows: int) -> Vector:
    left, right = evaluate(node.left, columns, rows), evaluate(node.right, columns, rows)
    return Vector(_compare(node.op, left.values, right.values), _both(left.validity, right.validity), ColumnType.BOOL)


def _compare(op: str, left: Values, right: Values) -> BoolArray:
    """Element by element; NaN equals NaN and is greater than every number."""
    if op in (">", ">="):
        op, left, right = {">": "<", ">=": "<="}[op], right, left
    if op == "<":
        return _less(left, right)
    equal = np.asarray(left == right, dtype=np.bool_)
    if left.dtype == np.float64:
        equal |= np.isnan(left) & np.isnan(right)
    if op == "<=":
        return equal | _less(left, right)
    return equal if op == "=" else ~equal


def _less(left: Values, right: Values) -> BoolArray:
    less = np.asarray(left < right, dtype=np.bool_)
    if left.dtype == np.float64:
        less |= ~np.isnan(left) & np.isnan(right)
    return less


def _in_list(node: InList, columns: Sequence[Vector], rows: int) -> Vector:
    vector = evaluate(node.argument, columns, rows)
    found = np.zeros(rows, np.bool_)
    for value in node.values:
        found |= _compare("=", vector.values, np.full(rows, value, vector.values.dtype))
    return Vector(found, vector.validity, ColumnType.BOOL)


def _logical(node: Logical, columns: Sequence[Vector], rows: int) -> Vector:
    """Kleene: false AND NULL is false, true OR NULL is true."""
    left, right = evaluate(node.left, columns, rows), evaluate(node.right, columns, rows)
    deciding = node.op == "or"
    decided = _known(left, deciding) | _known(right, deciding)
    validity = _both(left.validity, right.validity)
    values = decided if deciding else ~decided
    return Vector(values, None if validity is None else validity | decided, ColumnType.BOOL)


def _known(vector: Vector, value: bool) -> BoolArray:  # noqa: FBT001
    is_value = np.asarray(vector.values == value, dtype=np.bool_)
    return is_value if vector.validity is None else is_value & vector.validity


def _not(node: Not, columns: Sequence[Vector], rows: int) -> Vector:
    vector = evaluate(node.argument, columns, rows)
    return Vector(~np.asarray(vector.values, dtype=np.bool_), vector.validity, ColumnType.BOOL)


def _is_null(node: IsNull, columns: Sequence[Vector], rows: int) -> Vector:
    validity = evaluate(node.argument, columns, rows).validity
    return Vector(np.zeros(rows, np.bool_) if validity is None else ~validity, None, ColumnType.BOOL)


def _both(left: BoolArray | None, right: BoolArray | None) -> BoolArray | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right


_FLOAT_OPERATIONS: dict[str, Callable[..., Values]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}
_INTEGER_OPERATIONS: dict[str, Callable[..., Values]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_EVALUATORS: dict[type, Callable[..., Vector]] = {
    ColumnRef: _column,
    Constant: _constant,
    ToFloat: _to_float,
    Arithmetic: _arithmetic,
    Bucket: _bucket,
    Comparison: _comparison,
    InList: _in_list,
    Logical: _logical,
    Not: _not,
    IsNull: _is_null,
}
