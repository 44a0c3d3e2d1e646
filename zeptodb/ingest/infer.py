"""The schema that a table needs to hold a frame."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from zeptodb.errors import InvalidInputError, InvalidTypeError, unknown_column
from zeptodb.ingest.fit import decimals_to_float64
from zeptodb.ingest.frame import Frame, read_frame
from zeptodb.ingest.read import read
from zeptodb.ingest.values import Values, first_row
from zeptodb.types import INT64_MAX, ColumnType, Field, Schema


def infer_schema(data: object, symbol_col: str | None = None, timestamp_col: str | None = None) -> Schema:
    """The schema of a table made from `data` (anything that `read_frame` takes).

    Integers of up to 16 bits and INT32 become INT32, wider ones INT64, float16 and float32 FLOAT32, float64 and
    decimals (only where exact) FLOAT64, dates and datetimes TIMESTAMP_NS, text and categories STRING. A column without
    any value becomes FLOAT64. The symbol is `symbol_col` or the column called symbol; the timestamp is
    `timestamp_col`, or the column called timestamp, or the first one of datetimes. All other columns may hold NULL.
    """
    frame = read_frame(data)
    columns = dict(frame.columns)
    for name in (symbol_col or "symbol", timestamp_col or "timestamp"):
        columns.update(index_columns(frame, {name.lower()}))
    if not columns:
        raise InvalidInputError("The data has no columns; a table needs at least one.")
    symbol = _role(symbol_col, "symbol", columns)
    timestamp = _role(timestamp_col, "timestamp", columns)
    if timestamp is None:
        timestamp = next((name for name, v in columns.items() if v.kind == "timestamp" and name != symbol), None)
    if timestamp is None:
        require_no_unnamed_time_index(frame, "timestamp")
    if symbol is not None and symbol == timestamp:
        raise InvalidInputError(f'Column "{symbol}" cannot be both the symbol and the timestamp.')
    fields = tuple(_field(name, values, symbol, timestamp) for name, values in columns.items())
    return Schema(fields, symbol=symbol, timestamp=timestamp)


def index_columns(frame: Frame, wanted: Collection[str]) -> dict[str, Values]:
    """The levels of a pandas index whose names (in lower case) are wanted."""
    return {name: read(level, f'Index "{name}"') for name, level in frame.index.items() if name.lower() in wanted}


def require_no_unnamed_time_index(frame: Frame, timestamp: str) -> None:
    """Raise rather than leave the times of a pandas DatetimeIndex without a name behind."""
    if frame.has_unnamed_time_index:
        raise InvalidInputError(
            f'The DataFrame has no column "{timestamp}" but a DatetimeIndex without a name; name it with '
            f'df.rename_axis("{timestamp}") to use it, or drop it with df.reset_index(drop=True).'
        )


def _role(given: str | None, default: str, columns: dict[str, Values]) -> str | None:
    wanted = default if given is None else given
    found = next((name for name in columns if name.lower() == wanted.lower()), None)
    if found is None and given is not None:
        raise unknown_column(given, "(data)", columns)
    return found


def _field(name: str, values: Values, symbol: str | None, timestamp: str | None) -> Field:
    if name == symbol:
        return Field(name, _symbol_type(name, values), is_nullable=False)
    if name == timestamp:
        if values.kind not in ("timestamp", "integer", "null") and values.rows:
            raise InvalidTypeError(
                f'Column "{name}" is to be the timestamp and has {values.kind} values ({values.type_name}); give '
                "datetimes of any unit and zone, or int64 nanoseconds since 1970 (UTC)."
            )
        return Field(name, ColumnType.TIMESTAMP_NS, is_nullable=False)
    return Field(name, _column_type(name, values))


def _symbol_type(name: str, values: Values) -> ColumnType:
    if values.kind == "null" or (values.kind not in ("integer", "string") and not values.rows):
        return ColumnType.SYMBOL
    if values.kind not in ("integer", "string"):
        raise InvalidTypeError(
            f'Column "{name}" is to be the symbol and has {values.kind} values ({values.type_name}); symbols are '
            "integers or strings."
        )
    return ColumnType.INT64 if values.kind == "integer" else ColumnType.STRING


def _column_type(name: str, values: Values) -> ColumnType:
    if values.kind == "integer":
        return _integer_type(name, values)
    if values.kind == "float":
        return ColumnType.FLOAT32 if values.array.dtype == np.float32 else ColumnType.FLOAT64
    if values.kind == "decimal":
        decimals_to_float64(values, f'Column "{name}"')
    return {
        "decimal": ColumnType.FLOAT64,
        "null": ColumnType.FLOAT64,
        "bool": ColumnType.BOOL,
        "timestamp": ColumnType.TIMESTAMP_NS,
        "string": ColumnType.STRING,
    }[values.kind]


def _integer_type(name: str, values: Values) -> ColumnType:
    data = values.array
    if data.dtype == np.uint64 and len(data) and data.max() > INT64_MAX:
        row = first_row(data > np.uint64(INT64_MAX))
        raise InvalidInputError(
            f'Column "{name}", row {row}: {int(data[row])} is out of int64; cast the column to float64 or to strings.'
        )
    is_narrow = np.iinfo(data.dtype).max <= np.iinfo(np.int32).max
    return ColumnType.INT32 if is_narrow else ColumnType.INT64
