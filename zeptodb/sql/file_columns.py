"""The columns of files that a statement reads, so that their timestamps meet ours as they should."""

from __future__ import annotations

import re

from sqlglot import exp

from zeptodb.sql import duckdb_session
from zeptodb.sql.engine import Engine
from zeptodb.sql.relations import Columns, ValueKind

_READERS = frozenset(("read_parquet", "parquet_scan", "read_csv", "read_csv_auto", "read_json", "read_json_auto"))

_KINDS = (
    (re.compile(r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER)"), ValueKind.INTEGER),
    (re.compile(r"DOUBLE|FLOAT|DECIMAL\(.*\)"), ValueKind.FLOAT),
    (re.compile(r"VARCHAR"), ValueKind.TEXT),
    (re.compile(r"BOOLEAN"), ValueKind.BOOL),
    (re.compile(r"TIMESTAMP.*|DATE"), ValueKind.MOMENT),
    (re.compile(r"INTERVAL"), ValueKind.INTERVAL),
)


def columns_of_file(engine: Engine, node: exp.Table) -> Columns:
    """Names and kinds of the columns of read_parquet('file'), 'file.csv' and the like; None when they are unknown."""
    import duckdb

    is_file = isinstance(node.this, exp.Identifier) and "." in node.name and not node.args.get("db")
    if not (is_file or _reads_a_file(node.this)) or next(node.find_all(exp.Placeholder), None) is not None:
        return None
    source = node.copy()
    for key in ("alias", "joins", "fraction", "sample", "pivots"):
        source.set(key, None)
    with duckdb_session.cursor(engine) as cursor:
        try:
            described = cursor.sql(f"DESCRIBE SELECT * FROM {source.sql('duckdb')}").fetchall()
        except duckdb.Error:
            return None  # the statement itself fails, with the place
    return tuple((str(row[0]), _kind(str(row[1]))) for row in described)


def _reads_a_file(function: exp.Expr) -> bool:
    if isinstance(function, (exp.ReadCSV, exp.ReadParquet)):
        return True
    return isinstance(function, exp.Anonymous) and function.name.lower() in _READERS


def _kind(name: str) -> ValueKind:
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(name)), ValueKind.OTHER)
