"""ASOF JOIN on its way to DuckDB: of right rows with equal keys the last arrived wins, and bounds that carry over."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from zeptodb.record import record
from zeptodb.sql.pruning import conjuncts
from zeptodb.sql.relations import Occurrence, Relation, Scope

_FLIPPED: dict[type, type] = {exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE}


@record
class Link:
    """An ASOF JOIN of two of our tables on symbol and time.

    Attributes:
        left: occurrence of the left table.
        right: occurrence of the right table.
        looks_back: whether matches lie at or before the left row's time (>= and >), else at or after; None: around it.
    """

    left: Occurrence
    right: Occurrence
    looks_back: bool | None


@record
class JoinKeys:
    """Pairs (left column, right column) of the equalities and of the inequality, and the latter's direction."""

    equal: list[tuple[exp.Column, str]]
    ordered: tuple[exp.Column, str]
    looks_back: bool


def prepare(join: exp.Expr, right: Relation, scope: Scope) -> list[Link]:
    """Make the ties of one of our tables on the right side unambiguous; what bounds may carry over from the left.

    Of rows with equal keys the last arrived counts.
    """
    occurrence = right.occurrence
    if occurrence is None:
        return []
    right.prunable = frozenset()
    keys = keys_of(join, right)
    if keys is None:
        return []
    symbol = right.symbol_column
    equal = {name.lower() for _, name in keys.equal}
    on_symbol = equal == ({symbol.lower()} if symbol is not None else set())
    on_time = right.time_column is not None and keys.ordered[1].lower() == right.time_column.lower()
    if on_symbol and on_time:
        occurrence.keep = "last"
    else:
        _rank_ties(join, right, occurrence, [name for _, name in keys.equal] + [keys.ordered[1]])
    if symbol is None or not equal or not on_symbol or not on_time:
        return []
    right.prunable = frozenset(("symbol",))
    return _links(keys, occurrence, scope)


def _links(keys: JoinKeys, right: Occurrence, scope: Scope) -> list[Link]:
    lefts = []
    for column, role in ((keys.equal[0][0], "symbol"), (keys.ordered[0], "time")):
        found = scope.resolve_here(column)
        if found is None or found[0].role(found[1][0]) != role:
            return []
        lefts.append(found[0].occurrence)
    left = lefts[0]
    if left is None or left is not lefts[1]:
        return []
    return [Link(left, right, keys.looks_back)]


def prepare_window(join: exp.Expr, right: Relation, scope: Scope) -> list[Link]:
    """What symbols of the left say about the right side of a WINDOW JOIN on equal symbols."""
    condition = join.args.get("on")
    for part in conjuncts(condition) if condition is not None and right.occurrence is not None else ():
        pair = _sides(part, right)
        if pair is None or pair[2] is not exp.EQ or right.role(pair[1]) != "symbol" or right.occurrence is None:
            continue
        found = scope.resolve_here(pair[0])
        if found is not None and found[0].occurrence is not None and found[0].role(found[1][0]) == "symbol":
            return [Link(found[0].occurrence, right.occurrence, None)]
    return []


def keys_of(join: exp.Expr, right: Relation) -> JoinKeys | None:
    """The keys of an as-of join by its condition as written; None when it is none of equalities and one inequality."""
    using = [identifier.name for identifier in join.args.get("using") or ()]
    if using:
        pairs = [(exp.column(exp.to_identifier(name, quoted=True)), name) for name in using]
        return JoinKeys(pairs[:-1], pairs[-1], looks_back=True)
    condition = join.args.get("on")
    equal: list[tuple[exp.Column, str]] = []
    ordered: list[tuple[exp.Column, str, type]] = []
    for part in conjuncts(condition) if condition is not None else ():
        pair = _sides(part, right)
        if pair is None:
            return None
        left, name, operator = pair
        if operator is exp.EQ:
            equal.append((left, name))
        else:
            ordered.append((left, name, operator))
    if len(ordered) != 1:
        return None
    left, name, operator = ordered[0]
    return JoinKeys(equal, (left, name), looks_back=operator in (exp.GT, exp.GTE))


def _sides(part: exp.Expr, right: Relation) -> tuple[exp.Column, str, type] | None:
    """A comparison as (left column, name of the right column, operator read from left to right)."""
    if not isinstance(part, (exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE)):
        return None
    this, other, operator = part.this, part.expression, type(part)
    if not isinstance(this, exp.Column) or not isinstance(other, exp.Column):
        return None
    if _belongs(other, right) and not _belongs(this, right):
        return this, other.name, operator
    if _belongs(this, right) and not _belongs(other, right):
        return other, this.name, _FLIPPED.get(operator, operator)
    return None


def _belongs(column: exp.Column, relation: Relation) -> bool:
    if not relation.is_called(column.table):
        return False
    return relation.columns is None or relation.find(column.name) is not None


def _rank_ties(join: exp.Expr, right: Relation, occurrence: Occurrence, names: list[str]) -> None:
    """Put a subquery around the table that keeps one row per combination of the keys."""
    table = join.this
    if not isinstance(table, exp.Table) or table.args.get("joins") or table.args.get("pivots"):
        return
    if any(right.find(name) is None for name in names):
        return  # DuckDB says that there is no such column
    occurrence.needs_rows = True
    occurrence.is_wrapped = True
    row = exp.column(exp.to_identifier(occurrence.row_name, quoted=True))
    alias = exp.TableAlias(
        this=exp.to_identifier(right.alias, quoted=True),
        columns=[c.copy() for c in (table.args["alias"].args.get("columns") or ())] if table.args.get("alias") else [],
    )
    inner = table.copy()
    inner.set("alias", None)
    stored = [f.name for f in occurrence.schema.fields]
    shown = [name for name, _ in right.columns or ()]
    partition = [exp.column(exp.to_identifier(stored[_position(shown, name)], quoted=True)) for name in names]
    rank = exp.Window(
        this=exp.RowNumber(),
        partition_by=partition,
        order=exp.Order(expressions=[exp.Ordered(this=row.copy(), desc=True, nulls_first=False)]),
        over="OVER",
    )
    only = exp.EQ(this=rank, expression=exp.Literal.number(1))
    query = exp.Select(
        expressions=[exp.Star(except_=[row])], from_=exp.From(this=inner), qualify=exp.Qualify(this=only)
    )
    occurrence.node = inner
    join.set("this", exp.Subquery(this=query, alias=alias))


def _position(names: list[str], name: str) -> int:
    return next(i for i, known in enumerate(names) if known.lower() == name.lower())


def prune_right_sides(links: list[Link]) -> None:
    """Narrow the right sides to the symbols of the left, and to times that a match of a left row can have."""
    for link in links:
        left, right = link.left.bounds, link.right.bounds
        symbols = right.symbols if left.symbols is None else _intersection(left.symbols, right.symbols)
        narrowed = replace(right, symbols=symbols)
        if link.looks_back is None:
            link.right.bounds = narrowed
        elif link.looks_back:
            link.right.bounds = replace(narrowed, to_ns=left.to_ns)
        else:
            link.right.bounds = replace(narrowed, from_ns=left.from_ns)


def _intersection(a: frozenset[int | str], b: frozenset[int | str] | None) -> frozenset[int | str]:
    return a if b is None else a & b
