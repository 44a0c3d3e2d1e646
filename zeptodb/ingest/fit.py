"""Fitting values to a field: the contiguous array of exactly the field's type, or an error that names the row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError
from zeptodb.ingest.scaling import (
    UNSCALED,
    Scaling,
    decimal_text,
    decimals_to_int64,
    floats_to_int64,
    integers_to_int64,
)
from zeptodb.ingest.values import Decimals, Kind, Validity, Values, first_row
from zeptodb.storage.batch import Strings
from zeptodb.types import ColumnType, Field

Column = npt.NDArray[Any] | Strings
_Fitter = Callable[[Values, str, Scaling], Column]

_EXPECTED = {
    ColumnType.INT64: "integers, or floats and decimals that are whole after scaling",
    ColumnType.INT32: "integers, or floats and decimals that are whole",
    ColumnType.FLOAT64: "floats, integers or decimals",
    ColumnType.FLOAT32: "floats, integers or decimals",
    ColumnType.BOOL: "bools",
    ColumnType.TIMESTAMP_NS: "datetimes of any unit and zone, or int64 nanoseconds since 1970 (UTC)",
    ColumnType.STRING: "strings",
}


def fit(
    values: Values, field: Field, label: str, *, is_required: bool, scaling: Scaling = UNSCALED
) -> tuple[Column, Validity]:
    """The values as a column of `field`, and their validity (None: nothing is NULL).

    Integers, floats and decimals become the field's number type where no value changes (floats given to FLOAT32 are
    rounded to it); numbers are multiplied by `scaling`, and floats for integer columns then rounded as `scaling.py`
    says. Datetimes, and integers as ns, become timestamps. Nothing else converts.

    Raises InvalidTypeError for a kind that the field cannot hold, InvalidInputError for a NULL where `is_required` and
    for a value out of range, LossyConversionError for a number that would not survive.
    """
    if is_required:
        require_no_nulls(values, label)
    if values.kind == "null":
        return empty_column(values.rows, field.type), values.validity if values.rows else None
    fitter = _FITTERS.get((values.kind, field.type))
    if fitter is None:
        raise InvalidTypeError(
            f"{label} is {field.type.value} and was given {values.kind} values ({values.type_name}); give "
            f"{_EXPECTED[field.type]}."
        )
    return fitter(values, label, scaling), values.validity


def can_fit(kind: Kind, column_type: ColumnType) -> bool:
    """Whether a column of this type takes values of this kind at all."""
    return (kind, column_type) in _FITTERS


def fit_symbol(values: Values, field: Field, label: str) -> Column:
    """Symbols as int64, or as Strings; the kind must be that of the table once data has settled it."""
    require_no_nulls(values, label)
    if values.kind == "null":
        return empty_column(values.rows, field.type)
    if values.kind not in ("integer", "string"):
        raise InvalidTypeError(
            f"{label} was given {values.kind} values ({values.type_name}); symbols are integers or strings."
        )
    if field.type is ColumnType.STRING and values.kind == "integer":
        raise InvalidTypeError(f"{label} has string symbols and was given integers ({values.type_name}); give strings.")
    if field.type is ColumnType.INT64 and values.kind == "string":
        raise InvalidTypeError(f"{label} has integer symbols and was given strings; give integers.")
    if isinstance(values.data, Strings):
        return values.data
    return integers_to_int64(values, UNSCALED, label)


def require_no_nulls(values: Values, label: str) -> None:
    """Raise InvalidInputError that names the first row without a value."""
    if values.validity is not None and len(values.validity):
        raise InvalidInputError(
            f"{label}, row {first_row(~values.validity)}: the value is missing (NULL), and this column must not have "
            "any; drop or fill such rows."
        )


def empty_column(rows: int, column_type: ColumnType) -> Column:
    """A column of zeros (codes of -1), to stand behind NULLs."""
    if column_type is ColumnType.STRING:
        return Strings(np.full(rows, -1, np.int32), [])
    return np.zeros(rows, column_type.dtype)


def _int64_to_int32(whole: npt.NDArray[np.int64], label: str) -> Column:
    limits = np.iinfo(np.int32)
    if len(whole) and (whole.min() < limits.min or whole.max() > limits.max):
        row = first_row((whole < limits.min) | (whole > limits.max))
        raise InvalidInputError(
            f"{label}, row {row}: {int(whole[row])} is out of INT32 ({limits.min} to {limits.max})."
        )
    return whole.astype(np.int32)


def _integers_to_int32(values: Values, label: str, scaling: Scaling) -> Column:
    if values.array.dtype == np.int32 and scaling.factor == 1:
        return np.ascontiguousarray(values.array)
    return _int64_to_int32(integers_to_int64(values, scaling, label), label)


def _floats_to_int32(values: Values, label: str, scaling: Scaling) -> Column:
    return _int64_to_int32(floats_to_int64(values, scaling, label), label)


def _decimals_to_int32(values: Values, label: str, scaling: Scaling) -> Column:
    return _int64_to_int32(decimals_to_int64(values, scaling, label), label)


def _to_int64(convert: Callable[[Values, Scaling, str], npt.NDArray[np.int64]]) -> _Fitter:
    return lambda values, label, scaling: convert(values, scaling, label)


def _scaled(data: npt.NDArray[Any], dtype: type[np.floating[Any]], scaling: Scaling, label: str) -> npt.NDArray[Any]:
    if scaling.factor != 1:
        wide = data.astype(np.float64)
        with np.errstate(over="ignore"):
            data = wide * float(scaling.factor)
        overflows = np.isinf(data) & np.isfinite(wide)
        if overflows.any():
            row = first_row(overflows)
            raise InvalidInputError(
                f"{label}, row {row}: {wide[row].item()!r} x {float(scaling.factor):g} is out of FLOAT64; use a "
                "smaller scale."
            )
    return np.ascontiguousarray(data, dtype=dtype)


def _floats_to_float64(values: Values, label: str, scaling: Scaling) -> Column:
    return _scaled(values.array, np.float64, scaling, label)


def _floats_to_float32(values: Values, label: str, scaling: Scaling) -> Column:
    if values.array.dtype == np.float32 and scaling.factor == 1:
        return np.ascontiguousarray(values.array)
    wide = _scaled(values.array, np.float64, scaling, label)
    limit = float(np.finfo(np.float32).max)
    outside = np.isfinite(wide) & (np.abs(wide) > limit)
    if outside.any():
        row = first_row(outside)
        raise InvalidInputError(f"{label}, row {row}: {wide[row].item()!r} is out of FLOAT32 (up to {limit:.4g}).")
    return wide.astype(np.float32)


def _integers_to_float(dtype: type[np.floating[Any]], bits: int) -> _Fitter:
    def convert(values: Values, label: str, scaling: Scaling) -> Column:
        data = values.array
        limit = 2**bits
        if len(data) and data.dtype.itemsize * 8 > bits and (data.max() > limit or data.min() < -limit):
            outside = (data > limit) | (data < -limit) if data.dtype.kind == "i" else data > limit
            row = first_row(outside)
            raise LossyConversionError(
                f"{label}, row {row}: {int(data[row])} is beyond 2^{bits}, up to which {np.dtype(dtype)} holds every "
                "whole number; use an INT64 column, or cast the data to float to accept rounding."
            )
        return _scaled(data, dtype, scaling, label)

    return convert


def decimals_to_float64(values: Values, label: str) -> npt.NDArray[np.float64]:
    """Decimals as the nearest float64, from which the same decimal can be read back; else LossyConversionError."""
    from fractions import Fraction

    decimals = values.data
    if not isinstance(decimals, Decimals):
        raise InvalidTypeError(f"{label} does not hold decimals.")
    unscaled, digits = decimals.unscaled, decimals.digits
    # Up to 15 digits every decimal survives a float64, and with a divisor up to 10^22 one division rounds correctly.
    doubtful = np.abs(unscaled) >= 10**15 if digits <= 22 else np.ones(len(unscaled), np.bool_)
    if unscaled.dtype == np.int64:
        doubtful |= unscaled == np.iinfo(np.int64).min
    out: npt.NDArray[np.float64] = np.where(doubtful, 0, unscaled).astype(np.float64) / 10.0 ** min(digits, 22)
    for row in np.flatnonzero(doubtful).tolist():
        exact = Fraction(int(unscaled[row]), 10**digits)
        try:
            nearest = float(exact)
        except OverflowError:
            nearest = 0.0
        if Fraction(repr(nearest)) != exact:
            raise LossyConversionError(
                f"{label}, row {row}: the decimal {decimal_text(int(unscaled[row]), digits)} has more digits than "
                "float64 holds; round it, or cast the column to float64 to accept the nearest value, or to int64."
            )
        out[row] = nearest
    return out


def _decimals_to_float64(values: Values, label: str, scaling: Scaling) -> Column:
    return _scaled(decimals_to_float64(values, label), np.float64, scaling, label)


def _decimals_to_float32(values: Values, label: str, scaling: Scaling) -> Column:
    floats = Values("float", decimals_to_float64(values, label), values.validity, values.type_name)
    return _floats_to_float32(floats, label, scaling)


def _bools(values: Values, label: str, scaling: Scaling) -> Column:  # noqa: ARG001
    return np.ascontiguousarray(values.array)


def _moments(values: Values, label: str, scaling: Scaling) -> Column:  # noqa: ARG001
    return np.ascontiguousarray(values.array, dtype=np.int64)


def _nanoseconds(values: Values, label: str, scaling: Scaling) -> Column:  # noqa: ARG001
    return integers_to_int64(values, UNSCALED, label)


def _strings(values: Values, label: str, scaling: Scaling) -> Column:  # noqa: ARG001
    if not isinstance(values.data, Strings):
        raise InvalidTypeError(f"{label} does not hold strings.")
    return values.data


_FITTERS: dict[tuple[Kind, ColumnType], _Fitter] = {
    ("integer", ColumnType.INT64): _to_int64(integers_to_int64),
    ("float", ColumnType.INT64): _to_int64(floats_to_int64),
    ("decimal", ColumnType.INT64): _to_int64(decimals_to_int64),
    ("integer", ColumnType.INT32): _integers_to_int32,
    ("float", ColumnType.INT32): _floats_to_int32,
    ("decimal", ColumnType.INT32): _decimals_to_int32,
    ("integer", ColumnType.FLOAT64): _integers_to_float(np.float64, 53),
    ("float", ColumnType.FLOAT64): _floats_to_float64,
    ("decimal", ColumnType.FLOAT64): _decimals_to_float64,
    ("integer", ColumnType.FLOAT32): _integers_to_float(np.float32, 24),
    ("float", ColumnType.FLOAT32): _floats_to_float32,
    ("decimal", ColumnType.FLOAT32): _decimals_to_float32,
    ("bool", ColumnType.BOOL): _bools,
    ("timestamp", ColumnType.TIMESTAMP_NS): _moments,
    ("integer", ColumnType.TIMESTAMP_NS): _nanoseconds,
    ("string", ColumnType.STRING): _strings,
}
