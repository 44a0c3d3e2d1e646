"""Binds SQL expressions: names to columns, literals to constants, types as DuckDB assigns them.

A binder never guesses. What it cannot express with exactly DuckDB's answer it rejects: it notes the reason with its
place, returns None, and goes on, so that one pass collects every reason.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Literal, cast

from sqlglot import exp

from zeptodb.backends.expression import (
    Arithmetic,
    ArithmeticOp,
    Bucket,
    ComparisonOp,
    Constant,
    IsNull,
    Kind,
    Not,
)
from zeptodb.record import record
from zeptodb.sql import constants
from zeptodb.sql.bound import ALREADY_NOTED, Bound, BoundConstant, BoundExpression, Rejection, SqlType
from zeptodb.sql.comparison import combine, compare, in_list
from zeptodb.sql.numeric import arithmetic, fold_constants
from zeptodb.sql.plan import Reason
from zeptodb.sql.source_text import position_of
from zeptodb.types import INT64_MAX

ColumnResolver = Callable[[exp.Column], "Bound | Rejection"]
Replacement = Callable[[exp.Expr], "Bound | Rejection | None"]

ARITHMETIC: dict[type[exp.Expr], ArithmeticOp] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.IntDiv: "//",
    exp.Mod: "%",
}
COMPARISONS: dict[type[exp.Expr], ComparisonOp] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_TIMESTAMP_CASTS = frozenset(
    {exp.DType.TIMESTAMP, exp.DType.TIMESTAMPNTZ, exp.DType.TIMESTAMP_NS, exp.DType.DATE, exp.DType.TIMESTAMP_MS}
)
MAX_CONDITIONS = 200
"""Longer chains of AND or OR, whose expressions are as deep, are left to DuckDB."""

_SIDE_ARGUMENTS: dict[type[exp.Expr], set[str]] = {
    exp.Column: {"this", "table"},
    exp.In: {"this", "expressions"},
    exp.Between: {"this", "low", "high"},
    exp.Interval: {"this", "unit"},
    exp.Cast: {"this", "to"},
    exp.TimestampTrunc: {"this", "unit"},
    exp.DateTrunc: {"this", "unit"},
    exp.Anonymous: {"this", "expressions"},
    exp.Div: {"this", "expression"},
}
"""Arguments of a node that the binder reads; any other one that is set is a reason."""


@record(frozen=False)
class Binder:
    """Binds expressions whose columns `resolve` knows.

    Attributes:
        resolve: what a column reference stands for.
        replace: tried on every node before it is taken apart; None means "not mine". Group keys, aggregates and
            aliases of a grouped statement come in here.
        reasons: grows with everything that could not be bound.
        now_ns: what now() means.
        is_volatile: set when a value such as now() was folded, so that the plan must not be kept.
        is_in_backend: the backend evaluates the expressions, and not `evaluate`; its x / 0 is NULL, DuckDB's is not.
    """

    resolve: ColumnResolver
    reasons: list[Reason]
    now_ns: int
    replace: Replacement | None = None
    is_volatile: bool = False
    is_in_backend: bool = True

    def reject(self, message: str, node: exp.Expr | None) -> None:
        """Note a reason at the place of `node`."""
        self.reasons.append(Reason(message, position_of(node)))

    def bind(self, node: exp.Expr) -> Bound | None:
        """`node` as a constant or a typed expression; None after a rejection."""
        if self.replace is not None:
            replaced = self.replace(node)
            if replaced is not None:
                return self._accept(replaced, node)
        if type(node) in _SIDE_ARGUMENTS and not self._has_only_known_arguments(node):
            return None
        if type(node) in ARITHMETIC:
            return self._arithmetic(node)
        if type(node) in COMPARISONS:
            return self._comparison(node)
        handler = HANDLERS.get(type(node))
        if handler is None:
            self.reject(f"{_describe(node)} has no native form", node)
            return None
        return handler(self, node)

    def bind_boolean(self, node: exp.Expr) -> BoundConstant | BoundExpression | None:
        """A condition; rejects everything that is not BOOLEAN."""
        bound = self.bind(node)
        if bound is not None and bound.type is not SqlType.BOOLEAN:
            self.reject(f"a {bound.type.value} is used as a condition", node)
            return None
        return bound

    def _accept(self, outcome: Bound | Rejection, node: exp.Expr) -> Bound | None:
        if isinstance(outcome, Rejection):
            if outcome is not ALREADY_NOTED:
                self.reasons.append(Reason(outcome.message, position_of(node), outcome.is_error))
            return None
        return outcome

    def _has_only_known_arguments(self, node: exp.Expr) -> bool:
        known = _SIDE_ARGUMENTS[type(node)]
        extra = [key for key, value in node.args.items() if value and key not in known]
        for key in extra:
            self.reject(f"{_describe(node)} with {key} has no native form", node)
        return not extra

    def _column(self, node: exp.Expr) -> Bound | None:
        return self._accept(self.resolve(cast(exp.Column, node)), node)

    def _paren(self, node: exp.Expr) -> Bound | None:
        return self.bind(node.this)

    def _literal(self, node: exp.Expr) -> Bound | None:
        if node.args.get("is_string"):
            return BoundConstant(node.name, SqlType.VARCHAR)
        value = constants.number(node.name)
        if value is None:
            self.reject(f"the number {node.name} has no native form", node)
        return value

    def _boolean(self, node: exp.Expr) -> Bound:
        return BoundConstant(bool(node.this), SqlType.BOOLEAN)

    def _negation(self, node: exp.Expr) -> Bound | None:
        bound = self.bind(node.this)
        if bound is None:
            return None
        if isinstance(bound, BoundConstant):
            if bound.type.is_numeric and isinstance(bound.value, int):
                negated = constants.integer(-bound.value)
                if negated is not None:
                    return negated
            elif isinstance(bound.value, (float, Decimal)):
                return BoundConstant(-bound.value, bound.type)
            self.reject("this negation has no native form", node)
            return None
        if bound.type is SqlType.DOUBLE:
            # 0.0 - x would turn -0.0 into 0.0; -1.0 * x keeps every bit but the sign.
            return BoundExpression(Arithmetic("*", Constant(-1.0, Kind.FLOAT), bound.expression), SqlType.DOUBLE)
        return self._accept(arithmetic("-", BoundConstant(0, SqlType.INTEGER), bound), node)

    def _arithmetic(self, node: exp.Expr) -> Bound | None:
        left, right = self.bind(node.this), self.bind(node.expression)
        if left is None or right is None:
            return None
        op = ARITHMETIC[type(node)]
        if isinstance(left, BoundConstant) and isinstance(right, BoundConstant):
            return self._accept(fold_constants(op, left, right), node)
        is_safe = isinstance(right, BoundConstant) and right.value != 0
        if op in ("/", "//", "%") and self.is_in_backend and not is_safe:
            self.reject(f"{op} by what may be 0 has no native form", node)
            return None
        return self._accept(arithmetic(op, left, right), node)

    def _comparison(self, node: exp.Expr) -> Bound | None:
        left, right = self.bind(node.this), self.bind(node.expression)
        if left is None or right is None:
            return None
        return self._accept(compare(COMPARISONS[type(node)], left, right), node)

    def _between(self, node: exp.Expr) -> Bound | None:
        value, low, high = (self.bind(node.args[part]) for part in ("this", "low", "high"))
        if value is None or low is None or high is None:
            return None
        return self._accept(between(value, low, high), node)

    def _in(self, node: exp.Expr) -> Bound | None:
        argument = self.bind(node.this)
        values = [self.bind(e) for e in node.expressions]
        if argument is None or None in values:
            return None
        if isinstance(argument, BoundConstant) or not values:
            self.reject("IN over a constant or a subquery has no native form", node)
            return None
        items = [v for v in values if isinstance(v, BoundConstant)]
        if len(items) < len(values):
            self.reject("IN with items that are not constants has no native form", node)
            return None
        return self._accept(in_list(argument, items), node)

    def _is(self, node: exp.Expr) -> Bound | None:
        bound = self.bind(node.this)
        if bound is None:
            return None
        if not isinstance(node.expression, exp.Null) or isinstance(bound, BoundConstant):
            self.reject("IS is native with NULL only", node)
            return None
        return BoundExpression(IsNull(bound.expression), SqlType.BOOLEAN)

    def _not(self, node: exp.Expr) -> Bound | None:
        bound = self.bind_boolean(node.this)
        if isinstance(bound, BoundConstant):
            return BoundConstant(not bound.value, SqlType.BOOLEAN)
        return None if bound is None else BoundExpression(Not(bound.expression), SqlType.BOOLEAN)

    def _logical(self, node: exp.Expr) -> Bound | None:
        """A chain of AND or of OR; chains lean to the left and may be long, so no recursion along them."""
        word: Literal["and", "or"] = "and" if isinstance(node, exp.And) else "or"
        operands, left = [], node
        while type(left) is type(node):
            operands.append(left.expression)
            left = left.this
        operands.append(left)
        if len(operands) > MAX_CONDITIONS:
            self.reject(f"more than {MAX_CONDITIONS} conditions in a row have no native form", node)
            return None
        bound = [self.bind_boolean(o) for o in reversed(operands)]
        result: Bound | None = bound[0]
        for operand in bound[1:]:
            result = None if result is None or operand is None else combine(word, result, operand)
        return result

    def _cast(self, node: exp.Expr) -> Bound | None:
        source = node.this
        if not is_timestamp_cast(node):
            self.reject("CAST has no native form", node)
            return None
        value = constants.timestamp_ns(source.name)
        if value is None:
            self.reject(f"'{source.name}' is no ISO date or time", source)
            return None
        return BoundConstant(value, SqlType.TIMESTAMP)

    def _interval(self, node: exp.Expr) -> Bound | None:
        source, unit = node.this, node.args.get("unit")
        value = (
            constants.interval_ns(source.name, unit.name if unit else "") if isinstance(source, exp.Literal) else None
        )
        if value is None:
            self.reject("an INTERVAL of other than fixed units has no native form", node)
            return None
        return BoundConstant(value, SqlType.INTERVAL)

    def _now(self, node: exp.Expr) -> Bound:  # noqa: ARG002
        self.is_volatile = True
        return BoundConstant(self.now_ns, SqlType.TIMESTAMP)

    def _date_trunc(self, node: exp.Expr) -> Bound | None:
        unit = node.args["unit"].name.lower()
        bound = self.bind(node.this)
        if bound is None:
            return None
        width = constants.unit_ns(unit)
        if width is None or not isinstance(bound, BoundExpression) or bound.type is not SqlType.TIMESTAMP:
            self.reject(f"date_trunc('{unit}', ...) has no native form here", node)
            return None
        origin = constants.MONDAY_ORIGIN_NS if width == constants.UNIT_NS["week"] else 0
        return BoundExpression(Bucket(bound.expression, width, origin), SqlType.TIMESTAMP)

    def _function(self, node: exp.Expr) -> Bound | None:
        name, arguments = node.name.lower(), node.expressions
        if name == "now" and not arguments:
            return self._now(node)
        if name != "xbar" or len(arguments) != 2:
            self.reject(f"function {name} has no native form here", node)
            return None
        bound, width = self.bind(arguments[0]), self.bind(arguments[1])
        if bound is None or width is None:
            return None
        if not isinstance(width, BoundConstant) or not isinstance(width.value, int) or width.value <= 0:
            self.reject("xbar wants a positive constant width", arguments[1])
            return None
        if not isinstance(bound, BoundExpression) or bound.type not in (SqlType.TIMESTAMP, SqlType.BIGINT):
            self.reject("xbar is native over BIGINT and TIMESTAMP_NS columns only", arguments[0])
            return None
        if width.value > INT64_MAX or (width.type is SqlType.INTERVAL and bound.type is not SqlType.TIMESTAMP):
            self.reject("xbar of this width has no native form", arguments[1])
            return None
        return BoundExpression(Bucket(bound.expression, width.value), bound.type)


def between(value: Bound, low: Bound, high: Bound) -> Bound | Rejection:
    """`value BETWEEN low AND high` as a boolean."""
    if len({t for t in (value.type, low.type, high.type) if t.is_float}) > 1 or (
        value.type.is_integer and low.type.is_float != high.type.is_float
    ):
        return Rejection("BETWEEN with bounds of different types has no native form")
    lower, upper = compare(">=", value, low), compare("<=", value, high)
    if isinstance(lower, Rejection):
        return lower
    return upper if isinstance(upper, Rejection) else combine("and", lower, upper)


def is_timestamp_cast(node: exp.Expr) -> bool:
    """Whether a CAST spells out a moment: that of a string to a timestamp or a date."""
    source = node.this
    is_string = isinstance(source, exp.Literal) and bool(source.args.get("is_string"))
    return is_string and node.args["to"].this in _TIMESTAMP_CASTS


def _describe(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return f"function {node.name.lower()}"
    if isinstance(node, exp.Func):
        return f"function {node.sql_name().lower()}"
    return type(node).__name__.upper()


HANDLERS: dict[type[exp.Expr], Callable[[Binder, exp.Expr], Bound | None]] = {
    exp.Column: Binder._column,
    exp.Paren: Binder._paren,
    exp.Literal: Binder._literal,
    exp.Boolean: Binder._boolean,
    exp.Neg: Binder._negation,
    exp.And: Binder._logical,
    exp.Or: Binder._logical,
    exp.Not: Binder._not,
    exp.Is: Binder._is,
    exp.In: Binder._in,
    exp.Between: Binder._between,
    exp.Cast: Binder._cast,
    exp.Interval: Binder._interval,
    exp.CurrentTimestamp: Binder._now,
    exp.TimestampTrunc: Binder._date_trunc,
    exp.DateTrunc: Binder._date_trunc,
    exp.Anonymous: Binder._function,
}
