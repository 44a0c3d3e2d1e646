"""A column as it came in: numbers, moments, strings or decimals in memory, not yet fitted to any table."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.errors import InvalidInputError, InvalidTypeError
from zeptodb.storage.batch import Strings

Kind = Literal["integer", "float", "bool", "timestamp", "string", "decimal", "null"]
Validity = npt.NDArray[np.bool_] | None


class Decimals(NamedTuple):
    """Decimal numbers: `unscaled / 10**digits`, unscaled as int64, or as Python ints where int64 is too small."""

    unscaled: npt.NDArray[Any]
    digits: int


class Values(NamedTuple):
    """One column as it was given.

    Attributes:
        kind: what the values are.
        data: by kind: integers of any width, float32 or float64, bool, int64 ns since the epoch (timestamp), `Strings`,
            `Decimals`, zeros (null: there is no value at all). Where a value is NULL the data is 0 (code -1).
        validity: None when nothing is NULL, else True where there is a value.
        type_name: the type in the words of the library that it came from.
    """

    kind: Kind
    data: npt.NDArray[Any] | Strings | Decimals
    validity: Validity
    type_name: str

    @property
    def rows(self) -> int:
        """How many rows there are."""
        if isinstance(self.data, Strings):
            return len(self.data.codes)
        return len(self.data.unscaled) if isinstance(self.data, Decimals) else len(self.data)

    @property
    def array(self) -> npt.NDArray[Any]:
        """The data of a kind that is one array."""
        if isinstance(self.data, (Strings, Decimals)):
            raise InvalidTypeError(f"{self.kind} values are not one array.")
        return self.data


def nulls(rows: int) -> Values:
    """A column in which every row is NULL."""
    return Values("null", np.zeros(rows, np.int64), np.zeros(rows, np.bool_), "null")


def with_validity(kind: Kind, data: npt.NDArray[Any], validity: Validity, type_name: str) -> Values:
    """Values with 0 wherever `validity` says NULL; a validity without NULLs becomes None."""
    if validity is None or validity.all():
        return Values(kind, data, None, type_name)
    return Values(kind, np.where(validity, data, np.zeros(1, data.dtype)), validity, type_name)


def nan_as_missing(values: Values) -> Values:
    """The same values with NaN as NULL: the convention of pandas."""
    if values.kind != "float":
        return values
    present = ~np.isnan(values.array)
    if values.validity is not None:
        present &= values.validity
    return with_validity("float", values.array, present, values.type_name)


def first_row(mask: npt.NDArray[np.bool_]) -> int:
    """The first row where `mask` is True."""
    return int(np.argmax(mask))


def out_of_range(label: str, row: int, moment: str) -> InvalidInputError:
    """The error for a moment that int64 nanoseconds cannot hold."""
    return InvalidInputError(
        f"{label}, row {row}: {moment} since 1970 is out of range; timestamps are int64 nanoseconds, from 1677-09-21 "
        "to 2262-04-11."
    )


def timestamps(units: npt.NDArray[np.int64], factor_ns: int, validity: Validity, label: str, type_name: str) -> Values:
    """Counts of a unit of `factor_ns` nanoseconds as ns since the epoch, exactly; out of int64 is an error."""
    zeroed = with_validity("timestamp", units, validity, type_name)
    if factor_ns == 1:
        return zeroed
    limit = (2**63 - 1) // factor_ns
    data = zeroed.array
    if len(data) and (data.min() < -limit or data.max() > limit):
        row = first_row((data < -limit) | (data > limit))
        raise out_of_range(label, row, f"{int(data[row])} x {factor_ns} ns")
    return Values("timestamp", data * np.int64(factor_ns), zeroed.validity, type_name)


def distinct_strings(codes: npt.NDArray[np.int32], values: list[str | None], rows_hint: int) -> Strings:
    """`Strings` out of a foreign dictionary, which may hold NULLs, repeats and entries that no row uses.

    `codes` is -1 for NULL. Entries that no row uses are left out when there are more entries than `rows_hint`.
    """
    is_sound = len(set(values)) == len(values) and None not in values
    if is_sound and len(values) <= rows_hint:
        return Strings(codes, [v for v in values if v is not None])
    is_used = np.zeros(len(values) + 1, np.bool_)
    is_used[codes] = True
    kept: dict[str, int] = {}
    mapping = np.full(len(values) + 1, -1, np.int32)
    for old in np.flatnonzero(is_used[:-1]).tolist():
        value = values[old]
        if value is not None:
            mapping[old] = kept.setdefault(value, len(kept))
    return Strings(mapping[codes], list(kept))


def shortest(unscaled: npt.NDArray[Any], digits: int) -> Decimals:
    """Python ints as int64, after dropping trailing zeros that all of them have, where that makes them fit."""
    while len(unscaled):
        if unscaled.min() >= -(2**63) and unscaled.max() < 2**63:
            return Decimals(unscaled.astype(np.int64), digits)
        if digits == 0 or (unscaled % 10 != 0).any():
            return Decimals(unscaled, digits)
        unscaled, digits = unscaled // 10, digits - 1
    return Decimals(np.zeros(0, np.int64), digits)
