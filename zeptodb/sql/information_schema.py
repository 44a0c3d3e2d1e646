"""information_schema: DuckDB's own, made to show our tables and views as what they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlglot import exp

from zeptodb.errors import ZeptoError
from zeptodb.sql.engine import Engine
from zeptodb.sql.source_text import NOT_AS_WRITTEN
from zeptodb.storage.catalog import Catalog
from zeptodb.types import ColumnType, Field

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_SCHEMA = "information_schema"


def is_read_by(statement: exp.Expr) -> bool:
    """Whether the statement reads a table of information_schema."""
    return any(table.db.lower() == _SCHEMA for table in statement.find_all(exp.Table))


def with_kinds(statement: exp.Expr, catalog: Catalog) -> exp.Expr:
    """The statement with information_schema.tables telling tables from views (DuckDB sees views in both)."""
    if not is_read_by(statement):
        return statement
    root = exp.Paren(this=statement.copy())
    names = [exp.Literal.string(table.name) for table in catalog.tables() if catalog.find_view(table.name) is None]
    for node in list(root.find_all(exp.Table)):
        if node.db.lower() != _SCHEMA or node.name.lower() != "tables":
            continue
        kind = exp.Case(
            ifs=[exp.If(this=exp.In(this=exp.column("table_name"), expressions=list(names)), true=_text("BASE TABLE"))],
            default=exp.column("table_type"),
        )
        star = exp.Star(replace=[exp.Alias(this=kind, alias=exp.to_identifier("table_type"))])
        alias = exp.TableAlias(this=exp.to_identifier(node.alias_or_name))
        subquery = exp.Subquery(alias=alias)
        if node.args.get("joins"):
            subquery.set("joins", node.args["joins"])
        node.replace(subquery)
        for key in ("alias", "joins"):
            node.set(key, None)
        subquery.set("this", exp.Select(expressions=[star], from_=exp.From(this=node)))
    result: exp.Expr = root.this
    result.parent = None
    result.meta[NOT_AS_WRITTEN] = True
    return result


def _text(value: str) -> exp.Expr:
    return exp.Literal.string(value)


def register(cursor: duckdb.DuckDBPyConnection, engine: Engine, known: Iterable[str]) -> None:
    """Let information_schema show every table and view that is not registered already."""
    from zeptodb.sql.views import contents_of_view

    names = {name.lower() for name in known}
    for table in engine.catalog.tables():
        if table.name.lower() not in names:
            cursor.register(table.name, _empty(table.schema.fields))
    for view in engine.catalog.views():
        if view.table is None and view.name.lower() not in names:
            try:
                fields = contents_of_view(engine, view)[0].fields
            except ZeptoError:  # what it reads has changed so that it runs no more
                continue
            cursor.register(view.name, _empty(fields))


def _empty(fields: Iterable[Field]) -> pa.Table:
    import pyarrow as pa  # needed by few statements

    return pa.schema([pa.field(f.name, _shown_type(f.type), f.is_nullable) for f in fields]).empty_table()


def _shown_type(column_type: ColumnType) -> pa.DataType:
    import pyarrow as pa

    from zeptodb.sql.arrow_columns import arrow_type

    return pa.timestamp("ns") if column_type is ColumnType.TIMESTAMP_NS else arrow_type(column_type)
