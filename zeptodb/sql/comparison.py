"""Comparisons, IN lists, AND and OR of bound operands, typed as DuckDB types them."""

from __future__ import annotations

import re
from typing import Literal, cast

from zeptodb.backends.expression import (
    ColumnRef,
    Comparison,
    ComparisonOp,
    Constant,
    Expression,
    InList,
    Kind,
    Logical,
    Not,
)
from zeptodb.sql.bound import Bound, BoundConstant, BoundExpression, Rejection, SqlType, StringCodeList, string_code
from zeptodb.sql.numeric import comparable_pair
from zeptodb.types import ColumnType

_FLIPPED: dict[ComparisonOp, ComparisonOp] = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


_NUMBER = r"\s*[+-]?\d[\d_]*(\.\d*)?([eE][+-]?\d+)?\s*"
"""What DuckDB may read as a number, and more."""

_WHOLE_NUMBERS = frozenset({SqlType.INTEGER, SqlType.BIGINT, SqlType.TIMESTAMP})
_INT64_LITERALS = frozenset({SqlType.INTEGER, SqlType.BIGINT})


def combine(word: Literal["and", "or"], left: Bound, right: Bound) -> Bound:
    """AND / OR of two booleans; constants are folded away."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, BoundConstant):
            absorbs = bool(one.value) == (word == "or")
            return one if absorbs else other
    assert isinstance(left, BoundExpression)
    assert isinstance(right, BoundExpression)
    return BoundExpression(Logical(word, left.expression, right.expression), SqlType.BOOLEAN)


def compare(op: ComparisonOp, left: Bound, right: Bound) -> Bound | Rejection:
    """`left op right` as a boolean; a constant comes to stand on the right."""
    if isinstance(left, BoundConstant):
        if isinstance(right, BoundConstant):
            return _compare_constants(op, left, right)
        return compare(_FLIPPED[op], right, left)
    if left.type in _WHOLE_NUMBERS and isinstance(right, BoundConstant) and right.type in _INT64_LITERALS:
        whole = Comparison(op, left.expression, Constant(cast(int, right.value), Kind.INT))  # what most statements have
        return BoundExpression(whole, SqlType.BOOLEAN)
    if _is_unsettled_symbol(left) and isinstance(right, BoundConstant) and isinstance(right.value, str):
        return BoundConstant(False, SqlType.BOOLEAN)  # noqa: FBT003
    if SqlType.VARCHAR in (left.type, right.type) and left.type is not SqlType.TIMESTAMP:
        return _compare_strings(op, left, right)
    if left.type is SqlType.BOOLEAN:
        if isinstance(right, BoundConstant) and right.type is SqlType.BOOLEAN and op in ("=", "!="):
            is_plain = bool(right.value) == (op == "=")
            return left if is_plain else BoundExpression(Not(left.expression), SqlType.BOOLEAN)
        return Rejection("this comparison of booleans has no native form")
    pair = comparable_pair(op, left, right)
    if isinstance(pair, Rejection):
        return pair
    return BoundExpression(Comparison(*pair), SqlType.BOOLEAN)


def _is_unsettled_symbol(bound: BoundExpression) -> bool:
    """Whether it is the symbol column of a table without rows: no data has said yet whether symbols are strings."""
    return isinstance(bound.expression, ColumnRef) and bound.expression.type is ColumnType.SYMBOL


def _compare_constants(op: ComparisonOp, left: BoundConstant, right: BoundConstant) -> Bound | Rejection:
    if not (left.type in (SqlType.INTEGER, SqlType.BIGINT) and right.type in (SqlType.INTEGER, SqlType.BIGINT)):
        return Rejection("this comparison of constants has no native form")
    a, b = cast(int, left.value), cast(int, right.value)
    outcome = {"=": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]
    return BoundConstant(outcome, SqlType.BOOLEAN)


def _compare_strings(op: ComparisonOp, left: BoundExpression, right: Bound) -> Bound | Rejection:
    if left.type is not SqlType.VARCHAR or left.dictionary is None:
        return _string_beside(left, right)
    if not isinstance(right, BoundConstant) or not isinstance(right.value, str) or op not in ("=", "!="):
        return Rejection("strings are native in = != and IN with constants only")
    code = string_code(right.value, left.dictionary)
    return BoundExpression(Comparison(op, left.expression, code), SqlType.BOOLEAN)


def _string_beside(other: BoundExpression, text: Bound) -> Rejection:
    """Why a string is not compared natively with something else; an error when it cannot be at all."""
    value = text.value if isinstance(text, BoundConstant) else None
    if other.type.is_integer and isinstance(value, str) and not re.fullmatch(_NUMBER, value):
        return Rejection(f"'{value}' is no number and is compared with integers.", is_error=True)
    return Rejection("a string is compared with something else")


def in_list(argument: BoundExpression, items: list[BoundConstant]) -> Bound | Rejection:
    """`argument IN (items)`."""
    if _is_unsettled_symbol(argument) and all(isinstance(item.value, str) for item in items):
        return BoundConstant(False, SqlType.BOOLEAN)  # noqa: FBT003
    if argument.type is SqlType.VARCHAR and argument.dictionary is not None:
        texts = tuple(i.value for i in items if isinstance(i.value, str))
        if len(texts) < len(items):
            return Rejection("a string is compared with something else")
        return BoundExpression(StringCodeList(argument.expression, (), texts, argument.dictionary), SqlType.BOOLEAN)
    if argument.type is SqlType.BOOLEAN:
        return Rejection("IN over booleans has no native form")
    if any(i.type.is_float for i in items) and not all(i.type.is_float for i in items) and argument.type.is_integer:
        return Rejection("IN with items of different types has no native form")
    pairs = []
    for item in items:
        if isinstance(item.value, str):
            return _string_beside(argument, item)
        pair = comparable_pair("=", argument, item)
        if isinstance(pair, Rejection):
            return pair
        pairs.append(pair)
    left: Expression = pairs[0][1]
    values = tuple(cast(Constant, pair[2]).value for pair in pairs)
    return BoundExpression(InList(left, cast("tuple[int, ...]", values)), SqlType.BOOLEAN)
