"""Puts the codes of strings into an expression, when the data that hands codes out is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zeptodb.backends.expression import (
    Arithmetic,
    Comparison,
    Constant,
    Expression,
    InList,
    IsNull,
    Kind,
    Logical,
    Not,
)
from zeptodb.sql.bound import StringCode, StringCodeList
from zeptodb.storage.dictionary import Dictionary

NO_CODE = -2
"""Stands for a string that no row ever had; no row has this code (-1 is NULL's)."""


def with_codes(expression: Expression, dictionaries: Sequence[Dictionary | None]) -> Expression:
    """`expression` with each string constant replaced by its code in the dictionary of its column."""
    if isinstance(expression, StringCode):
        return Constant(_code(expression.text, dictionaries[expression.column]), Kind.INT)
    if isinstance(expression, StringCodeList):
        codes = tuple(_code(text, dictionaries[expression.column]) for text in expression.texts)
        return InList(expression.argument, codes)
    if isinstance(expression, (Comparison, Logical, Arithmetic)):
        left, right = with_codes(expression.left, dictionaries), with_codes(expression.right, dictionaries)
        if left is expression.left and right is expression.right:
            return expression
        return replace(expression, left=left, right=right)
    if isinstance(expression, (Not, IsNull)):
        argument = with_codes(expression.argument, dictionaries)
        return expression if argument is expression.argument else replace(expression, argument=argument)
    return expression


def _code(text: str, dictionary: Dictionary | None) -> int:
    code = None if dictionary is None else dictionary.find(text)
    return NO_CODE if code is None else code
