"""Tables that a request brings along: file parts of its form, which its statement reads by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlglot import exp

from zeptodb.errors import ZeptoError
from zeptodb.ingest.append import frame_batch
from zeptodb.pipeline import Pipeline
from zeptodb.server.clickhouse_types import own_table
from zeptodb.server.codes import Code, failure
from zeptodb.server.inserts import read_rows
from zeptodb.server.requests import Options
from zeptodb.server.translate import parse_clickhouse
from zeptodb.sql.create_table import schema_of
from zeptodb.storage.table import Table
from zeptodb.types import Schema

_NAME = re.compile(r"[^\W\d]\w*")


def external_tables(pipeline: Pipeline, files: Mapping[str, bytes], options: Options) -> dict[str, Table]:
    """The tables by their names in lower case; only this statement sees them.

    For each there is a parameter NAME_structure ("a Int64, b String") or NAME_types ("Int64,String", for columns _1,
    _2), and NAME_format, TabSeparated without it. Raises BAD_ARGUMENTS, and what an INSERT raises for bad data.
    """
    tables: dict[str, Table] = {}
    for name, data in files.items():
        if not _NAME.fullmatch(name):
            raise failure(Code.BAD_ARGUMENTS, f"The form has a file {name[:60]!r}, which is no name for a table.")
        table = pipeline.catalog.make_table(name, _schema(name, options.parameters), Table)
        rows = read_rows(
            table,
            options.parameters.get(f"{name}_format") or "TabSeparated",
            list(table.schema.names),
            memoryview(data),
        )
        if rows.num_rows:
            table.append(frame_batch(table.schema, rows, table=name))
        tables[name.lower()] = table
    return tables


def _schema(name: str, parameters: Mapping[str, str]) -> Schema:
    structure, types = parameters.get(f"{name}_structure"), parameters.get(f"{name}_types")
    if structure is None and types is None:
        raise failure(
            Code.BAD_ARGUMENTS,
            f'For the table "{name}" of the form there is neither {name}_structure, such as "id Int64, name String", '
            f"nor {name}_types.",
        )
    text = structure if structure is not None else _numbered(types or "")
    try:
        created = parse_clickhouse(f"CREATE TABLE external ({text})")
        if not isinstance(created, exp.Create) or not isinstance(created.this, exp.Schema):
            raise failure(Code.SYNTAX_ERROR, f'"{text[:100]}" is not a list of columns.')
        return schema_of(own_table(created).this.expressions)
    except ZeptoError as error:
        raise failure(Code.BAD_ARGUMENTS, f"{name}_structure or {name}_types cannot be read: {error}") from error


def _numbered(types: str) -> str:
    """Types of columns that have no names, named _1, _2 as in ClickHouse."""
    parts, depth = [""], 0
    for character in types:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return ", ".join(f"_{number} {kind.strip()}" for number, kind in enumerate(parts, 1))
