"""Reading Python values: lists, tuples and arrays of objects."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError
from zeptodb.ingest.values import Decimals, Kind, Values, nulls, out_of_range, shortest, with_validity
from zeptodb.storage.batch import Strings
from zeptodb.types import INT64_MAX, INT64_MIN

_MISSING_TYPES = frozenset({"NoneType", "NaTType", "NAType"})
_GROUPS: tuple[tuple[tuple[type, ...], Kind], ...] = (
    ((bool, np.bool_), "bool"),
    ((np.timedelta64,), "null"),
    ((int, np.integer), "integer"),
    ((float, np.floating), "float"),
    ((str,), "string"),
    ((dt.date, np.datetime64), "timestamp"),
    ((decimal.Decimal,), "decimal"),
)
_MIXTURES: dict[frozenset[Kind], Kind] = {
    frozenset({"integer", "float"}): "float",
    frozenset({"integer", "decimal"}): "decimal",
}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def read_objects(
    values: Sequence[object], label: str, *, missing: npt.NDArray[np.bool_] | None = None, type_name: str = "object"
) -> Values:
    """Read Python values of one type; None, pandas.NA and NaT are missing, and so is what `missing` marks.

    Integers may stand among floats and among Decimals; any other mixture is an InvalidTypeError that names the row.
    """
    types = set(map(type, values))
    missing_types = {t for t in types if t.__name__ in _MISSING_TYPES}
    if missing_types or np.datetime64 in types:
        if np.datetime64 in types:
            empty = np.fromiter(map(_is_missing, values), np.bool_, len(values))
        else:
            empty = np.fromiter(map(missing_types.__contains__, map(type, values)), np.bool_, len(values))
        missing = empty if missing is None else missing | empty
    if missing is None or not missing.any():
        kind = _kind(values, types, label)
        return Values("null", np.zeros(0, np.int64), None, "null") if kind is None else _READERS[kind](values, label)
    rows = np.flatnonzero(~missing).tolist()
    if not rows:
        return nulls(len(values))
    # The readers see every row, so that errors name the right one: missing rows repeat the first value.
    filled = list(values)
    for row in np.flatnonzero(missing).tolist():
        filled[row] = filled[rows[0]]
    kind = _kind(filled, set(map(type, filled)), label)
    return _without(_READERS[kind or "integer"](filled, label), ~missing, type_name)


def _is_missing(value: object) -> bool:
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    return type(value).__name__ in _MISSING_TYPES


def _without(values: Values, validity: npt.NDArray[np.bool_], type_name: str) -> Values:
    if isinstance(values.data, Strings):
        codes = np.where(validity, values.data.codes, np.int32(-1))
        return Values("string", Strings(codes, values.data.values), validity, type_name)
    if isinstance(values.data, Decimals):
        unscaled = np.where(validity, values.data.unscaled, 0)
        return Values("decimal", Decimals(unscaled, values.data.digits), validity, type_name)
    return with_validity(values.kind, values.data, validity, type_name)


def kind_of_type(value_type: type) -> Kind | None:
    """What a Python value of this type is; "null" for None and its like, None for what cannot be stored."""
    if value_type.__name__ in _MISSING_TYPES:
        return "null"
    kind = _group(value_type)
    return None if kind == "null" else kind


def _group(kind_type: type) -> Kind | None:
    return next((kind for bases, kind in _GROUPS if issubclass(kind_type, bases)), None)


def _kind(values: Sequence[object], types: set[type], label: str) -> Kind | None:
    """What all values are; None when there are none."""
    groups = {t: _group(t) for t in types}
    for row, value in enumerate(values) if None in groups.values() or "null" in groups.values() else ():
        if groups[type(value)] in (None, "null"):
            raise _unusable(value, row, label)
    kinds = frozenset(kind for kind in groups.values() if kind is not None)
    if len(kinds) <= 1:
        return next(iter(kinds), None)
    mixture = _MIXTURES.get(kinds)
    if mixture is None:
        row = next(i for i, v in enumerate(values) if groups[type(v)] != groups[type(values[0])])
        raise InvalidTypeError(
            f"{label}, row {row}: {_shown(values[row])} is of type {type(values[row]).__name__} in a column that "
            f"begins with {type(values[0]).__name__}; give all values one type."
        )
    return mixture


def _unusable(value: object, row: int, label: str) -> InvalidInputError | InvalidTypeError:
    if isinstance(value, (list, tuple, np.ndarray)):
        return InvalidInputError(f"{label}, row {row} is a {type(value).__name__}; give a 1-d column of single values.")
    advice = "decode it to a string first" if isinstance(value, (bytes, bytearray)) else "convert it first"
    return InvalidTypeError(
        f"{label}, row {row}: {_shown(value)} is of type {type(value).__name__}; columns hold integers, floats, bools, "
        f"datetimes, Decimals or strings: {advice}."
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_bools(values: Sequence[object], label: str) -> Values:
    del label
    return Values("bool", np.fromiter(map(bool, values), np.bool_, len(values)), None, "bool")


def _read_integers(values: Sequence[Any], label: str) -> Values:
    # numpy would wrap a numpy.uint64 without a word; Python ints raise.
    plain = values if all(t is int for t in set(map(type, values))) else list(map(int, values))
    try:
        return Values("integer", np.array(plain, dtype=np.int64), None, "int")
    except OverflowError:
        row = next(i for i, v in enumerate(plain) if not INT64_MIN <= v <= INT64_MAX)
        raise InvalidInputError(
            f"{label}, row {row}: {_shown(plain[row])} is out of int64 ({INT64_MIN} to {INT64_MAX})."
        ) from None


def _read_floats(values: Sequence[Any], label: str) -> Values:
    for row, value in enumerate(values) if len(set(map(type, values))) > 1 else ():
        if isinstance(value, (int, np.integer)) and abs(int(value)) > 2**53:
            raise LossyConversionError(
                f"{label}, row {row}: the integer {_shown(value)} stands among floats, which are exact only up to "
                "2^53; give all values as integers, or all as floats."
            )
    # Of what numpy.float32 holds only so many digits are meant.
    dtype = np.float32 if set(map(type, values)) <= {np.float32, np.float16} else np.float64
    return Values("float", np.fromiter(map(float, values), dtype, len(values)), None, "float")


def read_texts(values: Sequence[object] | npt.NDArray[Any], label: str) -> Values:
    """Dictionary-encode Python strings or a numpy array of strings."""
    import pyarrow as pa

    from zeptodb.ingest.read_arrow import read_strings

    try:
        array = pa.array(values, pa.string())
    except UnicodeEncodeError as error:
        row = next(i for i, v in enumerate(values) if not _is_encodable(str(v)))
        raise InvalidInputError(f"{label}, row {row}: {values[row]!r} cannot be encoded as UTF-8.") from error
    return read_strings(array, label, "str")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def moment_ns(value: object, label: str, row: int) -> int:
    """A date, datetime, pandas.Timestamp or numpy.datetime64 as ns since the epoch, exactly; naive means UTC."""
    to_datetime64 = getattr(value, "to_datetime64", None)  # pandas.Timestamp, which has nanoseconds
    if to_datetime64 is not None:
        value = to_datetime64()
    if isinstance(value, np.datetime64):
        return _datetime64_ns(value, label, row)
    if isinstance(value, dt.datetime):
        difference = (value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)) - EPOCH
    elif isinstance(value, dt.date):
        difference = dt.timedelta(days=value.toordinal() - EPOCH.toordinal())
    else:
        raise InvalidTypeError(
            f"{label}, row {row}: {_shown(value)} is of type {type(value).__name__}; give int64 nanoseconds "
            "or a datetime."
        )
    seconds = difference.days * 86_400 + difference.seconds
    nanoseconds = seconds * 1_000_000_000 + difference.microseconds * 1_000
    if not INT64_MIN <= nanoseconds <= INT64_MAX:
        raise out_of_range(label, row, f"{nanoseconds} ns")
    return nanoseconds


def _datetime64_ns(value: np.datetime64, label: str, row: int) -> int:
    from zeptodb.ingest.read_numpy import read_numpy

    try:
        return int(read_numpy(np.array([value]), label).array[0])
    except InvalidInputError:
        raise InvalidInputError(
            f"{label}, row {row}: {value} cannot be held exactly; timestamps are int64 nanoseconds, from 1677-09-21 to "
            "2262-04-11."
        ) from None


def _read_moments(values: Sequence[object], label: str) -> Values:
    data = np.fromiter((moment_ns(v, label, i) for i, v in enumerate(values)), np.int64, len(values))
    return Values("timestamp", data, None, "datetime")


def _read_decimals(values: Sequence[Any], label: str) -> Values:
    parts = [decimal.Decimal(int(v) if isinstance(v, np.integer) else v).as_tuple() for v in values]
    digits = 0
    for row, part in enumerate(parts):
        if not isinstance(part.exponent, int):
            raise InvalidInputError(f"{label}, row {row}: Decimal {values[row]} is not a number that can be stored.")
        if abs(part.exponent) > 400:
            raise InvalidInputError(f"{label}, row {row}: Decimal {values[row]} is out of range.")
        digits = max(digits, -part.exponent)
    unscaled = np.empty(len(parts), dtype=object)
    for row, (sign, numerals, exponent) in enumerate(parts):
        magnitude = int("".join(map(str, numerals))) * 10 ** (digits + int(exponent))
        unscaled[row] = -magnitude if sign else magnitude
    short = shortest(unscaled, digits)
    return Values("decimal", Decimals(short.unscaled, short.digits), None, "Decimal")


_READERS: dict[Kind, Callable[[Sequence[object], str], Values]] = {
    "bool": _read_bools,
    "integer": _read_integers,
    "float": _read_floats,
    "string": read_texts,
    "timestamp": _read_moments,
    "decimal": _read_decimals,
}
