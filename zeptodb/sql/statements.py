"""Statements that are no queries: what they do to tables, and what they say about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sqlglot import exp

from zeptodb.backends.base import Vector
from zeptodb.errors import NotSupportedError, QueryError, UnknownTableError, unknown_table
from zeptodb.sql import alter_table, change_rows, copy_files, create_table, insert_rows, views
from zeptodb.sql.duckdb_errors import place_of
from zeptodb.sql.engine import Engine
from zeptodb.sql.parameters import Parameters
from zeptodb.sql.result import QueryResult, ResultColumn
from zeptodb.sql.source_text import pointed, query_error
from zeptodb.sql.view_names import inline
from zeptodb.storage.dictionary import Dictionary
from zeptodb.storage.table import Table
from zeptodb.types import ColumnType, Field

ENGINE = "storage"
"""What `QueryResult.engine` says for these statements."""

_NO_EFFECT = (exp.Set, exp.Use, exp.Transaction, exp.Commit, exp.Rollback)
"""Statements on a session, which ends with each statement here."""


def run_statement(
    engine: Engine, expression: exp.Expr, params: Parameters = None, *, text: str = ""
) -> QueryResult | None:
    """Run CREATE, DROP, INSERT, UPDATE, DELETE, TRUNCATE, COPY, SHOW TABLES or DESCRIBE; None for other statements.

    Statements that change rows answer with one column, Count. Each is all or nothing. Raises NotSupportedError for
    what is not there yet, and the errors of queries and of ingest.
    """
    handler = _HANDLERS.get(type(expression))
    if handler is not None:
        return handler(engine, expression, params, text)
    if isinstance(expression, _NO_EFFECT):
        raise NotSupportedError(f"{expression.key.upper()} is not supported in this version.")
    return None


def text_columns(columns: Mapping[str, Sequence[str]]) -> list[ResultColumn]:
    """Columns of strings."""
    result: list[ResultColumn] = []
    for name, values in columns.items():
        dictionary = Dictionary()
        codes = np.fromiter((dictionary.code(v) for v in values), np.int32, count=len(values))
        result.append((name, Vector(codes, None, ColumnType.STRING), dictionary))
    return result


def integer_column(name: str, values: Sequence[int]) -> ResultColumn:
    """A column of int64."""
    return name, Vector(np.array(values, np.int64), None, ColumnType.INT64), None


def _counted(rows: int) -> QueryResult:
    return QueryResult([integer_column("Count", [rows])], engine=ENGINE)


def _done() -> QueryResult:
    return QueryResult(engine=ENGINE)


def _table(engine: Engine, node: object, text: str) -> Table:
    """The table that a statement changes; raises UnknownTableError with its place in the text."""
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier) or node.args.get("db"):
        written = node.sql("duckdb") if isinstance(node, exp.Expr) else "What stands there"
        raise QueryError(f"{written} is not the name of a table.")
    if engine.catalog.find_view(node.name) is not None:
        raise query_error(f'"{node.name}" is a view; change the tables it reads.', text, place_of(node.name, text))
    table = engine.catalog.find(node.name)
    if table is None:
        error = unknown_table(node.name, engine.catalog.names())
        raise UnknownTableError(pointed(str(error), text, place_of(node.name, text)))
    return table


# ---- tables --------------------------------------------------------------------------------------------------------


def _create(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult:
    kind = str(node.args.get("kind") or "").upper()
    properties = node.args.get("properties")
    if kind == "VIEW":
        views.create(engine, node)
        return _done()
    if kind != "TABLE" or (properties is not None and properties.expressions):
        what = " ".join(p.key.removesuffix("property").upper() for p in (properties.expressions if properties else ()))
        what = " ".join(word for word in ("CREATE", what, kind) if word)
        raise NotSupportedError(f"{what} is not supported; CREATE TABLE and CREATE [MATERIALIZED] VIEW are.")
    rows = create_table.create(engine, node, params, text=text)
    return _done() if rows is None else _counted(rows)


def _drop(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult:  # noqa: ARG001
    kind = str(node.args.get("kind") or "").upper()
    if kind not in ("TABLE", "VIEW"):
        raise NotSupportedError(f"DROP {kind} is not supported; DROP TABLE and DROP VIEW are.")
    targets = node.args.get("tables") or [node.this]
    if kind == "VIEW":
        return _drop_views(engine, targets, text, may_be_absent=bool(node.args.get("exists")))
    tables = []
    for target in targets:
        if engine.catalog.find(target.name) is None and node.args.get("exists"):
            continue
        tables.append(_table(engine, target, text))
        views.require_unused(engine.catalog, tables[-1])
    for table in tables:
        engine.catalog.drop(table.name)
    return _done()


def _drop_views(engine: Engine, targets: Sequence[exp.Expr], text: str, *, may_be_absent: bool) -> QueryResult:
    catalog = engine.catalog
    found = []
    for target in targets:
        view = catalog.find_view(target.name)
        if view is not None:
            if view.table is not None:
                views.require_unused(catalog, view.table)
            found.append(view)
        elif catalog.find(target.name) is not None:
            raise query_error(f'"{target.name}" is a table; DROP TABLE it.', text, place_of(target.name, text))
        elif not may_be_absent:
            error = unknown_table(target.name, [view.name for view in catalog.views()])
            message = str(error).replace("table", "view", 1)
            raise UnknownTableError(pointed(message, text, place_of(target.name, text)))
    for view in found:
        catalog.drop_view(view.name)
    return _done()


def _alter(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult:  # noqa: ARG001
    kind = str(node.args.get("kind") or "").upper()
    if kind != "TABLE":
        raise NotSupportedError(f"ALTER {kind} is not supported; ALTER TABLE is.")
    target = node.this.this if isinstance(node.this, exp.Schema) else node.this
    if engine.catalog.find(target.name) is None and node.args.get("exists"):
        return _done()
    alter_table.alter(engine, _table(engine, target, text), node)
    return _done()


def _command(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult | None:  # noqa: ARG001
    """What the parser hands on as a text; DuckDB may know it, but not what it says about our tables."""
    if str(node.this).upper() == "ALTER":
        raise NotSupportedError(f"This ALTER is not supported: ALTER TABLE {alter_table.ALLOWED}.")
    return None


def _truncate(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult:  # noqa: ARG001
    tables = [_table(engine, target, text) for target in node.expressions]
    return _counted(sum(change_rows.empty(table) for table in tables))


# ---- rows ----------------------------------------------------------------------------------------------------------


def _insert(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult:
    target = node.this.this if isinstance(node.this, exp.Schema) else node.this
    table = _table(engine, target, text)
    return _counted(insert_rows.insert(engine, table, node, params, text=text))


def _update(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult:
    return _counted(change_rows.update(engine, _table(engine, node.this, text), node, params, text=text))


def _delete(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult:
    return _counted(change_rows.delete(engine, _table(engine, node.this, text), node, params, text=text))


def _copy(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult:
    target = node.this.this if isinstance(node.this, exp.Schema) else node.this
    view = engine.catalog.find_view(target.name) if isinstance(target, exp.Table) else None
    if view is not None and not node.args.get("kind"):
        node = node.copy()
        everything = exp.Select(expressions=[exp.Star()], from_=exp.From(this=target.copy()))
        node.set("this", exp.Subquery(this=inline(everything, engine.catalog)))
        target = node.this
    if isinstance(target, exp.Query):
        return _counted(copy_files.copy_out(engine, node, None, params))
    table = _table(engine, target, text)
    copy = copy_files.copy_in if node.args.get("kind") else copy_files.copy_out
    return _counted(copy(engine, node, table, params))


# ---- the catalog ---------------------------------------------------------------------------------------------------


def _show(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult | None:  # noqa: ARG001
    if node.name.upper() != "TABLES":
        return None
    tables = engine.catalog.tables()
    plain = [view.name for view in engine.catalog.views() if view.table is None]
    names = text_columns({"name": [*(table.name for table in tables), *plain]})
    counts = np.array([*(table.row_count for table in tables), *(0 for _ in plain)], np.int64)
    is_counted = np.arange(len(counts)) < len(tables)
    rows = Vector(counts, is_counted if plain else None, ColumnType.INT64)
    return QueryResult([*names, ("rows", rows, None)], engine=ENGINE)


def _describe(engine: Engine, node: exp.Expr, params: Parameters, text: str) -> QueryResult | None:  # noqa: ARG001
    if not isinstance(node.this, exp.Table):
        return None
    view = engine.catalog.find_view(node.this.name)
    if view is not None and view.table is None:
        fields = views.contents_of_view(engine, view)[0].fields
        return QueryResult(text_columns(_columns_and_types(fields)), engine=ENGINE)
    table = view.table if view is not None and view.table is not None else _table(engine, node.this, text)
    columns = _columns_and_types(table.schema.fields)
    if table.attributes:
        columns["attribute"] = alter_table.attributes_of(table, engine.backend)
    return QueryResult(text_columns(columns), engine=ENGINE)


def _columns_and_types(fields: Sequence[Field]) -> dict[str, list[str]]:
    return {"column": [f.name for f in fields], "type": [f.type.value for f in fields]}


_Handler = Callable[[Engine, exp.Expr, Parameters, str], QueryResult | None]

_HANDLERS: dict[type[exp.Expr], _Handler] = {
    exp.Create: _create,
    exp.Drop: _drop,
    exp.Alter: _alter,
    exp.Command: _command,
    exp.TruncateTable: _truncate,
    exp.Insert: _insert,
    exp.Update: _update,
    exp.Delete: _delete,
    exp.Copy: _copy,
    exp.Show: _show,
    exp.Describe: _describe,
}
