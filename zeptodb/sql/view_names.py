"""Names of views in statements, replaced by their queries."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from sqlglot import exp

from zeptodb.errors import QueryError
from zeptodb.sql.dialect import parse
from zeptodb.sql.source_text import NOT_AS_WRITTEN
from zeptodb.storage.catalog import Catalog, View
from zeptodb.storage.table import Table

MAX_NESTED_VIEWS = 32


def inline(statement: exp.Expr, catalog: Catalog) -> exp.Expr:
    """The statement with the query of each view that is not materialized in the place of its name.

    Itself when it names none. Raises QueryError for views that are nested too deeply.
    """
    if not any(True for _ in _named(statement, catalog)):
        return statement
    root = exp.Paren(this=statement.copy())
    for _ in range(MAX_NESTED_VIEWS):
        found = list(_named(root, catalog))
        if not found:
            result: exp.Expr = root.this
            result.parent = None
            result.meta[NOT_AS_WRITTEN] = True
            return result
        for node, view in found:
            _put_in_place(node, view)
    raise QueryError(f"Views are nested more than {MAX_NESTED_VIEWS} levels deep.")


def _put_in_place(node: exp.Table, view: View) -> None:
    query = query_of(view.text).copy()
    for part in query.walk():
        part.meta.pop("start", None)  # places in another text
        part.meta.pop("end", None)
    given = node.args.get("alias")
    names = [c.copy() for c in given.args.get("columns") or ()] if given is not None else []
    columns = names + [exp.to_identifier(c, quoted=True) for c in view.columns[len(names) :]]
    alias = exp.TableAlias(this=exp.to_identifier(node.alias_or_name, quoted=True), columns=columns)
    subquery = exp.Subquery(this=query, alias=alias)
    for key in ("joins", "fraction", "sample", "pivots"):
        if node.args.get(key):
            subquery.set(key, node.args[key])
    node.replace(subquery)


@lru_cache(maxsize=256)
def query_of(text: str) -> exp.Expr:
    """The query that the text of a view is; not to be changed."""
    (query,) = parse(text)
    return query


def _named(statement: exp.Expr, catalog: Catalog) -> Iterator[tuple[exp.Table, View]]:
    """Where the statement reads views that are to be put in place."""
    for node in list(statement.find_all(exp.Table)):
        if node.args.get("db") or not isinstance(node.this, exp.Identifier):
            continue
        view = catalog.find_view(node.name)
        is_read = isinstance(node.parent, (exp.From, exp.Join, exp.Subquery, exp.Table, exp.Pivot))
        if view is not None and view.table is None and is_read and not is_cte(node):
            yield node, view


def is_cte(node: exp.Table) -> bool:
    """Whether a common table expression in force has the name."""
    below: exp.Expr = node
    above = node.parent
    while above is not None:
        clause = above.args.get("with_")
        visible = clause.expressions if clause is not None else []
        if clause is not None and below is clause and not clause.args.get("recursive"):
            visible = visible[: next(i for i, cte in enumerate(visible) if _holds(cte, node))]
        if any(cte.alias.lower() == node.name.lower() for cte in visible):
            return True
        below, above = above, above.parent
    return False


def _holds(top: exp.Expr, node: exp.Expr) -> bool:
    above: exp.Expr | None = node
    while above is not None and above is not top:
        above = above.parent
    return above is top


def base_tables(catalog: Catalog, view: View) -> list[Table]:
    """The tables that a view reads, through other views too."""
    statement = inline(query_of(view.text), catalog)
    tables = (catalog.find(node.name) for node in statement.find_all(exp.Table) if not node.args.get("db"))
    return list(dict.fromkeys(table for table in tables if table is not None))
