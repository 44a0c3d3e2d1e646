"""Numbers into int64: value x scale, rounded to nearest, and an error wherever that would lose something."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError
from zeptodb.ingest.values import Decimals, Values, first_row
from zeptodb.jit import inline, kernel, pointer_float64
from zeptodb.record import record
from zeptodb.types import INT64_MAX, INT64_MIN

TOLERANCE = 1e-6
"""How far value x scale may lie from a whole number at any magnitude; beyond 2^53 floats are not taken at all."""

ZERO_TOLERANCE = 1e-9
"""The same where the whole number is 0: a small price must not vanish."""

EXACT_FLOAT_LIMIT = 2.0**53
_SUGGESTED_SCALE_DIGITS = 12
_SUGGESTED_LIMIT = 2.0**46  # above, the tolerance of 2 ulp would hold almost any number for whole


@record
class Scaling:
    """By what the values of a column are multiplied, and which parameter of the caller said so (None: none can)."""

    factor: float = 1.0
    parameter: str | None = None

    def __post_init__(self) -> None:
        """Check the factor."""
        name = self.parameter or "scale"
        if isinstance(self.factor, (bool, np.bool_)) or not isinstance(self.factor, (int, float, np.number)):
            raise InvalidTypeError(f"{name} is {self.factor!r}; give a positive number such as 100.")
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise InvalidInputError(f"{name} is {self.factor!r}; give a positive number such as 100.")


UNSCALED = Scaling()


@inline
def is_lossy(scaled: float, limit: float, bits: int) -> bool:
    """Whether the nearest integer would lose something of a number that carries `bits` bits of precision."""
    magnitude = abs(scaled)
    if not magnitude <= limit:
        return True
    nearest = np.rint(scaled)
    distance = abs(scaled - nearest)
    if distance <= 1e-9 or (distance <= 1e-6 and nearest != 0.0):
        return False
    if nearest == 0.0 or magnitude > 2.0**bits or distance > 0.25:
        return True  # the last: of large float32 values two units in the last place would hold anything for whole
    # Two units in the last place: a power of two, whose exponent stands in the upper bits of a float64.
    exponent = (np.float64(magnitude).view(np.int64) >> 52) + 2 - bits
    return bool(distance > np.int64(exponent << 52).view(np.float64))


@kernel
def scale_floats(source: int, rows: int, scale: float, limit: float, bits: int, out: npt.NDArray[np.int64]) -> int:
    """Write the nearest integer of value x scale to `out`; the first row where that would lose something, else -1.

    `source` is the address of float64 values that carry `bits` bits of precision (53, or 24 if they were float32).
    A row is lossy when value x scale is not finite, is beyond `limit`, or lies further from an integer than 1e-6
    (1e-9 from 0) and than 2 units in the last place, or than 0.25.
    """
    values = pointer_float64(source)
    for i in range(rows):
        scaled = values[i] * scale
        if is_lossy(scaled, limit, bits):
            return i
        out[i] = np.int64(np.rint(scaled))
    return -1


@kernel
def mark_lossy(source: int, rows: int, scale: float, limit: float, bits: int, out: npt.NDArray[np.bool_]) -> None:
    """Write to `out` which of the rows are lossy in the sense of `scale_floats`."""
    values = pointer_float64(source)
    for i in range(rows):
        out[i] = is_lossy(values[i] * scale, limit, bits)


def floats_to_int64(values: Values, scaling: Scaling, label: str) -> npt.NDArray[np.int64]:
    """Float values x scale as int64; raises LossyConversionError or InvalidInputError naming the first bad row."""
    data = np.ascontiguousarray(values.array, dtype=np.float64)
    bits = 24 if values.array.dtype == np.float32 else 53
    out = np.empty(len(data), np.int64)
    row = scale_floats(data.ctypes.data, len(data), float(scaling.factor), EXACT_FLOAT_LIMIT, bits, out)
    if row >= 0:
        raise _lossy_float(data, bits, row, scaling, label)
    return out


def _lossy_float(
    data: npt.NDArray[np.float64], bits: int, row: int, scaling: Scaling, label: str
) -> InvalidInputError | LossyConversionError:
    value = data[row].item()
    if not math.isfinite(value):
        return InvalidInputError(
            f"{label}, row {row}: {value} has no integer value. Drop or fill such rows; {_float_table()}."
        )
    product = f"{value!r} x {float(scaling.factor):g}"
    if abs(value * scaling.factor) > EXACT_FLOAT_LIMIT:
        problem = f"{product} is beyond 2^53, up to which floats hold every whole number"
        return LossyConversionError(
            f"{label}, row {row}: {problem}. Give integers, or a smaller scale; {_float_table()}."
        )
    problem = f"{product} is not a whole number"
    return LossyConversionError(f"{label}, row {row}: {problem}. {_advice(_float_scale_digits(data, bits), scaling)}.")


def _float_scale_digits(data: npt.NDArray[np.float64], bits: int) -> int | None:
    """The least number of decimal digits that holds all of the data, None when there is no such (sane) number."""
    out = np.empty(len(data), np.int64)
    for digits in range(_SUGGESTED_SCALE_DIGITS + 1):
        if scale_floats(data.ctypes.data, len(data), 10.0**digits, _SUGGESTED_LIMIT, bits, out) < 0:
            return digits
    return None


def _advice(digits: int | None, scaling: Scaling) -> str:
    if digits is None:
        return f"No power of ten up to 10^{_SUGGESTED_SCALE_DIGITS} makes all values whole; {_float_table()}"
    if scaling.parameter is None:
        return f"Multiply the column by {10**digits} to hold all values; {_float_table()}"
    return f"{scaling.parameter}={10**digits} would hold all values; {_float_table()}"


def _float_table() -> str:
    return (
        "a table with FLOAT64 columns keeps floats as they are, e.g. "
        "CREATE TABLE ticks (symbol SYMBOL, price FLOAT64, volume FLOAT64, timestamp TIMESTAMP_NS)"
    )


def integers_to_int64(values: Values, scaling: Scaling, label: str) -> npt.NDArray[np.int64]:
    """Integers x scale as int64, exactly; int64 x 1 is not copied when it is contiguous."""
    data = values.array
    if data.dtype == np.uint64 and len(data) and data.max() > INT64_MAX:
        row = first_row(data > np.uint64(INT64_MAX))
        raise InvalidInputError(f"{label}, row {row}: {int(data[row])} is out of int64 ({INT64_MIN} to {INT64_MAX}).")
    whole = np.ascontiguousarray(data, dtype=np.int64)
    if scaling.factor == 1:
        return whole
    return _rational_to_int64(whole, 0, scaling, label)


def decimals_to_int64(values: Values, scaling: Scaling, label: str) -> npt.NDArray[np.int64]:
    """Decimals x scale as int64, exactly."""
    decimals = values.data
    if not isinstance(decimals, Decimals):
        raise InvalidTypeError(f"{label} does not hold decimals.")
    return _rational_to_int64(decimals.unscaled, decimals.digits, scaling, label)


def _rational_to_int64(unscaled: npt.NDArray[Any], digits: int, scaling: Scaling, label: str) -> npt.NDArray[np.int64]:
    """`unscaled x factor / 10^digits` in integer arithmetic."""
    from fractions import Fraction

    ratio = Fraction(scaling.factor) / 10**digits
    if ratio.denominator != 1:
        if ratio.denominator > INT64_MAX:
            unscaled = unscaled.astype(object)
        inexact = unscaled % ratio.denominator != 0
        if inexact.any():
            row = first_row(inexact)
            value = decimal_text(int(unscaled[row]), digits)
            raise LossyConversionError(
                f"{label}, row {row}: {value} x {float(scaling.factor):g} is not a whole number. "
                f"{_advice(_decimal_scale_digits(unscaled, digits), scaling)}."
            )
        unscaled = unscaled // ratio.denominator
    limit = INT64_MAX // ratio.numerator
    outside = (unscaled > limit) | (unscaled < -limit)
    if outside.any():
        row = first_row(outside)
        raise InvalidInputError(
            f"{label}, row {row}: {int(unscaled[row]) * ratio.numerator} is out of int64 ({INT64_MIN} to {INT64_MAX}) "
            f"after multiplication by {float(scaling.factor):g}; use a smaller scale."
        )
    return np.ascontiguousarray((unscaled * ratio.numerator), dtype=np.int64)


def _decimal_scale_digits(unscaled: npt.NDArray[Any], digits: int) -> int:
    while digits > 0 and not (unscaled % 10 != 0).any():
        unscaled, digits = unscaled // 10, digits - 1
    return digits


def decimal_text(unscaled: int, digits: int) -> str:
    """The decimal number as it is written."""
    text = f"{abs(unscaled):0{digits + 1}d}"
    sign = "-" if unscaled < 0 else ""
    return sign + (f"{text[:-digits]}.{text[-digits:]}" if digits else text)
