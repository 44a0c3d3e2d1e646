"""Columns of one symbol, and answers to SQL, as DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from zepto_py.protocol import ColumnSource, Queryable, Result, Timestamps
from zeptodb.errors import InvalidInputError, InvalidTypeError
from zeptodb.types import ColumnType, Field, Schema

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    import polars as pl


def to_pandas(
    pipeline: ColumnSource,
    symbol: int | str,
    *,
    table_name: str = "trades",
    price_scale: float | None = None,
    volume_scale: float | None = None,
    timestamps: Timestamps = "ns",
) -> pd.DataFrame:
    """All rows of one symbol in time order: timestamp, then the other columns in the table's order, without the symbol.

    With `price_scale` (`volume_scale`) the column price (volume) comes as floats, divided by it; without, as stored.
    Columns of `trades` that are not divided are read-only views into the engine, not copies: they stay as they are
    whatever is ingested later, and `df.copy()` gives a frame to write into. An unknown symbol gives no rows.

    >>> import zeptodb
    >>> pipeline = zeptodb.Pipeline(backend="cpu")
    >>> pipeline.ingest(symbol=1, price=15025, volume=100, timestamp=1)
    >>> to_pandas(pipeline, 1, price_scale=100)
       timestamp   price  volume
    0          1  150.25     100
    """
    import pandas as pd

    schema = pipeline.schema(table_name)
    scales = _scales(price_scale, volume_scale)
    columns = _columns(pipeline, schema, symbol, table_name, scales) if _has_plain_columns(schema) else None
    if columns is None:
        frame = _selected(pipeline, schema, symbol, table_name, timestamps).to_pandas()
        for name, scale in scales.items():
            frame[_number(schema, name, table_name).name] /= scale
        return frame
    if timestamps == "datetime" and schema.timestamp is not None:
        moments = pd.DatetimeIndex(columns[schema.timestamp].view("datetime64[ns]"), tz="UTC")
        return pd.DataFrame(cast("dict[str, object]", columns) | {schema.timestamp: moments}, copy=False)
    return pd.DataFrame(columns, copy=False)


def to_polars(
    pipeline: ColumnSource,
    symbol: int | str,
    *,
    table_name: str = "trades",
    price_scale: float | None = None,
    volume_scale: float | None = None,
    timestamps: Timestamps = "ns",
) -> pl.DataFrame:
    """The same as `to_pandas` for polars; columns of `trades` that are not divided share the engine's memory.

    >>> import zeptodb
    >>> pipeline = zeptodb.Pipeline(backend="cpu")
    >>> pipeline.ingest(symbol=1, price=15025, volume=100, timestamp=1)
    >>> to_polars(pipeline, 1).rows()
    [(1, 15025, 100)]
    """
    import polars as pl
    import pyarrow as pa

    schema = pipeline.schema(table_name)
    scales = _scales(price_scale, volume_scale)
    columns = _columns(pipeline, schema, symbol, table_name, scales) if _has_plain_columns(schema) else None
    if columns is None:
        frame = _selected(pipeline, schema, symbol, table_name, timestamps).to_polars()
        divided = {_number(schema, name, table_name).name: scale for name, scale in scales.items()}
        return frame.with_columns(pl.col(name) / scale for name, scale in divided.items())
    frame = cast("pl.DataFrame", pl.from_arrow(pa.table({name: pa.array(values) for name, values in columns.items()})))
    if timestamps == "datetime" and schema.timestamp is not None:
        frame = frame.with_columns(pl.col(schema.timestamp).cast(pl.Datetime("ns", "UTC")))
    return frame


def query_to_pandas(pipeline: Queryable, sql: str, *, timestamps: Timestamps = "ns") -> pd.DataFrame:
    """The answer to SQL as a pandas DataFrame; raises QueryError when the statement cannot be run.

    Integers are int64, timestamps int64 ns (with `timestamps="datetime"` datetimes in UTC), NULL is NaN, NaT or None.

    >>> import zeptodb
    >>> pipeline = zeptodb.Pipeline(backend="cpu")
    >>> query_to_pandas(pipeline, "SELECT count(*) AS n FROM trades")
       n
    0  0
    """
    result = pipeline.execute(sql, timestamps=timestamps)
    result.raise_for_error()
    return result.to_pandas()


def query_to_polars(pipeline: Queryable, sql: str, *, timestamps: Timestamps = "ns") -> pl.DataFrame:
    """The answer to SQL as a polars DataFrame; raises QueryError when the statement cannot be run.

    Integers are Int64, timestamps Int64 ns (with `timestamps="datetime"` datetimes in UTC), NULL is null.

    >>> import zeptodb
    >>> pipeline = zeptodb.Pipeline(backend="cpu")
    >>> query_to_polars(pipeline, "SELECT count(*) AS n FROM trades").item()
    0
    """
    result = pipeline.execute(sql, timestamps=timestamps)
    result.raise_for_error()
    return result.to_polars()


_ATTEMPTS = 20


def _scales(price_scale: float | None, volume_scale: float | None) -> dict[str, float]:
    scales = {"price": price_scale, "volume": volume_scale}
    for name, scale in scales.items():
        if scale is not None and not scale > 0:
            raise InvalidInputError(f"{name}_scale is {scale!r}; give a positive number such as 100.")
    return {name: scale for name, scale in scales.items() if scale is not None}


def _number(schema: Schema, name: str, table_name: str) -> Field:
    field = schema.field(name, table=table_name)
    if not field.type.is_numeric:
        raise InvalidTypeError(
            f'Column "{field.name}" of table "{table_name}" is {field.type.value}: leave its scale out.'
        )
    return field


def _export_order(schema: Schema) -> list[str]:
    """The timestamp first, then the rest in the table's order, without the symbol."""
    rest = [name for name in schema.names if name not in (schema.symbol, schema.timestamp)]
    return rest if schema.timestamp is None else [schema.timestamp, *rest]


def _has_plain_columns(schema: Schema) -> bool:
    """Whether arrays can say all that is in the columns: neither NULLs nor strings."""
    fields = (field for field in schema.fields if field.name not in (schema.symbol, schema.timestamp))
    return all(not field.is_nullable and field.type is not ColumnType.STRING for field in fields)


def _columns(
    pipeline: ColumnSource, schema: Schema, symbol: int | str, table_name: str, scales: dict[str, float]
) -> dict[str, npt.NDArray[np.generic]] | None:
    """All columns in export order, as they were at one moment; None when writers never left one.

    Each call of get_column sees its own moment. Rows of a symbol are only ever added (or replaced as a whole, in other
    memory), so the columns belong together when the first one is still the same after the last one was taken.
    """
    divisors = {_number(schema, name, table_name).name: scale for name, scale in scales.items()}
    names = _export_order(schema)
    for _ in range(_ATTEMPTS):
        columns = {name: pipeline.get_column(symbol, name, table_name) for name in names}
        again = pipeline.get_column(symbol, names[0], table_name)
        first = columns[names[0]]
        if len(again) == len(first) and (len(first) == 0 or again.ctypes.data == first.ctypes.data):
            return {
                name: np.true_divide(values, divisors[name]) if name in divisors else values
                for name, values in columns.items()
            }
    return None


def _selected(
    pipeline: Queryable, schema: Schema, symbol: int | str, table_name: str, timestamps: Timestamps
) -> Result:
    """The same rows by SQL, which reads one snapshot and knows NULLs and strings."""
    columns = ", ".join(_quoted(name) for name in _export_order(schema))
    where = "" if schema.symbol is None else f" WHERE {_quoted(schema.symbol)} = {_literal(symbol)}"
    result = pipeline.execute(f"SELECT {columns} FROM {_quoted(table_name)}{where}", timestamps=timestamps)
    result.raise_for_error()
    return result


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(symbol: int | str) -> str:
    if isinstance(symbol, str):
        return "'" + symbol.replace("'", "''") + "'"
    return str(int(symbol))
