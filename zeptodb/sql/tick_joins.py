"""AJ0, UNION, PLUS and WINDOW JOIN on their way to DuckDB."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.errors import QueryError
from zeptodb.sql import asof_join
from zeptodb.sql.pruning import conjuncts
from zeptodb.sql.relations import Columns, OutputColumn, Relation, Scope, ValueKind, WindowJoin
from zeptodb.sql.rewrite import Rewriter
from zeptodb.sql.time_values import call
from zeptodb.sql.window_buckets import put_into_buckets

NUMERIC = (ValueKind.INTEGER, ValueKind.FLOAT)

_AGGREGATES = {
    "wj_avg": "avg",
    "wj_sum": "sum",
    "wj_min": "min",
    "wj_max": "max",
    "wj_count": "count",
    "wj_first": "first",
    "wj_last": "last",
}
WINDOW_FUNCTIONS = frozenset(_AGGREGATES)


def method_of(join: exp.Expr) -> str:
    """The word before JOIN that says how rows match: ASOF, AJ0, WINDOW, UNION, PLUS, ...; "" for plain joins."""
    return str(join.args.get("method") or "").upper()


def require_condition(join: exp.Expr) -> None:
    """Raise QueryError for a join of a kind that needs ON or USING and has neither."""
    example = _EXAMPLES.get(method_of(join))
    if example is not None and join.args.get("on") is None and not join.args.get("using"):
        raise QueryError(f"{method_of(join)} JOIN needs a condition, such as {example}.")


ASOF_EXAMPLE = "ON t.symbol = q.symbol AND t.timestamp >= q.timestamp"
_EXAMPLES = {
    "ASOF": ASOF_EXAMPLE,
    "AJ0": ASOF_EXAMPLE,
    "WINDOW": "ON t.symbol = q.symbol AND q.timestamp BETWEEN t.timestamp - INTERVAL '5 seconds' AND t.timestamp",
    "PLUS": "ON t.symbol = q.symbol or USING (symbol)",
}


# ---- AJ0 -----------------------------------------------------------------------------------------------------------


def carry_right_time(join: exp.Expr, right: Relation, scope: Scope) -> None:
    """Let the right row's time stand in place of the left row's, everywhere but in the condition of the join.

    To be called after the condition is rewritten.
    """
    keys = asof_join.keys_of(join, right)
    if keys is None:
        raise QueryError(f"AJ0 JOIN needs equal keys and one comparison of times, such as {ASOF_EXAMPLE}.")
    left, name = keys.ordered
    found = scope.resolve_here(left)
    if found is None or found[0] is right:
        raise QueryError(f"AJ0 JOIN does not know the table of {left.sql('duckdb')}; write it as table.column.")
    relation, (column, _) = found
    if name.lower() == column.lower():
        right.merged |= {name.lower()}  # `*` shows the time once
    relation.substitutes[column.lower()] = exp.column(
        exp.to_identifier(name, quoted=True), exp.to_identifier(right.alias, quoted=True)
    )


# ---- UNION and PLUS ------------------------------------------------------------------------------------------------


def union(left: exp.Expr, right: exp.Expr, relations: tuple[Relation, Relation], join: exp.Expr) -> Relation:
    """Put `left UNION JOIN right` in the place of `left`: all rows of both, NULL in columns that a side lacks."""
    if join.args.get("on") is not None or join.args.get("using"):
        raise QueryError("UNION JOIN takes neither ON nor USING: it puts the rows of both tables one below the other.")
    a, b = relations
    query = exp.Union(expression=_everything_of(right), distinct=False, by_name=True)
    _put_in_place(left, query, a)
    query.set("this", _everything_of(left))
    return Relation(a.alias, _united(a.columns, b.columns), other_names=_names(a, b))


def _united(left: Columns, right: Columns) -> Columns:
    if left is None or right is None:
        return None
    kinds = {name.lower(): kind for name, kind in right}
    known = {name.lower() for name, _ in left}
    shared = [(name, kind if kinds.get(name.lower(), kind) is kind else ValueKind.OTHER) for name, kind in left]
    return (*shared, *(column for column in right if column[0].lower() not in known))


def plus(left: exp.Expr, right: exp.Expr, relations: tuple[Relation, Relation], join: exp.Expr) -> Relation:
    """Put `left PLUS JOIN right` in the place of `left`.

    The rows of the left with, where the keys match, the sum of the matching right rows added to the numeric columns
    that are no keys; a numeric column of the right alone is added as a column. NULL counts as nothing.
    """
    require_condition(join)
    a, b = relations
    pairs = _equal_pairs(join, a, b)
    added = _summed_columns(a, b, {x.lower() for x, _ in pairs}, {y.lower() for _, y in pairs})
    own = {name.lower() for name, _ in a.columns or ()}
    inner = exp.Select(
        expressions=[
            *(_aliased(_column(b.alias, y), f"key_{i}") for i, (_, y) in enumerate(pairs)),
            *(_aliased(call("sum", _column(b.alias, name)), name) for name, _ in added),
        ],
        from_=exp.From(this=right),
        group=exp.Group(expressions=[exp.Literal.number(i + 1) for i in range(len(pairs))]),
    )
    sums = "plus_sums"
    condition = exp.and_(
        *(exp.EQ(this=_column(a.alias, x), expression=_column(sums, f"key_{i}")) for i, (x, _) in enumerate(pairs))
    )
    replaced = [
        _aliased(_plus(_column(a.alias, name), _column(sums, name)), name) for name, _ in added if name.lower() in own
    ]
    star = exp.column(exp.Star(replace=replaced) if replaced else exp.Star(), _quoted(a.alias))
    extra = [column for column in added if column[0].lower() not in own]
    query = exp.Select(expressions=[star, *(_aliased(_column(sums, name), name) for name, _ in extra)])
    _put_in_place(left, query, a)
    query.set("from_", exp.From(this=left))
    table = exp.Subquery(this=inner, alias=exp.TableAlias(this=_quoted(sums)))
    query.set("joins", [exp.Join(this=table, side="LEFT", on=condition)])
    return Relation(a.alias, (*(a.columns or ()), *extra), other_names=_names(a, b))


def _plus(left: exp.Expr, right: exp.Expr) -> exp.Expr:
    return exp.Coalesce(this=exp.Add(this=left, expression=right), expressions=[left.copy(), right.copy()])


def _equal_pairs(join: exp.Expr, left: Relation, right: Relation) -> list[tuple[str, str]]:
    using = [identifier.name for identifier in join.args.get("using") or ()]
    if using:
        return [(name, name) for name in using]
    pairs = []
    for part in conjuncts(join.args["on"]):
        sides = (part.this, part.expression) if isinstance(part, exp.EQ) else ()
        columns = [side for side in sides if isinstance(side, exp.Column)]
        if len(columns) == 2 and right.is_called(columns[0].table):
            columns.reverse()
        if len(columns) < 2 or not left.is_called(columns[0].table) or not right.is_called(columns[1].table):
            raise QueryError(
                "PLUS JOIN matches equal columns of both tables, such as ON t.symbol = q.symbol, not "
                f"{part.sql('duckdb')}."
            )
        pairs.append((columns[0].name, columns[1].name))
    return pairs


def _summed_columns(left: Relation, right: Relation, left_keys: set[str], right_keys: set[str]) -> list[OutputColumn]:
    """The numeric columns of the right, under their names in the left where it has them, that are no keys."""
    if left.columns is None or right.columns is None:
        raise QueryError("PLUS JOIN has to know the columns of both sides; CREATE TABLE ... AS SELECT them first.")
    known = {name.lower(): (name, kind) for name, kind in left.columns if name.lower() not in left_keys}
    others = {name.lower() for name, _ in left.columns} - known.keys()
    result = []
    for name, kind in right.columns:
        own = known.get(name.lower())
        kinds = (kind,) if own is None else (kind, own[1])
        if name.lower() in right_keys | others or name in (right.symbol_column, left.symbol_column):
            continue
        if ValueKind.OTHER in kinds and not set(kinds) - {ValueKind.OTHER, *NUMERIC}:
            raise QueryError(f'PLUS JOIN cannot tell whether column "{name}" is a number; CAST it to a type.')
        if all(k in NUMERIC for k in kinds):
            result.append((name if own is None else own[0], kind if own is None else own[1]))
    return result


def _put_in_place(left: exp.Expr, query: exp.Query, relation: Relation) -> None:
    alias = exp.TableAlias(this=_quoted(relation.alias)) if relation.alias else None
    left.replace(exp.Subquery(this=query, alias=alias))


def _everything_of(node: exp.Expr) -> exp.Select:
    return exp.Select(expressions=[exp.Star()], from_=exp.From(this=node))


def _names(left: Relation, right: Relation) -> frozenset[str]:
    return left.other_names | right.other_names | {right.alias.lower()}


# ---- WINDOW --------------------------------------------------------------------------------------------------------


def open_window(join: exp.Expr, right: Relation, scope: Scope) -> None:
    """Make a WINDOW JOIN a lateral subquery of the right side, whose condition is rewritten already."""
    if not right.alias:
        raise QueryError("WINDOW JOIN needs a name for its right side: WINDOW JOIN (SELECT ...) q ON ...")
    query = exp.Select(expressions=[])
    right.window = WindowJoin(join, query)
    right.is_hidden = True
    condition, node = join.args["on"], join.this
    lateral = exp.Lateral(this=exp.Subquery(this=query), alias=exp.TableAlias(this=_quoted(right.alias)))
    node.replace(lateral)
    condition.replace(exp.true())
    source, chosen = put_into_buckets(node, condition, right, scope)
    query.set("from_", exp.From(this=source))
    query.set("where", exp.Where(this=chosen))
    join.set("method", None)
    join.set("side", "LEFT")


def close_windows(node: exp.Expr, scope: Scope) -> None:
    """Drop WINDOW JOINs of which nothing was asked: every left row stays one row; the others' columns hide from `*`."""
    for relation in scope.relations:
        if relation.window is not None and not relation.window.query.expressions:
            joins = [join for join in node.args["joins"] if join is not relation.window.join]
            node.set("joins", joins)


def window_function(rewriter: Rewriter, node: exp.Expr, scope: Scope) -> ValueKind:
    """wj_avg(x) and the like: an aggregate of the right rows of a WINDOW JOIN; count 0 and else NULL without any."""
    name = node.name.lower()
    if len(node.expressions) != 1:
        raise QueryError(f"{name}(x) takes 1 argument, {len(node.expressions)} were given.")
    argument = node.expressions[0]
    relation = _window_of(argument, scope)
    if relation is None or relation.window is None:
        raise QueryError(f"{name}(x) stands for a column of the right side of a WINDOW JOIN.")
    kind = rewriter.kind(argument)
    if name in ("wj_first", "wj_last"):
        inner = Scope(relations=[relation])
        keys = [exp.Ordered(this=key, nulls_first=False) for key in inner.order_keys()]
        value = argument.copy()
        argument = exp.Order(this=value, expressions=keys) if keys else value
    items = relation.window.query.expressions
    column = f"__wj_{len(items)}"
    relation.window.query.append("expressions", _aliased(call(_AGGREGATES[name], argument.copy()), column))
    results = {"wj_avg": ValueKind.FLOAT, "wj_count": ValueKind.INTEGER}
    if name == "wj_sum" and kind is ValueKind.TIME:
        kind = ValueKind.INTEGER
    return rewriter.replace(node, _column(relation.alias, column), results.get(name, kind))


def _window_of(argument: exp.Expr, scope: Scope) -> Relation | None:
    """The WINDOW JOIN whose columns the argument names; the only one when it names none."""
    for level in scope.outward():
        windows = [relation for relation in level.relations if relation.window is not None]
        for column in argument.find_all(exp.Column):
            for relation in windows:
                called = relation.is_called(column.table) if column.table else relation.find(column.name) is not None
                if called:
                    return relation
        if len(windows) == 1:
            return windows[0]
    return None


def is_inside_window_function(node: exp.Expr) -> bool:
    """Whether the node stands in the argument of a wj_ function."""
    above = node.parent
    while above is not None and not isinstance(above, exp.Query):
        if isinstance(above, exp.Anonymous) and above.name.lower() in WINDOW_FUNCTIONS:
            return True
        above = above.parent
    return False


# ---- nodes ---------------------------------------------------------------------------------------------------------


def _quoted(name: str) -> exp.Identifier:
    return exp.to_identifier(name, quoted=True)


def _column(table: str, name: str) -> exp.Column:
    return exp.column(_quoted(name), _quoted(table) if table else None)


def _aliased(node: exp.Expr, name: str) -> exp.Alias:
    return exp.Alias(this=node, alias=_quoted(name))
