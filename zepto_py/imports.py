"""DataFrames and Arrow tables of ticks into a Pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zepto_py.protocol import TickSink
from zeptodb.errors import InvalidInputError, InvalidTypeError, UnknownColumnError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

DEFAULT_TIMESTAMP = "timestamp"


def from_pandas(
    df: pd.DataFrame,
    pipeline: TickSink,
    symbol_col: str = "symbol",
    price_col: str = "price",
    volume_col: str = "volume",
    timestamp_col: str | None = DEFAULT_TIMESTAMP,
    price_scale: float = 1.0,
    volume_scale: float = 1.0,
    table_name: str = "trades",
) -> int:
    """Store the ticks of a pandas DataFrame, all or none, visible when the call returns; returns how many.

    Prices and volumes are `value * scale`, rounded to nearest where the table's columns are integers; a value that
    would lose something raises LossyConversionError. The timestamp column may be int64 ns or datetimes of any unit and
    zone (naive means UTC), and also a named level of the index; without one, ticks get the time of arrival. Missing
    values (NaN, NaT, None) are errors. Other columns are ignored.

    >>> import pandas as pd, zeptodb
    >>> pipeline = zeptodb.Pipeline(backend="cpu")
    >>> df = pd.DataFrame({"symbol": [1, 1], "price": [150.25, 150.5], "volume": [100, 300]})
    >>> from_pandas(df, pipeline, price_scale=100)
    2
    >>> pipeline.vwap(1)
    15043.75

    Raises InvalidTypeError when `df` is no pandas DataFrame and UnknownColumnError for a column that it lacks.
    """
    columns = pandas_columns(df, ColumnNames(symbol_col, price_col, volume_col, timestamp_col))
    return pipeline.ingest_batch(*columns, table_name, price_scale=price_scale, volume_scale=volume_scale)


def from_polars(
    df: pl.DataFrame,
    pipeline: TickSink,
    symbol_col: str = "symbol",
    price_col: str = "price",
    volume_col: str = "volume",
    timestamp_col: str | None = DEFAULT_TIMESTAMP,
    price_scale: float = 1.0,
    volume_scale: float = 1.0,
    table_name: str = "trades",
) -> int:
    """Store the ticks of a polars DataFrame; otherwise as `from_pandas`. NaN is a value, null is missing.

    >>> import polars as pl, zeptodb
    >>> pipeline = zeptodb.Pipeline(backend="cpu")
    >>> from_polars(pl.DataFrame({"symbol": [1], "price": [15000], "volume": [100]}), pipeline)
    1
    """
    columns = polars_columns(df, ColumnNames(symbol_col, price_col, volume_col, timestamp_col))
    return pipeline.ingest_batch(*columns, table_name, price_scale=price_scale, volume_scale=volume_scale)


def from_arrow(
    table: pa.Table,
    pipeline: TickSink,
    symbol_col: str = "symbol",
    price_col: str = "price",
    volume_col: str = "volume",
    timestamp_col: str | None = DEFAULT_TIMESTAMP,
    price_scale: float = 1.0,
    volume_scale: float = 1.0,
    table_name: str = "trades",
) -> int:
    """Store the ticks of an Arrow Table, RecordBatch, reader or anything with `__arrow_c_stream__`.

    Otherwise as `from_pandas`. NaN is a value, null is missing.

    >>> import pyarrow as pa, zeptodb
    >>> pipeline = zeptodb.Pipeline(backend="cpu")
    >>> from_arrow(pa.table({"symbol": ["AAPL"], "price": [15000], "volume": [100]}), pipeline)
    1
    """
    columns = arrow_columns(_arrow_table(table), ColumnNames(symbol_col, price_col, volume_col, timestamp_col))
    return pipeline.ingest_batch(*columns, table_name, price_scale=price_scale, volume_scale=volume_scale)


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """What the columns of ticks are called in the data."""

    symbol_col: str = "symbol"
    price_col: str = "price"
    volume_col: str = "volume"
    timestamp_col: str | None = DEFAULT_TIMESTAMP

    def found_in(self, names: Sequence[object]) -> tuple[str, str, str, str | None]:
        """The names of the four columns; None for a timestamp that is not there and was not asked for."""
        self.require_unique(names)
        return (
            _existing(self.symbol_col, "symbol_col", names),
            _existing(self.price_col, "price_col", names),
            _existing(self.volume_col, "volume_col", names),
            None if self.lacks_timestamp(names) else self.timestamp_col,
        )

    def lacks_timestamp(self, names: Sequence[object]) -> bool:
        """Whether ticks get the time of arrival; raises for a column that was asked for and is not there."""
        if self.timestamp_col in names:
            return False
        if self.timestamp_col not in (None, DEFAULT_TIMESTAMP):
            raise _missing_column(self.timestamp_col, "timestamp_col", names)
        return True

    def require_unique(self, names: Sequence[object]) -> None:
        """Raise for a name that could mean several columns."""
        for name in (self.symbol_col, self.price_col, self.volume_col, self.timestamp_col):
            if names.count(name) > 1:
                raise InvalidInputError(
                    f'The data has {names.count(name)} columns called "{name}"; rename or drop all but one.'
                )


TickColumns = tuple[Any, Any, Any, Any]
"""Columns of symbols, prices, volumes and timestamps (None: the time of arrival)."""


def pandas_columns(df: pd.DataFrame, names: ColumnNames) -> TickColumns:
    """The columns of ticks of a pandas DataFrame; raises as `from_pandas`."""
    if not (_is_of(df, "pandas") and hasattr(df, "columns") and hasattr(df, "index")):
        raise _wrong_frame(df, "pandas.DataFrame")
    known: list[Any] = list(df.columns)
    levels = list(df.index.names)
    timestamps: object = None
    if names.timestamp_col is not None and names.timestamp_col not in known and names.timestamp_col in levels:
        timestamps = df.index.get_level_values(names.timestamp_col)
        names = replace(names, timestamp_col=None)
    elif (
        names.timestamp_col == DEFAULT_TIMESTAMP
        and DEFAULT_TIMESTAMP not in known
        and levels == [None]
        and str(df.index.dtype).startswith("datetime64")
    ):
        raise InvalidInputError(
            f'The DataFrame has no column "{DEFAULT_TIMESTAMP}" but a DatetimeIndex without a name; name it with '
            f'df.rename_axis("{DEFAULT_TIMESTAMP}") to use it, or pass timestamp_col=None for the time of arrival.'
        )
    symbol, price, volume, timestamp = names.found_in(known)
    return df[symbol], df[price], df[volume], timestamps if timestamp is None else df[timestamp]


def polars_columns(df: pl.DataFrame, names: ColumnNames) -> TickColumns:
    """The columns of ticks of a polars DataFrame; raises as `from_polars`."""
    if _is_of(df, "polars") and hasattr(df, "collect"):
        raise InvalidTypeError("df is a polars LazyFrame; give its .collect().")
    if not (_is_of(df, "polars") and hasattr(df, "get_column")):
        raise _wrong_frame(df, "polars.DataFrame")
    symbol, price, volume, timestamp = names.found_in(df.columns)
    return (
        df.get_column(symbol),
        df.get_column(price),
        df.get_column(volume),
        None if timestamp is None else df.get_column(timestamp),
    )


def arrow_columns(table: pa.Table, names: ColumnNames) -> TickColumns:
    """The columns of ticks of an Arrow Table; raises as `from_arrow`."""
    symbol, price, volume, timestamp = names.found_in(table.column_names)
    return (
        table.column(symbol),
        table.column(price),
        table.column(volume),
        None if timestamp is None else table.column(timestamp),
    )


def arrow_reader(data: Any) -> pa.RecordBatchReader:  # noqa: ANN401 - whatever exports Arrow
    """The record batches of an Arrow Table, RecordBatch or reader, or of anything with an Arrow PyCapsule interface."""
    import pyarrow as pa

    if isinstance(data, pa.RecordBatchReader):
        return data
    try:
        if hasattr(data, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(data)
        if hasattr(data, "__arrow_c_array__"):
            return pa.Table.from_batches([pa.record_batch(data)]).to_reader()
    except (pa.ArrowException, OSError, TypeError) as error:
        raise broken_stream(error) from error
    raise _wrong_frame(data, "pyarrow.Table")


def broken_stream(error: Exception) -> InvalidInputError:
    """The error for an Arrow stream that ends in one."""
    return InvalidInputError(f"The Arrow stream could not be read to its end, nothing was stored: {error}")


def _arrow_table(data: Any) -> pa.Table:  # noqa: ANN401 - whatever exports Arrow
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    reader = arrow_reader(data)
    try:
        return reader.read_all()
    except (pa.ArrowException, OSError, TypeError) as error:
        raise broken_stream(error) from error


def _is_of(data: object, library: str) -> bool:
    """Whether a class of the library, or of its kin by inheritance, is what we were given."""
    return any(base.__module__.split(".")[0] == library for base in type(data).__mro__)


def _wrong_frame(data: object, wanted: str) -> InvalidTypeError:
    return InvalidTypeError(
        f"Expected a {wanted}, got {type(data).__module__}.{type(data).__qualname__}; use the from_* function of its "
        "library, or pipeline.ingest_batch() for single columns."
    )


def _existing(name: str, parameter: str, names: Sequence[object]) -> str:
    if name not in names:
        raise _missing_column(name, parameter, names)
    return name


def _missing_column(name: object, parameter: str, names: Sequence[object]) -> UnknownColumnError:
    return UnknownColumnError(
        f'The data has no column "{name}" ({parameter}).{did_you_mean(str(name), [str(n) for n in names])} '
        f"Pass {parameter}= to name the column."
    )
