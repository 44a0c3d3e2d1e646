"""Our aggregates and time functions, spelled in DuckDB's words."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from sqlglot import exp

from zeptodb.errors import QueryError
from zeptodb.sql.relations import Scope, ValueKind
from zeptodb.sql.rewrite import Rewriter
from zeptodb.sql.tick_joins import WINDOW_FUNCTIONS, window_function
from zeptodb.sql.time_values import (
    as_timestamp,
    as_timestamp_ns,
    call,
    fixed_interval_ns,
    floor_divide,
    floor_to,
    has_calendar_unit,
    in_brackets,
    is_now,
    moment_ns,
    number,
    truncated,
)

INTEGERS = (ValueKind.TIME, ValueKind.INTEGER)

WEIGHTED = ("vwap", "wavg")

ROW_NUMBER = "__row_number_in_table"
"""A function of UPDATE and DELETE: the position of the row in the snapshot of the leftmost table."""


def _arguments(node: exp.Expr, count: int, usage: str) -> list[exp.Expr]:
    given = list(node.expressions)
    if len(given) != count:
        raise QueryError(f"{usage} takes {count} argument(s), {len(given)} were given.")
    return given


# ---- xbar, date_trunc, epochs -------------------------------------------------------------------------------------


def xbar(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """xbar(x, width): x rounded down to a multiple of the width (a number, or an interval for timestamps)."""
    value, width = _arguments(node, 2, "xbar(x, width)")
    width = _interval_of_text(rewriter, width)
    kind = rewriter.kind(value)
    if rewriter.kind(width) is ValueKind.TEXT:
        written = width.sql("duckdb")
        raise QueryError(f"The width of xbar is a number of nanoseconds or an interval: xbar(x, INTERVAL {written}).")
    if kind is ValueKind.MOMENT:
        ns = moment_ns(value, rewriter)
        value, kind = (number(ns) if ns is not None else call("epoch_ns", value)), ValueKind.TIME
    step: Decimal | int | None = fixed_interval_ns(width, rewriter)
    if step is None and has_calendar_unit(width):
        raise QueryError(f"xbar needs a width of fixed length, not {width.sql('duckdb')}; use date_trunc for months.")
    if step is None:
        step = constant_number(width, rewriter)
    if step is not None and step <= 0:
        raise QueryError(f"The width of xbar must be positive, got {width.sql('duckdb')}.")
    if rewriter.kind(width) is ValueKind.INTERVAL:
        width = number(int(step)) if step is not None else call("epoch_ns", width)
    result = kind if kind in (ValueKind.TIME, ValueKind.FLOAT) else ValueKind.INTEGER
    return rewriter.replace(node, floor_to(value, width), result)


def _interval_of_text(rewriter: Rewriter, width: exp.Expr) -> exp.Expr:
    """A width such as '5m' as an interval; others as they are."""
    if not isinstance(width, exp.Literal) or not width.is_string:
        return width
    interval = exp.Interval(this=exp.Literal.string(width.name))
    rewriter.replace(width, interval, ValueKind.INTERVAL)
    return interval


def constant_number(node: exp.Expr, rewriter: Rewriter) -> Decimal | int | None:
    """The number that an expression spells out or a parameter gives; None for others."""
    if isinstance(node, exp.Paren):
        return constant_number(node.this, rewriter)
    if isinstance(node, exp.Neg):
        inner = constant_number(node.this, rewriter)
        return None if inner is None else -inner
    text = ""
    if isinstance(node, exp.Placeholder):
        value = rewriter.parameter(node)
        text = str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
    elif isinstance(node, exp.Literal) and not node.is_string:
        text = node.name
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        return None


def date_trunc(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """date_trunc(unit, x) of our timestamps gives our timestamps; of DuckDB's, DuckDB's."""
    if rewriter.kind(node.this) in INTEGERS:
        return rewriter.replace(node, truncated(node.this, node.args.get("unit")), ValueKind.TIME)
    return ValueKind.MOMENT


def epoch_ms(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """epoch_ms(x) of our timestamps: whole milliseconds, rounded down."""
    scale = node.args.get("scale")
    if rewriter.kind(node.this) in INTEGERS and scale is not None and scale.name == "3":
        return rewriter.replace(node, floor_divide(node.this, 1_000_000), ValueKind.INTEGER)
    return ValueKind.MOMENT if scale is None else ValueKind.OTHER


def epoch_s(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """epoch_s(x): whole seconds since the epoch, rounded down."""
    (value,) = _arguments(node, 1, "epoch_s(timestamp)")
    if rewriter.kind(value) in INTEGERS:
        return rewriter.replace(node, floor_divide(value, 1_000_000_000), ValueKind.INTEGER)
    moment = exp.cast(value.copy(), "TIMESTAMP") if rewriter.kind(value) is ValueKind.TEXT else value.copy()
    seconds = call("floor", call("epoch", moment))
    return rewriter.replace(node, exp.cast(seconds, "BIGINT"), ValueKind.INTEGER)


def epoch_ns(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """epoch_ns(x) of our timestamps is the value itself."""
    (value,) = _arguments(node, 1, "epoch_ns(timestamp)")
    if rewriter.kind(value) in INTEGERS:
        return rewriter.replace(node, in_brackets(value.copy()), ValueKind.TIME)
    return ValueKind.INTEGER if rewriter.kind(value) is ValueKind.INTERVAL else ValueKind.TIME


def time_bucket(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    """time_bucket(width, x) of our timestamps gives our timestamps."""
    argument = node.args.get("expression")
    if rewriter.kind(argument) is not ValueKind.TIME:
        return ValueKind.OTHER
    wants_timestamp(rewriter, node, scope)
    return rewriter.replace(node, call("epoch_ns", node.copy()), ValueKind.TIME)


def wants_timestamp(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """Functions that DuckDB defines on its own timestamps get ours converted (to the microsecond, rounded down)."""
    for child in list(node.iter_expressions()):
        if rewriter.kind(child) is ValueKind.TIME:
            rewriter.replace(child, as_timestamp(child), ValueKind.MOMENT)
    return ValueKind.OTHER


def strftime(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """Formatting sees all nine digits."""
    if rewriter.kind(node.this) is ValueKind.TIME:
        rewriter.replace(node.this, as_timestamp_ns(node.this), ValueKind.MOMENT)
    return ValueKind.TEXT


# ---- aggregates ---------------------------------------------------------------------------------------------------


def vwap(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """vwap(price, volume) = wavg(x, weight): sum of x times weight over sum of weights; NULL when that is zero.

    Both sums are compensated.
    Rows without a price or a volume do not count. FILTER and OVER around the call go to both sums.
    """
    price, volume = (_double(a) for a in _arguments(node, 2, f"{node.name.lower()}(x, weight)"))
    counted = exp.Case(
        ifs=[exp.If(this=exp.Not(this=exp.Is(this=price.copy(), expression=exp.Null())), true=volume.copy())]
    )
    outer, wrap = _around(node)
    turnover = wrap(call("fsum", exp.Mul(this=price, expression=volume)))
    traded = wrap(call("fsum", counted))
    nonzero = call("nullif", traded, exp.Literal.number(0))
    return rewriter.replace(outer, exp.Paren(this=exp.Div(this=turnover, expression=nonzero)), ValueKind.FLOAT)


def _double(node: exp.Expr) -> exp.Expr:
    return exp.cast(in_brackets(node.copy()), "DOUBLE")


def _around(node: exp.Expr) -> tuple[exp.Expr, Callable[[exp.Expr], exp.Expr]]:
    """The FILTER and OVER around an aggregate call, and what puts copies of them around another one."""
    outer = node
    while isinstance(outer.parent, (exp.Filter, exp.Window)) and outer.arg_key == "this":
        outer = outer.parent
    if outer is node:
        return node, lambda new: new

    def wrap(new: exp.Expr) -> exp.Expr:
        shell = outer.copy()
        inner = shell
        while isinstance(inner.this, (exp.Filter, exp.Window)):
            inner = inner.this
        inner.set("this", new)
        return shell

    return outer, wrap


def is_wrapped(node: exp.Expr) -> bool:
    """Whether FILTER or OVER surrounds the call, so that it is expanded when that has been rewritten."""
    return isinstance(node.parent, (exp.Filter, exp.Window)) and node.arg_key == "this"


def percentile(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """percentile(x, 0..100): linear interpolation between the neighbouring values."""
    value, percent = _arguments(node, 2, "percentile(x, percent)")
    given = constant_number(percent, rewriter)
    if given is None or not 0 <= given <= 100:
        raise QueryError(f"percentile(x, percent) needs a number from 0 to 100, got {percent.sql('duckdb')}.")
    fraction = exp.Literal.number(f"{Decimal(given) / 100:f}")
    return rewriter.replace(node, call("quantile_cont", value.copy(), fraction), ValueKind.FLOAT)


def first_or_last(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    """first(x) and last(x) see the rows in the order of time, then of arrival, unless the call orders them itself."""
    argument = node.this
    kind = rewriter.kind(argument)
    if isinstance(node.parent, exp.Filter) and isinstance(node.parent.parent, exp.Window):
        return kind
    if isinstance(node.parent, exp.Window) and node.arg_key == "this":
        value = exp.FirstValue if isinstance(node, exp.First) else exp.LastValue
        return rewriter.replace(node, value(this=argument), kind)
    if isinstance(argument, (exp.Order, exp.Distinct)):
        return rewriter.kind(argument.this) if isinstance(argument, exp.Order) else ValueKind.OTHER
    keys = scope.order_keys()
    if keys:
        ordered = exp.Order(this=argument.copy(), expressions=[exp.Ordered(this=k, nulls_first=False) for k in keys])
        return rewriter.replace(node, type(node)(this=ordered), kind)
    return kind


# ---- functions known by name only -----------------------------------------------------------------------------------


def named_function(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    """A function that the parser has no class for: one of ours, one that needs help with time, or DuckDB's."""
    name = node.name.lower()
    if is_now(node):
        return ValueKind.MOMENT
    if name == ROW_NUMBER:
        key = scope.arrival_key()
        return ValueKind.OTHER if key is None else rewriter.replace(node, key, ValueKind.INTEGER)
    if name in ("delta", "ratio", "ema"):
        return _window_word(rewriter, node, name)
    if name in WEIGHTED and is_wrapped(node):
        return ValueKind.FLOAT
    handler = BY_NAME.get(name)
    if handler is not None:
        return handler(rewriter, node, scope)
    return _KINDS_BY_NAME.get(name, ValueKind.OTHER)


def _window_word(rewriter: Rewriter, node: exp.Expr, name: str) -> ValueKind:
    """delta, ratio and ema are expanded with their OVER; without one they make no sense."""
    if not is_wrapped(node):
        call_of_it = "ema(x, n)" if name == "ema" else f"{name}(x)"
        raise QueryError(
            f"{call_of_it} depends on the rows before and needs a window: "
            f"{call_of_it} OVER (PARTITION BY symbol ORDER BY timestamp)."
        )
    return rewriter.kind(node.expressions[0]) if node.expressions else ValueKind.OTHER


BY_NAME: dict[str, Callable[[Rewriter, exp.Expr, Scope], ValueKind]] = {
    "xbar": xbar,
    "vwap": vwap,
    "wavg": vwap,
    **dict.fromkeys(WINDOW_FUNCTIONS, window_function),
    "percentile": percentile,
    "epoch_s": epoch_s,
    "epoch_ns": epoch_ns,
    **dict.fromkeys(
        ("age", "century", "date_part", "datepart", "date_sub", "datesub", "day", "dayofmonth", "decade", "epoch_us"),
        wants_timestamp,
    ),
    **dict.fromkeys(
        ("era", "isodow", "isoyear", "julian", "last_day", "microsecond", "millennium", "millisecond", "timezone"),
        wants_timestamp,
    ),
    **dict.fromkeys(("weekday", "yearweek"), wants_timestamp),
}

_KINDS_BY_NAME = {
    **dict.fromkeys(("make_timestamp", "make_timestamp_ns", "make_date", "today"), ValueKind.MOMENT),
    **dict.fromkeys(("fsum", "favg", "kahan_sum", "epoch"), ValueKind.FLOAT),
    **dict.fromkeys(
        ("to_days", "to_hours", "to_minutes", "to_seconds", "to_milliseconds", "to_microseconds", "to_weeks"),
        ValueKind.INTERVAL,
    ),
}
