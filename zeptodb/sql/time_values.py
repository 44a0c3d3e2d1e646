"""Time in expressions for DuckDB, to which our timestamps are BIGINT nanoseconds: making both operands agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from zeptodb.errors import QueryError
from zeptodb.sql.constants import MONDAY_ORIGIN_NS, UNIT_NS, interval_ns, unit_ns
from zeptodb.sql.relations import ValueKind
from zeptodb.sql.temporal import is_calendar_unit, required_timestamp_ns

if TYPE_CHECKING:
    from zeptodb.sql.rewrite import Rewriter

NOW_FUNCTIONS = frozenset(("now", "get_current_timestamp", "transaction_timestamp"))
_MOMENT_TYPES = (
    exp.DataType.Type.TIMESTAMP,
    exp.DataType.Type.TIMESTAMPNTZ,
    exp.DataType.Type.TIMESTAMPTZ,
    exp.DataType.Type.TIMESTAMPLTZ,
    exp.DataType.Type.TIMESTAMP_S,
    exp.DataType.Type.TIMESTAMP_MS,
    exp.DataType.Type.TIMESTAMP_NS,
    exp.DataType.Type.DATETIME,
    exp.DataType.Type.DATE,
)


def call(name: str, *arguments: exp.Expr) -> exp.Anonymous:
    """A call of a DuckDB function."""
    return exp.Anonymous(this=name, expressions=list(arguments))


def number(value: int) -> exp.Expr:
    """An integer as an expression."""
    literal = exp.Literal.number(abs(value))
    return exp.Neg(this=literal) if value < 0 else literal


def in_brackets(node: exp.Expr) -> exp.Expr:
    """The expression in brackets unless it cannot be torn apart anyway."""
    atomic = (exp.Column, exp.Literal, exp.Paren, exp.Anonymous, exp.Placeholder, exp.Cast)
    return node if isinstance(node, atomic) else exp.Paren(this=node)


def is_moment_type(data_type: exp.DataType) -> bool:
    """Whether a cast to this type gives one of DuckDB's own timestamps or dates."""
    return data_type.this in _MOMENT_TYPES


def floor_to(node: exp.Expr, width: exp.Expr, origin_ns: int = 0) -> exp.Expr:
    """`node` rounded down to `origin + a multiple of width`, also below the origin."""
    value = in_brackets(node)
    shifted = value if origin_ns == 0 else exp.Paren(this=exp.Sub(this=value, expression=number(origin_ns)))
    width = in_brackets(width)
    remainder = exp.Paren(this=exp.Mod(this=shifted.copy(), expression=width.copy()))
    positive = exp.Mod(
        this=exp.Paren(this=exp.Add(this=remainder, expression=width.copy())),
        expression=width.copy(),
    )
    return exp.Paren(this=exp.Sub(this=value.copy(), expression=positive))


def floor_divide(node: exp.Expr, divisor: int) -> exp.Expr:
    """`node // divisor` rounded down, also for negative values."""
    return exp.Paren(this=exp.IntDiv(this=floor_to(node, number(divisor)), expression=number(divisor)))


def as_timestamp(node: exp.Expr) -> exp.Expr:
    """Our nanoseconds as DuckDB's TIMESTAMP: microseconds, rounded down (a cast would round to nearest)."""
    return call("make_timestamp", floor_divide(node, 1_000))


def as_timestamp_ns(node: exp.Expr) -> exp.Expr:
    """Our nanoseconds as DuckDB's TIMESTAMP_NS."""
    return call("make_timestamp_ns", node.copy())


def fixed_interval_ns(node: exp.Expr, rewriter: Rewriter) -> int | None:
    """Nanoseconds of an interval spelled out in the statement or given as a parameter; None if not fixed or unknown."""
    if isinstance(node, exp.Paren):
        return fixed_interval_ns(node.this, rewriter)
    if isinstance(node, exp.Neg):
        inner = fixed_interval_ns(node.this, rewriter)
        return None if inner is None else -inner
    if isinstance(node, exp.Interval) and isinstance(node.this, exp.Literal):
        unit = node.args.get("unit")
        return interval_ns(node.this.name, "" if unit is None else unit.name)
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and node.to.is_type("INTERVAL"):
        return interval_ns(node.this.name)
    if isinstance(node, exp.Placeholder):
        return rewriter.parameter_duration_ns(node)
    return None


def has_calendar_unit(node: exp.Expr) -> bool:
    """Whether an interval is spelled out in months or longer units."""
    if isinstance(node, (exp.Paren, exp.Neg)):
        return has_calendar_unit(node.this)
    if not isinstance(node, (exp.Interval, exp.Cast)):
        return False
    unit = node.args.get("unit")
    words = unit.name if unit is not None else "".join(c if c.isalpha() else " " for c in node.this.name)
    return any(is_calendar_unit(word) for word in words.split())


def moment_ns(node: exp.Expr, rewriter: Rewriter) -> int | None:
    """Nanoseconds of a moment known before the statement runs: a literal, now(), either plus or minus an interval."""
    ns: int | None = None
    if isinstance(node, exp.Paren):
        ns = moment_ns(node.this, rewriter)
    elif is_now(node):
        ns = rewriter.now_ns
    elif isinstance(node, exp.CurrentDate):
        ns = rewriter.now_ns - rewriter.now_ns % UNIT_NS["day"]
    elif isinstance(node, exp.Placeholder):
        ns = rewriter.parameter_moment_ns(node)
    elif isinstance(node, exp.Cast) and is_moment_type(node.to):
        ns = _cast_moment_ns(node, rewriter)
    elif isinstance(node, (exp.Add, exp.Sub)):
        start, step = moment_ns(node.this, rewriter), fixed_interval_ns(node.expression, rewriter)
        if start is not None and step is not None:
            ns = start + step if isinstance(node, exp.Add) else start - step
    elif isinstance(node, (exp.TimestampTrunc, exp.DateTrunc)) and node.unit is not None:
        start, width = moment_ns(node.this, rewriter), unit_ns(node.unit.name)
        if start is not None and width is not None:
            ns = start - (start - (MONDAY_ORIGIN_NS if width == UNIT_NS["week"] else 0)) % width
    return ns


def is_now(node: exp.Expr) -> bool:
    """Whether the expression is now() or one of its other names."""
    if isinstance(node, exp.CurrentTimestamp):
        return True
    return isinstance(node, exp.Anonymous) and node.name.lower() in NOW_FUNCTIONS


def _cast_moment_ns(node: exp.Cast, rewriter: Rewriter) -> int | None:
    literal = isinstance(node.this, exp.Literal) and node.this.is_string
    ns = required_timestamp_ns(node.this.name) if literal else moment_ns(node.this, rewriter)
    if ns is not None and node.to.is_type("DATE"):
        return ns - ns % UNIT_NS["day"]
    return ns


def nanoseconds(node: exp.Expr, kind: ValueKind, rewriter: Rewriter) -> exp.Expr | None:
    """`node` as nanoseconds that our timestamps (or differences of them) combine with; None when it already is."""
    if kind is ValueKind.TEXT:
        return _text_ns(node, rewriter)
    if kind is ValueKind.MOMENT:
        ns = moment_ns(node, rewriter)
        return number(ns) if ns is not None else call("epoch_ns", node.copy())
    if kind is ValueKind.INTERVAL:
        ns = fixed_interval_ns(node, rewriter)
        if ns is not None:
            return number(ns)
        if has_calendar_unit(node):
            raise QueryError(
                f"{node.sql('duckdb')} has no fixed length in nanoseconds; add it to a timestamp, or use days."
            )
        return call("epoch_ns", node.copy())
    return None


def _text_ns(node: exp.Expr, rewriter: Rewriter) -> exp.Expr:
    if isinstance(node, exp.Literal):
        text = node.name.strip()
        return number(int(text)) if text.lstrip("+-").isdecimal() else number(required_timestamp_ns(text))
    if isinstance(node, exp.Placeholder):
        ns = rewriter.parameter_moment_ns(node)
        if ns is not None:
            return number(ns)
    return call("epoch_ns", exp.Cast(this=node.copy(), to=exp.DataType.build("TIMESTAMP_NS", dialect="duckdb")))


def plus_calendar_interval(node: exp.Expr, interval: exp.Expr, operator: type[exp.Expr]) -> exp.Expr:
    """`node` plus or minus months or years by the calendar; the nanoseconds below a microsecond are kept."""
    moved = operator(this=as_timestamp(node), expression=interval.copy())
    below = exp.Paren(this=exp.Sub(this=in_brackets(node.copy()), expression=floor_to(node, number(1_000))))
    return exp.Paren(this=exp.Add(this=call("epoch_ns", exp.Paren(this=moved)), expression=below))


def truncated(node: exp.Expr, unit: exp.Expr | None) -> exp.Expr:
    """date_trunc of our nanoseconds: ns to weeks by arithmetic, longer units through DuckDB's calendar."""
    name = "" if unit is None else unit.name
    width = unit_ns(name)
    if width is not None:
        return floor_to(node, number(width), MONDAY_ORIGIN_NS if width == UNIT_NS["week"] else 0)
    if unit is None or not (is_calendar_unit(name) or name.lower() in ("decade", "century", "millennium")):
        raise QueryError(
            f"date_trunc does not know the unit '{name.lower()}'; allowed: ns, us, ms, s, min, hour, day, week, month, "
            "quarter, year, decade, century, millennium."
        )
    return call("epoch_ns", call("date_trunc", exp.Literal.string(name.lower()), as_timestamp(node)))
