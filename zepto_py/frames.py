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


def pandas_frame(table: pa.Table, *, memory: pa.Buffer | None = None) -> pd.DataFrame:
    """A table as a pandas DataFrame; repeated names get a counter.

    memory: what the table lies in, if nobody else uses it; numbers without NULL then stay there, writable, uncopied.
    """
    import pandas as pd

    table = table.rename_columns(distinct_names(table.column_names))
    in_place: dict[str, npt.NDArray[np.generic]] = {}
    special: dict[str, Callable[[pa.ChunkedArray], object]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = None if memory is None else _in_place(column, memory)
        if values is not None:
            in_place[name] = values
        elif _is_huge(column.type):
            special[name] = lambda c: pd.Series([None if v is None else int(v) for v in c.to_pylist()], dtype=object)
        elif _holds_inexact(column):
            special[name] = lambda c: pd.Series(c.to_pylist(), dtype="Int64")
    if not special and not in_place:
        frame: pd.DataFrame = expanded(table).to_pandas()
        return frame
    plain = expanded(table.drop_columns([*special, *in_place])).to_pandas()
    columns = {
        name: in_place[name]
        if name in in_place
        else special[name](table.column(name))
        if name in special
        else plain[name]
        for name in table.column_names
    }
    return pd.DataFrame(columns, copy=False)


def _in_place(column: pa.ChunkedArray, memory: pa.Buffer) -> npt.NDArray[np.generic] | None:
    """A column of numbers as an array over the memory that it lies in; None when it does not lie there in one piece.

    A column of runs of integers is written out, into memory of the pool that Arrow uses again.
    """
    import numpy as np
    import pyarrow as pa

    kind = column.type
    if pa.types.is_run_end_encoded(kind) and pa.types.is_int64(kind.value_type) and column.num_chunks == 1:
        runs = column.chunk(0)
        written = np.frombuffer(pa.allocate_buffer(8 * len(column)), np.int64)
        start = 0
        for end, value in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
            written[start:end] = value
            start = end
        return written
    if column.num_chunks != 1 or column.null_count or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    chunk = column.chunk(0)
    dtype = np.dtype(kind.to_pandas_dtype())
    start = chunk.buffers()[1].address - memory.address + chunk.offset * dtype.itemsize
    if start < 0 or start % dtype.itemsize or start + len(chunk) * dtype.itemsize > memory.size:
        return None
    return np.frombuffer(memory, dtype, count=len(chunk), offset=start)


def expanded(table: pa.Table) -> pa.Table:
    """The table with plain values in place of runs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for i, column in enumerate(table.columns):
        if pa.types.is_run_end_encoded(column.type):
            table = table.set_column(i, table.column_names[i], pc.run_end_decode(column))
    return table


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
