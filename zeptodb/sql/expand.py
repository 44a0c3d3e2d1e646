"""A statement with our words and tables as one that DuckDB runs over registered Arrow tables: queries and FROM clauses.

What words mean is in `operators`, `tick_words` and `window_words`; what names mean in `relations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping

from sqlglot import exp

from zeptodb.errors import QueryError, UnknownTableError
from zeptodb.record import record
from zeptodb.sql import asof_join, ema_columns, ema_windows, pruning, tick_joins, windows_by_name
from zeptodb.sql.duckdb_names import name_of, written_names
from zeptodb.sql.operators import HANDLERS
from zeptodb.sql.relations import KIND_OF_COLUMN, Columns, Occurrence, OutputColumn, Relation, Scope, ValueKind
from zeptodb.sql.rewrite import Rewriter
from zeptodb.sql.sampling import fraction_of, sampled
from zeptodb.sql.stars import fit_stars, hide_columns, star_columns
from zeptodb.types import Schema

FindTable = Callable[[str], tuple[str, Schema] | None]
ColumnsOf = Callable[[exp.Table], Columns]
UnknownTable = Callable[[str], UnknownTableError]


@record
class Expansion:
    """A statement rewritten for DuckDB.

    Attributes:
        expression: the rewritten statement.
        occurrences: places where our tables are read, in order of appearance.
        columns: names and kinds of the answer's columns; None: unknown.
        has_changed: whether the statement differs from what was written.
    """

    expression: exp.Expr
    occurrences: tuple[Occurrence, ...]
    columns: Columns
    has_changed: bool


def no_columns(node: exp.Table) -> Columns:  # noqa: ARG001
    """What is known of the columns of files where none can be read."""
    return None


def expand(
    expression: exp.Expr,
    parameters: MutableMapping[str, object],
    *,
    find_table: FindTable,
    unknown_table: UnknownTable,
    now_ns: int,
    text: str = "",
    handed: Mapping[str, Columns] | None = None,
    columns_of: ColumnsOf = no_columns,
) -> Expansion:
    """Rewrite a statement (a copy of it) whose parameters all have names.

    `find_table` gives the name and schema of a table by any spelling of its name, None when there is none; a name that
    is neither a table nor something that DuckDB could know raises `unknown_table(name)`. `handed` are further tables,
    by lower-case name, that DuckDB will be handed as they are; `columns_of` gives the columns of files. `text` is the
    statement as it was written: columns without an alias get the names that DuckDB would give them there. Raises
    QueryError and NotSupportedError.
    """
    # Wrapped, so that the statement itself can be replaced like any other node.
    root = exp.Paren(this=expression.copy())
    expander = _Expander(parameters, find_table, unknown_table, columns_of, now_ns)
    columns = expander.statement(root.this, handed or {})
    if expander.rewriter.has_changed:
        expander.name_as_written(text)
    expander.unfold_ema(root)
    return Expansion(root.this, tuple(expander.occurrences), columns, expander.rewriter.has_changed)


class _Expander:
    def __init__(
        self,
        parameters: MutableMapping[str, object],
        find_table: FindTable,
        unknown_table: UnknownTable,
        columns_of: ColumnsOf,
        now_ns: int,
    ) -> None:
        self.occurrences: list[Occurrence] = []
        self._outermost: tuple[exp.Select, list[exp.Expr | None]] | None = None
        self._with_ema: list[Scope] = []
        self.rewriter = Rewriter(parameters, now_ns, HANDLERS, self.query)
        self._find_table = find_table
        self._unknown_table = unknown_table
        self._columns_of = columns_of

    def statement(self, node: exp.Expr, handed: Mapping[str, Columns]) -> Columns:
        """Rewrite a whole statement; its columns if it is a query."""
        if isinstance(node, exp.Query):
            return self.query(node, None, handed)
        # PIVOT, SUMMARIZE, DESCRIBE SELECT and the like: find the tables, then rewrite what there is.
        scope = Scope()
        for child in node.iter_expressions():
            if isinstance(child, (exp.Table, exp.Subquery)):
                self._relation(child, scope, prunable=False)
            else:
                self.rewriter.rewrite(child, scope)
        return None

    # ---- queries ---------------------------------------------------------------------------------------------------

    def query(self, node: exp.Expr, outer: Scope | None, ctes: Mapping[str, Columns]) -> Columns:
        """Rewrite a query in place; its columns."""
        visible = self._with(node, outer, ctes)
        if isinstance(node, exp.Select):
            return self._select(node, outer, visible)
        if isinstance(node, exp.SetOperation):
            columns = self._set_operation(node, outer, visible)
        elif isinstance(node, exp.Subquery):
            columns = self._subquery(node, outer, visible)
        else:
            scope = Scope(ctes=visible, parent=outer)
            for child in list(node.iter_expressions()):
                self.rewriter.rewrite(child, scope)
            return None
        self._modifiers(node, Scope(ctes=visible, parent=outer, aliases=_kinds_by_name(columns)))
        return columns

    def _with(self, node: exp.Expr, outer: Scope | None, ctes: Mapping[str, Columns]) -> dict[str, Columns]:
        visible = dict(ctes)
        clause = node.args.get("with_")
        if clause is None:
            return visible
        for cte in clause.expressions:
            name = cte.alias.lower()
            if clause.args.get("recursive"):
                visible[name] = None
            visible[name] = _renamed(self.query(cte.this, outer, visible), cte.args.get("alias"))
        return visible

    def _set_operation(self, node: exp.SetOperation, outer: Scope | None, ctes: dict[str, Columns]) -> Columns:
        left = self.query(node.this, outer, ctes)
        right = self.query(node.expression, outer, ctes)
        if left is None or right is None or len(left) != len(right) or node.args.get("by_name"):
            return None
        kinds = [a if a is b else ValueKind.OTHER for (_, a), (_, b) in zip(left, right, strict=True)]
        return tuple((name, kind) for (name, _), kind in zip(left, kinds, strict=True))

    def _subquery(self, node: exp.Subquery, outer: Scope | None, ctes: dict[str, Columns]) -> Columns:
        if isinstance(node.this, exp.Query):
            return self.query(node.this, outer, ctes)
        scope = Scope(ctes=ctes, parent=outer)
        self._relation(node.this, scope)
        return None

    def _modifiers(self, node: exp.Expr, scope: Scope) -> None:
        for key in ("order", "limit", "offset"):
            child = node.args.get(key)
            if child is not None:
                self.rewriter.rewrite(child, scope)

    def _select(self, node: exp.Select, outer: Scope | None, ctes: dict[str, Columns]) -> Columns:
        scope = Scope(ctes=ctes, parent=outer)
        source = node.args.get("from_")
        if source is not None:
            self._relation(source.this, scope, prunable=node.args.get("sample") is None)
        links = self._joins(node, scope)
        windows_by_name.spell_out(node)
        scope.is_grouped = node.args.get("group") is not None or _calls(node, (exp.AggFunc,))
        written = [item.copy() if _takes_its_text_as_name(item) else None for item in node.expressions]
        for item in list(node.expressions):
            self.rewriter.rewrite(item, scope)
        done = {"expressions", "from_", "joins", "with_", "windows"}
        for key, value in list(node.args.items()):
            if key not in done:
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, exp.Expr):
                        self.rewriter.rewrite(child, scope)
        for window in node.args.get("windows") or ():
            self.rewriter.rewrite(window, scope)
        where = node.args.get("where")
        if where is not None:
            pruning.prune(scope, where.this, self.rewriter.parameters)
        asof_join.prune_right_sides(links)
        tick_joins.close_windows(node, scope)
        self._break_ties(node, scope)
        if scope.has_ema and ema_columns.take(node, scope, self.rewriter.parameters):
            scope.has_ema = False
        if isinstance(node.parent, exp.Paren) and node.parent.parent is None:
            self._outermost = (node, written)
        else:
            self._keep_names(node, written)
        columns = self._output_columns(node, scope)
        hide_columns(node, scope)
        fit_stars(node, scope)
        if scope.has_ema:
            node.meta["ema"] = len(self._with_ema)
            self._with_ema.append(scope)
        return columns

    def unfold_ema(self, root: exp.Expr) -> None:
        """Put the SELECTs that call ema(x, n) OVER, and copies of them, innermost first, into words of DuckDB."""
        if self._with_ema:
            for node in reversed(list(root.find_all(exp.Select))):
                number = node.meta_get("ema")
                if number is not None:
                    ema_windows.unfold(node, self._with_ema[number])

    def _keep_names(self, node: exp.Select, written: list[exp.Expr | None]) -> None:
        """Columns of subqueries that DuckDB would name after their expression keep its name from before the rewrite."""
        for item, before in zip(list(node.expressions), written, strict=True):
            if before is not None and item.sql("duckdb") != before.sql("duckdb"):
                self._name(item, name_of(before))

    def name_as_written(self, text: str) -> None:
        """Columns of the outermost SELECT get the names that DuckDB would give them in the text."""
        if self._outermost is None:
            return
        node, written = self._outermost
        names = written_names(text) if text else None
        if names is None or len(names) != len(written):
            self._keep_names(node, written)
            return
        for item, before, name in zip(list(node.expressions), written, names, strict=True):
            if before is not None:
                self._name(item, name)

    def _name(self, item: exp.Expr, name: str) -> None:
        alias = exp.Alias(alias=exp.to_identifier(name, quoted=True))
        self.rewriter.replace(item, alias, self.rewriter.kind(item))
        alias.set("this", item)

    def _break_ties(self, node: exp.Select, scope: Scope) -> None:
        """ORDER BY of plain rows: ties come in the order of arrival, as DuckDB's own sort is not stable."""
        order = node.args.get("order")
        if order is None or node.args.get("group") is not None or node.args.get("distinct") is not None:
            return
        if any(isinstance(item.this, exp.Var) for item in order.expressions) or _may_aggregate(node):
            return
        key = scope.arrival_key()
        if key is not None:
            order.append("expressions", exp.Ordered(this=key, nulls_first=False))
            self.rewriter.has_changed = True

    def _output_columns(self, node: exp.Select, scope: Scope) -> Columns:
        result: list[OutputColumn] = []
        for item in node.expressions:
            columns = self._item_columns(item, scope)
            if columns is None:
                return None
            result.extend(columns)
        return tuple(result)

    def _item_columns(self, item: exp.Expr, scope: Scope) -> Columns:
        is_qualified_star = isinstance(item, exp.Column) and isinstance(item.this, exp.Star)
        if isinstance(item, exp.Star) or is_qualified_star:
            star = item.this if is_qualified_star else item
            return star_columns(star, item.args.get("table"), scope)
        if isinstance(item, (exp.Columns, exp.Explode)):
            return None
        return ((item.alias_or_name, self.rewriter.kind(item)),)

    # ---- FROM ------------------------------------------------------------------------------------------------------

    def _joins(self, node: exp.Expr, scope: Scope) -> list[asof_join.Link]:
        links: list[asof_join.Link] = []
        for join in list(node.args.get("joins") or ()):
            if tick_joins.method_of(join) in _MERGING:
                self._merge(node, join, scope)
            else:
                links.extend(self._join(join, scope))
        return links

    def _join(self, join: exp.Expr, scope: Scope) -> list[asof_join.Link]:
        before = len(scope.relations)
        method = tick_joins.method_of(join)
        tick_joins.require_condition(join)
        self._relation(join.this, scope, prunable=method not in ("POSITIONAL", "WINDOW"), lateral=scope)
        added = scope.relations[before:]
        if method == "POSITIONAL":
            for relation in scope.relations:
                relation.prunable = frozenset()
        written = join.copy()
        if method == "AJ0":
            join.set("method", "ASOF")
            join.set("side", "LEFT")
        prepare = _PREPARATIONS.get(method)
        links = prepare(join, added[0], scope) if prepare is not None and len(added) == 1 else []
        condition = join.args.get("on")
        if condition is not None:
            self.rewriter.rewrite(condition, scope)
        _merge_columns(join, added, scope.relations[:before], is_natural=method == "NATURAL")
        if method in ("AJ0", "WINDOW"):
            self.rewriter.has_changed = True
        if method == "AJ0":
            tick_joins.carry_right_time(written, added[0], scope)
        elif method == "WINDOW":
            tick_joins.open_window(join, added[0], scope)
        if str(join.args.get("kind") or "").upper() in ("SEMI", "ANTI"):
            for relation in added:
                relation.is_hidden = True
        return links

    def _merge(self, node: exp.Expr, join: exp.Expr, scope: Scope) -> None:
        """UNION JOIN and PLUS JOIN: what stands before and what is joined become one relation."""
        if isinstance(node, exp.Select) and node.args.get("from_") is None:
            raise QueryError(f"{tick_joins.method_of(join)} JOIN has nothing before it; write FROM and a table there.")
        left = node.args["from_"].this if isinstance(node, exp.Select) else node
        joins = [other for other in node.args["joins"] if other is not join]
        if len(scope.relations) != 1 or len(node.args["joins"]) != len(joins) + 1 or node.args["joins"][0] is not join:
            raise QueryError(
                f"{tick_joins.method_of(join)} JOIN puts two relations together; put the join before it in a subquery: "
                "FROM (SELECT ... FROM a JOIN b ...) t."
            )
        node.set("joins", joins)
        inner = Scope(ctes=scope.ctes, parent=scope.parent)
        self._relation(join.this, inner, prunable=False)
        if len(inner.relations) != 1:
            raise QueryError(f"{tick_joins.method_of(join)} JOIN joins one table or subquery at a time.")
        merge = _MERGING[tick_joins.method_of(join)]
        scope.relations[-1] = merge(left, join.this, (scope.relations[-1], inner.relations[0]), join)
        self.rewriter.has_changed = True

    def _relation(self, node: exp.Expr, scope: Scope, *, prunable: bool = True, lateral: Scope | None = None) -> None:
        """Add what one item of a FROM clause offers to the scope."""
        fraction = fraction_of(node, self.rewriter)
        joins = node.args.get("joins")
        self._item(node, scope, prunable=prunable, lateral=lateral)
        occurrence = scope.relations[-1].occurrence
        if fraction is not None and occurrence is not None and occurrence.node is node:
            occurrence.fraction = fraction
        elif fraction is not None:
            node.set("joins", None)
            node = sampled(node, fraction)
            node.set("joins", joins)
            scope.relations[-1].alias = node.alias
        self._joins(node, scope)

    def _item(self, node: exp.Expr, scope: Scope, *, prunable: bool, lateral: Scope | None) -> None:
        if isinstance(node, exp.Table):
            self._table(node, scope, prunable=prunable)
        elif isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Query):
            self._nested_tables(node, scope)
        elif isinstance(node, exp.Query):
            columns = self.query(node, lateral if lateral is not None else scope.parent, scope.ctes)
            scope.relations.append(Relation(node.alias, _renamed(columns, node.args.get("alias"))))
        else:
            for child in list(node.iter_expressions()):
                self.rewriter.rewrite(child, scope)
            scope.relations.append(Relation(node.alias, None))
        self._pivots(node, scope)

    def _pivots(self, node: exp.Expr, scope: Scope) -> None:
        pivots = node.args.get("pivots") or ()
        if not pivots:
            return
        for pivot in pivots:
            for child in list(pivot.iter_expressions()):
                self.rewriter.rewrite(child, scope)
        relation = scope.relations[-1]
        scope.relations[-1] = Relation(pivots[-1].alias or relation.alias, None)

    def _nested_tables(self, node: exp.Subquery, scope: Scope) -> None:
        """`(a JOIN b ...)`: its tables are visible by their own names, unless an alias covers them."""
        if not node.alias:
            self._relation(node.this, scope, prunable=False)
            return
        inner = Scope(ctes=scope.ctes, parent=scope.parent)
        self._relation(node.this, inner, prunable=False)
        scope.relations.append(Relation(node.alias, None))

    def _table(self, node: exp.Table, scope: Scope, *, prunable: bool) -> None:
        if not isinstance(node.this, exp.Identifier):
            self._table_function(node, scope)
            return
        alias = node.alias_or_name
        is_bare = node.args.get("db") is None
        if is_bare and node.name.lower() in scope.ctes:
            scope.relations.append(Relation(alias, _renamed(scope.ctes[node.name.lower()], node.args.get("alias"))))
            return
        found = self._find_table(node.name) if is_bare else None
        if found is None:
            if is_bare and not _may_be_known_to_duckdb(node):
                raise self._unknown_table(node.name)
            scope.relations.append(Relation(alias, _renamed(self._columns_of(node), node.args.get("alias"))))
            return
        name, schema = found
        occurrence = Occurrence(name, schema, node, f"__row_{len(self.occurrences)}")
        node.meta["occurrence"] = occurrence.row_name
        self.occurrences.append(occurrence)
        columns = _renamed(tuple((f.name, KIND_OF_COLUMN[f.type]) for f in schema.fields), node.args.get("alias"))
        relation = Relation(alias, columns, occurrence)
        if not prunable or node.args.get("sample") is not None or node.args.get("pivots"):
            relation.prunable = frozenset()
        scope.relations.append(relation)

    def _table_function(self, node: exp.Table, scope: Scope) -> None:
        function = node.this
        for child in list(function.iter_expressions()):
            self.rewriter.rewrite(child, scope)
        arguments = function.expressions
        if (
            isinstance(function, exp.Anonymous)
            and function.name.lower() == "duckdb"
            and len(arguments) == 1
            and isinstance(arguments[0], exp.Literal)
        ):
            # duckdb('file') reads a file of any kind that DuckDB knows.
            node.set("this", exp.to_identifier(arguments[0].name, quoted=True))
            self.rewriter.has_changed = True
        scope.relations.append(Relation(node.alias_or_name, _renamed(self._columns_of(node), node.args.get("alias"))))


_MERGING = {"UNION": tick_joins.union, "PLUS": tick_joins.plus}
_PREPARATIONS = {"ASOF": asof_join.prepare, "AJ0": asof_join.prepare, "WINDOW": asof_join.prepare_window}


# ---- small facts about nodes ----------------------------------------------------------------------------------------


def _takes_its_text_as_name(item: exp.Expr) -> bool:
    return not isinstance(item, (exp.Alias, exp.Star, exp.Column, exp.Columns, exp.Aliases, exp.Explode))


def _renamed(columns: Columns, alias: exp.Expr | None) -> Columns:
    """The columns under the names that `AS t(a, b)` gives to the first of them."""
    names = [] if alias is None else [c.name for c in alias.args.get("columns") or ()]
    if columns is None or not names:
        return columns
    renamed = [(name, kind) for name, (_, kind) in zip(names, columns, strict=False)]
    return (*renamed, *columns[len(renamed) :])


def _kinds_by_name(columns: Columns) -> dict[str, ValueKind]:
    return {name.lower(): kind for name, kind in columns or ()}


def _may_be_known_to_duckdb(node: exp.Table) -> bool:
    """Files in quotes and the catalog tables that DuckDB offers without a schema."""
    name = node.name.lower()
    return any(c in name for c in "./\\:*") or name.startswith(("sqlite_", "pg_", "duckdb_", "pragma_"))


def _may_aggregate(node: exp.Select) -> bool:
    """Whether the SELECT list or HAVING may aggregate; unknown functions count as aggregates."""
    return node.args.get("having") is not None or _calls(node, (exp.AggFunc, exp.Anonymous, exp.Explode))


def _calls(node: exp.Select, kinds: tuple[type[exp.Expr], ...]) -> bool:
    """Whether the SELECT list calls a function of these kinds, other than in windows and subqueries."""
    return any(
        not _is_inside(found, item, (exp.Window, exp.Query))
        for item in node.expressions
        for found in item.find_all(*kinds)
    )


def _is_inside(node: exp.Expr, top: exp.Expr, kinds: tuple[type[exp.Expr], ...]) -> bool:
    above: exp.Expr | None = node.parent if node is not top else None
    while above is not None:
        if isinstance(above, kinds):
            return True
        above = above.parent if above is not top else None
    return False


def _merge_columns(join: exp.Expr, added: list[Relation], earlier: list[Relation], *, is_natural: bool) -> None:
    names = {identifier.name.lower() for identifier in join.args.get("using") or ()}
    for relation in added:
        if is_natural:
            names = {name.lower() for r in earlier for name, _ in r.columns or ()}
        relation.merged = frozenset(names)
