"""Sifting rows: the good ones of a batch that does not fit as a whole, and which ones are bad.

A row is bad when it would be refused on its own. Whole columns are tried first, then what numpy and a kernel can tell
apart at once, and only what is left then is halved until single rows stand out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from zeptodb.errors import InvalidInputError, InvalidTypeError, ZeptoError
from zeptodb.ingest.fit import Column, can_fit, fit, fit_symbol
from zeptodb.ingest.read import read
from zeptodb.ingest.read_numpy import require_one_dimension
from zeptodb.ingest.read_objects import kind_of_type, read_objects
from zeptodb.ingest.scaling import EXACT_FLOAT_LIMIT, Scaling, mark_lossy
from zeptodb.ingest.values import Decimals, Kind, Values
from zeptodb.storage.batch import Strings
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType, Field

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
_KINDS: dict[ColumnType, Kind] = {
    ColumnType.BOOL: "bool",
    ColumnType.TIMESTAMP_NS: "timestamp",
    ColumnType.FLOAT64: "float",
    ColumnType.FLOAT32: "float",
}


class Target(NamedTuple):
    """What a column of rows is to become.

    Attributes:
        field: the table's column.
        label: names it at the beginning of an error.
        scaling: by what numbers are multiplied.
        is_symbol: whether it is the symbol of the table.
        is_required: whether NULL is bad.
    """

    field: Field
    label: str
    scaling: Scaling
    is_symbol: bool
    is_required: bool

    def fitted(self, values: Values) -> Column:
        """The values as this column stores them; raises for one that does not fit. None of them is NULL."""
        if self.is_symbol:
            return fit_symbol(values, self.field, self.label)
        return fit(values, self.field, self.label, is_required=True, scaling=self.scaling)[0]


class _Sieve:
    """One column on its way from `rows` given values to fitted ones; `bad` marks the rows that cannot be."""

    def __init__(self, target: Target, rows: int, *, has_text: bool) -> None:
        self.target = target
        self.bad = np.zeros(rows, np.bool_)
        self.missing = np.zeros(rows, np.bool_)
        self._out = np.zeros(rows, object if has_text else target.field.type.dtype)
        self._has_text = has_text

    def leave_out(self, rows: Int64Array) -> None:
        """Rows without a value."""
        (self.bad if self.target.is_required else self.missing)[rows] = True

    def take(self, rows: Int64Array, read_rows: Callable[[Int64Array], Values]) -> None:
        """Fit these rows; `read_rows` reads some of them, given as positions in `rows`."""
        pending = [(0, len(rows))] if len(rows) else []
        while pending:
            first, end = pending.pop()
            try:
                values = read_rows(np.arange(first, end))
                fitted = self.target.fitted(values)
            except ZeptoError:
                if end - first == 1:
                    self.bad[rows[first]] = True
                else:
                    middle = (first + end) // 2
                    pending += [(middle, end), (first, middle)]
            else:
                self._out[rows[first:end]] = _texts(fitted) if isinstance(fitted, Strings) else fitted

    def values(self, good: BoolArray) -> Values:
        """The fitted values of the good rows; they fit as they are."""
        kind = _KINDS.get(self.target.field.type, "integer")
        validity = None if not self.missing.any() else ~self.missing[good]
        if not self._has_text:
            return Values(kind, self._out[good], validity, str(self._out.dtype))
        texts = self._out[good].tolist()
        return read_objects(texts, self.target.label, missing=None if validity is None else ~validity)


def sift_column(data: object, target: Target) -> tuple[BoolArray, Callable[[BoolArray], Values]]:
    """Which rows of a column are bad, and a function that gives the values of good rows.

    A column whose type as such is wrong (strings where numbers belong, say) raises InvalidTypeError; in a list or an
    array of Python objects a value of a wrong type is a bad row.
    """
    objects = _objects(data)
    if objects is not None:
        return _sift_objects(objects, target)
    try:
        values = read(data, target.label)
    except InvalidInputError:
        return _sift_slices(data, target)
    return _sift_values(values, target)


def rows_of(data: object, label: str) -> int:
    """How many values a column has; raises for what is not a column."""
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple):
        require_one_dimension(shape, label)
    return len(data) if hasattr(data, "__len__") else read(data, label).rows


def slice_of(data: Any, first: int, end: int) -> object:  # noqa: ANN401 - a column of any library
    """A part of a column, of the same kind."""
    if hasattr(data, "iloc"):
        return data.iloc[first:end]
    if hasattr(data, "__getitem__"):
        return data[first:end]
    values = read(data, "The column").data
    return values[first:end] if isinstance(values, np.ndarray) else data


def _objects(data: Any) -> Sequence[object] | None:  # noqa: ANN401
    """The Python values of a column that has values of any type; None for one that has a type."""
    if isinstance(data, (list, tuple)):
        return data
    if getattr(data, "dtype", None) != np.dtype(object) or getattr(data, "ndim", 1) != 1:
        return None
    objects = cast(list[object], data.tolist())
    if hasattr(data, "isna"):  # pandas' convention: NaN is missing
        for row in np.flatnonzero(data.isna()).tolist():
            objects[row] = None
    return objects


def _sift_objects(objects: Sequence[object], target: Target) -> tuple[BoolArray, Callable[[BoolArray], Values]]:
    types = list(map(type, objects))
    kinds = {t: kind_of_type(t) for t in set(types)}
    if target.is_symbol:
        allowed = _symbol_kinds(objects, kinds, target)
    else:
        allowed = {kind for kind in kinds.values() if kind is not None and can_fit(kind, target.field.type)}
    is_mixed = {"integer", "float"} <= set(kinds.values())  # read together, integers would be held to float's precision
    try:
        values = None if is_mixed else read_objects(objects, target.label)
    except ZeptoError:
        values = None
    if values is not None and values.kind in allowed:
        return _sift_values(values, target)
    sieve = _Sieve(target, len(objects), has_text="string" in allowed and _is_text(target))
    numbers = {t: number for number, t in enumerate(kinds)}
    number_of_row = np.array([numbers[t] for t in types], dtype=np.int64)
    for kind in set(kinds.values()):
        rows = np.flatnonzero(np.isin(number_of_row, [numbers[t] for t, k in kinds.items() if k == kind]))
        if kind == "null":
            sieve.leave_out(rows)
        elif kind is None or kind not in allowed:
            sieve.bad[rows] = True
        else:
            _sift_one_kind([objects[row] for row in rows.tolist()], rows, sieve)
    return sieve.bad, sieve.values


def _sift_one_kind(chosen: list[object], rows: Int64Array, sieve: _Sieve) -> None:
    """Python values of one kind: at once if possible, else halved."""
    if set(map(type, chosen)) == {int}:
        fits = np.array([INT64_MIN <= value <= INT64_MAX for value in cast(list[int], chosen)])
        sieve.bad[rows[~fits]] = True
        rows = rows[fits]
        chosen = [chosen[position] for position in np.flatnonzero(fits).tolist()]
    try:
        values = read_objects(chosen, sieve.target.label)
    except ZeptoError:
        sieve.take(rows, lambda part: read_objects(chosen[part[0] : part[-1] + 1], sieve.target.label))
    else:
        _take_values(values, rows, sieve)


def _sift_slices(data: object, target: Target) -> tuple[BoolArray, Callable[[BoolArray], Values]]:
    """A column with a type in which some value cannot even be read."""
    rows = np.arange(rows_of(data, target.label))
    sieve = _Sieve(target, len(rows), has_text=_is_text(target))
    sieve.take(rows, lambda part: read(slice_of(data, int(part[0]), int(part[-1]) + 1), target.label))
    return sieve.bad, sieve.values


def _sift_values(values: Values, target: Target) -> tuple[BoolArray, Callable[[BoolArray], Values]]:
    rows = np.arange(values.rows)
    sieve = _Sieve(target, values.rows, has_text=values.kind == "string")
    if values.kind == "null":
        sieve.leave_out(rows)
    else:
        target.fitted(_some(values, rows[:0]))  # a wrong type is no matter of rows
        if values.validity is not None:
            sieve.leave_out(np.flatnonzero(~values.validity))
            rows = np.flatnonzero(values.validity)
        _take_values(_some(values, rows), rows, sieve)
    return sieve.bad, sieve.values


def _take_values(values: Values, rows: Int64Array, sieve: _Sieve) -> None:
    target = sieve.target
    if values.validity is not None:
        sieve.leave_out(rows[~values.validity])
        present = np.flatnonzero(values.validity)
        values, rows = _some(values, present), rows[present]
    if values.kind == "float" and target.field.type in (ColumnType.INT64, ColumnType.INT32):
        lossy = _lossy(values, target.scaling)
        sieve.bad[rows[lossy]] = True
        kept = np.flatnonzero(~lossy)
        values, rows = _some(values, kept), rows[kept]
    sieve.take(rows, lambda part: _some(values, part))


def _lossy(values: Values, scaling: Scaling) -> BoolArray:
    data = np.ascontiguousarray(values.array, dtype=np.float64)
    bits = 24 if values.array.dtype == np.float32 else 53
    marks = np.empty(len(data), np.bool_)
    mark_lossy(data.ctypes.data, len(data), float(scaling.factor), EXACT_FLOAT_LIMIT, bits, marks)
    return marks


def _some(values: Values, rows: Int64Array) -> Values:
    """The values of these rows, none of which is NULL."""
    data: npt.NDArray[Any] | Strings | Decimals
    if isinstance(values.data, Strings):
        data = Strings(values.data.codes[rows], values.data.values)
    elif isinstance(values.data, Decimals):
        data = Decimals(values.data.unscaled[rows], values.data.digits)
    else:
        data = values.data[rows]
    return Values(values.kind, data, None, values.type_name)


def _texts(strings: Strings) -> npt.NDArray[Any]:
    return np.array(strings.values, dtype=object)[strings.codes]


def _is_text(target: Target) -> bool:
    return target.field.type in (ColumnType.STRING, ColumnType.SYMBOL)


def _symbol_kinds(objects: Sequence[object], kinds: dict[type, Kind | None], target: Target) -> set[Kind]:
    """What symbols may be: what those of the table are, else what the first usable one is."""
    settled: dict[ColumnType, Kind] = {ColumnType.INT64: "integer", ColumnType.STRING: "string"}
    kind = settled.get(target.field.type)
    if kind is not None:
        return {kind}
    if target.field.type is not ColumnType.SYMBOL:
        raise InvalidTypeError(f"{target.label} is {target.field.type.value}; symbols are integers or strings.")
    usable: set[Kind] = {"integer", "string"}
    found = (kinds[type(value)] for value in objects)
    return {next((kind for kind in found if kind in usable), "integer")}
