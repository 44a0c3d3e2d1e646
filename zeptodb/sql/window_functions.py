"""Calls with OVER as window functions of the backend, with the types that DuckDB gives them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from sqlglot import exp

from zeptodb.backends.base import WindowFunction, WindowOp
from zeptodb.backends.expression import Constant, Kind
from zeptodb.sql.binder import Binder
from zeptodb.sql.bound import Bound, BoundExpression, SqlType
from zeptodb.sql.select_statement import SelectStatement, column_reference
from zeptodb.sql.sources import Source
from zeptodb.sql.window_words import ema_alpha, is_running
from zeptodb.types import INT64_MAX

FRAMED: dict[type[exp.Expr], WindowOp] = {
    exp.Count: WindowOp.COUNT,
    exp.Sum: WindowOp.SUM,
    exp.Avg: WindowOp.AVG,
    exp.Min: WindowOp.MIN,
    exp.Max: WindowOp.MAX,
    exp.Variance: WindowOp.VARIANCE_SAMP,
    exp.VariancePop: WindowOp.VARIANCE_POP,
    exp.Stddev: WindowOp.STDDEV_SAMP,
    exp.StddevSamp: WindowOp.STDDEV_SAMP,
    exp.StddevPop: WindowOp.STDDEV_POP,
}
"""Aggregates over frames that end with the current row."""

_KNOWN = {"this", "partition_by", "order", "spec", "over"}
_ROWS = Constant(1, Kind.INT)

Called = tuple[WindowFunction, SqlType]


def bind_window(node: exp.Expr, rows: Binder, statement: SelectStatement, source: Source) -> Called | None:
    """The function and its SQL type; None, with reasons in the statement, when there is none."""
    extra = [key for key, value in node.args.items() if value and key not in _KNOWN]
    for key in extra:
        statement.reject(f"OVER with {key} has no native form", node)
    is_by_symbol = _is_by_symbol(node, rows, statement, source)
    function = node.this
    if isinstance(function, exp.Anonymous) and function.name.lower() == "ema":
        called = _ema(node, rows, statement)
    elif type(function) in FRAMED:
        called = _framed(node, rows, statement)
    else:
        statement.reject(f"{_name(function)} OVER has no native form", node)
        return None
    if called is None or extra or not is_by_symbol:
        return None
    if called[0].op not in statement.capabilities.windows:
        statement.reject(f"the backend does not compute {called[0].op.value} OVER", node)
        return None
    return called


def _is_by_symbol(node: exp.Expr, rows: Binder, statement: SelectStatement, source: Source) -> bool:
    """Whether a window takes the rows of one symbol in the order of time, ties as they arrived: as they are stored."""
    schema = source.schema
    keys = [rows.bind(key) for key in node.args.get("partition_by") or ()]
    wanted = [] if schema.symbol is None else [column_reference(source, schema.symbol_index)]
    is_native = keys == wanted
    if not is_native and None not in keys:
        statement.reject("windows are native with PARTITION BY the symbol only", node)
    if schema.symbol is not None and schema.fields[schema.symbol_index].is_nullable:
        statement.reject("windows of a symbol that may be NULL have no native form", node)
        return False
    order = node.args.get("order")
    if order is None:
        return is_native
    first, *others = order.expressions
    bound = rows.bind(first.this)
    if bound is None:
        return False
    is_time = schema.timestamp is not None and bound == column_reference(source, schema.timestamp_index)
    if not is_time or others or first.args.get("desc") or first.args.get("with_fill"):
        statement.reject("windows are native with ORDER BY the time only", node)
        return False
    return is_native


def _ema(node: exp.Expr, rows: Binder, statement: SelectStatement) -> Called | None:
    arguments = node.this.expressions
    given = _number(arguments[1]) if len(arguments) == 2 else None
    if given is None or given <= 0 or not is_running(node.args.get("spec")):
        statement.reject("ema(x, n) OVER is native with a number above 0, and without a frame", node)
        return None
    bound = _argument(arguments[0], rows, statement)
    if bound is None:
        return None
    return WindowFunction(WindowOp.EMA, bound.expression, alpha=ema_alpha(given)), SqlType.DOUBLE


def _number(node: exp.Expr) -> Decimal | None:
    if not isinstance(node, exp.Literal) or node.is_string:
        return None
    try:
        return Decimal(node.name)
    except InvalidOperation:
        return None


def _framed(node: exp.Expr, rows: Binder, statement: SelectStatement) -> Called | None:
    function, op = node.this, FRAMED[type(node.this)]
    frame = _frame(node, statement)
    extra = [key for key, value in function.args.items() if value and key not in ("this", "big_int")]
    if frame is None or extra:
        if extra:
            statement.reject(f"{_name(function)} with more arguments has no native form", node)
        return None
    length = frame or None
    if op is WindowOp.COUNT:
        if function.this is None or isinstance(function.this, (exp.Star, exp.Literal)):
            return WindowFunction(op, _ROWS, length), SqlType.BIGINT
        counted = rows.bind(function.this)
        if not isinstance(counted, BoundExpression):
            _reject_constant(counted, node, statement)
            return None
        return WindowFunction(op, counted.expression, length), SqlType.BIGINT
    bound = _argument(function.this, rows, statement)
    if bound is None:
        return None
    result = SqlType.DOUBLE
    if op in (WindowOp.MIN, WindowOp.MAX):
        result = bound.type
    elif op is WindowOp.SUM and bound.type.is_integer:
        result = SqlType.HUGEINT
    return WindowFunction(op, bound.expression, length), result


def _frame(node: exp.Expr, statement: SelectStatement) -> int | None:
    """Rows of the frame, 0 for all up to the current one; None after a rejection."""
    spec = node.args.get("spec")
    if spec is not None and str(spec.args.get("kind")).upper() == "ROWS" and not spec.args.get("exclude"):
        start, side = spec.args.get("start"), str(spec.args.get("start_side") or "").upper()
        if str(spec.args.get("end") or "CURRENT ROW").upper() == "CURRENT ROW":
            if isinstance(start, exp.Literal) and not start.is_string and start.name.isdigit() and side == "PRECEDING":
                rows = int(start.name)
                if rows < INT64_MAX:
                    return rows + 1
            elif str(start).upper() == "CURRENT ROW":
                return 1
            elif str(start).upper() == "UNBOUNDED" and side == "PRECEDING":
                return 0
    statement.reject("frames are native as ROWS [BETWEEN] n PRECEDING [AND CURRENT ROW]", node)
    return None


def _argument(node: exp.Expr, rows: Binder, statement: SelectStatement) -> BoundExpression | None:
    bound = rows.bind(node)
    if bound is None or (isinstance(bound, BoundExpression) and (bound.type.is_integer or bound.type.is_float)):
        return bound
    if isinstance(bound, BoundExpression):
        statement.reject(f"a window function of {bound.type.value} has no native form", node)
        return None
    _reject_constant(bound, node, statement)
    return None


def _reject_constant(bound: Bound | None, node: exp.Expr, statement: SelectStatement) -> None:
    if bound is not None:
        statement.reject("a window function of a constant has no native form", node)


def _name(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return f"function {node.name.lower()}"
    return f"function {node.sql_name().lower()}" if isinstance(node, exp.Func) else type(node).__name__.upper()
