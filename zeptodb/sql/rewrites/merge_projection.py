"""`SELECT ... FROM (SELECT columns FROM table WHERE ...)` becomes one SELECT over the table; so do plain CTEs."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.record import record
from zeptodb.sql.plan import SelectPlan
from zeptodb.sql.rewrites.select_planner import SelectPlanner, visible_ctes
from zeptodb.sql.sources import Source, is_modified_star, is_star

_INNER_CLAUSES = {"expressions", "from_", "where"}


@record
class _Inner:
    """The SELECT inside: what it offers, by lower-case name, as (name, expression over its table)."""

    select: exp.Select
    alias: str
    offered: dict[str, tuple[str, exp.Expr]]
    source: Source


def merge_projection(select: exp.Select, planner: SelectPlanner) -> exp.Select | None:
    """One SELECT in place of two; None when the inner one does more than to project and to filter one table."""
    inner = _inner_of(select, planner)
    if inner is None or (select.find(exp.Query) is not None and _has_other_queries(select, inner.select)):
        return None
    if not _aliases_are_clear(select, inner):
        return None
    merged: exp.Select = select.copy()
    merged.set("from_", exp.From(this=inner.select.args["from_"].this.copy()))
    aliases = {item.alias.lower() for item in select.expressions if isinstance(item, exp.Alias)}
    if not _name_items(merged, select, inner, planner) or not _replace_columns(merged, inner, aliases):
        return None
    conditions = [s.args["where"].this for s in (inner.select, merged) if s.args.get("where") is not None]
    if conditions:
        merged.set("where", exp.Where(this=exp.and_(*(c.copy() for c in conditions), dialect="duckdb")))
    return merged


def _inner_of(select: exp.Select, planner: SelectPlanner) -> _Inner | None:
    clause = select.args.get("from_")
    if clause is None or select.args.get("joins") or clause.this.args.get("joins"):
        return None
    node = clause.this
    found = node.this if isinstance(node, exp.Subquery) else _cte_body(node)
    if not isinstance(found, exp.Select) or _is_more_than_named(node):
        return None
    if any(value and key not in _INNER_CLAUSES for key, value in found.args.items()):
        return None
    source = planner.only_source(found)
    if source is None or not isinstance(planner.plan(found).plan, SelectPlan):
        return None
    if found.args["from_"].this.name.lower() in visible_ctes(select):
        return None  # out there the name means something else
    offered = _offered(found, source, planner)
    return None if offered is None else _Inner(found, node.alias_or_name, offered, source)


def _is_more_than_named(node: exp.Expr) -> bool:
    alias = node.args.get("alias")
    extra = [key for key, value in node.args.items() if value and key not in ("this", "alias")]
    return bool(extra) or (alias is not None and bool(alias.args.get("columns")))


def _cte_body(node: exp.Expr) -> exp.Expr | None:
    """The query behind the name of a common table expression, the innermost of that name."""
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        return None
    name = node.name.lower()
    if name not in visible_ctes(node):
        return None
    above: exp.Expr | None = node
    while above is not None:
        clause = above.args.get("with_")
        if clause is not None and not isinstance(above, exp.With):
            for cte in clause.expressions:
                if cte.alias.lower() == name:
                    is_plain = not clause.args.get("recursive") and not cte.args["alias"].args.get("columns")
                    return cte.this if is_plain and not _is_inside(node, cte) else None
        above = above.parent
    return None


def _is_inside(node: exp.Expr, outer: exp.Expr) -> bool:
    above: exp.Expr | None = node
    while above is not None and above is not outer:
        above = above.parent
    return above is outer


def _offered(inner: exp.Select, source: Source, planner: SelectPlanner) -> dict[str, tuple[str, exp.Expr]] | None:
    offered: dict[str, tuple[str, exp.Expr]] = {}
    for position, item in enumerate(inner.expressions):
        if is_star(item):
            pairs = [(f.name, exp.column(exp.to_identifier(f.name, quoted=True))) for f in source.schema.fields]
        else:
            pairs = [(planner.output_name(inner, position), item.unalias())]
        for name, expression in pairs:
            if name.lower() in offered:
                return None
            offered[name.lower()] = (name, expression)
    return offered


def _has_other_queries(select: exp.Select, inner: exp.Select) -> bool:
    """Whether there are queries besides the inner one, which may refer to columns of this one."""
    clauses = {id(node) for key in ("from_", "with_") for node in [select.args.get(key)] if node is not None}
    return any(
        query is not inner and not _is_below(query, clauses, select)
        for query in select.find_all(exp.Query)
        if query is not select
    )


def _is_below(node: exp.Expr, tops: set[int], end: exp.Expr) -> bool:
    above: exp.Expr | None = node
    while above is not None and above is not end:
        if id(above) in tops:
            return True
        above = above.parent
    return False


def _aliases_are_clear(select: exp.Select, inner: _Inner) -> bool:
    """Whether no alias of the SELECT list has the name of something else that is offered or stored."""
    for item in select.expressions:
        if not isinstance(item, exp.Alias):
            continue
        name, plain = item.alias.lower(), item.this.unnest()
        offered = inner.offered.get(plain.name.lower()) if isinstance(plain, exp.Column) else None
        stored = None if offered is None else offered[1].unnest()
        is_itself = isinstance(plain, exp.Column) and plain.name.lower() == name
        is_stored_so = isinstance(stored, exp.Column) and stored.name.lower() == name
        if name in inner.offered and not is_itself:
            return False
        if inner.source.find(item.alias) is not None and not is_stored_so:
            return False
    return True


def _name_items(merged: exp.Select, select: exp.Select, inner: _Inner, planner: SelectPlanner) -> bool:
    """Spell out stars and give every item the name that it has now."""
    items: list[exp.Expr] = []
    for position, item in enumerate(select.expressions):
        if is_star(item):
            qualifier = item.args.get("table")
            if is_modified_star(item) or (qualifier is not None and qualifier.name.lower() != inner.alias.lower()):
                return False
            items += [
                _named(exp.column(exp.to_identifier(name, quoted=True)), name) for name, _ in inner.offered.values()
            ]
            continue
        plain = item.unnest()
        known = inner.offered.get(plain.name.lower()) if isinstance(plain, exp.Column) else None
        name = known[0] if known is not None else planner.output_name(select, position)
        items.append(item.copy() if isinstance(item, exp.Alias) else _named(item.copy(), name))
    merged.set("expressions", items)
    return True


def _named(item: exp.Expr, name: str) -> exp.Expr:
    return exp.Alias(this=item, alias=exp.to_identifier(name, quoted=True))


def _replace_columns(merged: exp.Select, inner: _Inner, aliases: set[str]) -> bool:
    """Put what the inner SELECT computes in place of its columns; False when a name is neither that nor an alias."""
    clauses = [value for key, value in merged.args.items() if key not in ("from_", "with_") and value]
    nodes = [node for value in clauses for node in (value if isinstance(value, list) else [value])]
    columns = [c for node in nodes if isinstance(node, exp.Expr) for c in node.find_all(exp.Column)]
    for column in columns:
        qualifier = column.table.lower()
        known = inner.offered.get(column.name.lower()) if qualifier in ("", inner.alias.lower()) else None
        if known is not None:
            expression = known[1].copy()
            column.replace(expression if isinstance(expression, exp.Column) else exp.Paren(this=expression))
        elif qualifier or column.name.lower() not in aliases:
            return False
    return True
