"""Text formats of data: CSV, TabSeparated, the JSON lines and Values, read into the types of a table's columns."""

from __future__ import annotations

import json as plain_json
import re
from collections.abc import Callable

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson

from zeptodb.server.codes import Code, failure
from zeptodb.server.parameters import unescape
from zeptodb.types import ColumnType, Schema

_READ_AS: dict[ColumnType, pa.DataType] = {
    ColumnType.INT64: pa.int64(),
    ColumnType.INT32: pa.int32(),
    ColumnType.FLOAT64: pa.float64(),
    ColumnType.FLOAT32: pa.float32(),
    ColumnType.BOOL: pa.bool_(),
    ColumnType.STRING: pa.string(),
    ColumnType.SYMBOL: pa.string(),
    ColumnType.TIMESTAMP_NS: pa.string(),
}
_BLOCK_BYTES = 1 << 24
_WHOLE_NUMBER = r"^-?[0-9]+$"


def read_as(schema: Schema, name: str) -> pa.DataType:
    """The type in which text of a column is read: times, and symbols of a table without rows, as strings at first."""
    return _READ_AS[schema.field(name).type]


def settled(table: pa.Table, schema: Schema) -> pa.Table:
    """Times and symbols that were read as strings as what they are; a column of times without a value is left out."""
    for index, name in reversed(list(enumerate(table.column_names))):
        column, kind = table.column(index), schema.field(name).type
        if kind is ColumnType.TIMESTAMP_NS and table.num_rows and column.null_count == len(column):
            table = table.remove_column(index)
        elif kind is ColumnType.TIMESTAMP_NS and pa.types.is_string(column.type):
            table = table.set_column(index, name, _times(column, name))
        elif kind is ColumnType.SYMBOL and pa.types.is_string(column.type) and _are_whole(column):
            table = table.set_column(index, name, column.cast(pa.int64()))
    return table


def _are_whole(column: pa.ChunkedArray) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, _WHOLE_NUMBER), skip_nulls=True).as_py())


def _times(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        if _are_whole(column):
            return column.cast(pa.int64())
        is_whole = pc.match_substring_regex(column, _WHOLE_NUMBER)
        nothing = pa.scalar(None, pa.string())
        nanoseconds = pc.if_else(is_whole, column, nothing).cast(pa.int64())
        moments = pc.if_else(is_whole, nothing, column)
        zoned = pc.any(pc.match_substring_regex(moments, r"(Z|[+-]\d\d:?\d\d)$")).as_py()
        moments = moments.cast(pa.timestamp("ns", tz="UTC") if zoned else pa.timestamp("ns"))
        return pc.coalesce(nanoseconds, moments.cast(pa.int64()))
    except pa.ArrowInvalid as error:
        raise failure(
            Code.CANNOT_PARSE_TEXT,
            f'Column "{name}" has a value that is no time: {_short(error)} Give nanoseconds, or 2024-01-02 03:04:05.',
        ) from error


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200].rstrip(".") + "."


# ---- CSV and TabSeparated ------------------------------------------------------------------------------------------


def separated(
    *, delimiter: str, has_names: bool, has_types: bool = False
) -> Callable[[memoryview, Schema, list[str]], pa.Table]:
    """A reader of lines; with names these choose the columns, in any order."""

    def read(data: memoryview, schema: Schema, columns: list[str]) -> pa.Table:
        names, skipped = list(columns), 0
        if has_names:
            names, skipped = _header(data, delimiter, schema), 2 if has_types else 1
        is_tsv = delimiter == "\t"
        types = {name: read_as(schema, name) for name in names}
        if not bytes(data).strip(b"\r\n" if is_tsv else b" \r\n") or _is_header_alone(data, skipped):
            return pa.schema(list(types.items())).empty_table()
        try:
            table = pacsv.read_csv(
                pa.BufferReader(pa.py_buffer(data)),
                read_options=pacsv.ReadOptions(column_names=names, skip_rows=skipped, block_size=_block(data)),
                parse_options=pacsv.ParseOptions(
                    delimiter=delimiter,
                    quote_char=False if is_tsv else '"',
                    escape_char=False,
                    newlines_in_values=not is_tsv,
                    ignore_empty_lines=len(names) > 1,
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=types,
                    null_values=["\\N"] if is_tsv else ["\\N", "NULL", ""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    true_values=["true", "True", "TRUE", "1"],
                    false_values=["false", "False", "FALSE", "0"],
                ),
            )
        except pa.ArrowException as error:
            raise failure(
                Code.CANNOT_PARSE_TEXT, f"The data cannot be read as text of {len(names)} columns: {_short(error)}"
            ) from error
        return settled(_unescaped(table) if is_tsv else table, schema)

    return read


def _block(data: memoryview) -> int:
    """A block holds the longest row."""
    return max(_BLOCK_BYTES, min(len(data), 1 << 30))


def _is_header_alone(data: memoryview, skipped: int) -> bool:
    return skipped > 0 and len(bytes(data[: 1 << 16]).rstrip(b"\r\n").splitlines()) <= skipped and len(data) < 1 << 16


def _header(data: memoryview, delimiter: str, schema: Schema) -> list[str]:
    line = bytes(data[: 1 << 16]).split(b"\n", 1)[0].rstrip(b"\r")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise failure(Code.CANNOT_PARSE_TEXT, "The line of names is not valid UTF-8.") from error
    names = [part.strip().strip('"') if delimiter == "," else part for part in text.split(delimiter)]
    for name in names:
        if name.lower() not in {known.lower() for known in schema.names}:
            raise failure(
                Code.NO_SUCH_COLUMN_IN_TABLE,
                f'The data has a column "{name[:60]}", the table {", ".join(schema.names)}.',
            )
    return [schema.names[schema.index(name)] for name in names]


def _unescaped(table: pa.Table) -> pa.Table:
    r"""Strings of TabSeparated without their backslashes."""
    for index, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if pa.types.is_string(column.type) and pc.any(pc.match_substring(column, "\\")).as_py():
            values = [None if text is None else unescape(text, name) for text in column.to_pylist()]
            table = table.set_column(index, name, pa.array(values, pa.string()))
    return table


# ---- JSON ----------------------------------------------------------------------------------------------------------


def json_each_row(data: memoryview, schema: Schema, columns: list[str]) -> pa.Table:
    """Objects, one per line or in an array."""
    fields = [(name, read_as(schema, name)) for name in columns]
    if not bytes(data).strip():
        return pa.schema(fields).empty_table()
    try:
        table = pajson.read_json(
            pa.BufferReader(pa.py_buffer(data)),
            read_options=pajson.ReadOptions(block_size=_block(data)),
            parse_options=pajson.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="error"),
        )
        return settled(_without_absent(table, schema), schema)
    except (pa.ArrowException, KeyError):
        return _json_rows(data, schema, columns)  # quoted numbers, an array, names in another case; or an error


def _json_rows(data: memoryview, schema: Schema, columns: list[str]) -> pa.Table:
    """The same row by row, for what the fast reader does not take."""
    known = {name.lower(): name for name in columns}
    values: dict[str, list[object]] = {name: [] for name in columns}
    text = bytes(data).strip()
    for number, row in enumerate(_json_array(text) if text.startswith(b"[") else _json_lines(text), start=1):
        if not isinstance(row, dict):
            raise failure(Code.CANNOT_PARSE_TEXT, f"Row {number} of the data is no JSON object.")
        given = {}
        for key, value in row.items():
            if str(key).lower() not in known:
                raise failure(
                    Code.NO_SUCH_COLUMN_IN_TABLE,
                    f'Row {number} has the key "{str(key)[:60]}", which is no column here: {", ".join(columns)}.',
                )
            given[known[str(key).lower()]] = value
        for name in columns:
            values[name].append(given.get(name))
    return _typed(values, schema)


def _json_array(text: bytes) -> list[object]:
    try:
        return list(orjson.loads(text))
    except orjson.JSONDecodeError:
        return _spread_objects(text)


def _json_lines(text: bytes) -> list[object]:
    try:
        return [orjson.loads(line) for line in text.split(b"\n") if line.strip()]
    except orjson.JSONDecodeError:
        return _spread_objects(text)


def _spread_objects(text: bytes) -> list[object]:
    """Objects over several lines, or several in one."""
    try:
        decoded = text.decode("utf-8")
        decoder = plain_json.JSONDecoder()
        found: list[object] = []
        position = 0
        while position < len(decoded):
            value, position = decoder.raw_decode(decoded, position)
            found.append(value)
            while position < len(decoded) and decoded[position] in " \t\r\n,":
                position += 1
    except ValueError as error:
        raise failure(Code.CANNOT_PARSE_TEXT, f"The data is not JSON: {_short(error)}") from error
    return found


def json_compact_each_row(data: memoryview, schema: Schema, columns: list[str]) -> pa.Table:
    """Arrays, one per line."""
    values: dict[str, list[object]] = {name: [] for name in columns}
    text = bytes(data).strip()
    is_one_array = re.match(rb"\[\s*\[", text) is not None  # no column takes an array, so these are rows
    for number, row in enumerate(_json_array(text) if is_one_array else _json_lines(text), start=1):
        if not isinstance(row, list) or len(row) != len(columns):
            raise failure(
                Code.CANNOT_PARSE_TEXT, f"Row {number} of the data is no JSON array of {len(columns)} values."
            )
        for name, value in zip(columns, row, strict=True):
            values[name].append(value)
    return _typed(values, schema)


def _without_absent(table: pa.Table, schema: Schema) -> pa.Table:
    """Columns that no row has are left out, so that they get their defaults."""
    absent = [
        name
        for name, column in zip(table.column_names, table.columns, strict=True)
        if table.num_rows and column.null_count == len(column) and not schema.field(name).is_nullable
    ]
    return table.drop_columns(absent) if absent else table


def _typed(values: dict[str, list[object]], schema: Schema) -> pa.Table:
    """Columns of Python values in the types of the table."""
    arrays: dict[str, pa.Array] = {}
    for name, column in values.items():
        kind = read_as(schema, name)
        try:
            arrays[name] = pa.array([_plain(value, kind) for value in column], kind)
        except (pa.ArrowException, LookupError, ValueError, TypeError, OverflowError) as error:
            raise failure(
                Code.CANNOT_PARSE_TEXT, f'Column "{name}" has a value that is no {kind}: {_short(error)}'
            ) from error
    return settled(_without_absent(pa.table(arrays), schema), schema)


_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def _plain(value: object, kind: pa.DataType) -> object:
    if value is None:
        return None
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    if pa.types.is_boolean(kind):
        return (
            value
            if isinstance(value, bool)
            else {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        )
    if isinstance(value, str):
        return int(value) if pa.types.is_integer(kind) else float(value)
    if pa.types.is_integer(kind) and isinstance(value, float):
        if value != int(value):
            raise ValueError(f"{value} is no whole number")
        return int(value)
    return value


# ---- Values --------------------------------------------------------------------------------------------------------

_LITERAL = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.|'')*')|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])"
    r"|(?P<word>NULL|true|false|nan|inf|-inf)\b)\s*",
    re.IGNORECASE | re.DOTALL,
)
_WORDS: dict[str, object] = {
    "null": None, "true": True, "false": False, "nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"),
}  # fmt: skip


class NotLiteralError(Exception):
    """Values that are expressions: the engine has to work them out."""


def read_values(data: memoryview, schema: Schema, columns: list[str]) -> pa.Table:
    """Tuples of literals, (1, 'a'), (2, 'b'); raises NotLiteralError for anything else among them."""
    try:
        text = bytes(data).decode("utf-8").strip().rstrip(";").rstrip()
    except UnicodeDecodeError as error:
        raise failure(Code.CANNOT_PARSE_TEXT, f"The values are not valid UTF-8 at byte {error.start}.") from error
    values: dict[str, list[object]] = {name: [] for name in columns}
    position = number = 0
    while position < len(text):
        number += 1
        row, position = _tuple(text, position, number)
        if len(row) != len(columns):
            raise failure(
                Code.CANNOT_PARSE_TEXT, f"Row {number} has {len(row)} values, but {len(columns)} columns are wanted."
            )
        for name, value in zip(columns, row, strict=True):
            values[name].append(value)
    return _typed(values, schema)


def _tuple(text: str, position: int, number: int) -> tuple[list[object], int]:
    row: list[object] = []
    if text[position] != "(":
        raise failure(
            Code.SYNTAX_ERROR, f"Syntax error near {text[position : position + 20]!r} in row {number} of VALUES."
        )
    position += 1
    while True:
        found = _LITERAL.match(text, position)
        if found is None:
            raise NotLiteralError
        row.append(_literal(found))
        position = found.end()
        following = text[position : position + 1]
        if following == ",":
            position += 1
            continue
        if following != ")":
            raise NotLiteralError
        position += 1
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        return row, position


def _literal(found: re.Match[str]) -> object:
    text = found["text"]
    if text is not None:
        body = text[1:-1]
        return unescape(body.replace("''", "'"), "") if "\\" in body else body.replace("''", "'")
    number = found["number"]
    if number is not None:
        return int(number) if number.lstrip("+-").isdigit() else float(number)
    return _WORDS[found["word"].lower()]
