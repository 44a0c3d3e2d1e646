"""Native plans whose WHERE literals can be exchanged: a repeated statement with other values needs no parser.

Only literals that stand beside a column's expression in WHERE are exchangeable (comparisons, BETWEEN, IN): they decide
which rows are read, and never a name or a type of the answer. The condition is built anew from the same bound columns
by the same functions that the binder uses, so that types, ranges and rejections come out as if planned from the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from sqlglot import exp

from zeptodb.backends.expression import Expression, Not
from zeptodb.sql import constants
from zeptodb.sql.binder import COMPARISONS, Binder, between, is_timestamp_cast
from zeptodb.sql.bound import Bound, BoundConstant, BoundExpression, Rejection, SqlType
from zeptodb.sql.comparison import combine, compare, in_list
from zeptodb.sql.plan import Plan, TableScan
from zeptodb.sql.predicates import scan_where
from zeptodb.types import Schema

Place = int | str
"""Which literal: its offset in the text that the template was made from, or the name of its parameter."""

Values = Mapping[Place, object]
"""Per place the literal as written (str), or the parameter's value."""

Recipe = Callable[[Values], Bound | None]
"""Builds an expression from literals; None when it has no native form with these."""


class Template(NamedTuple):
    """A plan without its scan.

    Attributes:
        places: of the literals that can be exchanged.
        conditions: the operands of the outermost ANDs of WHERE.
        table, schema: what is scanned.
        complete: the plan over a scan.
    """

    places: frozenset[Place]
    conditions: tuple[Recipe, ...]
    table: str
    schema: Schema
    complete: Callable[[TableScan], Plan]

    def plan(self, values: Values) -> Plan | None:
        """The plan with these literals; None when the statement has to be planned from its text."""
        expressions: list[Expression] = []
        is_empty = False
        for condition in self.conditions:
            bound = condition(values)
            if bound is None or bound.type is not SqlType.BOOLEAN:
                return None
            if isinstance(bound, BoundExpression):
                expressions.append(bound.expression)
            elif not bound.value:
                is_empty = True
        if is_empty:
            return self.complete(TableScan(self.table, self.schema, is_empty=True))
        return self.complete(scan_where(self.table, self.schema, expressions))


class Recipes:
    """Makes recipes of conditions that a binder has bound already; collects the places of their literals."""

    def __init__(self, binder: Binder) -> None:
        self._binder = binder
        self.places: set[Place] = set()

    def conditions(self, node: exp.Expr) -> tuple[Recipe, ...]:
        """The recipes of the operands of the outermost ANDs of a condition."""
        pending, found = [node], []
        while pending:
            operand = pending.pop()
            if isinstance(operand, exp.Paren):
                pending.append(operand.this)
            elif isinstance(operand, exp.And):
                pending += [operand.expression, operand.this]
            else:
                found.append(self._condition(operand))
        return tuple(found)

    def _condition(self, node: exp.Expr) -> Recipe:
        before, self.places = self.places, set()
        recipe = self.recipe(node)
        places, self.places = tuple(self.places), before | self.places
        return _remembered(recipe, places) if all(isinstance(place, int) for place in places) else recipe

    def recipe(self, node: exp.Expr) -> Recipe:
        """The recipe of a condition."""
        if isinstance(node, exp.Paren):
            return self.recipe(node.this)
        if isinstance(node, (exp.And, exp.Or)):
            return self._chain(node)
        if isinstance(node, exp.Not):
            return _negated(self.recipe(node.this))
        if type(node) in COMPARISONS:
            return self._comparison(node)
        if isinstance(node, exp.Between):
            value, low, high = (self._operand(node.args[part]) for part in ("this", "low", "high"))
            return _between(value, low, high)
        if isinstance(node, exp.In) and node.expressions:
            return _in(self._operand(node.this), [self._operand(e) for e in node.expressions])
        return self._fixed(node)

    def _chain(self, node: exp.Expr) -> Recipe:
        word: Literal["and", "or"] = "and" if isinstance(node, exp.And) else "or"
        operands, left = [], node
        while type(left) is type(node):
            operands.append(left.expression)
            left = left.this
        operands.append(left)
        parts = [self.recipe(operand) for operand in reversed(operands)]

        def build(values: Values) -> Bound | None:
            bound = [part(values) for part in parts]
            result = bound[0]
            for other in bound[1:]:
                result = None if result is None or other is None else combine(word, result, other)
            return result

        return build

    def _comparison(self, node: exp.Expr) -> Recipe:
        op, left, right = COMPARISONS[type(node)], self._operand(node.this), self._operand(node.expression)

        def build(values: Values) -> Bound | None:
            a, b = left(values), right(values)
            return None if a is None or b is None else _accepted(compare(op, a, b))

        return build

    def _operand(self, node: exp.Expr) -> Recipe:
        """A literal that can be exchanged, or an expression as the binder bound it."""
        inner, is_negated = node, False
        while isinstance(inner, exp.Paren):
            inner = inner.this
        place: Place | None = inner.meta_get("parameter")
        if place is None and isinstance(inner, exp.Neg) and isinstance(inner.this, exp.Literal):
            inner, is_negated = inner.this, True
        is_moment = isinstance(inner, exp.Cast) and is_timestamp_cast(inner)
        literal = inner.this if is_moment else inner
        if place is None and isinstance(literal, exp.Literal):
            place = literal.meta_get("start")
        if place is None or (is_moment and is_negated):
            return self._fixed(node)
        self.places.add(place)
        if isinstance(place, str):
            return _literal(place, _of_parameter, is_negated=is_negated)
        return _moment(place) if is_moment else _literal(place, _of_text, is_negated=is_negated)

    def _fixed(self, node: exp.Expr) -> Recipe:
        bound = Binder(
            self._binder.resolve,
            [],
            self._binder.now_ns,
            replace=self._binder.replace,
            is_in_backend=self._binder.is_in_backend,
        ).bind(node)
        return lambda _: bound


def _accepted(outcome: Bound | Rejection) -> Bound | None:
    return None if isinstance(outcome, Rejection) else outcome


def _negated(recipe: Recipe) -> Recipe:
    def build(values: Values) -> Bound | None:
        bound = recipe(values)
        if bound is None or bound.type is not SqlType.BOOLEAN:
            return None
        if isinstance(bound, BoundConstant):
            return BoundConstant(not bound.value, SqlType.BOOLEAN)
        return BoundExpression(Not(bound.expression), SqlType.BOOLEAN)

    return build


def _between(value: Recipe, low: Recipe, high: Recipe) -> Recipe:
    def build(values: Values) -> Bound | None:
        a, b, c = value(values), low(values), high(values)
        return None if a is None or b is None or c is None else _accepted(between(a, b, c))

    return build


def _in(argument: Recipe, items: list[Recipe]) -> Recipe:
    def build(values: Values) -> Bound | None:
        left = argument(values)
        bound = [item(values) for item in items]
        found = [item for item in bound if isinstance(item, BoundConstant)]
        if not isinstance(left, BoundExpression) or len(found) < len(items):
            return None
        return _accepted(in_list(left, found))

    return build


def _remembered(recipe: Recipe, places: tuple[Place, ...]) -> Recipe:
    """The recipe with its last outcome: of the literals of a statement some tend to stay as they are."""
    last: tuple[list[object], Bound | None] | None = None

    def build(values: Values) -> Bound | None:
        nonlocal last
        given, known = [values[place] for place in places], last
        if known is not None and known[0] == given:
            return known[1]
        bound = recipe(values)
        last = given, bound
        return bound

    return build


def _literal(place: Place, read: Callable[[Any], BoundConstant | None], *, is_negated: bool) -> Recipe:
    def build(values: Values) -> Bound | None:
        bound = read(values[place])
        return _minus(bound) if is_negated else bound

    return build


def _moment(place: Place) -> Recipe:
    def build(values: Values) -> Bound | None:
        text = _of_text(str(values[place]))
        ns = constants.timestamp_ns(str(text.value)) if text is not None and text.type is SqlType.VARCHAR else None
        return None if ns is None else BoundConstant(ns, SqlType.TIMESTAMP)

    return build


def _of_text(text: str) -> BoundConstant | None:
    if text.startswith("'"):
        return BoundConstant(text[1:-1].replace("''", "'"), SqlType.VARCHAR)
    return constants.number(text)


def _of_parameter(value: object) -> BoundConstant | None:
    """The constant that the literal of a parameter's value is bound to; None for types that are left to the binder."""
    if isinstance(value, str):
        return BoundConstant(value, SqlType.VARCHAR)
    if isinstance(value, (bool, np.bool_)):
        return BoundConstant(bool(value), SqlType.BOOLEAN)
    if isinstance(value, (int, np.integer)):
        return constants.integer(int(value))
    if isinstance(value, (float, np.floating)) and np.isfinite(value):
        return BoundConstant(float(value), SqlType.DOUBLE)
    return None


def _minus(bound: BoundConstant | None) -> BoundConstant | None:
    if bound is None or isinstance(bound.value, (str, bool)):
        return None
    if isinstance(bound.value, int):
        return constants.integer(-bound.value)
    return BoundConstant(-bound.value, bound.type)
