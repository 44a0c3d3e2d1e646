"""Arrow tables as DataFrames and arrays, and DataFrames as Arrow tables; what the HTTP client sends and receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zepto_py.imports import arrow_reader, broken_stream

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_EXACT = 2**53
"""float64 holds every integer up to here."""


def distinct_names(names: list[str]) -> list[str]:
    """The names with a counter appended to repeated ones: a, a_1, a_2.

    >>> distinct_names(["a", "a", "b"])
    ['a', 'a_1', 'b']
    """
    taken = set(names)
    seen: set[str] = set()
    result = []
    for name in names:
        unique, counter = name, 0
        while unique in seen or (counter and unique in taken):
            counter += 1
            unique = f"{name}_{counter}"
        seen.add(unique)
        result.append(unique)
    return result


def _is_huge(kind: pa.DataType) -> bool:
    """Whether a type is that of integer sums beyond int64."""
    import pyarrow as pa

    return bool(kind == pa.decimal128(38, 0))


def _holds_inexact(column: pa.ChunkedArray) -> bool:
    """Whether a column of integers has a NULL, and values that float64 does not hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_integer(column.type) or column.null_count in (0, len(column)):
        return False
    bounds = pc.min_max(column).as_py()
    return bool(bounds["min"] < -_EXACT or bounds["max"] > _EXACT)


def pandas_frame(table: pa.Table) -> pd.DataFrame:
    """A table as a pandas DataFrame; repeated names get a counter."""
    import pandas as pd

    table = table.rename_columns(distinct_names(table.column_names))
    special: dict[str, Callable[[pa.ChunkedArray], object]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if _is_huge(column.type):
            special[name] = lambda c: pd.Series([None if v is None else int(v) for v in c.to_pylist()], dtype=object)
        elif _holds_inexact(column):
            special[name] = lambda c: pd.Series(c.to_pylist(), dtype="Int64")
    if not special:
        frame: pd.DataFrame = table.to_pandas()
        return frame
    plain = table.drop_columns(list(special)).to_pandas()
    columns = {
        name: special[name](table.column(name)) if name in special else plain[name] for name in table.column_names
    }
    return pd.DataFrame(columns)


def polars_frame(table: pa.Table) -> pl.DataFrame:
    """A table as a polars DataFrame; repeated names get a counter."""
    import polars as pl

    if not table.column_names:
        return pl.DataFrame()
    return pl.DataFrame(table.rename_columns(distinct_names(table.column_names)))


def numpy_arrays(table: pa.Table) -> dict[str, npt.NDArray[np.generic]]:
    """The columns as arrays by name."""
    names = distinct_names(table.column_names)
    return {name: _numpy_array(column) for name, column in zip(names, table.columns, strict=True)}


def _numpy_array(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    import numpy as np

    if _is_huge(column.type) or _holds_inexact(column):
        values = np.empty(len(column), dtype=object)
        values[:] = [None if v is None else int(v) for v in column.to_pylist()]
        return values
    array: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


# ---- the other way -------------------------------------------------------------------------------------------------


def arrow_frame(data: object) -> pa.Table:
    """Any DataFrame, Arrow table or stream, or dict of columns, as an Arrow table. pandas' NaN and None are NULL."""
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    if isinstance(data, Mapping):
        return pa.table({str(name): arrow_column(column) for name, column in data.items()})
    if type(data).__module__.split(".")[0] == "pandas":
        table = pa.Table.from_pandas(data, preserve_index=None)
        return table.replace_schema_metadata(None)
    try:
        return arrow_reader(data).read_all()
    except (pa.ArrowException, OSError) as error:
        raise broken_stream(error) from error


def arrow_column(column: Any) -> pa.Array | pa.ChunkedArray:  # noqa: ANN401 - a column of any library
    """A column of pandas, polars, numpy, Arrow, or a list, as Arrow."""
    import pyarrow as pa

    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return column
    if type(column).__module__.split(".")[0] == "polars":
        return column.to_arrow()
    return pa.array(column)
