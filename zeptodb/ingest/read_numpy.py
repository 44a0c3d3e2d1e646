"""Reading numpy arrays of any dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError
from zeptodb.ingest.values import Validity, Values, first_row, out_of_range, timestamps, with_validity

_NANOSECONDS = {
    "W": 7 * 86_400_000_000_000,
    "D": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_PARTS_PER_NANOSECOND = {"ps": 1_000, "fs": 1_000_000, "as": 1_000_000_000}
_WHAT_TO_DO = {
    "S": "decode bytes to strings first, for example with numpy.strings.decode(column, 'utf-8')",
    "m": "cast durations to int64 nanoseconds",
    "c": "take the real or the imaginary part",
    "V": "pass the fields of a structured array one by one",
}


def read_numpy(array: npt.NDArray[Any], label: str) -> Values:
    """Read a 1-d numpy array; native numbers are not copied. NaN stays NaN, NaT and masked values are missing."""
    require_one_dimension(array.shape, label)
    validity: Validity = None
    if isinstance(array, np.ma.MaskedArray):
        validity = ~np.ma.getmaskarray(array)
        array = np.asarray(array.data)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    kind, name = array.dtype.kind, str(array.dtype)
    if kind in "iu":
        return with_validity("integer", array, validity, name)
    if kind == "f" and array.dtype.itemsize <= 8:
        return with_validity("float", array if array.dtype.itemsize > 2 else array.astype(np.float32), validity, name)
    if kind == "b":
        return with_validity("bool", array, validity, name)
    if kind == "M":
        return _read_moments(array, validity, label)
    if kind in "OUT":
        return _read_boxed(array, validity, label)
    advice = _WHAT_TO_DO.get(kind, "cast it to float64")
    raise InvalidTypeError(
        f"{label} has the numpy dtype {name}, which cannot be stored; columns are integers, floats, bools, "
        f"datetime64 or strings: {advice}."
    )


def require_one_dimension(shape: tuple[int, ...], label: str) -> None:
    """Raise InvalidInputError unless the shape is that of a column."""
    if len(shape) == 0:
        raise InvalidInputError(f"{label} is a single value (a 0-d array); give a 1-d array, or [value] for one row.")
    if len(shape) > 1:
        raise InvalidInputError(f"{label} has the shape {shape}; give a 1-d array with one value per row.")


def _read_boxed(array: npt.NDArray[Any], validity: Validity, label: str) -> Values:
    from zeptodb.ingest.read_objects import read_objects, read_texts

    missing = None if validity is None else ~validity
    if array.dtype.kind == "U" and missing is None:
        return read_texts(array, label)
    return read_objects(array.tolist(), label, missing=missing)


def _read_moments(array: npt.NDArray[Any], validity: Validity, label: str) -> Values:
    name = str(array.dtype)
    unit, count = np.datetime_data(array.dtype)
    if unit == "generic":
        raise InvalidTypeError(f"{label} has the dtype datetime64 without a unit; use datetime64[ns].")
    missing = np.isnat(array)
    if missing.any():
        validity = ~missing if validity is None else validity & ~missing
    if unit in ("Y", "M"):
        _require_years_in_range(array, count * (12 if unit == "Y" else 1), label)
        array, unit, count = array.astype("datetime64[D]"), "D", 1
    counts = array.view(np.int64)
    if unit in _NANOSECONDS:
        return timestamps(counts, _NANOSECONDS[unit] * count, validity, label, name)
    zeroed = with_validity("timestamp", counts, validity, name).array
    scaled = zeroed.astype(object) * count
    inexact = scaled % _PARTS_PER_NANOSECOND[unit] != 0
    if inexact.any():
        row = first_row(inexact)
        raise LossyConversionError(
            f"{label}, row {row}: {array[row]} is not a whole number of nanoseconds; round it to datetime64[ns] first."
        )
    whole = (scaled // _PARTS_PER_NANOSECOND[unit]).astype(np.int64)
    return timestamps(whole, 1, validity, label, name)


def _require_years_in_range(array: npt.NDArray[Any], months: int, label: str) -> None:
    counts = array.view(np.int64)
    limit = 300 * 12 // months
    outside = ~np.isnat(array) & ((counts < -limit) | (counts > limit))
    if outside.any():
        raise out_of_range(label, first_row(outside), f"{int(counts[first_row(outside)])} x {months} months")
