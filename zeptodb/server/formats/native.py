"""ClickHouse's Native format: blocks of columns, each with its name, its type and its values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zeptodb.server.codes import Code, failure
from zeptodb.server.formats.types import TypeName, parse_type
from zeptodb.server.formats.varint import pack_strings, read_varint, truncated, unpack_strings, write_text, write_varint

BLOCK_INFO = bytes.fromhex("010002ffffffff00")
"""In front of each block when the client names a protocol version: not an overflow row, no bucket number."""

SERIALIZATION_BYTE_SINCE = 54_454
"""From this protocol version on each type is followed by a byte, 0: not a custom serialization."""


class NativeWriter:
    """Writes tables of one schema as blocks."""

    def __init__(self, names: list[str], types: list[str], *, protocol_version: int = 0) -> None:
        tail = b"\0" if protocol_version >= SERIALIZATION_BYTE_SINCE else b""
        self._heads = [write_text(name) + write_text(kind) + tail for name, kind in zip(names, types, strict=True)]
        self._is_nullable = [kind.startswith("Nullable(") for kind in types]
        self._info = BLOCK_INFO if protocol_version > 0 else b""

    def block(self, columns: list[pa.Array], rows: int) -> bytes:
        """One block."""
        parts = [self._info, write_varint(len(columns)), write_varint(rows)]
        for head, is_nullable, column in zip(self._heads, self._is_nullable, columns, strict=True):
            parts.append(head)
            if rows:
                parts.append(pack_column(column, is_nullable=is_nullable))
        return b"".join(parts)


def pack_column(array: pa.Array, *, is_nullable: bool) -> bytes:
    """The values of a column; those under a NULL are zero or empty."""
    if pa.types.is_null(array.type):
        return b"\1" * len(array) + b"\0" * len(array)
    if pa.types.is_list(array.type):
        return _pack_list(array)
    if not is_nullable:
        return _pack_values(array)
    mask = np.zeros(len(array), np.uint8) if array.null_count == 0 else array.is_null().to_numpy(zero_copy_only=False)
    return mask.astype(np.uint8).tobytes() + _pack_values(array)


def _pack_values(array: pa.Array) -> bytes:
    kind = array.type
    if pa.types.is_decimal(kind):
        return decimal_values(array).tobytes()
    if (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        return pack_strings(array.fill_null("") if array.null_count else array)
    return fixed_values(array).tobytes()


def fixed_values(array: pa.Array) -> npt.NDArray[np.generic]:
    """The values of a column of fixed width as ClickHouse stores them; 0 for NULL."""
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        array = array.cast(pa.int32() if pa.types.is_date(kind) else pa.int64())
    if array.null_count:
        array = array.fill_null(False if pa.types.is_boolean(kind) else 0)
    values: npt.NDArray[np.generic] = array.to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(kind):
        return values.astype(np.uint8)
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return values.astype(np.uint32)
    return values


def decimal_values(array: pa.Array) -> npt.NDArray[np.generic]:
    """Decimals as scaled integers of the width that their precision needs; 16 bytes each beyond 18 digits."""
    if array.null_count:
        array = array.fill_null(Decimal(0))
    words = np.frombuffer(array.buffers()[1], np.int64, offset=16 * array.offset, count=2 * len(array))
    if array.type.precision <= 9:
        return words[::2].astype(np.int32)
    if array.type.precision <= 18:
        return np.ascontiguousarray(words[::2])
    return words


def _pack_list(array: pa.Array) -> bytes:
    if array.null_count:
        array = pa.array([value or [] for value in array.to_pylist()], array.type)
    ends = np.cumsum(array.value_lengths().to_numpy(zero_copy_only=False)).astype(np.uint64)
    inner = array.flatten()
    return ends.tobytes() + pack_column(inner, is_nullable=not pa.types.is_list(inner.type))


# ---- reading -------------------------------------------------------------------------------------------------------


def read_native(data: memoryview) -> Iterator[pa.RecordBatch]:
    """The blocks of an insert as record batches; raises for data that is truncated or of unknown types."""
    position = 0
    while position < len(data):
        columns, position = read_varint(data, position)
        rows, position = read_varint(data, position)
        if columns > len(data) or rows > 8 * len(data):
            raise failure(
                Code.INCORRECT_DATA, f"A block claims {columns:,} columns and {rows:,} rows; it is not Native."
            )
        names: list[str] = []
        arrays: list[pa.Array] = []
        for _ in range(columns):
            name, position = _read_text(data, position)
            type_text, position = _read_text(data, position)
            kind = parse_type(type_text)
            names.append(name)
            array, position = _reader(kind)(data, position, rows) if rows else (_empty(kind), position)
            arrays.append(array)
        if rows:
            yield pa.RecordBatch.from_arrays(arrays, names=names)


def _read_text(data: memoryview, position: int) -> tuple[str, int]:
    length, position = read_varint(data, position)
    if position + length > len(data):
        raise truncated()
    try:
        return str(data[position : position + length], "utf-8"), position + length
    except UnicodeDecodeError as error:
        raise failure(
            Code.INCORRECT_DATA, "A name in a block is not valid UTF-8: this is not the Native format."
        ) from error


Reader = Callable[[memoryview, int, int], tuple[pa.Array, int]]

NUMBERS: dict[str, tuple[np.dtype[np.generic], pa.DataType]] = {
    "Int8": (np.dtype(np.int8), pa.int8()),
    "Int16": (np.dtype(np.int16), pa.int16()),
    "Int32": (np.dtype(np.int32), pa.int32()),
    "Int64": (np.dtype(np.int64), pa.int64()),
    "UInt8": (np.dtype(np.uint8), pa.uint8()),
    "UInt16": (np.dtype(np.uint16), pa.uint16()),
    "UInt32": (np.dtype(np.uint32), pa.uint32()),
    "UInt64": (np.dtype(np.uint64), pa.uint64()),
    "Float32": (np.dtype(np.float32), pa.float32()),
    "Float64": (np.dtype(np.float64), pa.float64()),
    "Date": (np.dtype(np.uint16), pa.date32()),
    "Date32": (np.dtype(np.int32), pa.date32()),
    "DateTime": (np.dtype(np.uint32), pa.timestamp("s")),
}


def _reader(kind: TypeName) -> Reader:
    if kind.name in NUMBERS:
        dtype, arrow = NUMBERS[kind.name]
        return lambda data, position, rows: _read_numbers(data, position, rows, dtype, arrow)
    special = _SPECIAL.get(kind.name)
    if special is None:
        raise failure(
            Code.UNKNOWN_TYPE,
            f"Columns of type {kind.name} cannot be inserted; known are {', '.join([*NUMBERS, *_SPECIAL])}.",
        )
    return lambda data, position, rows: special(kind, data, position, rows)


def read_value(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:
    """So many values of a type, and where they end."""
    return _reader(kind)(data, position, rows)


def _empty(kind: TypeName) -> pa.Array:
    """No rows of a type; an unknown type is an error all the same."""
    _reader(kind)
    return pa.array([], pa.null())


def _take(data: memoryview, position: int, size: int) -> memoryview:
    if position + size > len(data):
        raise truncated()
    return data[position : position + size]


def _read_numbers(
    data: memoryview, position: int, rows: int, dtype: np.dtype[np.generic], arrow: pa.DataType
) -> tuple[pa.Array, int]:
    size = rows * dtype.itemsize
    values = np.frombuffer(_take(data, position, size), dtype)
    if pa.types.is_date(arrow):
        values = values.astype(np.int32)
    elif pa.types.is_timestamp(arrow):
        values = values.astype(np.int64)
    return pa.array(values).cast(arrow) if values.dtype != dtype else pa.array(values, arrow), position + size


def _read_bool(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:  # noqa: ARG001
    values = np.frombuffer(_take(data, position, rows), np.uint8)
    return pa.array(values != 0), position + rows


def _read_string(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:  # noqa: ARG001
    return unpack_strings(data, position, rows)


def _read_fixed_string(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:
    width = kind.number(0)
    part = _take(data, position, rows * width)
    texts = [bytes(part[i * width : (i + 1) * width]).rstrip(b"\0") for i in range(rows)]
    try:
        return pa.array(texts, pa.binary()).cast(pa.string()), position + rows * width
    except pa.ArrowInvalid as error:
        raise failure(Code.INCORRECT_DATA, "A string is not valid UTF-8; encode strings as UTF-8.") from error


def _read_datetime64(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:
    precision = kind.number(0)
    part = np.frombuffer(_take(data, position, 8 * rows), np.int64)
    units = {0: ("s", 1), 1: ("ms", 100), 2: ("ms", 10), 3: ("ms", 1), 4: ("us", 100), 5: ("us", 10), 6: ("us", 1)}
    unit, factor = units.get(precision, ("ns", 10 ** max(0, 9 - precision)))
    return pa.array(part * factor).cast(pa.timestamp(unit)), position + 8 * rows


def _read_nullable(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:
    mask = np.frombuffer(_take(data, position, rows), np.uint8) != 0
    values, end = _reader(kind.inner())(data, position + rows, rows)
    return _with_nulls(values, mask), end


def _with_nulls(values: pa.Array, mask: npt.NDArray[np.bool_]) -> pa.Array:
    if not mask.any():
        return values
    return pa.compute.if_else(pa.array(~mask), values, pa.scalar(None, values.type))


def _read_nothing(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:  # noqa: ARG001
    _take(data, position, rows)
    return pa.nulls(rows), position + rows


_KEY_VERSION = 1
_INDEX_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.uint32), np.dtype(np.uint64))


def _read_low_cardinality(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:
    version, flags, size = (int(v) for v in np.frombuffer(_take(data, position, 24), np.uint64))
    width = flags & 0xFF
    if version != _KEY_VERSION or width >= len(_INDEX_TYPES):
        raise failure(Code.INCORRECT_DATA, "A LowCardinality column has an unknown layout; send plain strings.")
    inner = kind.inner()
    is_nullable = inner.name == "Nullable"
    values, position = _reader(inner.inner() if is_nullable else inner)(data, position + 24, size)
    count = int(np.frombuffer(_take(data, position, 8), np.uint64)[0])
    dtype = _INDEX_TYPES[width]
    indexes = np.frombuffer(_take(data, position + 8, count * dtype.itemsize), dtype)
    if count != rows or (count and int(indexes.max()) >= size):
        raise failure(Code.INCORRECT_DATA, "A LowCardinality column points beyond its dictionary, or has other rows.")
    taken = values.take(pa.array(indexes))
    taken = _with_nulls(taken, indexes == 0) if is_nullable else taken
    return taken, position + 8 + count * dtype.itemsize


def _read_decimal(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:
    digits = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38}.get(kind.name)
    precision, scale = (digits, kind.number(0)) if digits else (kind.number(0), kind.number(1, 0))
    if precision > 38 or scale > precision:
        raise failure(
            Code.UNKNOWN_TYPE, f"Decimal({precision}, {scale}) has more than 38 digits, or too large a scale."
        )
    if precision <= 18:
        dtype = np.dtype(np.int32) if precision <= 9 else np.dtype(np.int64)
        low = np.frombuffer(_take(data, position, rows * dtype.itemsize), dtype).astype(np.int64)
        words = np.stack([low, low >> 63], axis=1)
        size = rows * dtype.itemsize
    else:
        size = 16 * rows
        words = np.frombuffer(_take(data, position, size), np.int64)
    buffer = pa.py_buffer(np.ascontiguousarray(words))
    return pa.Array.from_buffers(pa.decimal128(precision, scale), rows, [None, buffer]), position + size


def _read_enum(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:
    dtype = np.dtype(np.int8) if kind.name == "Enum8" else np.dtype(np.int16)
    names: dict[int, str] = {}
    for argument in kind.arguments:
        text, _, number = str(argument).rpartition("=")
        names[int(number)] = text[1:-1].replace("\\'", "'")
    codes = np.frombuffer(_take(data, position, rows * dtype.itemsize), dtype)
    return pa.array([names.get(int(code)) for code in codes], pa.string()), position + rows * dtype.itemsize


def _read_uuid(kind: TypeName, data: memoryview, position: int, rows: int) -> tuple[pa.Array, int]:  # noqa: ARG001
    halves = np.frombuffer(_take(data, position, 16 * rows), np.uint64).reshape(rows, 2)
    texts = [f"{int(high):016x}{int(low):016x}" for high, low in halves]
    return pa.array([f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}" for t in texts]), position + 16 * rows


_SPECIAL: dict[str, Callable[[TypeName, memoryview, int, int], tuple[pa.Array, int]]] = {
    "Bool": _read_bool,
    "String": _read_string,
    "FixedString": _read_fixed_string,
    "DateTime64": _read_datetime64,
    "Nullable": _read_nullable,
    "Nothing": _read_nothing,
    "LowCardinality": _read_low_cardinality,
    "Decimal": _read_decimal,
    "Decimal32": _read_decimal,
    "Decimal64": _read_decimal,
    "Decimal128": _read_decimal,
    "Enum8": _read_enum,
    "Enum16": _read_enum,
    "UUID": _read_uuid,
}
