"""What is left of a native plan after its operator: HAVING, ORDER BY, LIMIT and expressions over the small result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Vector
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.sql.evaluate import evaluate, true_rows
from zeptodb.sql.plan import Finish, Slot
from zeptodb.sql.result import ResultColumn
from zeptodb.sql.string_codes import with_codes
from zeptodb.storage.dictionary import Dictionary
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType

Int64Array = npt.NDArray[np.int64]


class _Slots(NamedTuple):
    """What an operator left: one vector and, for strings, one dictionary per slot."""

    vectors: list[Vector]
    dictionaries: list[Dictionary | None]
    rows: int


def finished_columns(
    finish: Finish, slots: Sequence[Slot], vectors: list[Vector], dictionaries: list[Dictionary | None], rows: int
) -> list[ResultColumn]:
    """The columns of the answer, from what the operator has left: a vector and perhaps a dictionary per slot."""
    state = _Slots([_typed(v, slot.type) for v, slot in zip(vectors, slots, strict=False)], dictionaries, rows)
    if finish.predicate is not None:
        predicate = with_codes(finish.predicate, dictionaries)
        state = _taken(state, np.flatnonzero(true_rows(predicate, state.vectors, rows)))
    if finish.order:
        state = _taken(state, _sorted_rows(finish, state))
    elif finish.offset or finish.limit is not None:
        state = _taken(state, np.arange(state.rows)[_window(finish)])
    columns = []
    for item in finish.outputs:
        vector = _value(item.expression, state)
        dictionary = None if item.dictionary_slot is None else dictionaries[item.dictionary_slot]
        columns.append((item.name, result_vector(vector, item.type), dictionary))
    return columns


def _window(finish: Finish) -> slice:
    return slice(finish.offset, None if finish.limit is None else finish.offset + finish.limit)


def _sorted_rows(finish: Finish, state: _Slots) -> Int64Array:
    from zeptodb.sql.order import SortKey, sort_order

    keys = []
    for key in finish.order:
        dictionary = None if key.dictionary_slot is None else state.dictionaries[key.dictionary_slot]
        keys.append(SortKey(_value(key.expression, state), dictionary, key.is_descending, key.nulls_first))
    limit = None if finish.limit is None else min(finish.offset + finish.limit, state.rows)
    return sort_order(keys, state.rows, limit=limit)[_window(finish)]


def _value(expression: Expression, state: _Slots) -> Vector:
    """The value of an expression over the slots; a slot itself is passed on with its type."""
    if isinstance(expression, ColumnRef):
        return state.vectors[expression.index]
    return evaluate(with_codes(expression, state.dictionaries), state.vectors, state.rows)


def _taken(state: _Slots, rows: Int64Array) -> _Slots:
    vectors = [Vector(v.values[rows], None if v.validity is None else v.validity[rows], v.type) for v in state.vectors]
    return _Slots(vectors, state.dictionaries, len(rows))


def _typed(vector: Vector, column_type: ColumnType) -> Vector:
    """A slot's vector under the type that SQL gives it."""
    return vector if vector.type is column_type else Vector(vector.values, vector.validity, column_type)


def result_vector(vector: Vector, column_type: ColumnType) -> Vector:
    """A column of the answer: in its type's dtype, HUGEINT as INT64 when every value fits."""
    values, validity = vector.values, vector.validity
    is_typed = vector.type is column_type and values.dtype == column_type.dtype
    if is_typed and validity is None and column_type is not ColumnType.HUGEINT:
        return vector
    if validity is not None and validity.all():
        validity = None
    if column_type is ColumnType.HUGEINT:
        if values.dtype != object:
            return Vector(values, validity, ColumnType.INT64)
        valid = values if validity is None else np.where(validity, values, 0)
        if all(INT64_MIN <= v <= INT64_MAX for v in valid):
            return Vector(valid.astype(np.int64), validity, ColumnType.INT64)
        return Vector(valid, validity, ColumnType.HUGEINT)
    return Vector(values.astype(column_type.dtype, copy=False), validity, column_type)
