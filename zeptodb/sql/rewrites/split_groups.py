"""A grouped SELECT in two: keys and aggregates inside, everything that is computed from them outside.

The inner one can be native however the outer one goes on: scalar functions of aggregates, windows over groups, QUALIFY.
"""

from __future__ import annotations

from sqlglot import exp

from zeptodb.sql.rewrites.select_planner import SelectPlanner
from zeptodb.sql.select_statement import is_aggregate_call
from zeptodb.sql.sources import Source, is_star

GROUPS = "groups"
_INSIDE = ("from_", "where", "group")
_OUTSIDE = ("expressions", "having", "order", "limit", "offset", "distinct", "qualify", "windows", "with_")


class _NotSplitError(Exception):
    """The SELECT cannot be taken apart."""


def split_groups(select: exp.Select, planner: SelectPlanner) -> exp.Select | None:
    """The outer SELECT over the inner one, which is native; None when it is not, or there is nothing to gain."""
    source = planner.only_source(select)
    if source is None or any(value and key not in (*_INSIDE, *_OUTSIDE) for key, value in select.args.items()):
        return None
    group = select.args.get("group")
    if group is not None and any(value and key != "expressions" for key, value in group.args.items()):
        return None
    outer: exp.Select = select.copy()
    planner_names = [None if is_star(i) else planner.output_name(select, n) for n, i in enumerate(select.expressions)]
    try:
        inner = _Splitter(outer, source, planner_names).split()
    except _NotSplitError:
        return None
    return outer if planner.plan(inner).plan is not None else None


class _Splitter:
    def __init__(self, outer: exp.Select, source: Source, names: list[str | None]) -> None:
        self._outer = outer
        self._source = source
        self._names = names
        self._keys: list[exp.Expr] = []
        self._calls: list[exp.Expr] = []
        self._aliases: set[str] = set()

    def split(self) -> exp.Select:
        """Make the SELECT the outer one; the inner one, which has become its FROM."""
        outer = self._outer
        if any(name is None for name in self._names):
            raise _NotSplitError
        self._unqualify()
        self._aliases = {item.alias.lower() for item in outer.expressions if isinstance(item, exp.Alias)}
        self._check_aliases()
        group = outer.args.get("group")
        self._keys = [] if group is None else [self._key(node) for node in group.expressions]
        for item, name in zip(list(outer.expressions), self._names, strict=True):
            shown = item if isinstance(item, exp.Alias) else None
            value = self._taken_apart((shown.this if shown is not None else item).copy(), in_select=True)
            alias = shown.args["alias"].copy() if shown is not None else exp.to_identifier(name, quoted=True)
            item.replace(exp.Alias(this=value, alias=alias))
        clauses: list[exp.Expr | None] = [outer.args.get(key) for key in ("having", "order", "qualify")]
        for clause in (*clauses, *(outer.args.get("windows") or ())):
            if clause is not None:
                self._rewrite_children(clause)
        if not self._calls and group is None:
            raise _NotSplitError
        inner = self._inner()
        self._go_outside(inner)
        return inner

    def _inner(self) -> exp.Select:
        items = [_named(key.copy(), f"key_{i}") for i, key in enumerate(self._keys)]
        items += [_named(call.copy(), f"value_{i}") for i, call in enumerate(self._calls)]
        inner = exp.Select(expressions=items or [_named(exp.Count(this=exp.Star()), "value_0")])
        for key in ("from_", "where"):
            inner.set(key, self._outer.args[key].copy() if self._outer.args.get(key) is not None else None)
        if self._keys:
            inner.set("group", exp.Group(expressions=[exp.Literal.number(i + 1) for i in range(len(self._keys))]))
        return inner

    def _go_outside(self, inner: exp.Select) -> None:
        outer = self._outer
        having = outer.args.get("having")
        outer.set("group", None)
        outer.set("having", None)
        outer.set("where", exp.Where(this=having.this.copy()) if having is not None else None)
        alias = exp.TableAlias(this=exp.to_identifier(GROUPS))
        outer.set("from_", exp.From(this=exp.Subquery(this=inner, alias=alias)))

    # ---- names -----------------------------------------------------------------------------------------------------

    def _unqualify(self) -> None:
        for column in self._outer.find_all(exp.Column):
            if column.table and column.table.lower() == self._source.name.lower():
                column.set("table", None)

    def _check_aliases(self) -> None:
        """An alias with the name of a column must be that column."""
        for item in self._outer.expressions:
            if isinstance(item, exp.Alias) and self._source.find(item.alias) is not None:
                plain = item.this.unnest()
                if not isinstance(plain, exp.Column) or plain.name.lower() != item.alias.lower():
                    raise _NotSplitError

    def _key(self, node: exp.Expr) -> exp.Expr:
        """The expression behind a position or an alias."""
        items = self._outer.expressions
        if isinstance(node, exp.Literal):
            if node.is_string or not node.name.isdigit() or not 1 <= int(node.name) <= len(items):
                raise _NotSplitError
            item: exp.Expr = items[int(node.name) - 1].unalias().copy()
            return item
        if isinstance(node, exp.Column) and self._source.find(node.name) is None:
            for item in items:
                if isinstance(item, exp.Alias) and item.alias.lower() == node.name.lower():
                    named: exp.Expr = item.this.copy()
                    return named
        return node.copy()

    # ---- expressions -------------------------------------------------------------------------------------------------

    def _taken_apart(self, node: exp.Expr, *, in_select: bool = False) -> exp.Expr:
        """The expression over the inner SELECT's columns."""
        for i, key in enumerate(self._keys):
            if node.unnest() == key.unnest():
                return exp.column(f"key_{i}")
        if isinstance(node, exp.Window):
            self._rewrite_window(node)
            return node
        if is_aggregate_call(node):
            return self._call(node)
        if isinstance(node, exp.Column):
            if not in_select and not node.table and node.name.lower() in self._aliases:
                return node
            raise _NotSplitError
        if isinstance(node, (exp.Query, exp.Star, exp.IgnoreNulls, exp.RespectNulls, exp.WithinGroup)):
            raise _NotSplitError
        self._rewrite_children(node, in_select=in_select)
        return node

    def _rewrite_children(self, node: exp.Expr, *, in_select: bool = False) -> None:
        for child in list(node.iter_expressions()):
            new = self._taken_apart(child, in_select=in_select)
            if new is not child:
                child.replace(new)

    def _rewrite_window(self, node: exp.Window) -> None:
        """The function of a window sees groups: its arguments are taken apart, not the call itself."""
        function: exp.Expr = node.this
        while isinstance(function, (exp.IgnoreNulls, exp.RespectNulls, exp.Filter)):
            if isinstance(function, exp.Filter):
                self._rewrite_children(function.expression)
            function = function.this
        if not (isinstance(function, exp.Count) and isinstance(function.this, exp.Star)):
            self._rewrite_children(function)
        for child in list(node.iter_expressions()):
            if child is not node.this:
                new = self._taken_apart(child)
                if new is not child:
                    child.replace(new)

    def _call(self, node: exp.Expr) -> exp.Column:
        if any(isinstance(n, (exp.Window, exp.Query)) for n in node.walk()):
            raise _NotSplitError
        if node not in self._calls:
            self._calls.append(node.copy())
        return exp.column(f"value_{self._calls.index(node)}")


def _named(node: exp.Expr, name: str) -> exp.Alias:
    return exp.Alias(this=node, alias=exp.to_identifier(name))
