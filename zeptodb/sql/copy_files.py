"""COPY between tables and files that DuckDB reads and writes."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.errors import NotSupportedError, QueryError
from zeptodb.sql.engine import Engine
from zeptodb.sql.fallback import run_fallback
from zeptodb.sql.insert_rows import arrow_batch
from zeptodb.sql.parameters import Parameters
from zeptodb.storage.table import Table
from zeptodb.types import ColumnType, Field

_READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".csv.gz": "read_csv"}


def copy_out(engine: Engine, node: exp.Expr, table: Table | None, params: Parameters) -> int:
    """Run COPY table or (query) TO 'file'; the number of rows. Timestamps of Parquet files are real ones (UTC)."""
    if table is not None and _file(node).lower().endswith(".parquet"):
        node = node.copy()
        columns = [_as_stored(f.name, f.type) for f in _chosen(node, table)]
        query = exp.Select(expressions=columns, from_=exp.From(this=exp.to_table(table.name)))
        node.set("this", exp.Subquery(this=query))
    answer = run_fallback(engine, node, params).table
    return int(answer.column(0)[0].as_py()) if answer.num_rows else 0


def _as_stored(name: str, column_type: ColumnType) -> exp.Expr:
    column = exp.column(exp.to_identifier(name, quoted=True))
    if column_type is not ColumnType.TIMESTAMP_NS:
        return column
    cast = exp.Cast(this=column, to=exp.DataType.build("TIMESTAMP_NS", dialect="duckdb"))
    return exp.Alias(this=cast, alias=exp.to_identifier(name, quoted=True))


def copy_in(engine: Engine, node: exp.Expr, table: Table, params: Parameters) -> int:
    """Run COPY table FROM 'file'; the number of rows. Columns match by name if all do, else by position."""
    path = _file(node)
    reader = next((r for suffix, r in _READERS.items() if path.lower().endswith(suffix)), None)
    if reader is None or node.args.get("params"):
        raise NotSupportedError(
            f"COPY FROM reads files ending in {', '.join(_READERS)}, without options; for others use "
            "INSERT INTO ... SELECT * FROM read_csv('file', ...)."
        )
    source = exp.Table(this=exp.Anonymous(this=reader, expressions=[exp.Literal.string(path)]))
    answer = run_fallback(engine, exp.Select(expressions=[exp.Star()], from_=exp.From(this=source)), params).table
    fields = _chosen(node, table)
    by_name = {f.name.lower(): f for f in fields}
    names = [name.lower() for name in answer.column_names]
    if set(names) <= set(by_name):
        fields = [by_name[name] for name in names]
    elif len(names) != len(fields):
        raise QueryError(
            f"The file has the columns {', '.join(answer.column_names)}, table {table.name} "
            f"{', '.join(f.name for f in fields)}; name the columns alike or give as many."
        )
    return table.append(arrow_batch(table.schema, fields, answer, table=table.name))


def _chosen(node: exp.Expr, table: Table) -> list[Field]:
    if isinstance(node.this, exp.Schema):
        return [table.schema.field(i.name, table=table.name) for i in node.this.expressions]
    return list(table.schema.fields)


def _file(node: exp.Expr) -> str:
    files = node.args.get("files") or []
    if len(files) != 1 or not isinstance(files[0], exp.Literal):
        raise QueryError("COPY takes one file name in quotes.")
    return str(files[0].name)
