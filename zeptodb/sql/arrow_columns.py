"""Columns of results: engine vectors as Arrow arrays, and Arrow arrays as numpy arrays and plain Python values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zeptodb.backends.base import Vector
from zeptodb.sql.plain_columns import distinct_names
from zeptodb.storage.dictionary import Dictionary
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType

if TYPE_CHECKING:
    import pandas as pd

HUGEINT = pa.decimal128(38, 0)
UTC_NS = pa.timestamp("ns", tz="UTC")

_ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    ColumnType.INT64: pa.int64(),
    ColumnType.INT32: pa.int32(),
    ColumnType.FLOAT64: pa.float64(),
    ColumnType.FLOAT32: pa.float32(),
    ColumnType.BOOL: pa.bool_(),
    ColumnType.TIMESTAMP_NS: pa.int64(),
    ColumnType.STRING: pa.string(),
    ColumnType.SYMBOL: pa.int64(),
    ColumnType.HUGEINT: HUGEINT,
}

_DECODE_ROWS = 1 << 20


def arrow_type(column_type: ColumnType) -> pa.DataType:
    """The Arrow type of a result column; timestamps are int64 ns."""
    return _ARROW_TYPES[column_type]


def vector_to_arrow(vector: Vector, dictionary: Dictionary | None) -> pa.ChunkedArray:
    """A vector as Arrow: numbers without a copy, booleans packed, codes decoded, HUGEINT as decimal128(38, 0)."""
    mask = None if vector.validity is None else ~vector.validity
    if vector.type is ColumnType.STRING:
        return _decoded(vector, mask, dictionary)
    if vector.type is ColumnType.HUGEINT:
        values = [None if mask is not None and mask[i] else int(v) for i, v in enumerate(vector.values)]
        return pa.chunked_array([pa.array(values, HUGEINT)], HUGEINT)
    target = _ARROW_TYPES[vector.type]
    values_array = np.ascontiguousarray(vector.values).astype(vector.type.dtype, copy=False)
    return pa.chunked_array([pa.array(values_array, target, mask=mask, from_pandas=False)], target)


def _decoded(vector: Vector, mask: npt.NDArray[np.bool_] | None, dictionary: Dictionary | None) -> pa.ChunkedArray:
    if dictionary is None:
        raise AssertionError("a STRING vector came without its dictionary")
    strings = dictionary.to_arrow()
    values = np.asarray(vector.values, dtype=np.int32)
    negative = values < 0
    if negative.any():
        mask = negative if mask is None else mask | negative
    codes = pa.array(values, pa.int32(), mask=mask)
    # In pieces: one Arrow string array holds 2 GiB of characters at most.
    pieces = [strings.take(codes.slice(i, _DECODE_ROWS)) for i in range(0, len(codes), _DECODE_ROWS)]
    return pa.chunked_array(pieces, pa.string())


def narrowed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Sums that DuckDB returns as decimal128(38, 0) as int64 when every one fits; other columns unchanged."""
    if column.type != HUGEINT:
        return column
    if len(column) > column.null_count:
        bounds = pc.min_max(column)
        if bounds["min"].as_py() < INT64_MIN or bounds["max"].as_py() > INT64_MAX:
            return column
    return column.cast(pa.int64())


def as_datetimes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """int64 nanoseconds as timestamps in UTC."""
    return column.cast(UTC_NS) if column.type == pa.int64() else column


def python_values(column: pa.ChunkedArray) -> list[Any]:
    """One column as plain Python values: exact ints, None for NULL."""
    if column.type == HUGEINT:
        return [None if v is None else int(v) for v in column.to_pylist()]
    if column.null_count == 0 and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        values: list[Any] = column.to_numpy().tolist()
        return values
    plain: list[Any] = column.to_pylist()
    return plain


def numpy_values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """One column as a numpy array.

    Without NULL numbers keep their type. With NULL: floats and integers that float64 holds exactly become float64 with
    NaN, timestamps NaT; anything else is an object array with None. Strings and HUGEINT are object arrays.
    """
    kind = column.type
    if pa.types.is_timestamp(kind):
        return np.asarray(column.cast(pa.timestamp(kind.unit)).to_numpy(zero_copy_only=False))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if column.null_count == 0 or pa.types.is_floating(kind) or fits_float64(column):
            return np.asarray(column.to_numpy(zero_copy_only=False))
    elif pa.types.is_boolean(kind) and column.null_count == 0:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    values = np.empty(len(column), dtype=object)
    values[:] = python_values(column) if not pa.types.is_nested(kind) else None
    if pa.types.is_nested(kind):
        for i, value in enumerate(column.to_pylist()):
            values[i] = value
    return values


def fits_float64(column: pa.ChunkedArray) -> bool:
    """Whether float64 holds every integer of the column exactly."""
    if len(column) == column.null_count:
        return True
    bounds = pc.min_max(column)
    return bool(bounds["min"].as_py() >= -(2**53) and bounds["max"].as_py() <= 2**53)


def undictionaried(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dictionary-coded columns (DuckDB's ENUM) as plain values; other columns unchanged."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def decoded_table(table: pa.Table) -> pa.Table:
    """The table with plain values in place of dictionary-coded columns."""
    return table_of([undictionaried(column) for column in table.columns], table.column_names)


def with_datetimes(table: pa.Table, columns: frozenset[int]) -> pa.Table:
    """The table with the columns of these indexes as timestamps in UTC."""
    if not columns:
        return table
    typed = [as_datetimes(column) if i in columns else column for i, column in enumerate(table.columns)]
    return table_of(typed, table.column_names)


def without_intervals(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """DuckDB's intervals, which polars does not know, as durations; with months among them as their three parts."""
    if column.type != pa.month_day_nano_interval():
        return column
    parts = column.to_pylist()
    if any(part is not None and part.months for part in parts):
        fields = {"months": pa.int32(), "days": pa.int32(), "nanoseconds": pa.int64()}
        rows = [None if part is None else part._asdict() for part in parts]
        return pa.chunked_array([pa.array(rows, pa.struct(list(fields.items())))])
    day = 86_400_000_000_000
    lengths = [None if part is None else part.days * day + part.nanoseconds for part in parts]
    return pa.chunked_array([pa.array(lengths, pa.duration("ns"))])


def table_of(columns: list[pa.ChunkedArray], names: list[str]) -> pa.Table:
    """A table of these columns; names may repeat."""
    fields = [pa.field(name, column.type) for name, column in zip(names, columns, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def row_tuples(table: pa.Table) -> list[tuple[Any, ...]]:
    """The rows of a (small) table as plain Python values."""
    return list(zip(*(python_values(column) for column in table.columns), strict=True))


def pandas_frame(table: pa.Table) -> pd.DataFrame:
    """The table as a pandas DataFrame: see QueryResult for NULLs; HUGEINT as objects of Python ints."""
    import pandas as pd

    names = distinct_names(table.column_names)
    series = [pandas_series(column) for column in table.columns]
    index = pd.RangeIndex(table.num_rows)
    frame = pd.concat(series, axis=1) if series else pd.DataFrame(index=index)
    frame.columns = pd.Index(names, dtype=object) if not names else pd.Index(names)
    return frame


def pandas_series(column: pa.ChunkedArray) -> pd.Series[Any]:
    """One column as a pandas Series."""
    import pandas as pd

    if column.type == HUGEINT:
        return pd.Series(python_values(column), dtype=object)
    if pa.types.is_integer(column.type) and column.null_count and not fits_float64(column):
        unsigned = "U" if pa.types.is_unsigned_integer(column.type) else ""
        missing = np.asarray(column.is_null().to_numpy(zero_copy_only=False))
        filled = column.fill_null(0).to_numpy(zero_copy_only=False).astype(f"{unsigned.lower()}int64")
        return pd.Series(pd.arrays.IntegerArray(filled, missing))
    series: pd.Series[Any] = column.to_pandas()
    return series
