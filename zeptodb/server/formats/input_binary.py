"""RowBinary as input: row after row, values in ClickHouse's binary form."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from zeptodb.server.codes import Code, failure
from zeptodb.server.formats.native import NUMBERS, read_value
from zeptodb.server.formats.types import TypeName, parse_type
from zeptodb.server.formats.varint import read_varint, truncated


def read_row_binary(data: memoryview, names: list[str], types: list[str]) -> pa.Table:
    """Rows of these columns; rows of fixed width at once, others one by one."""
    kinds = [parse_type(text) for text in types]
    if all(kind.name in NUMBERS for kind in kinds):
        return _fixed_rows(data, names, kinds)
    columns: list[list[pa.Array]] = [[] for _ in names]
    position = 0
    while position < len(data):
        for column, kind in zip(columns, kinds, strict=True):
            value, position = _value(data, position, kind)
            column.append(value)
    return pa.table(
        {name: pa.concat_arrays(column) if column else pa.nulls(0) for name, column in zip(names, columns, strict=True)}
    )


def _fixed_rows(data: memoryview, names: list[str], kinds: list[TypeName]) -> pa.Table:
    layout = np.dtype([(str(i), NUMBERS[kind.name][0]) for i, kind in enumerate(kinds)])
    if len(data) % layout.itemsize:
        raise truncated()
    rows = np.frombuffer(data, layout)
    parts = [np.ascontiguousarray(rows[str(i)]) for i in range(len(kinds))]
    arrays = [
        read_value(kind, memoryview(part.tobytes()), 0, len(part))[0] for kind, part in zip(kinds, parts, strict=True)
    ]
    return pa.table(arrays, names=names)


def _value(data: memoryview, position: int, kind: TypeName) -> tuple[pa.Array, int]:
    if kind.name == "Nullable":
        if position >= len(data):
            raise truncated()
        if data[position] == 1:
            return _null_of(kind.inner()), position + 1
        return _value(data, position + 1, kind.inner())
    if kind.name == "LowCardinality":
        return _value(data, position, kind.inner())
    return read_value(kind, data, position, 1)


def _null_of(kind: TypeName) -> pa.Array:
    """One NULL of a type."""
    zero, _ = read_value(kind, memoryview(bytes(64)), 0, 1)
    return pa.nulls(1, zero.type)


def read_head(data: memoryview, *, with_types: bool) -> tuple[list[str], list[str], int]:
    """The names, and the types if they are there, in front of the rows, and where the rows begin."""
    count, position = read_varint(data, 0)
    if count > len(data):
        raise failure(Code.INCORRECT_DATA, f"The data claims {count:,} columns; it is not RowBinaryWithNames.")
    texts: list[str] = []
    for _ in range(count * (2 if with_types else 1)):
        length, position = read_varint(data, position)
        if position + length > len(data):
            raise truncated()
        texts.append(str(data[position : position + length], "utf-8", "replace"))
        position += length
    return texts[:count], texts[count:], position
