"""What rewrites ask about a SELECT inside a statement: which tables it reads, and whether it is native."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from zeptodb.backends.base import Capabilities
from zeptodb.record import record
from zeptodb.sql.duckdb_names import name_of, written_names
from zeptodb.sql.expand import ColumnsOf, no_columns
from zeptodb.sql.literals import with_literals
from zeptodb.sql.naming import column_name
from zeptodb.sql.plan import Planned
from zeptodb.sql.planner import plan
from zeptodb.sql.sources import Source, is_star, source_of
from zeptodb.storage.catalog import Catalog
from zeptodb.types import Schema


@record
class SelectPlanner:
    """Plans parts of one statement.

    Attributes:
        text: the statement's text, to which places refer.
        values: of its parameters, by name.
        catalog: the tables.
        capabilities: of the backend.
        now_ns: what now() means.
        columns_of: gives the columns of files.
    """

    text: str
    values: dict[str, object]
    catalog: Catalog
    capabilities: Capabilities
    now_ns: int
    columns_of: ColumnsOf = no_columns

    def plan(self, select: exp.Expr) -> Planned:
        """The native plan of a SELECT that may stand anywhere in the statement, or the reasons against one."""
        bound = with_literals(select, self.values)
        return plan(bound, self.text, self.catalog, self.capabilities, now_ns=self.now_ns)

    def find_table(self, name: str) -> tuple[str, Schema] | None:
        """The name and schema of a table of ours."""
        table = self.catalog.find(name)
        return None if table is None else (table.name, table.schema)

    def only_source(self, select: exp.Expr) -> Source | None:
        """The table of ours that a SELECT reads, when it reads that alone."""
        clause = select.args.get("from_")
        if clause is None or select.args.get("joins") or clause.this.args.get("joins"):
            return None
        if isinstance(clause.this, exp.Table) and clause.this.name.lower() in visible_ctes(select):
            return None
        source = source_of(clause.this, self.catalog)
        return None if isinstance(source, str) else source

    def reads_ctes(self, select: exp.Expr) -> bool:
        """Whether a table in FROM or a JOIN is a common table expression and no table of ours."""
        tables = [node for node in _from_items(select) if isinstance(node, exp.Table)]
        names = visible_ctes(select)
        return any(not table.args.get("db") and table.name.lower() in names for table in tables)

    def output_name(self, select: exp.Select, position: int) -> str:
        """What DuckDB would call an item of the SELECT list."""
        item = select.expressions[position]
        if isinstance(item, exp.Alias):
            return str(item.alias)
        plain = item.unnest()
        if isinstance(plain, exp.Column):
            source = self.only_source(select)
            index = None if source is None else source.find(plain.name)
            return plain.name if source is None or index is None else source.schema.fields[index].name
        printed = column_name(item, self.text)
        if printed is not None:
            return printed
        names = written_names(self.text) if self.text and _is_outermost(select) else None
        if names is not None and len(names) == len(select.expressions):
            return names[position]
        return name_of(item)

    def name_items(self, select: exp.Select) -> None:
        """Give every item but stars and plain columns the alias that DuckDB would show."""
        names = [None if is_star(item) else self.output_name(select, i) for i, item in enumerate(select.expressions)]
        for item, name in zip(list(select.expressions), names, strict=True):
            if name is not None and not isinstance(item, exp.Alias):
                item.replace(exp.Alias(this=item.copy(), alias=exp.to_identifier(name, quoted=True)))


def visible_ctes(node: exp.Expr) -> frozenset[str]:
    """Lower-case names of the common table expressions in force at a node."""
    names: set[str] = set()
    below: exp.Expr | None = None
    above: exp.Expr | None = node
    while above is not None:
        if isinstance(above, exp.With):
            own = [cte for cte in above.expressions if not above.args.get("recursive")]
            before = own.index(below) if below in own else len(above.expressions)
            names |= {cte.alias.lower() for cte in above.expressions[:before]}
        elif not isinstance(below, exp.With):
            clause = above.args.get("with_")
            names |= {cte.alias.lower() for cte in clause.expressions} if clause is not None else set()
        below, above = above, above.parent
    return frozenset(names)


def selects_of(tree: exp.Expr) -> list[exp.Select]:
    """Every SELECT of a statement, inner ones before those that they stand in."""
    return list(reversed(list(tree.find_all(exp.Select, bfs=True))))


def _from_items(select: exp.Expr) -> Iterator[exp.Expr]:
    clause = select.args.get("from_")
    pending = [] if clause is None else [clause.this]
    pending += [join.this for join in select.args.get("joins") or ()]
    while pending:
        node = pending.pop()
        yield node
        pending += [join.this for join in node.args.get("joins") or ()]
        if isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Query):
            pending.append(node.this)


def _is_outermost(select: exp.Select) -> bool:
    return select.parent is None or (isinstance(select.parent, exp.Paren) and select.parent.parent is None)
