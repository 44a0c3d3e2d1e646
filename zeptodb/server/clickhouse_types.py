"""CREATE TABLE as ClickHouse writes it, in our types."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from zeptodb.server.codes import Code, failure

_OURS: Mapping[str, str] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "UTINYINT", "USMALLINT"), "INT"),
    **dict.fromkeys(("BIGINT", "UINT", "UBIGINT"), "BIGINT"),
    **dict.fromkeys(("FLOAT",), "FLOAT32"),
    **dict.fromkeys(("DOUBLE", "DECIMAL", "DECIMAL32", "DECIMAL64", "DECIMAL128"), "DOUBLE"),
    **dict.fromkeys(("TEXT", "VARCHAR", "FIXEDSTRING", "ENUM8", "ENUM16", "UUID"), "VARCHAR"),
    **dict.fromkeys(("DATE", "DATE32", "DATETIME", "DATETIME64", "TIMESTAMP", "TIMESTAMPTZ"), "TIMESTAMP_NS"),
    **dict.fromkeys(("BOOLEAN",), "BOOLEAN"),
}
"""Integers of 32 bits and fewer are INT, longer ones BIGINT (UInt64 up to 2^63 - 1)."""


def own_table(node: exp.Create) -> exp.Create:
    """The same table in our types, without ENGINE, ORDER BY and other words on how ClickHouse stores it.

    As in ClickHouse a column is NOT NULL unless it is Nullable.
    """
    if node.find(exp.TemporaryProperty) is not None:
        raise failure(
            Code.NOT_IMPLEMENTED,
            "There are no temporary tables; CREATE TABLE and DROP TABLE, use WITH, or send the rows along in a form.",
        )
    node.set("properties", None)
    if isinstance(node.this, exp.Schema):
        for column in node.this.find_all(exp.ColumnDef):
            _own_column(column)
    return node


def _own_column(column: exp.ColumnDef) -> None:
    kind = column.args.get("kind")
    if not isinstance(kind, exp.DataType):
        return
    while kind.this.value.upper() in ("LOWCARDINALITY", "NULLABLE") and kind.expressions:
        kind = kind.expressions[0]
    name = kind.this.value.upper()
    if name not in _OURS:
        given = kind.sql("clickhouse")
        raise failure(
            Code.UNKNOWN_TYPE,
            f'Column "{column.name}" has the type {given}; allowed are numbers, strings, times and Bool.',
        )
    is_nullable = bool(kind.args.get("nullable"))
    column.set("kind", exp.DataType.build(_OURS[name], dialect="duckdb"))
    constraints = [
        c for c in column.args.get("constraints") or [] if not isinstance(c.kind, exp.CommentColumnConstraint)
    ]
    if not is_nullable:
        constraints.append(exp.ColumnConstraint(kind=exp.NotNullColumnConstraint()))
    column.set("constraints", constraints)
