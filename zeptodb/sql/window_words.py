"""Windows on their way to DuckDB: the default order of rows, ties by arrival, and delta, ratio and ema."""

from __future__ import annotations

from decimal import Decimal

from sqlglot import exp

from zeptodb.errors import QueryError
from zeptodb.sql.relations import Scope, ValueKind
from zeptodb.sql.rewrite import Rewriter
from zeptodb.sql.tick_words import WEIGHTED, constant_number, vwap
from zeptodb.sql.time_values import in_brackets

_RANKED = (exp.RowNumber, exp.Lag, exp.Lead, exp.Ntile)
"""Functions that look at single rows in order and know no frame: any order of ties is allowed, so arrival decides."""

_FRAMED = (exp.FirstValue, exp.LastValue, exp.NthValue, exp.First, exp.Last)
"""Functions that depend on the order within the frame."""


def window(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    """A call with OVER: windows without ORDER BY see rows by time, then arrival, where their order matters."""
    function = _function(node)
    name = function.name.lower() if isinstance(function, exp.Anonymous) else ""
    _order_by_default(rewriter, node, function, scope, is_ranked=isinstance(function, _RANKED) or name in _EXPANDED)
    if name in _EXPANDED:
        return _EXPANDED[name](rewriter, node, function, scope)
    if name in WEIGHTED:
        return vwap(rewriter, function, scope)
    return rewriter.kind(node.this)


def _function(node: exp.Expr) -> exp.Expr:
    function: exp.Expr = node.this
    while isinstance(function, (exp.IgnoreNulls, exp.RespectNulls, exp.Filter)):
        function = function.this
    return function


def _order_by_default(rewriter: Rewriter, node: exp.Expr, function: exp.Expr, scope: Scope, *, is_ranked: bool) -> None:
    """Spell out the order that a window leaves open, without changing which rows its frame holds."""
    if node.args.get("alias") is not None or scope.is_grouped:
        return
    spec = node.args.get("spec")
    counts_rows = spec is not None and str(spec.args.get("kind", "")).upper() == "ROWS"
    order = node.args.get("order")
    if order is None:
        if not (is_ranked or counts_rows or isinstance(function, _FRAMED)):
            return
        keys = scope.order_keys()
        if not keys:
            return
        node.set("order", exp.Order(expressions=[exp.Ordered(this=key, nulls_first=False) for key in keys]))
        if spec is None and not is_ranked:
            node.set("spec", _whole_partition())
        rewriter.has_changed = True
    elif is_ranked or counts_rows or isinstance(function, (exp.FirstValue, exp.First)):
        arrival = scope.arrival_key()
        if arrival is not None:
            order.append("expressions", exp.Ordered(this=arrival, nulls_first=False))
            rewriter.has_changed = True


def _whole_partition() -> exp.WindowSpec:
    return exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="UNBOUNDED", end_side="FOLLOWING")


def _value_and_previous(node: exp.Expr, function: exp.Expr) -> tuple[exp.Expr, exp.Expr]:
    if len(function.expressions) != 1:
        raise QueryError(f"{function.name.lower()}(x) takes 1 argument, {len(function.expressions)} were given.")
    if node.this is not function:
        raise QueryError(f"{function.name.lower()}(x) OVER takes neither FILTER nor IGNORE NULLS.")
    value = function.expressions[0]
    previous = node.copy()
    previous.set("this", exp.Lag(this=value.copy()))
    previous.set("spec", None)
    return in_brackets(value.copy()), previous


def _delta(rewriter: Rewriter, node: exp.Expr, function: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """delta(x): x minus the x of the row before; NULL in the first row."""
    kind = rewriter.kind(function.expressions[0]) if function.expressions else ValueKind.OTHER
    value, previous = _value_and_previous(node, function)
    result = ValueKind.INTEGER if kind is ValueKind.TIME else kind
    return rewriter.replace(node, exp.Paren(this=exp.Sub(this=value, expression=previous)), result)


def _ratio(rewriter: Rewriter, node: exp.Expr, function: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """ratio(x): x divided by the x of the row before, as a float; NULL in the first row."""
    value, previous = _value_and_previous(node, function)
    quotient = exp.Div(this=exp.cast(value, "DOUBLE"), expression=exp.cast(previous, "DOUBLE"))
    return rewriter.replace(node, exp.Paren(this=quotient), ValueKind.FLOAT)


def _ema(rewriter: Rewriter, node: exp.Expr, function: exp.Expr, scope: Scope) -> ValueKind:
    """ema(x, n): smoothed with alpha = 2 / (n + 1), or with n itself below 1; `ema_windows` finishes it."""
    if len(function.expressions) != 2:
        raise QueryError(f"ema(x, n) takes 2 arguments, {len(function.expressions)} were given.")
    if node.this is not function:
        raise QueryError("ema(x, n) OVER takes neither FILTER nor IGNORE NULLS.")
    value, length = function.expressions
    given = constant_number(length, rewriter)
    if given is None or given <= 0:
        raise QueryError(f"ema(x, n) needs a number above 0, got {length.sql('duckdb')}.")
    if not is_running(node.args.get("spec")):
        raise QueryError("ema(x, n) OVER takes no frame: it looks at all rows up to the current one.")
    if node.args.get("order") is None:
        raise QueryError("ema(x, n) OVER needs ORDER BY here: the order of the rows is not known.")
    alpha = exp.Literal.number(f"{ema_alpha(given)!r}e0")
    function.set("expressions", [exp.cast(in_brackets(value.copy()), "DOUBLE"), alpha])
    rewriter.has_changed = True
    scope.has_ema = True
    return ValueKind.FLOAT


def ema_alpha(given: Decimal | int) -> float:
    """alpha of ema(x, n): n itself below 1, else 2 / (n + 1)."""
    return float(given) if given < 1 else 2.0 / (float(given) + 1.0)


def is_running(spec: exp.Expr | None) -> bool:
    """Whether a frame is all rows up to the current one, which is what a window without a frame is."""
    if spec is None:
        return True
    start, end = str(spec.args.get("start") or "").upper(), str(spec.args.get("end") or "CURRENT ROW").upper()
    return start == "UNBOUNDED" and end == "CURRENT ROW" and not spec.args.get("exclude")


_EXPANDED = {"delta": _delta, "ratio": _ratio, "ema": _ema}
