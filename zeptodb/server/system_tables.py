"""What the server says about itself: functions such as version(), and the tables system.*."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa

from zeptodb.record import record
from zeptodb.server.formats.types import clickhouse_name
from zeptodb.server.running import RunningStatement
from zeptodb.sql.arrow_columns import arrow_type
from zeptodb.storage.table import Table

VERSION = "26.1.1.1"
"""Which ClickHouse clients shall take us for: they choose what to send by it."""

REVISION = 54_460
DATABASE = "default"
TIMEZONE = "UTC"
DISPLAY_NAME = "zeptodb"
ENGINE = "Memory"

_STARTED = time.time()

SETTINGS: Mapping[str, tuple[str, str]] = {
    "enable_http_compression": ("0", "Bool"),
    "send_progress_in_http_headers": ("0", "Bool"),
    "http_headers_progress_interval_ms": ("100", "UInt64"),
    "wait_end_of_query": ("0", "Bool"),
    "max_block_size": ("65409", "UInt64"),
    "max_threads": ("0", "UInt64"),
    "max_execution_time": ("0", "Seconds"),
    "max_result_rows": ("0", "UInt64"),
    "readonly": ("0", "UInt64"),
    "date_time_input_format": ("basic", "DateTimeInputFormat"),
    "session_timezone": ("", "Timezone"),
    "output_format_json_quote_64bit_integers": ("0", "Bool"),
    "cancel_http_readonly_queries_on_client_close": ("0", "Bool"),
    "async_insert": ("0", "Bool"),
    "wait_for_async_insert": ("1", "Bool"),
}
"""Settings that clients ask for: the default of each, and its type."""


@record
class Facts:
    """What the tables and functions tell.

    Attributes:
        tables: those that the asking key may see.
        views: names of the views that it may see and that hold no rows of their own.
        running: statements that run now; empty for those who may not see them.
        user: the name of the key.
    """

    tables: Sequence[Table]
    running: Sequence[RunningStatement] = ()
    user: str = "default"
    views: Sequence[str] = ()


def column_type(table: Table, index: int) -> str:
    """The type of a column of ours in ClickHouse's words; timestamps are Int64 nanoseconds."""
    field = table.schema.fields[index]
    return clickhouse_name(arrow_type(field.type), is_nullable=field.is_nullable)


FUNCTIONS: Mapping[str, Callable[[Facts], object]] = {
    "version": lambda _: VERSION,
    "timezone": lambda _: TIMEZONE,
    "servertimezone": lambda _: TIMEZONE,
    "currentdatabase": lambda _: DATABASE,
    "currentuser": lambda facts: facts.user,
    "user": lambda facts: facts.user,
    "displayname": lambda _: DISPLAY_NAME,
    "hostname": lambda _: DISPLAY_NAME,
    "fqdn": lambda _: DISPLAY_NAME,
    "revision": lambda _: REVISION,
    "uptime": lambda _: int(time.time() - _STARTED),
    "serveruuid": lambda _: str(uuid.uuid5(uuid.NAMESPACE_DNS, DISPLAY_NAME)),
}
"""Functions without arguments, by name in lower case."""

_Rows = Iterable[tuple[object, ...]]


def _settings(_: Facts) -> _Rows:
    return ((name, value, 0, kind, 0, "") for name, (value, kind) in SETTINGS.items())


def _databases(_: Facts) -> _Rows:
    identifier = str(uuid.UUID(int=0))
    return [(name, ENGINE, "", identifier) for name in (DATABASE, "system")]


def _tables(facts: Facts) -> _Rows:
    for table in facts.tables:
        roles = ", ".join(name for name in (table.schema.symbol, table.schema.timestamp) if name)
        yield (
            DATABASE, table.name, ENGINE, ENGINE, "", 0, roles, roles, table.row_count, table.mapped_bytes,
            create_statement(table), "", str(uuid.uuid5(uuid.NAMESPACE_DNS, table.name)), 0,
        )  # fmt: skip
    for name in facts.views:
        identifier = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        yield DATABASE, name, "View", "View", "", 0, "", "", None, None, "", "", identifier, 0
    for name in SYSTEM_TABLES:
        yield "system", name, "System", "System", "", 0, "", "", None, None, "", "", str(uuid.UUID(int=0)), 0


def _columns(facts: Facts) -> _Rows:
    for table in facts.tables:
        keys = (table.schema.symbol, table.schema.timestamp)
        for index, name in enumerate(table.schema.names):
            is_key = int(name in keys)
            yield (
                DATABASE, table.name, name, column_type(table, index), index + 1, "", "", "", is_key, is_key, 0,
                None, None, None, None,
            )  # fmt: skip


def _functions(_: Facts) -> _Rows:
    known = ["count", "sum", "avg", "min", "max", "first", "last", "vwap", "xbar", "stddev", "variance", "median"]
    return [(name, int(name != "xbar")) for name in known] + [(name, 0) for name in FUNCTIONS]


def _processes(facts: Facts) -> _Rows:
    return ((entry.query_id, entry.user, entry.text, entry.elapsed_seconds, entry.address) for entry in facts.running)


def _one(_: Facts) -> _Rows:
    return [(0,)]


def _nothing(_: Facts) -> _Rows:
    return ()


def _type_families(_: Facts) -> _Rows:
    names = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "Bool",
             "String", "Date32", "DateTime", "DateTime64", "Decimal", "Array", "Nullable")  # fmt: skip
    return [(name, 0, "") for name in names]


_TEXT, _FLAG, _COUNT = pa.string(), pa.uint8(), pa.uint64()

SYSTEM_TABLES: Mapping[str, tuple[dict[str, pa.DataType], Callable[[Facts], _Rows]]] = {
    "settings": (
        {"name": _TEXT, "value": _TEXT, "readonly": _FLAG, "type": _TEXT, "changed": _FLAG, "description": _TEXT},
        _settings,
    ),
    "databases": ({"name": _TEXT, "engine": _TEXT, "comment": _TEXT, "uuid": _TEXT}, _databases),
    "tables": (
        {
            "database": _TEXT, "name": _TEXT, "engine": _TEXT, "engine_full": _TEXT, "comment": _TEXT,
            "is_temporary": _FLAG, "primary_key": _TEXT, "sorting_key": _TEXT, "total_rows": _COUNT,
            "total_bytes": _COUNT, "create_table_query": _TEXT, "partition_key": _TEXT, "uuid": _TEXT,
            "has_own_data": _FLAG,
        },
        _tables,
    ),
    "columns": (
        {
            "database": _TEXT, "table": _TEXT, "name": _TEXT, "type": _TEXT, "position": _COUNT,
            "default_kind": _TEXT, "default_expression": _TEXT, "comment": _TEXT, "is_in_primary_key": _FLAG,
            "is_in_sorting_key": _FLAG, "is_in_partition_key": _FLAG, "numeric_scale": _COUNT,
            "numeric_precision": _COUNT, "numeric_precision_radix": _COUNT, "character_octet_length": _COUNT,
        },
        _columns,
    ),
    "functions": ({"name": _TEXT, "is_aggregate": _FLAG}, _functions),
    "processes": (
        {"query_id": _TEXT, "user": _TEXT, "query": _TEXT, "elapsed": pa.float64(), "address": _TEXT},
        _processes,
    ),
    "one": ({"dummy": _FLAG}, _one),
    "dictionaries": ({"database": _TEXT, "name": _TEXT}, _nothing),
    "data_type_families": ({"name": _TEXT, "case_insensitive": _FLAG, "alias_to": _TEXT}, _type_families),
}  # fmt: skip
"""The tables of the database `system`: the columns of each, and what lists its rows."""


def system_table(name: str, facts: Facts) -> pa.Table:
    """The rows of one of them."""
    columns, rows_of = SYSTEM_TABLES[name]
    rows = list(rows_of(facts))
    arrays = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(columns.values())]
    return pa.table(arrays, names=list(columns))


def create_statement(table: Table) -> str:
    """The CREATE TABLE that makes a table like it."""
    parts = [
        f"{name} {field.type.value}" + ("" if field.is_nullable else " NOT NULL")
        for name, field in zip(table.schema.names, table.schema.fields, strict=True)
    ]
    return f"CREATE TABLE {table.name} ({', '.join(parts)})"


def described_table(table: Table) -> pa.Table:
    """What DESCRIBE TABLE answers."""
    names = list(table.schema.names)
    return described(names, [column_type(table, index) for index in range(len(names))])


def described(names: list[str], types: list[str]) -> pa.Table:
    """Columns as DESCRIBE tells them: in exactly the seven columns that clients expect."""
    empty = [""] * len(names)
    return pa.table(
        {
            "name": names,
            "type": types,
            **dict.fromkeys(
                ("default_type", "default_expression", "comment", "codec_expression", "ttl_expression"), empty
            ),
        },
        schema=pa.schema([(name, pa.string()) for name in _DESCRIBED]),
    )


_DESCRIBED = ("name", "type", "default_type", "default_expression", "comment", "codec_expression", "ttl_expression")
