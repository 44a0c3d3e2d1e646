"""A WINDOW JOIN of bounded width as an equality, so that DuckDB hashes instead of comparing every pair of a symbol.

A right row at time r lies in the window of a left row at L when L + low <= r <= L + high, so L lies between r - high
and r - low. With buckets as wide as the window that span meets one bucket or two: the right row is put into both, and
the left row asks only its own, in which a right row stands once.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlglot import exp

from zeptodb.sql.pruning import conjuncts
from zeptodb.sql.relations import Relation, Scope, ValueKind
from zeptodb.sql.time_values import call

BUCKET = "__window_bucket"
_WHOLE = (ValueKind.TIME, ValueKind.INTEGER)


class Window(NamedTuple):
    """The right column lies between the left one + `low` and + `high`, both inclusive."""

    left: exp.Column
    right: exp.Column
    low: int
    high: int


def put_into_buckets(node: exp.Expr, condition: exp.Expr, right: Relation, scope: Scope) -> tuple[exp.Expr, exp.Expr]:
    """The right side and the condition of a WINDOW JOIN with buckets; as they are when its width is not known."""
    window = _window_of(condition, right, scope)
    if window is None:
        return node, condition
    width = window.high - window.low + 1
    first = _bucket(window.right, window.high, width)
    last = _bucket(window.right, window.low, width)
    one_or_two = exp.Case(
        ifs=[exp.If(this=exp.EQ(this=first, expression=last), true=exp.Array(expressions=[first.copy()]))],
        default=exp.Array(expressions=[first.copy(), last.copy()]),
    )
    bucket = exp.Alias(this=call("unnest", one_or_two), alias=exp.to_identifier(BUCKET, quoted=True))
    query = exp.Select(expressions=[exp.Star(), bucket], from_=exp.From(this=node))
    alias = exp.TableAlias(this=exp.to_identifier(right.alias, quoted=True))
    own = exp.column(exp.to_identifier(BUCKET, quoted=True), exp.to_identifier(right.alias, quoted=True))
    asked = exp.EQ(this=own, expression=_bucket(window.left, 0, width))
    return exp.Subquery(this=query, alias=alias), exp.and_(condition, asked)


def _window_of(condition: exp.Expr, right: Relation, scope: Scope) -> Window | None:
    def is_of(column: exp.Column, *, the_right: bool) -> bool:
        found = scope.resolve_here(column)
        return found is not None and (found[0] is right) is the_right and found[1][1] in _WHOLE

    for part in conjuncts(condition):
        if not isinstance(part, exp.Between) or not isinstance(part.this, exp.Column):
            continue
        low, high = _shifted(part.args["low"]), _shifted(part.args["high"])
        if low is None or high is None or low[0] != high[0] or high[1] < low[1]:
            continue
        if is_of(low[0], the_right=False) and is_of(part.this, the_right=True):
            return Window(low[0], part.this, low[1], high[1])
    return None


def _shifted(node: exp.Expr) -> tuple[exp.Column, int] | None:
    """A column and the whole number that is added to it."""
    node = node.unnest()
    if isinstance(node, exp.Column):
        return node, 0
    if not isinstance(node, (exp.Add, exp.Sub)) or not isinstance(node.this, exp.Column):
        return None
    from sqlglot.optimizer.simplify import simplify  # as much to import as a tenth of sqlglot

    number = simplify(node.expression.copy()).unnest()
    sign = -1 if isinstance(node, exp.Sub) else 1
    if isinstance(number, exp.Neg):
        number, sign = number.this, -sign
    return (node.this, sign * int(number.this)) if isinstance(number, exp.Literal) and number.is_int else None


def _bucket(column: exp.Column, shift: int, width: int) -> exp.Expr:
    """(column - shift) // width; in HUGEINT, as times near the ends of int64 may be shifted beyond them."""
    wide = exp.cast(column.copy(), exp.DataType.build("HUGEINT", dialect="duckdb"))
    moved = exp.Paren(this=exp.Sub(this=wide, expression=_number(shift)))
    return exp.IntDiv(this=moved, expression=_number(width))


def _number(value: int) -> exp.Expr:
    return exp.Paren(this=exp.Neg(this=exp.Literal.number(-value))) if value < 0 else exp.Literal.number(value)
