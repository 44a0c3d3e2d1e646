"""Reading pyarrow Arrays and ChunkedArrays of any layout."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zeptodb.errors import InvalidInputError, InvalidTypeError
from zeptodb.ingest.values import (
    Decimals,
    Validity,
    Values,
    distinct_strings,
    nulls,
    shortest,
    timestamps,
    with_validity,
)
from zeptodb.storage.batch import Strings

NANOSECONDS_PER_UNIT = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
NANOSECONDS_PER_DAY = 86_400_000_000_000

_WHAT_TO_DO = {
    pa.types.is_nested: "flatten or explode it first",
    pa.types.is_binary: "decode it to strings first",
    pa.types.is_large_binary: "decode it to strings first",
    pa.types.is_duration: "cast it to int64 nanoseconds",
    pa.types.is_time: "cast it to int64 nanoseconds",
}


def read_arrow(array: pa.Array | pa.ChunkedArray, label: str) -> Values:
    """Read any Arrow array; numbers without NULLs and in one chunk are not copied. NaN stays NaN."""
    arrow_type = array.type
    for is_of_type, reader in _READERS:
        if is_of_type(arrow_type):
            return reader(array, label)
    advice = next((text for test, text in _WHAT_TO_DO.items() if test(arrow_type)), "cast it to one of these")
    raise InvalidTypeError(
        f"{label} has the Arrow type {arrow_type}, which cannot be stored; columns are integers, floats, bools, "
        f"timestamps, dates, decimals or strings: {advice}."
    )


def one_chunk(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The same values as one Array; copies only when there are several chunks."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()


def read_strings(array: pa.Array | pa.ChunkedArray, label: str, type_name: str = "") -> Values:
    """Dictionary-encode an Arrow array of strings."""
    encoded = array.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = one_chunk(encoded.unify_dictionaries())
    validity = _validity(encoded)
    indices = encoded.indices if validity is None else pc.fill_null(encoded.indices, -1)
    strings = Strings(_values(indices, np.dtype(np.int32)), _texts(encoded.dictionary, label))
    return Values("string", strings, validity, type_name or str(array.type))


def _texts(strings: pa.Array, label: str) -> list[Any]:
    try:
        return list(strings.to_pylist())
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{label} has a string that is not UTF-8: {error}.") from error


def _values(array: pa.Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The values of a primitive array as a view; where a value is NULL they can be anything."""
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype, count=len(array), offset=array.offset * dtype.itemsize)


def _validity(array: pa.Array) -> Validity:
    if not array.null_count:
        return None
    valid: npt.NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _read_numbers(array: pa.Array | pa.ChunkedArray, label: str) -> Values:  # noqa: ARG001
    array = one_chunk(array)
    dtype = np.dtype(array.type.to_pandas_dtype())
    data = _values(array, dtype)
    if dtype == np.float16:
        data = data.astype(np.float32)
    return with_validity("float" if dtype.kind == "f" else "integer", data, _validity(array), str(array.type))


def _read_moments(array: pa.Array | pa.ChunkedArray, label: str) -> Values:
    array = one_chunk(array)
    arrow_type = array.type
    if pa.types.is_date32(arrow_type):
        data, factor_ns = _values(array, np.dtype(np.int32)).astype(np.int64), NANOSECONDS_PER_DAY
    else:
        data = _values(array, np.dtype(np.int64))
        factor_ns = NANOSECONDS_PER_UNIT["ms" if pa.types.is_date64(arrow_type) else arrow_type.unit]
    return timestamps(data, factor_ns, _validity(array), label, str(arrow_type))


def _read_dictionary(array: pa.Array | pa.ChunkedArray, label: str) -> Values:
    value_type = array.type.value_type
    if not _is_text(value_type):
        return read_arrow(array.cast(value_type), label)
    if isinstance(array, pa.ChunkedArray):
        array = one_chunk(array if array.num_chunks == 1 else array.unify_dictionaries())
    indices = array.indices.cast(pa.int32(), safe=False)
    codes = _values(indices if not indices.null_count else pc.fill_null(indices, -1), np.dtype(np.int32))
    strings = distinct_strings(codes, _texts(array.dictionary, label), len(array))
    is_null = strings.codes < 0
    return Values("string", strings, ~is_null if is_null.any() else None, str(array.type))


def _read_decimals(array: pa.Array | pa.ChunkedArray, label: str) -> Values:
    array = one_chunk(array)
    digits = array.type.scale
    validity = _validity(array)
    name = str(array.type)
    filled = array if validity is None else array.fill_null(0)
    if digits < 0:
        raise InvalidTypeError(f"{label} has the Arrow type {name} of negative scale; cast it to int64.")
    wide = filled.cast(pa.decimal128(38, digits)) if array.type.precision <= 38 else filled
    if pa.types.is_decimal128(wide.type) and len(wide):
        halves = np.frombuffer(wide.buffers()[1], np.int64)[2 * wide.offset : 2 * (wide.offset + len(wide))]
        low, high = halves[0::2], halves[1::2]
        if np.array_equal(high, low >> np.int64(63)):
            return Values("decimal", Decimals(np.ascontiguousarray(low), digits), validity, name)
    unscaled = np.array([_unscaled(value, digits) for value in wide.to_pylist()], dtype=object)
    return Values("decimal", shortest(unscaled, digits), validity, name)


def _unscaled(value: Decimal, digits: int) -> int:
    sign, numerals, exponent = value.as_tuple()
    magnitude: int = int("".join(map(str, numerals))) * 10 ** (digits + int(exponent))
    return -magnitude if sign else magnitude


def _read_nulls(array: pa.Array | pa.ChunkedArray, label: str) -> Values:  # noqa: ARG001
    return nulls(len(array))


def _read_run_ends(array: pa.Array | pa.ChunkedArray, label: str) -> Values:
    return read_arrow(pc.run_end_decode(array), label)


def _read_bools(array: pa.Array | pa.ChunkedArray, label: str) -> Values:  # noqa: ARG001
    one = one_chunk(array.cast(pa.uint8()))  # a byte, not a bit, per value
    return with_validity("bool", _values(one, np.dtype(np.uint8)).view(np.bool_), _validity(one), str(array.type))


def _is_text(arrow_type: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_string_view(arrow_type))


_READERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any, str], Values]], ...] = (
    (pa.types.is_integer, _read_numbers),
    (pa.types.is_floating, _read_numbers),
    (pa.types.is_timestamp, _read_moments),
    (pa.types.is_date, _read_moments),
    (_is_text, read_strings),
    (pa.types.is_dictionary, _read_dictionary),
    (pa.types.is_boolean, _read_bools),
    (pa.types.is_decimal, _read_decimals),
    (pa.types.is_null, _read_nulls),
    (pa.types.is_run_end_encoded, _read_run_ends),
)
