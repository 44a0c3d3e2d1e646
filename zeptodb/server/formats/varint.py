"""Numbers of variable length (LEB128), and strings behind their length, for whole columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zeptodb.server.codes import Code, failure

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]

_MAX_BYTES = 9


def write_varint(value: int) -> bytes:
    """One number.

    >>> write_varint(300).hex()
    'ac02'
    """
    parts = bytearray()
    while value > 127:
        parts.append((value & 127) | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def write_text(text: str) -> bytes:
    """A string behind its length."""
    data = text.encode()
    return write_varint(len(data)) + data


def varint_sizes(values: Int64Array) -> Int64Array:
    """How many bytes each number takes."""
    sizes = np.ones(len(values), dtype=np.int64)
    limit = 128
    while (longer := values >= limit).any():
        sizes += longer
        limit <<= 7
    return sizes


def put_varints(out: UInt8Array, starts: Int64Array, values: Int64Array, sizes: Int64Array) -> None:
    """Write each number at its place in `out`."""
    for byte in range(int(sizes.max(initial=0))):
        chosen = sizes > byte
        part = (values[chosen] >> (7 * byte)) & 127
        part |= np.where(sizes[chosen] > byte + 1, 128, 0)
        out[starts[chosen] + byte] = part.astype(np.uint8)


def string_parts(array: pa.Array) -> tuple[UInt8Array, Int64Array]:
    """The bytes of an array of strings without NULLs, end to end, and the length of each."""
    if pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type):
        width, code = 8, "int64"
    else:
        width, code = 4, "int32"
    _, offset_buffer, data = array.buffers()
    if len(array) == 0 or offset_buffer is None:
        return np.zeros(0, np.uint8), np.zeros(0, np.int64)
    offsets = np.frombuffer(offset_buffer, code, count=len(array) + 1, offset=array.offset * width)
    first, last = int(offsets[0]), int(offsets[-1])
    values = np.frombuffer(data, np.uint8, count=last - first, offset=first) if last > first else np.zeros(0, np.uint8)
    return values, np.diff(offsets).astype(np.int64)


def pack_strings(array: pa.Array) -> bytes:
    """Strings without NULLs, each behind its length."""
    data, lengths = string_parts(array)
    sizes = varint_sizes(lengths)
    out = np.empty(len(data) + int(sizes.sum()), dtype=np.uint8)
    starts = np.zeros(len(lengths), dtype=np.int64)
    np.cumsum((lengths + sizes)[:-1], out=starts[1:])
    is_data = np.ones(len(out), dtype=np.bool_)
    for byte in range(int(sizes.max(initial=0))):
        is_data[starts[sizes > byte] + byte] = False
    out[is_data] = data
    put_varints(out, starts, lengths, sizes)
    return out.tobytes()


def unpack_strings(data: memoryview, position: int, count: int) -> tuple[pa.Array, int]:
    """`count` strings, each behind its length, from `position` on, as an Arrow array; and where they end.

    Strings of one length (symbols often are) are found at once, others one by one.
    """
    if count == 0:
        return pa.array([], pa.string()), position
    whole = np.frombuffer(data, np.uint8)
    if position >= len(whole):
        raise truncated()
    length = int(whole[position])
    end = position + count * (length + 1)
    if length < 128 and end <= len(whole):
        rows = whole[position:end].reshape(count, length + 1)
        if bool((rows[:, 0] == length).all()):
            offsets = np.arange(count + 1, dtype=np.int64) * length
            return _strings(offsets, np.ascontiguousarray(rows[:, 1:]).reshape(-1)), end
    starts, lengths, end = _walk(data, position, count)
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    gather = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    return _strings(offsets, whole[gather]), end


def _walk(data: memoryview, position: int, count: int) -> tuple[Int64Array, Int64Array, int]:
    starts = np.empty(count, dtype=np.int64)
    lengths = np.empty(count, dtype=np.int64)
    size = len(data)
    for i in range(count):
        if position >= size:
            raise truncated()
        length = data[position]
        if length < 128:
            position += 1
        else:
            length, position = read_varint(data, position)
        starts[i] = position
        lengths[i] = length
        position += length
    if position > size:
        raise truncated()
    return starts, lengths, position


def _strings(offsets: Int64Array, data: UInt8Array) -> pa.Array:
    if int(offsets[-1]) >= 2**31:
        raise failure(Code.QUERY_IS_TOO_LARGE, "A block has 2 GiB of strings in one column; send smaller blocks.")
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    array = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise failure(Code.INCORRECT_DATA, "A string is not valid UTF-8; encode strings as UTF-8.") from error


def read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """One number, and where it ends."""
    value = 0
    for byte in range(_MAX_BYTES):
        if position >= len(data):
            raise truncated()
        part = data[position]
        position += 1
        value |= (part & 127) << (7 * byte)
        if part < 128:
            return value, position
    raise failure(Code.INCORRECT_DATA, "A length in the data takes more than 9 bytes: this is not the stated format.")


def truncated() -> Exception:
    """The error for data that ends in the middle of a value."""
    return failure(
        Code.CANNOT_READ_ALL_DATA, "The data ends in the middle of a value; nothing was stored. Send all of it."
    )
