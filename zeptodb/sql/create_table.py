"""CREATE TABLE: columns with our type names, which of them are symbol and timestamp, and tables made of queries."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from sqlglot import exp

from zeptodb.errors import AlreadyExistsError, NotSupportedError, QueryError
from zeptodb.ingest.append import frame_batch
from zeptodb.ingest.infer import infer_schema
from zeptodb.sql.arrow_columns import HUGEINT, UTC_NS, narrowed, undictionaried
from zeptodb.sql.engine import Engine
from zeptodb.sql.fallback import FallbackAnswer
from zeptodb.sql.filling import rows_of
from zeptodb.sql.parameters import Parameters
from zeptodb.sql.plain_columns import distinct_names
from zeptodb.types import ColumnType, Field, Schema

_TYPES = {
    "BIGINT": ColumnType.INT64,
    "INT64": ColumnType.INT64,
    "INT": ColumnType.INT32,
    "INT32": ColumnType.INT32,
    "DOUBLE": ColumnType.FLOAT64,
    "FLOAT64": ColumnType.FLOAT64,
    "FLOAT": ColumnType.FLOAT32,
    "FLOAT32": ColumnType.FLOAT32,
    "TIMESTAMP": ColumnType.TIMESTAMP_NS,
    "TIMESTAMPNTZ": ColumnType.TIMESTAMP_NS,
    "TIMESTAMPTZ": ColumnType.TIMESTAMP_NS,
    "TIMESTAMP_NS": ColumnType.TIMESTAMP_NS,
    "SYMBOL": ColumnType.SYMBOL,
    "TEXT": ColumnType.STRING,
    "VARCHAR": ColumnType.STRING,
    "STRING": ColumnType.STRING,
    "BOOLEAN": ColumnType.BOOL,
    "BOOL": ColumnType.BOOL,
}
_ALLOWED = "INT64/BIGINT, INT32/INT, FLOAT64/DOUBLE, FLOAT32, TIMESTAMP[_NS], SYMBOL, STRING/VARCHAR/TEXT, BOOL"
_SYMBOL_TYPES = (ColumnType.SYMBOL, ColumnType.INT64, ColumnType.STRING)


def create(engine: Engine, node: exp.Expr, params: Parameters, *, text: str) -> int | None:
    """Run CREATE TABLE; the number of rows when it was filled by a query, else None."""
    target = node.this.this if isinstance(node.this, exp.Schema) else node.this
    name = target.name
    existing = engine.catalog.find(name)
    replaces = bool(node.args.get("replace"))
    if existing is not None and node.args.get("exists"):
        return None
    if existing is not None and not replaces:
        raise AlreadyExistsError(f'Table "{existing.name}" exists already; DROP TABLE it first or use another name.')
    query = node.args.get("expression")
    if query is None:
        if not isinstance(node.this, exp.Schema):
            raise QueryError(f"CREATE TABLE {name} needs columns, such as (symbol SYMBOL, price FLOAT64).")
        schema = schema_of(node.this.expressions)
        if existing is not None:
            engine.catalog.drop(name)
        engine.catalog.create(name, schema)
        return None
    if isinstance(node.this, exp.Schema):
        raise NotSupportedError("CREATE TABLE ... AS with a column list is not supported; name the columns with AS.")
    return _create_filled(engine, name, rows_of(engine, query, params, within=text), replaces=existing is not None)


def _create_filled(engine: Engine, name: str, answer: FallbackAnswer, *, replaces: bool) -> int:
    data = storable(answer)
    schema = roles_without_null(data)
    batch = frame_batch(schema, data, table=name)
    if replaces:
        engine.catalog.drop(name)
    return engine.catalog.create(name, schema).append(batch)


def roles_without_null(data: pa.Table) -> Schema:
    """The schema for the data, in which a column with NULLs is neither the symbol nor the timestamp."""
    schema = infer_schema(data)
    missing = {name for name in data.column_names if data.column(name).null_count}
    if not missing & {schema.symbol, schema.timestamp}:
        return schema
    fields = tuple(
        replace(f, is_nullable=True, type=ColumnType.STRING if f.type is ColumnType.SYMBOL else f.type)
        if f.name in missing
        else f
        for f in schema.fields
    )
    symbol = None if schema.symbol in missing else schema.symbol
    return Schema(fields, symbol=symbol, timestamp=None if schema.timestamp in missing else schema.timestamp)


def storable(answer: FallbackAnswer) -> pa.Table:
    """The answer with types that tables have: our timestamps as such, decimals as floats, sums as int64."""
    columns = []
    for i, column in enumerate(answer.table.columns):
        column = narrowed(undictionaried(column))  # noqa: PLW2901
        if i in answer.timestamp_columns:
            column = column.cast(UTC_NS)  # noqa: PLW2901
        elif pa.types.is_decimal(column.type) and column.type != HUGEINT:
            column = column.cast(pa.float64())  # noqa: PLW2901
        columns.append(column)
    return pa.table(dict(zip(distinct_names(answer.table.column_names), columns, strict=True)))


def schema_of(definitions: list[exp.Expr]) -> Schema:
    """The schema that column definitions describe.

    The symbol is the column of that name, else the first SYMBOL column; the timestamp the column of that name, else
    the first TIMESTAMP column. Neither may be NULL.
    """
    fields = [field_of(definition) for definition in definitions]
    symbol = _role(fields, "symbol", _SYMBOL_TYPES, ColumnType.SYMBOL)
    timestamp = _role(fields, "timestamp", (ColumnType.TIMESTAMP_NS,), ColumnType.TIMESTAMP_NS)
    settled = tuple(
        Field(
            f.name,
            ColumnType.STRING if f.type is ColumnType.SYMBOL and f.name != symbol else f.type,
            f.is_nullable and f.name not in (symbol, timestamp),
        )
        for f in fields
    )
    return Schema(settled, symbol=symbol, timestamp=timestamp)


def _role(fields: list[Field], name: str, allowed: tuple[ColumnType, ...], marker: ColumnType) -> str | None:
    named = next((f for f in fields if f.name.lower() == name), None)
    if named is not None and named.type in allowed:
        return named.name
    return next((f.name for f in fields if f.type is marker), None)


def field_of(definition: exp.Expr) -> Field:
    """The column that a definition describes; raises QueryError and NotSupportedError."""
    if not isinstance(definition, exp.ColumnDef):
        raise NotSupportedError(f"{definition.sql('duckdb')} is not supported in CREATE TABLE; columns are.")
    kind = definition.args.get("kind")
    if kind is None:
        raise QueryError(f'Column "{definition.name}" has no type; allowed: {_ALLOWED}.')
    written = kind.args.get("kind")
    word = str(written if written is not None else kind.this.value).upper()
    column_type = _TYPES.get(word)
    if column_type is None or kind.expressions:
        raise QueryError(f'Column "{definition.name}" has the type {kind.sql("duckdb")}; allowed: {_ALLOWED}.')
    is_nullable = True
    for constraint in definition.args.get("constraints") or ():
        if not isinstance(constraint.kind, exp.NotNullColumnConstraint):
            raise NotSupportedError(f"{constraint.sql('duckdb')} is not supported in this version; NOT NULL is.")
        is_nullable = bool(constraint.kind.args.get("allow_null"))
    return Field(definition.name, column_type, is_nullable)
