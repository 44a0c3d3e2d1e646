"""What operators and DuckDB's own functions make of kinds of values, with both sides brought to nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from zeptodb.errors import QueryError
from zeptodb.sql import tick_joins, tick_words, window_words
from zeptodb.sql.relations import OutputColumn, Relation, Scope, ValueKind
from zeptodb.sql.rewrite import Handler, Rewriter
from zeptodb.sql.tick_words import INTEGERS
from zeptodb.sql.time_values import (
    as_timestamp,
    as_timestamp_ns,
    fixed_interval_ns,
    has_calendar_unit,
    is_moment_type,
    nanoseconds,
    plus_calendar_interval,
)

TIME, INTEGER, FLOAT, TEXT = ValueKind.TIME, ValueKind.INTEGER, ValueKind.FLOAT, ValueKind.TEXT
BOOL, MOMENT, INTERVAL, OTHER = ValueKind.BOOL, ValueKind.MOMENT, ValueKind.INTERVAL, ValueKind.OTHER


# ---- leaves --------------------------------------------------------------------------------------------------------


def _literal(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    if node.args.get("is_string"):
        return TEXT
    return INTEGER if node.name.isdigit() else FLOAT


def _placeholder(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    if not isinstance(node, exp.Placeholder):
        return OTHER
    value = rewriter.parameter(node)
    if isinstance(value, str):
        return TEXT
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, (int, float)):
        return INTEGER if isinstance(value, int) else FLOAT
    if rewriter.parameter_duration_ns(node) is not None:
        return INTERVAL
    return MOMENT if rewriter.parameter_moment_ns(node) is not None else OTHER


def _column(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star):
        return OTHER
    found = scope.resolve(node)
    return scope.kind_of(node) if found is None else _resolved(rewriter, node, *found)


def _resolved(rewriter: Rewriter, node: exp.Column, relation: Relation, column: OutputColumn) -> ValueKind:
    name, kind = column
    if relation.window is not None and not tick_joins.is_inside_window_function(node):
        raise QueryError(
            f'Column "{name}" of the right side of a WINDOW JOIN stands inside wj_ functions only, '
            f"such as wj_avg({node.sql('duckdb')})."
        )
    substitute = relation.substitutes.get(name.lower())
    if substitute is not None:
        new: exp.Expr = substitute.copy()
        if isinstance(node.parent, exp.Select) and node.arg_key == "expressions":
            new = exp.Alias(this=new, alias=exp.to_identifier(name, quoted=True))
        return rewriter.replace(node, new, kind)
    if node.table.lower() in relation.other_names:
        node.set("table", exp.to_identifier(relation.alias, quoted=True))
    return kind


def _interval(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    # DuckDB reads INTERVAL '5' MIN as five seconds named "min"; INTERVAL '5 MIN' is unmistakable.
    unit = node.args.get("unit")
    if unit is not None and isinstance(node.this, exp.Literal):
        node.set("this", exp.Literal.string(f"{node.this.name} {unit.name}"))
        node.set("unit", None)
    return INTERVAL


# ---- casts ---------------------------------------------------------------------------------------------------------


def _cast(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    if not isinstance(node, exp.Cast):
        return OTHER
    if is_moment_type(node.to) or node.to.is_type("TIME"):
        if rewriter.kind(node.this) is TIME:
            exact = as_timestamp_ns if node.to.this is exp.DataType.Type.TIMESTAMP_NS else as_timestamp
            rewriter.replace(node.this, exact(node.this), MOMENT)
        return MOMENT if is_moment_type(node.to) else OTHER
    if node.to.is_type(*exp.DataType.INTEGER_TYPES):
        return INTEGER
    if node.to.is_type(*exp.DataType.FLOAT_TYPES):
        return FLOAT
    if node.to.is_type(*exp.DataType.TEXT_TYPES):
        return TEXT
    return {"INTERVAL": INTERVAL, "BOOLEAN": BOOL}.get(node.to.this.value, OTHER)


# ---- comparisons ---------------------------------------------------------------------------------------------------


def _align(rewriter: Rewriter, nodes: list[exp.Expr]) -> ValueKind:
    """Bring operands of one comparison together; what they are afterwards.

    Beside one of our timestamps, strings, moments and intervals become nanoseconds; beside an integer (a difference of
    timestamps) only intervals do.
    """
    kinds = [rewriter.kind(node) for node in nodes]
    wanted: tuple[ValueKind, ...]
    if TIME in kinds:
        wanted, result = (TEXT, MOMENT, INTERVAL), TIME
    elif INTEGER in kinds:
        wanted, result = (INTERVAL,), INTEGER
    else:
        return kinds[0] if len(set(kinds)) == 1 else OTHER
    for node, kind in zip(nodes, kinds, strict=True):
        new = nanoseconds(node, kind, rewriter) if kind in wanted else None
        if new is not None:
            rewriter.replace(node, new, result)
    return result


def _comparison(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    _align(rewriter, [node.this, node.expression])
    return BOOL


def _between(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    _align(rewriter, [node.this, node.args["low"], node.args["high"]])
    return BOOL


def _in(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    _align(rewriter, [node.this, *node.expressions])
    return BOOL


def _like(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """[NOT] [I]LIKE on numbers compares their decimal text."""
    if rewriter.kind(node.this) in (TIME, INTEGER, FLOAT):
        rewriter.replace(node.this, exp.cast(node.this.copy(), "VARCHAR"), TEXT)
    return BOOL


def _boolean(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    return BOOL


# ---- arithmetic ----------------------------------------------------------------------------------------------------


def _additive(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    left, right = rewriter.kind(node.this), rewriter.kind(node.expression)
    if left is TIME and right is INTERVAL and has_calendar_unit(node.expression):
        moved = plus_calendar_interval(node.this, node.expression, type(node))
        return rewriter.replace(node, moved, TIME)
    if left is MOMENT or right is MOMENT:
        other = right if left is MOMENT else left
        if other is not TIME:
            return MOMENT if other is INTERVAL else OTHER
    if TIME in (left, right):
        # A number added to a timestamp is nanoseconds; a timestamp minus a timestamp is a number of them.
        was_difference = isinstance(node, exp.Sub) and right in (TIME, MOMENT, TEXT)
        _align(rewriter, [node.this, node.expression])
        return INTEGER if was_difference else TIME
    if INTEGER in (left, right) and INTERVAL in (left, right):
        _align(rewriter, [node.this, node.expression])
        return INTEGER
    if left is INTERVAL and right is INTERVAL:
        return INTERVAL
    return _numeric(rewriter, node, scope)


def _numeric(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    kinds = {rewriter.kind(node.this), rewriter.kind(node.args.get("expression"))}
    if kinds <= set(INTEGERS):
        return INTEGER
    return FLOAT if kinds <= {FLOAT, *INTEGERS} else OTHER


def _divide(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    """A duration divided by an interval counts how often it fits in."""
    if rewriter.kind(node.this) is INTEGER and fixed_interval_ns(node.expression, rewriter):
        _align(rewriter, [node.this, node.expression])
    kind = _numeric(rewriter, node, scope)
    return FLOAT if kind is INTEGER and isinstance(node, exp.Div) else kind


def _negative(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    kind = rewriter.kind(node.this)
    return INTEGER if kind is TIME else kind


# ---- choices and aggregates ----------------------------------------------------------------------------------------


def _same(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    """Functions that return one of their first argument's values."""
    argument = node.this
    return rewriter.kind(argument) if isinstance(argument, exp.Expr) else OTHER


def _filter(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    function = node.this
    is_weighted = isinstance(function, exp.Anonymous) and function.name.lower() in tick_words.WEIGHTED
    if is_weighted and not tick_words.is_wrapped(node):
        return tick_words.vwap(rewriter, function, scope)
    return _same(rewriter, node, scope)


def _distinct(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    return rewriter.kind(node.expressions[0]) if len(node.expressions) == 1 else OTHER


def _alias(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    kind = _same(rewriter, node, scope)
    scope.aliases[node.alias.lower()] = kind
    return kind


def _choice(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    return _align(rewriter, [node.this, *node.expressions])


def _nullif(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    _align(rewriter, [node.this, node.expression])
    return rewriter.kind(node.this)


def _case(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    branches = [branch.args["true"] for branch in node.args["ifs"]]
    default = node.args.get("default")
    if default is not None:
        branches.append(default)
    if node.this is not None:
        _align(rewriter, [node.this, *(branch.this for branch in node.args["ifs"])])
    values = [b for b in branches if not isinstance(b, exp.Null)]
    return _align(rewriter, values) if values else OTHER


def _if(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    if isinstance(node.parent, exp.Case):
        return OTHER
    return _align(rewriter, [v for v in (node.args.get("true"), node.args.get("false")) if v is not None])


def _sum(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    kind = _same(rewriter, node, scope)
    return INTEGER if kind is TIME else kind


def _integer(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    return INTEGER


def _float(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    return FLOAT


def _moment(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:  # noqa: ARG001
    return MOMENT


def _extract(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    tick_words.wants_timestamp(rewriter, node, scope)
    return INTEGER


def _each(types: str, handler: Handler) -> dict[type[exp.Expr], Handler]:
    """The same handler for several node types; names that this sqlglot does not have are left out."""
    return {getattr(exp, name): handler for name in types.split() if hasattr(exp, name)}


HANDLERS: Mapping[type[exp.Expr], Handler] = {
    exp.Literal: _literal,
    exp.Placeholder: _placeholder,
    exp.Column: _column,
    exp.Interval: _interval,
    exp.Cast: _cast,
    exp.Between: _between,
    exp.In: _in,
    exp.Alias: _alias,
    exp.Case: _case,
    exp.If: _if,
    exp.Nullif: _nullif,
    exp.Distinct: _distinct,
    exp.Filter: _filter,
    exp.Window: window_words.window,
    exp.Anonymous: tick_words.named_function,
    exp.UnixToTime: tick_words.epoch_ms,
    exp.TimeToStr: tick_words.strftime,
    exp.Neg: _negative,
    exp.Sum: _sum,
    **_each("EQ NEQ LT LTE GT GTE NullSafeEQ NullSafeNEQ", _comparison),
    **_each("Like ILike SimilarTo", _like),
    **_each("And Or Not Is Exists Boolean", _boolean),
    **_each("Add Sub", _additive),
    **_each("Mul Mod", _numeric),
    **_each("Div IntDiv", _divide),
    **_each("Coalesce Greatest Least", _choice),
    **_each("Paren Order Ordered IgnoreNulls RespectNulls Min Max AnyValue ArgMax ArgMin Mode", _same),
    **_each("FirstValue LastValue NthValue Lag Lead Abs", _same),
    **_each("First Last", tick_words.first_or_last),
    **_each("TimestampTrunc DateTrunc", tick_words.date_trunc),
    **_each("DateBin", tick_words.time_bucket),
    **_each("Count RowNumber Rank DenseRank Ntile Length ApproxDistinct CountIf", _integer),
    **_each("Avg Median Stddev StddevPop StddevSamp Variance VariancePop Quantile PercentileCont", _float),
    **_each("CurrentTimestamp CurrentDate Localtimestamp StrToTime", _moment),
    **_each("Extract Year Month Day Week Quarter Hour Minute Second DayOfWeek DayOfMonth DayOfYear", _extract),
    **_each("DayOfWeekIso WeekOfYear YearOfWeek YearOfWeekIso DateDiff DatetimeDiff TimestampDiff", _extract),
    **_each("Dayname Monthname LastDay TimeToUnix AtTimeZone DateAdd DateSub", tick_words.wants_timestamp),
}
"""What to do with each type of node; a type without an entry is left as it is, its kind unknown."""
