"""Reading whole frames: any DataFrame, Arrow table or stream, or a dict of columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zeptodb.errors import InvalidInputError, InvalidTypeError
from zeptodb.ingest.libraries import imported
from zeptodb.ingest.read import read
from zeptodb.ingest.values import Values
from zeptodb.record import record

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@record
class Frame:
    """Named columns of one length.

    Attributes:
        columns: name to values, in the order given.
        rows: length of every column.
        index: the named levels of a pandas index, not read yet; they count where a table has a column of that name.
        has_unnamed_time_index: whether a pandas DatetimeIndex without a name would be left behind.
    """

    columns: dict[str, Values]
    rows: int
    index: dict[str, object]
    has_unnamed_time_index: bool = False


def read_frame(data: object) -> Frame:
    """Read a DataFrame of pandas or polars, an Arrow Table, RecordBatch or reader, or a dict of columns.

    Anything else with `__arrow_c_stream__`, and a structured numpy array, will do as well. Raises InvalidTypeError for
    other things, InvalidInputError for columns of different lengths, names that are not strings, repeated names (also
    in another case), and for an Arrow stream that breaks.
    """
    if isinstance(data, Frame):
        return data
    pandas = imported("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return _read_pandas(data)
    polars = imported("polars")
    if polars is not None and isinstance(data, polars.DataFrame):
        return _columns(data.columns, data.get_columns())
    if polars is not None and isinstance(data, polars.LazyFrame):
        raise InvalidTypeError("The data is a polars LazyFrame; give its .collect().")
    if isinstance(data, Mapping):
        return _columns(list(data.keys()), list(data.values()))
    if isinstance(data, np.ndarray) and data.dtype.names is not None:
        return _columns(list(data.dtype.names), [data[name] for name in data.dtype.names])
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        table = _arrow_table(data)
        return _columns(table.column_names, table.columns)
    raise InvalidTypeError(
        f"The data is of type {type(data).__name__}; give a pandas or polars DataFrame, an Arrow table or stream, or a "
        "dict of columns."
    )


def _read_pandas(frame: pd.DataFrame) -> Frame:
    import pandas as pd

    names = list(frame.columns)
    if isinstance(frame.columns, pd.MultiIndex):
        raise InvalidInputError("The DataFrame has several levels of column names; give it one level.")
    read_columns = _columns(names, [frame.iloc[:, i] for i in range(len(names))])
    index: dict[str, object] = {
        name: frame.index.get_level_values(level)
        for level, name in enumerate(frame.index.names)
        if isinstance(name, str) and name not in read_columns.columns
    }
    unnamed = isinstance(frame.index, pd.DatetimeIndex) and frame.index.name is None
    return Frame(read_columns.columns, len(frame), index, unnamed)


def _arrow_table(data: Any) -> pa.Table:  # noqa: ANN401
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    try:
        if isinstance(data, pa.RecordBatch) or not hasattr(data, "__arrow_c_stream__"):
            return pa.Table.from_batches([pa.record_batch(data)])
        return pa.RecordBatchReader.from_stream(data).read_all()
    except (pa.ArrowException, OSError, TypeError) as error:
        reason = str(error).partition(" Detail: Python exception")[0]  # what follows is a traceback
        raise InvalidInputError(f"The Arrow data could not be read to its end, nothing was stored: {reason}") from error


def _columns(names: Iterable[object], columns: list[Any]) -> Frame:
    seen: dict[str, str] = {}
    values: dict[str, Values] = {}
    for name, column in zip(names, columns, strict=True):
        if not isinstance(name, str):
            raise InvalidInputError(f"Column name {name!r} is not a string; rename the column.")
        if name.lower() in seen:
            raise InvalidInputError(
                f'Column name "{name}" occurs twice (besides "{seen[name.lower()]}"); names must differ in more than '
                "case. Rename or drop one."
            )
        seen[name.lower()] = name
        values[name] = read(column, f'Column "{name}"')
    require_same_length({f'"{name}"': column.rows for name, column in values.items()})
    return Frame(values, next(iter(values.values())).rows if values else 0, {})


def require_same_length(rows: Mapping[str, int]) -> None:
    """Raise InvalidInputError that lists the lengths unless all are the same."""
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise InvalidInputError(f"Columns must have the same number of rows, but have: {listed}.")
