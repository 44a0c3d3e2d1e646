"""RowBinary: row after row, the values of each in ClickHouse's binary form; whole columns are placed at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zeptodb.record import record
from zeptodb.server.formats.native import decimal_values, fixed_values
from zeptodb.server.formats.types import clickhouse_name
from zeptodb.server.formats.varint import (
    Int64Array,
    UInt8Array,
    put_varints,
    string_parts,
    varint_sizes,
    write_text,
    write_varint,
)


@record
class _Column:
    """One column, ready to be placed.

    Attributes:
        mask: 1 for NULL and 0 for a value, one byte each; None for a column that is not nullable.
        head_sizes, heads: lengths that stand before values, and the bytes that they take; None: fixed width.
        sizes: bytes of each value.
        data: the bytes of all values end to end.
    """

    mask: UInt8Array | None
    lengths: Int64Array | None
    head_sizes: Int64Array | None
    sizes: Int64Array
    data: UInt8Array

    @property
    def totals(self) -> Int64Array:
        """Bytes that each row takes."""
        total = self.sizes.copy()
        if self.mask is not None:
            total += 1
        if self.head_sizes is not None:
            total += self.head_sizes
        return total

    def put(self, out: UInt8Array, starts: Int64Array) -> None:
        """Write all rows at their places."""
        if self.mask is not None:
            out[starts] = self.mask
            starts = starts + 1
        if self.lengths is not None and self.head_sizes is not None:
            has_value = self.head_sizes > 0
            put_varints(out, starts[has_value], self.lengths[has_value], self.head_sizes[has_value])
            starts = starts + self.head_sizes
        width = int(self.sizes[0]) if len(self.sizes) else 0
        if bool((self.sizes == width).all()):
            rows = self.data.reshape(len(self.sizes), width)
            for byte in range(width):
                out[starts + byte] = rows[:, byte]
            return
        ends = np.cumsum(self.sizes)
        places = np.repeat(starts - (ends - self.sizes), self.sizes) + np.arange(len(self.data))
        out[places] = self.data


class RowBinaryWriter:
    """Writes tables of one schema as rows."""

    def __init__(self, names: list[str], types: list[str]) -> None:
        self._names = names
        self._types = types

    def head(self, *, with_types: bool) -> bytes:
        """The number of columns and their names, and their types if wanted."""
        parts = [write_varint(len(self._names)), *map(write_text, self._names)]
        if with_types:
            parts.extend(map(write_text, self._types))
        return b"".join(parts)

    def rows(self, columns: list[pa.Array], rows: int) -> bytes:
        """So many rows."""
        ready = [
            _prepared(column, is_nullable=kind.startswith("Nullable("))
            for column, kind in zip(columns, self._types, strict=True)
        ]
        totals = np.zeros(rows, dtype=np.int64)
        for column in ready:
            totals += column.totals
        starts = np.zeros(rows, dtype=np.int64)
        np.cumsum(totals[:-1], out=starts[1:])
        out = np.empty(int(totals.sum()), dtype=np.uint8)
        for column in ready:
            column.put(out, starts)
            starts = starts + column.totals
        return out.tobytes()


def _prepared(array: pa.Array, *, is_nullable: bool) -> _Column:
    kind = array.type
    mask = array.is_null().to_numpy(zero_copy_only=False).astype(np.uint8) if is_nullable else None
    if pa.types.is_null(kind):
        return _Column(np.ones(len(array), np.uint8), None, None, np.zeros(len(array), np.int64), np.zeros(0, np.uint8))
    if pa.types.is_list(kind):
        return _prepared_list(array)
    if (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        data, lengths = string_parts(array.fill_null("") if array.null_count else array)
        heads = varint_sizes(lengths)
        if mask is not None:
            heads[mask == 1] = 0
        return _Column(mask, lengths, heads, lengths, data)
    values = decimal_values(array) if pa.types.is_decimal(kind) else fixed_values(array)
    return _fixed(values, len(array), mask)


def _fixed(values: npt.NDArray[np.generic], rows: int, mask: UInt8Array | None) -> _Column:
    data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
    width = len(data) // rows if rows else 0
    sizes = np.full(rows, width, dtype=np.int64)
    if mask is not None and mask.any():
        sizes[mask == 1] = 0
        data = data.reshape(rows, width)[mask == 0].reshape(-1)
    return _Column(mask, None, None, sizes, data)


def _prepared_list(array: pa.Array) -> _Column:
    """Lists one by one: each is a number of elements and then these."""
    texts = []
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    inner_type = array.type.value_type
    inner_name = clickhouse_name(inner_type, is_nullable=True)
    writer = RowBinaryWriter([""], [inner_name])
    for value in array:
        items = pa.array(value.as_py() or [], inner_type)
        texts.append(writer.rows([items], len(items)) if len(items) else b"")
    sizes = np.fromiter(map(len, texts), np.int64, count=len(texts))
    return _Column(None, lengths, varint_sizes(lengths), sizes, np.frombuffer(b"".join(texts), np.uint8))
