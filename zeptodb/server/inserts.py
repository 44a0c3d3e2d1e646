"""Data of INSERT statements and of `POST /insert/arrow`: decoded whole, then stored, all rows or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from zeptodb.errors import ZeptoError, did_you_mean
from zeptodb.pipeline import Pipeline
from zeptodb.record import record
from zeptodb.server.codes import Code, failure
from zeptodb.server.formats.input_binary import read_head, read_row_binary
from zeptodb.server.formats.input_text import json_compact_each_row, json_each_row, read_values, separated
from zeptodb.server.formats.native import read_native
from zeptodb.server.requests import UNFINISHED, Options
from zeptodb.server.statement import InsertData
from zeptodb.server.system_tables import column_type
from zeptodb.storage.table import Table
from zeptodb.types import Schema

Reader = Callable[[memoryview, Table, list[str]], pa.Table]


def insert_rows(pipeline: Pipeline, insert: InsertData, data: memoryview) -> int:
    """Store the rows of an INSERT's data; returns how many. All or none."""
    table = pipeline.catalog.get(insert.table)
    rows = read_rows(table, insert.format, _checked_columns(table, insert.columns), data)
    return pipeline.append(table.name, rows) if rows.num_rows else 0


def read_rows(table: Table, data_format: str, columns: list[str], data: memoryview) -> pa.Table:
    """The rows of data in a format for these columns of a table; raises for data that does not fit them."""
    if bytes(data[-len(UNFINISHED) - 64 :]).rstrip().endswith(UNFINISHED):
        raise failure(Code.INCORRECT_DATA, "The client gave up while it sent the data; nothing was stored.")
    reader = _BY_NAME.get(data_format.lower())
    if reader is None:
        hint = did_you_mean(data_format[:60], list(_READERS))
        raise failure(Code.UNKNOWN_FORMAT, f'Data in format "{data_format[:60]}" cannot be inserted.{hint}')
    try:
        rows = reader(data, table, columns)
    except ZeptoError:
        raise
    except (ValueError, LookupError, OverflowError, pa.ArrowException) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise failure(
            Code.INCORRECT_DATA, f"The data is not valid {data_format}; nothing was stored ({reason})."
        ) from error
    _require_columns(table, rows.column_names, columns)
    return rows


@record
class Scales:
    """What prices and volumes are multiplied by."""

    price: float
    volume: float


def scales_of(options: Options) -> Scales | None:
    """The scales that a request names; None when it names none."""
    given = [options.parameters.get(name) for name in ("price_scale", "volume_scale")]
    if given == [None, None]:
        return None
    try:
        price, volume = (1.0 if text is None else float(text) for text in given)
    except ValueError as error:
        raise failure(Code.BAD_ARGUMENTS, f"price_scale and volume_scale are {given}; give numbers.") from error
    return Scales(price, volume)


_TICKS = ("symbol", "price", "volume", "timestamp")


def insert_arrow(pipeline: Pipeline, table_name: str, data: bytes, scales: Scales | None) -> int:
    """Store the rows of an Arrow IPC stream or file.

    With scales these are ticks with columns symbol, price, volume and, if they like, timestamp; else the columns are
    those of the table, which is created from them when it does not exist.
    """
    rows = read_arrow_stream(data)
    if scales is None:
        return pipeline.append(table_name, rows)
    for name in rows.column_names:
        if name not in _TICKS:
            raise failure(Code.NO_SUCH_COLUMN_IN_TABLE, f'Ticks have columns {", ".join(_TICKS)}, and no "{name}".')
    for name in _TICKS[:3]:
        if name not in rows.column_names:
            raise failure(Code.NO_SUCH_COLUMN_IN_TABLE, f'The ticks lack the column "{name}".')
    symbols, prices, volumes, times = (rows.column(name) if name in rows.column_names else None for name in _TICKS)
    return pipeline.ingest_batch(
        symbols, prices, volumes, times, table_name, price_scale=scales.price, volume_scale=scales.volume
    )


def _checked_columns(table: Table, columns: Sequence[str] | None) -> list[str]:
    """The columns of an INSERT, as the table spells them."""
    if columns is None:
        return list(table.schema.names)
    return [table.schema.names[table.schema.index(name, table=table.name)] for name in columns]


def _require_columns(table: Table, given: Sequence[str], wanted: Sequence[str]) -> None:
    known = {name.lower() for name in wanted}
    for name in given:
        if name.lower() not in known:
            raise failure(
                Code.NO_SUCH_COLUMN_IN_TABLE,
                f'The data has a column "{name}" that the INSERT into "{table.name}" does not have.'
                f"{did_you_mean(name, list(wanted))}",
            )


def _native(data: memoryview, _: Table, columns: list[str]) -> pa.Table:
    batches = list(read_native(data))
    if not batches:
        return pa.table({name: pa.array([], pa.null()) for name in columns})
    try:
        return pa.Table.from_batches(batches)
    except pa.ArrowInvalid as error:
        raise failure(Code.INCORRECT_DATA, "Blocks of the data have different columns or types.") from error


def _arrow(data: memoryview, _table: Table, _columns: list[str]) -> pa.Table:
    return read_arrow_stream(data)


def read_arrow_stream(data: memoryview | bytes) -> pa.Table:
    """The rows of an Arrow IPC stream, or of an Arrow IPC file; raises for one that is cut off or broken."""
    if bytes(data[:6]) == b"ARROW1":
        return _read_arrow(lambda: pa.ipc.open_file(pa.BufferReader(pa.py_buffer(data))).read_all())
    table = _read_arrow(lambda: pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(data))).read_all())
    if bytes(data[-8:]) != b"\xff\xff\xff\xff\0\0\0\0":
        raise failure(
            Code.CANNOT_READ_ALL_DATA, "The Arrow stream ends without its end mark; nothing was stored. Send all of it."
        )
    return table


def _read_arrow(read: Callable[[], pa.Table]) -> pa.Table:
    try:
        table = read()
        table.validate()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise failure(
            Code.INCORRECT_DATA, f"The Arrow data cannot be read to its end, nothing was stored: {str(error)[:200]}"
        ) from error
    return table


def _parquet(data: memoryview, _table: Table, _columns: list[str]) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        return pq.read_table(pa.BufferReader(pa.py_buffer(data)))
    except (pa.ArrowException, OSError) as error:
        reason = str(error)[:200]
        raise failure(Code.INCORRECT_DATA, f"The Parquet data cannot be read, nothing was stored: {reason}") from error


def _text(read: Callable[[memoryview, Schema, list[str]], pa.Table]) -> Reader:
    return lambda data, table, columns: read(data, table.schema, columns)


def _row_binary(*, has_names: bool, has_types: bool = False) -> Reader:
    def read(data: memoryview, table: Table, columns: list[str]) -> pa.Table:
        names, start = columns, 0
        types: list[str] = []
        if has_names:
            names, types, start = read_head(data, with_types=has_types)
            names = _checked_columns(table, names)
        if not has_types:
            types = [column_type(table, table.schema.index(name)) for name in names]
        return read_row_binary(data[start:], names, types)

    return read


_READERS: dict[str, Reader] = {
    "Native": _native,
    "Arrow": _arrow,
    "ArrowStream": _arrow,
    "Parquet": _parquet,
    "Values": _text(read_values),
    "CSV": _text(separated(delimiter=",", has_names=False)),
    "CSVWithNames": _text(separated(delimiter=",", has_names=True)),
    "TabSeparated": _text(separated(delimiter="\t", has_names=False)),
    "TabSeparatedWithNames": _text(separated(delimiter="\t", has_names=True)),
    "TabSeparatedWithNamesAndTypes": _text(separated(delimiter="\t", has_names=True, has_types=True)),
    "JSONEachRow": _text(json_each_row),
    "JSONCompactEachRow": _text(json_compact_each_row),
    "RowBinary": _row_binary(has_names=False),
    "RowBinaryWithNames": _row_binary(has_names=True),
    "RowBinaryWithNamesAndTypes": _row_binary(has_names=True, has_types=True),
}
_BY_NAME = {name.lower(): reader for name, reader in _READERS.items()} | {
    short.lower(): _READERS[name]
    for short, name in {
        "TSV": "TabSeparated",
        "TSVWithNames": "TabSeparatedWithNames",
        "TSVWithNamesAndTypes": "TabSeparatedWithNamesAndTypes",
        "NDJSON": "JSONEachRow",
        "JSONLines": "JSONEachRow",
    }.items()
}
