"""INSERT: rows of literals straight into columns, everything else through DuckDB; one append, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa
from sqlglot import exp

from zeptodb.errors import NotSupportedError, QueryError, unknown_column
from zeptodb.ingest.append import frame_batch
from zeptodb.sql.arrow_columns import narrowed, undictionaried
from zeptodb.sql.engine import Engine
from zeptodb.sql.filling import rows_of
from zeptodb.sql.parameters import Parameters, bind
from zeptodb.sql.temporal import moment_ns, required_timestamp_ns
from zeptodb.storage.batch import ColumnBatch
from zeptodb.storage.table import Table
from zeptodb.types import TRADES, ColumnType, Field, Schema

DEFAULT_TABLE = "trades"


def insert(engine: Engine, table: Table, node: exp.Expr, params: Parameters, *, text: str) -> int:
    """Run INSERT; the number of rows."""
    for extra in ("alternative", "conflict", "returning", "overwrite", "default"):
        if node.args.get(extra):
            raise NotSupportedError(f"INSERT with {extra.upper()} is not supported in this version.")
    source = node.expression
    schema = table.schema
    if isinstance(source, exp.Values):
        width = len(source.expressions[0].expressions) if source.expressions else 0
        fields = _targets(node, schema, width, table.name)
        rows = _literal_rows(source, len(fields), bind(node, params))
        if rows is not None:
            columns = {f.name: _literal_column(f, [row[i] for row in rows]) for i, f in enumerate(fields)}
            return table.append(frame_batch(schema, columns, table=table.name))
        source = exp.select("*").from_(
            exp.Subquery(this=source.copy(), alias=exp.TableAlias(this=exp.to_identifier("given")))
        )
    elif not isinstance(source, exp.Query):
        raise NotSupportedError("INSERT takes VALUES or a query.")
    query = source.copy()
    if node.args.get("with_") is not None:
        query.set("with_", node.args["with_"].copy())
    answer = rows_of(engine, query, params, within=text).table
    if node.args.get("by_name"):
        fields = [schema.field(name, table=table.name) for name in answer.column_names]
    else:
        fields = _targets(node, schema, answer.num_columns, table.name)
    return table.append(arrow_batch(schema, fields, answer, table=table.name))


def _targets(node: exp.Expr, schema: Schema, width: int, table: str) -> list[Field]:
    """The fields that the values go into, in order."""
    if isinstance(node.this, exp.Schema):
        fields = []
        for identifier in node.this.expressions:
            if identifier.name.lower() not in (name.lower() for name in schema.names):
                raise unknown_column(identifier.name, table, schema.names)
            fields.append(schema.field(identifier.name))
        if len(set(fields)) != len(fields):
            raise QueryError(f"A column occurs twice in the column list of INSERT INTO {table}.")
    else:
        fields = list(schema.fields)
        if width == len(fields) - 1 and schema.timestamp_index == width:
            fields.pop()  # a timestamp in the last place may be left out: rows get the time of arrival
        elif table.lower() == DEFAULT_TABLE and width in (len(TRADES.fields) - 1, len(TRADES.fields)):
            del fields[width:]  # columns added later are NULL
    if len(fields) != width:
        names = ", ".join(f.name for f in fields)
        raise QueryError(f"INSERT INTO {table} has {width} value(s) for {len(fields)} column(s): {names}.")
    return fields


# ---- literals ------------------------------------------------------------------------------------------------------


def _literal_rows(source: exp.Values, width: int, parameters: dict[str, object]) -> list[list[object]] | None:
    """The values of rows that are literals and parameters only, else None."""
    rows = []
    for item in source.expressions:
        nodes = item.expressions if isinstance(item, exp.Tuple) else [item]
        if len(nodes) != width:
            raise QueryError(f"A row of VALUES has {len(nodes)} value(s) for {width} column(s): {item.sql('duckdb')}.")
        row = []
        for node in nodes:
            value = _literal(node, parameters)
            if value is _NOT_LITERAL:
                return None
            row.append(value)
        rows.append(row)
    return rows


_NOT_LITERAL = object()


def _literal(node: exp.Expr, parameters: dict[str, object]) -> object:
    if isinstance(node, exp.Null):
        return None
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Placeholder):
        return parameters[node.name]
    if isinstance(node, exp.Neg):
        value = _literal(node.this, parameters)
        is_number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
        return -value if is_number else _NOT_LITERAL  # type: ignore[operator]
    if isinstance(node, exp.Literal):
        return node.name if node.is_string else _number(node.name)
    return _NOT_LITERAL


def _number(text: str) -> int | float | Decimal | object:
    if text.isdecimal():
        return int(text)
    try:
        return float(text) if "e" in text.lower() else Decimal(text)
    except (ValueError, ArithmeticError):
        return _NOT_LITERAL


def _literal_column(field: Field, values: list[object]) -> list[object]:
    """Values as ingest reads them: strings for timestamps as ns, numbers of one kind."""
    if field.type is ColumnType.TIMESTAMP_NS:
        return [_moment(value) for value in values]
    numbers = [value for value in values if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)]
    if len({type(value) for value in numbers}) > 1 or (field.type.is_float and numbers):
        common = float if field.type.is_float or any(isinstance(v, float) for v in numbers) else Decimal
        return [common(v) if isinstance(v, (int, float, Decimal)) and not isinstance(v, bool) else v for v in values]
    return values


def _moment(value: object) -> object:
    if isinstance(value, str):
        return required_timestamp_ns(value)
    ns = moment_ns(value)
    return value if ns is None else ns


# ---- answers of DuckDB ---------------------------------------------------------------------------------------------


def arrow_batch(schema: Schema, fields: Sequence[Field], answer: pa.Table, *, table: str) -> ColumnBatch:
    """The columns of an answer, in order, as a batch in which they are these fields."""
    columns: dict[str, object] = {}
    for field, column in zip(fields, answer.columns, strict=True):
        column = narrowed(undictionaried(column))  # noqa: PLW2901
        if field.type is ColumnType.TIMESTAMP_NS and pa.types.is_string(column.type):
            columns[field.name] = [None if v is None else required_timestamp_ns(v) for v in column.to_pylist()]
        else:
            columns[field.name] = column
    return frame_batch(schema, columns, table=table)
