"""Aggregate functions of SQL as aggregates of the backend, with the types that DuckDB gives them."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.backends.base import Aggregate, AggregateOp
from zeptodb.backends.expression import Expression
from zeptodb.sql.binder import Binder
from zeptodb.sql.bound import BoundConstant, BoundExpression, SqlType
from zeptodb.sql.select_statement import SelectStatement

OPERATIONS: dict[type[exp.Expr], AggregateOp] = {
    exp.Sum: AggregateOp.SUM,
    exp.Avg: AggregateOp.AVG,
    exp.Min: AggregateOp.MIN,
    exp.Max: AggregateOp.MAX,
    exp.First: AggregateOp.FIRST,
    exp.Last: AggregateOp.LAST,
    exp.Variance: AggregateOp.VARIANCE_SAMP,
    exp.VariancePop: AggregateOp.VARIANCE_POP,
    exp.Stddev: AggregateOp.STDDEV_SAMP,
    exp.StddevSamp: AggregateOp.STDDEV_SAMP,
    exp.StddevPop: AggregateOp.STDDEV_POP,
}
_FLOAT_RESULTS = frozenset(
    {
        AggregateOp.AVG,
        AggregateOp.VARIANCE_SAMP,
        AggregateOp.VARIANCE_POP,
        AggregateOp.STDDEV_SAMP,
        AggregateOp.STDDEV_POP,
    }
)


def bind_aggregate(
    node: exp.Expr, rows: Binder, statement: SelectStatement
) -> tuple[Aggregate, SqlType, int | None] | None:
    """The backend's aggregate, its SQL type and the column whose dictionary holds its strings; None if rejected."""
    condition: Expression | None = None
    if isinstance(node, exp.Filter):
        bound = rows.bind_boolean(node.expression.this)
        if isinstance(bound, BoundConstant):
            statement.reject("FILTER with a constant has no native form", node.expression)
            return None
        called = _bind_call(node.this, rows, statement)
        if bound is None or called is None:
            return None
        condition = bound.expression
    else:
        called = _bind_call(node, rows, statement)
        if called is None:
            return None
    op, arguments, result, dictionary = called
    if op not in statement.capabilities.aggregates:
        statement.reject(f"the backend does not compute {op.value}", node)
        return None
    return Aggregate(op, arguments, condition), result, dictionary


Call = tuple[AggregateOp, tuple[Expression, ...], SqlType, int | None]


def _bind_call(node: exp.Expr, rows: Binder, statement: SelectStatement) -> Call | None:
    if isinstance(node, exp.Count):
        return _bind_count(node, rows, statement)
    if isinstance(node, exp.Anonymous) and node.name.lower() == "vwap":
        return _bind_vwap(node, rows, statement)
    is_mean = isinstance(node, exp.Anonymous) and node.name.lower() == "mean" and len(node.expressions) == 1
    op = AggregateOp.AVG if is_mean else OPERATIONS.get(type(node))
    extra = [key for key, value in node.args.items() if value and key != "this"] if not is_mean else []
    if op is None or extra:
        statement.reject(f"{_name(node)}{' with more arguments' if extra else ''} has no native form", node)
        return None
    argument = _argument(node.expressions[0] if is_mean else node.this, rows, statement)
    if argument is None:
        return None
    result = _result_type(op, argument.type)
    if result is None:
        statement.reject(f"{_name(node)} of {argument.type.value} has no native form", node)
        return None
    return op, (argument.expression,), result, argument.dictionary if result is SqlType.VARCHAR else None


def _bind_count(node: exp.Expr, rows: Binder, statement: SelectStatement) -> Call | None:
    if node.expressions:
        statement.reject("count of several values has no native form", node)
        return None
    if node.this is None or isinstance(node.this, exp.Star):
        return AggregateOp.COUNT_ROWS, (), SqlType.BIGINT, None
    if isinstance(node.this, exp.Literal):
        return AggregateOp.COUNT_ROWS, (), SqlType.BIGINT, None
    argument = _argument(node.this, rows, statement)
    return None if argument is None else (AggregateOp.COUNT, (argument.expression,), SqlType.BIGINT, None)


def _bind_vwap(node: exp.Expr, rows: Binder, statement: SelectStatement) -> Call | None:
    if len(node.expressions) != 2:
        statement.reject("vwap wants two arguments, price and volume", node, is_error=True)
        return None
    arguments = [_argument(e, rows, statement) for e in node.expressions]
    numeric = [a.expression for a in arguments if a is not None and (a.type.is_integer or a.type.is_float)]
    if len(numeric) < 2:
        if None not in arguments:
            statement.reject("vwap wants numbers", node, is_error=True)
        return None
    return AggregateOp.VWAP, tuple(numeric), SqlType.DOUBLE, None


def _argument(node: exp.Expr, rows: Binder, statement: SelectStatement) -> BoundExpression | None:
    bound = rows.bind(node)
    if isinstance(bound, BoundConstant):
        statement.reject("an aggregate of a constant has no native form", node)
        return None
    return bound


def _result_type(op: AggregateOp, argument: SqlType) -> SqlType | None:
    """DuckDB's type of the aggregate; None where the native one would differ (strings by code, sums of booleans)."""
    if op in (AggregateOp.FIRST, AggregateOp.LAST):
        return argument
    if not (argument.is_integer or argument.is_float):
        return None
    if op is AggregateOp.SUM:
        return SqlType.HUGEINT if argument.is_integer else SqlType.DOUBLE
    return SqlType.DOUBLE if op in _FLOAT_RESULTS else argument


def _name(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return f"function {node.name.lower()}"
    return f"function {node.sql_name().lower()}" if isinstance(node, exp.Func) else type(node).__name__.upper()
