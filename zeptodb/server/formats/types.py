"""Types of ClickHouse and of Arrow: what each is called on the other side."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from zeptodb.record import record
from zeptodb.server.codes import Code, failure

_PLAIN: dict[pa.DataType, str] = {
    pa.int8(): "Int8",
    pa.int16(): "Int16",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.uint8(): "UInt8",
    pa.uint16(): "UInt16",
    pa.uint32(): "UInt32",
    pa.uint64(): "UInt64",
    pa.float32(): "Float32",
    pa.float64(): "Float64",
    pa.bool_(): "Bool",
    pa.string(): "String",
    pa.large_string(): "String",
    pa.binary(): "String",
    pa.large_binary(): "String",
    pa.date32(): "Date32",
}
PRECISION = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_MAX_DATETIME = 2**32 - 1


def clickhouse_name(kind: pa.DataType, *, is_nullable: bool) -> str:
    """What ClickHouse calls an Arrow type (one that `normalized` gives).

    >>> clickhouse_name(pa.list_(pa.int64()), is_nullable=False)
    'Array(Int64)'
    """
    if pa.types.is_null(kind):
        return "Nullable(Nothing)"
    if pa.types.is_list(kind):
        return f"Array({clickhouse_name(kind.value_type, is_nullable=True)})"
    name = _plain_name(kind)
    return f"Nullable({name})" if is_nullable else name


def _plain_name(kind: pa.DataType) -> str:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if pa.types.is_timestamp(kind):
        zone = "" if kind.tz is None else f"'{kind.tz}'"
        if kind.unit == "s":
            return f"DateTime({zone})" if zone else "DateTime"
        return f"DateTime64({PRECISION[kind.unit]}{', ' + zone if zone else ''})"
    if pa.types.is_decimal(kind):
        return f"Decimal({kind.precision}, {kind.scale})"
    raise AssertionError(f"{kind} was not normalized")


def normalized(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as one of the types that all formats know; others become text.

    Timestamps of whole seconds stay so only within DateTime's range, 1970 to 2106. Intervals, times, structs and maps
    become strings.
    """
    kind = column.type
    if kind in _PLAIN or pa.types.is_null(kind) or pa.types.is_decimal128(kind):
        return column
    if pa.types.is_timestamp(kind):
        zoned = pa.timestamp(kind.unit, tz=None if kind.tz is None else "UTC")
        column = column.cast(zoned)
        if kind.unit == "s" and not _fits_datetime(column):
            column = column.cast(pa.timestamp("ms", tz=zoned.tz))
        return column
    if pa.types.is_dictionary(kind):
        return normalized(column.cast(kind.value_type))
    if pa.types.is_list(kind) and _is_known(kind.value_type):
        return column
    if pa.types.is_large_list(kind) and _is_known(kind.value_type):
        return column.cast(pa.list_(kind.value_type))
    return _as_text(column)


def _is_known(kind: pa.DataType) -> bool:
    return kind in _PLAIN or (pa.types.is_list(kind) and _is_known(kind.value_type))


def _fits_datetime(column: pa.ChunkedArray) -> bool:
    bounds = pc.min_max(column.cast(pa.int64()))
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    return low is None or (low >= 0 and high <= _MAX_DATETIME)


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_time(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.string())
    values = [None if value is None else str(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(values, pa.string())], pa.string())


# ---- names of types that clients send ------------------------------------------------------------------------------


@record
class TypeName:
    """A type as ClickHouse writes it: its name and what stands in its parentheses."""

    name: str
    arguments: tuple[TypeName | str, ...] = ()

    def inner(self, index: int = 0) -> TypeName:
        """The type within, as in Nullable(T)."""
        argument = self.arguments[index] if index < len(self.arguments) else ""
        if isinstance(argument, str):
            raise failure(Code.UNKNOWN_TYPE, f"The type {self.name} lacks the type in its parentheses.")
        return argument

    def number(self, index: int, default: int | None = None) -> int:
        """A number within, as in DateTime64(9)."""
        argument = self.arguments[index] if index < len(self.arguments) else None
        if isinstance(argument, TypeName) and argument.name.isdecimal():
            return int(argument.name)
        if argument is None and default is not None:
            return default
        raise failure(Code.UNKNOWN_TYPE, f"The type {self.name} lacks a number in its parentheses.")


_TOKEN = re.compile(r"\s*(?:(?P<word>\w+)|(?P<text>'(?:[^'\\]|\\.)*')|(?P<sign>[(),=-]))")
_DEEPEST = 20


@lru_cache(maxsize=1024)
def parse_type(text: str) -> TypeName:
    """A type name taken apart; raises UNKNOWN_TYPE for what is none.

    >>> parse_type("Nullable(DateTime64(9, 'UTC'))").inner().number(0)
    9
    """
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text.rstrip()):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _unknown(text)
        tokens.append((found.lastgroup or "", found.group(found.lastgroup or 0)))
        position = found.end()
    parsed, rest = _parse(text, tokens, 0, 0)
    if rest != len(tokens) or not isinstance(parsed, TypeName):
        raise _unknown(text)
    return parsed


def _parse(text: str, tokens: list[tuple[str, str]], position: int, depth: int) -> tuple[TypeName | str, int]:
    if position >= len(tokens) or depth > _DEEPEST:
        raise _unknown(text)
    kind, value = tokens[position]
    position += 1
    if kind == "text":  # 'UTC', or 'name' = 1 of an Enum
        while position < len(tokens) and tokens[position][1] not in (",", ")"):
            value += tokens[position][1]
            position += 1
        return value, position
    if kind != "word":
        raise _unknown(text)
    if position >= len(tokens) or tokens[position][1] != "(":
        return TypeName(value), position
    arguments: list[TypeName | str] = []
    position += 1
    while position < len(tokens) and tokens[position][1] != ")":
        argument, position = _parse(text, tokens, position, depth + 1)
        arguments.append(argument)
        if position < len(tokens) and tokens[position][1] == ",":
            position += 1
    if position >= len(tokens):
        raise _unknown(text)
    return TypeName(value, tuple(arguments)), position + 1


def _unknown(text: str) -> Exception:
    return failure(
        Code.UNKNOWN_TYPE, f"{text[:100]!r} is not a type; types are such as Int64, Nullable(String), DateTime64(9)."
    )


Cast = Callable[[pa.Array], pa.Array]
