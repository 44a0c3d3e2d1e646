"""Values of parameters as literals in the syntax tree, so that the native planner sees them."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from decimal import Decimal

import numpy as np
from sqlglot import exp

from zeptodb.sql.parameters import Parameters
from zeptodb.sql.temporal import moment_ns


def named_values(params: Parameters) -> dict[str, object]:
    """The values by name; those of a sequence are called "1", "2", ...

    >>> named_values([7, "x"])
    {'1': 7, '2': 'x'}
    """
    if params is None:
        return {}
    if isinstance(params, Mapping):
        return dict(params)
    return {str(number): value for number, value in enumerate(params, start=1)}


def with_literals(statement: exp.Expr, values: Mapping[str, object]) -> exp.Expr:
    """The statement with each parameter replaced by a literal (its name stays in the literal's meta "parameter").

    Itself when it has no parameter. One whose value has no literal form here stays as it is.
    """
    if next(statement.find_all(exp.Placeholder), None) is None:
        return statement
    copy = statement.copy()
    for node in list(copy.find_all(exp.Placeholder)):
        if node.name in values:
            _replace(node, values[node.name])
    return copy


def _replace(node: exp.Placeholder, value: object) -> None:
    items = _items(value)
    if items is None:
        literal = _literal(value)
        if literal is not None:
            literal.meta["parameter"] = node.name
            node.replace(literal)
        return
    parent = node.parent
    literals = [_literal(item) for item in items]
    if isinstance(parent, exp.In) and None not in literals and parent.args.get("field") is node:
        parent.set("field", None)
        parent.set("expressions", literals)


def _items(value: object) -> list[object] | None:
    if isinstance(value, np.ndarray):
        return list(value.tolist()) if value.ndim == 1 and value.dtype.kind in "iufbU" else None
    return list(value) if isinstance(value, (list, tuple)) else None


def _literal(value: object) -> exp.Expr | None:
    """A literal that has the value's type: floats are DOUBLE, and so are written with an exponent."""
    if isinstance(value, (bool, np.bool_)):
        return exp.Boolean(this=bool(value))
    if value is None:
        return exp.Null()
    if isinstance(value, str):
        return exp.Literal.string(value)
    if isinstance(value, (int, np.integer)):
        return _signed(str(abs(int(value))), is_negative=int(value) < 0)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not math.isfinite(number):
            return None
        text = repr(abs(number))
        return _signed(text if "e" in text else f"{text}e0", is_negative=math.copysign(1.0, number) < 0)
    if isinstance(value, Decimal) and value.is_finite():
        return _signed(f"{abs(value):f}", is_negative=value < 0)
    return _moment(value)


def _moment(value: object) -> exp.Expr | None:
    ns = moment_ns(value) if isinstance(value, (dt.date, np.datetime64)) else None
    if ns is None:
        return None
    text = str(np.datetime64(ns, "ns")).replace("T", " ")
    return exp.Cast(this=exp.Literal.string(text), to=exp.DataType.build("TIMESTAMP_NS", dialect="duckdb"))


def _signed(digits: str, *, is_negative: bool) -> exp.Expr:
    literal = exp.Literal.number(digits)
    return exp.Neg(this=literal) if is_negative else literal
