"""Reading one column of any library: the door to the readers of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from zeptodb.errors import InvalidTypeError
from zeptodb.ingest.libraries import imported
from zeptodb.ingest.read_numpy import read_numpy, require_one_dimension
from zeptodb.ingest.values import Values


def read(data: object, label: str) -> Values:
    """Read a column: a numpy, Arrow, pandas or polars column, a list, tuple or range, or anything that exports one.

    `label` begins a sentence and names the column, for example 'Column "price"'. Raises InvalidTypeError for what is
    not a column or has a type that cannot be stored, InvalidInputError for a wrong shape or a value out of range.
    """
    if isinstance(data, np.ndarray):
        return read_numpy(data, label)
    values = _read_of_library(data, label) or _read_sequence(data, label) or _read_exported(data, label)
    if values is None:
        raise InvalidTypeError(
            f"{label} is of type {type(data).__name__}; give a 1-d numpy array, a list, a pandas or polars Series or "
            "an Arrow array with one value per row."
        )
    return values


def _read_of_library(data: object, label: str) -> Values | None:
    """Read a column of a library that is imported already; None for anything else."""
    polars = imported("polars")
    if polars is not None and isinstance(data, polars.Series):
        from zeptodb.ingest.read_polars import read_polars

        return read_polars(data, label)
    arrow = imported("pyarrow")
    if arrow is not None and isinstance(data, (arrow.Array, arrow.ChunkedArray)):
        from zeptodb.ingest.read_arrow import read_arrow

        return read_arrow(data, label)
    pandas = imported("pandas")
    if pandas is not None and isinstance(data, (pandas.Series, pandas.Index, pandas.api.extensions.ExtensionArray)):
        from zeptodb.ingest.read_pandas import read_pandas

        if isinstance(data, pandas.MultiIndex):
            raise InvalidTypeError(f"{label} is a MultiIndex; give one level of it.")
        return read_pandas(data if isinstance(data, pandas.Series) else pandas.Series(data), label)
    if pandas is not None and isinstance(data, pandas.DataFrame):
        require_one_dimension(data.shape, label)
    return None


def _read_sequence(data: object, label: str) -> Values | None:
    """Read Python's own sequences; None for anything else."""
    if isinstance(data, range) and _fits_int64(data):
        return read_numpy(np.arange(data.start, data.stop, data.step, dtype=np.int64), label)
    if isinstance(data, (list, tuple, range)):
        from zeptodb.ingest.read_objects import read_objects

        return read_objects(data, label)
    return None


def _read_exported(data: Any, label: str) -> Values | None:  # noqa: ANN401 - whatever has the protocol
    """Read what exports Arrow, numpy, DLPack or a buffer of numbers; None for anything else."""
    if hasattr(data, "__arrow_c_array__") or hasattr(data, "__arrow_c_stream__"):
        import pyarrow as pa

        from zeptodb.ingest.read_arrow import read_arrow

        return read_arrow(pa.array(data) if hasattr(data, "__arrow_c_array__") else pa.chunked_array(data), label)
    if hasattr(data, "__array__") or hasattr(data, "__array_interface__") or _is_buffer_of_numbers(data):
        return read_numpy(np.asarray(data), label)
    return read_numpy(np.from_dlpack(data), label) if hasattr(data, "__dlpack__") else None


def _fits_int64(numbers: range) -> bool:
    return all(-(2**63) <= bound < 2**63 for bound in (numbers.start, numbers.stop, numbers.step))


def _is_buffer_of_numbers(data: Any) -> bool:  # noqa: ANN401
    try:
        return memoryview(data).format != "B"
    except TypeError:
        return False
