"""Reading polars Series of any dtype; NaN stays NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zeptodb.ingest.values import Values

if TYPE_CHECKING:
    import polars as pl


def read_polars(series: pl.Series, label: str) -> Values:
    """Read a Series; numbers without NULLs and in one chunk are not copied."""
    import polars as pl

    from zeptodb.ingest.read_arrow import read_arrow
    from zeptodb.ingest.read_numpy import read_numpy
    from zeptodb.ingest.read_objects import read_objects

    dtype = series.dtype
    name = str(dtype)
    if (dtype.is_integer() or dtype.is_float()) and dtype not in (pl.Int128, pl.UInt128):
        if series.null_count() == 0:
            values = read_numpy(series.to_numpy(), label)
            return Values(values.kind, values.data, None, name)
    elif dtype == pl.Object or dtype in (pl.Int128, pl.UInt128):
        values = read_objects(series.to_list(), label)
        return Values(values.kind, values.data, values.validity, name)
    values = read_arrow(series.to_arrow(), label)
    return Values(values.kind, values.data, values.validity, name)
