"""Reading pandas Series of any dtype; NaN, NaT, None and pandas.NA count as missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zeptodb.errors import InvalidTypeError
from zeptodb.ingest.read_numpy import read_numpy
from zeptodb.ingest.values import Decimals, Values, distinct_strings, nan_as_missing, with_validity
from zeptodb.storage.batch import Strings

if TYPE_CHECKING:
    import pandas as pd


def read_pandas(series: pd.Series[Any], label: str) -> Values:
    """Read a Series; numpy-backed numbers without NaN and Arrow-backed ones in one chunk are not copied."""
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _read_categorical(series, label)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return read_numpy(series.to_numpy(dtype=f"datetime64[{dtype.unit}]"), label)
    if isinstance(dtype, (pd.PeriodDtype, pd.IntervalDtype)):
        raise InvalidTypeError(
            f"{label} has the pandas dtype {dtype}, which cannot be stored; use .dt.to_timestamp() for periods, or one "
            "column per end of an interval."
        )
    if isinstance(dtype, pd.SparseDtype):
        return nan_as_missing(read_numpy(np.asarray(series), label))
    if isinstance(dtype, np.dtype):
        if dtype.kind == "O":
            return _read_objects(series, label)
        return nan_as_missing(read_numpy(series.to_numpy(copy=False), label))
    return _read_extension(series, label)


def _read_objects(series: pd.Series[Any], label: str) -> Values:
    from zeptodb.ingest.read_objects import read_objects

    values = read_objects(series.tolist(), label, missing=series.isna().to_numpy())
    return nan_as_missing(values)


def _read_extension(series: pd.Series[Any], label: str) -> Values:
    import pyarrow as pa

    from zeptodb.ingest.read_arrow import read_arrow

    try:
        array = pa.array(series, from_pandas=True)
    except pa.ArrowException as error:
        raise InvalidTypeError(
            f"{label} has the pandas dtype {series.dtype}, which cannot be stored; cast it to an integer, float, bool, "
            "datetime or string dtype."
        ) from error
    values = nan_as_missing(read_arrow(array, label))
    return Values(values.kind, values.data, values.validity, str(series.dtype))


def _read_categorical(series: pd.Series[Any], label: str) -> Values:
    categories = read_pandas(series.cat.categories.to_series(), f"{label} (categories)")
    codes = series.cat.codes.to_numpy()
    validity = codes >= 0
    if isinstance(categories.data, Strings):
        # The categories are distinct and never missing, so their codes are 0, 1, 2, ...
        strings = distinct_strings(codes.astype(np.int32), list(categories.data.values), len(codes))
        return Values("string", strings, None if validity.all() else validity, "category")
    if isinstance(categories.data, Decimals):
        raise InvalidTypeError(f"{label} is a category of Decimals; cast it to a decimal or float column first.")
    if not len(categories.data):
        return Values("null", np.zeros(len(codes), np.int64), validity, "category")
    return with_validity(categories.kind, categories.data[np.where(validity, codes, 0)], validity, "category")
