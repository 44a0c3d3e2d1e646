"""`{name:Type}` in statements: values of `param_name` as parameters, never as SQL."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping

from zeptodb.server.codes import Code, failure
from zeptodb.server.formats.types import TypeName, parse_type
from zeptodb.server.statement import tokens

_PLACE = re.compile(r"\{\s*([A-Za-z_]\w*)\s*:\s*((?:[^{}'\"`]|'[^']*')+?)\s*\}")


def bind_parameters(text: str, values: Mapping[str, str]) -> tuple[str, dict[str, object]]:
    """The statement with `$name` in place of `{name:Type}`, and the values by name; Identifiers become names.

    Raises UNKNOWN_QUERY_PARAMETER for one that has no value and BAD_QUERY_PARAMETER for a value of another type.
    """
    if "{" not in text:
        return text, {}
    bound: dict[str, object] = {}
    parts: list[str] = []
    position = 0
    for token in tokens(text):
        if token.text != "{" or token.start < position:
            continue
        found = _PLACE.match(text, token.start)
        if found is None:
            continue
        name, kind = found.group(1), parse_type(found.group(2))
        if name not in values:
            raise failure(
                Code.UNKNOWN_QUERY_PARAMETER, f"Query parameter {name!r} was not set; send it as param_{name}=...."
            )
        parts.append(text[position : token.start])
        value = _value(unescape(values[name], name), kind, name)
        if kind.name == "Identifier":
            parts.append('"' + str(value).replace('"', '""') + '"')
        else:
            bound[name] = value
            parts.append(_placeholder(name, kind))
        position = found.end()
    parts.append(text[position:])
    return "".join(parts), bound


def _placeholder(name: str, kind: TypeName) -> str:
    cast = _CASTS.get(kind.inner().name if kind.name == "Nullable" else kind.name)
    return f"CAST(${name} AS {cast})" if cast else f"${name}"


_CASTS = {"Date": "DATE", "Date32": "DATE", "DateTime": "TIMESTAMP_S", "DateTime64": "TIMESTAMP_NS"}

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}


def unescape(text: str, name: str) -> str | None:
    r"""The value that a parameter's text means: \t, \n, \\ and so on; \N is NULL."""
    if text == "\\N":
        return None
    if "\t" not in text and "\n" not in text and "\\" not in text:
        return text
    out: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character in "\t\n":
            raise failure(
                Code.BAD_QUERY_PARAMETER, f"The value of {name!r} has a raw tab or newline; write it as \\t or \\n."
            )
        if character == "\\" and position + 1 < len(text):
            position += 1
            character = _ESCAPES.get(text[position], text[position])
        out.append(character)
        position += 1
    return "".join(out)


def _value(text: str | None, kind: TypeName, name: str) -> object:
    if kind.name == "Nullable":
        return None if text is None or text == "NULL" else _value(text, kind.inner(), name)
    if text is None:
        raise _bad(name, "NULL", kind)
    if kind.name == "Array":
        return [_element(item, kind.inner(), name) for item in _list_items(text, kind, name)]
    return _scalar(text, kind, name)


def _scalar(text: str, kind: TypeName, name: str) -> object:
    try:
        if kind.name.startswith(("Int", "UInt")):
            return _integer(text, kind)
        if kind.name in ("Float32", "Float64") or kind.name.startswith("Decimal"):
            return float(text)
        if kind.name == "Bool":
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind.name in ("Date", "Date32"):
            return dt.date.fromisoformat(text).isoformat()
        if kind.name in ("DateTime", "DateTime64"):
            return _moment(text)
    except (ValueError, KeyError, OverflowError) as error:
        raise _bad(name, text, kind) from error
    if kind.name in ("String", "FixedString", "Identifier", "UUID", "Enum8", "Enum16"):
        return text
    if kind.name == "LowCardinality":
        return _value(text, kind.inner(), name)
    raise failure(Code.UNKNOWN_TYPE, f"Query parameter {name!r} has the unknown type {kind.name}.")


def _integer(text: str, kind: TypeName) -> int:
    value = int(text)
    bits = int(kind.name.removeprefix("U").removeprefix("Int"))
    low, high = (0, 2**bits - 1) if kind.name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if not low <= value <= high:
        raise OverflowError
    return value


def _moment(text: str) -> str:
    """A time as SQL has it; whole numbers are seconds since 1970."""
    if re.fullmatch(r"-?\d{5,}(\.\d+)?", text):
        seconds, _, fraction = text.partition(".")
        moment = dt.datetime.fromtimestamp(int(seconds), dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
        return f"{moment}.{fraction[:9]}" if fraction else moment
    dt.datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    return text


def _bad(name: str, text: str, kind: TypeName) -> Exception:
    return failure(Code.BAD_QUERY_PARAMETER, f"The value {text[:60]!r} of query parameter {name!r} is no {kind.name}.")


def _list_items(text: str, kind: TypeName, name: str) -> list[str]:
    """The elements of [1, 'a'], as they are written."""
    body = text.strip()
    if not (body.startswith("[") and body.endswith("]")):
        raise _bad(name, text, kind)
    items: list[str] = []
    depth = 0
    start = 1
    inner = body[:-1]
    for token in tokens(inner, 1):
        depth += (token.text in "[(") - (token.text in "])")
        if token.text == "," and depth == 0:
            items.append(inner[start : token.start].strip())
            start = token.end
    last = inner[start:].strip()
    return [*items, last] if last or items else []


def _element(item: str, kind: TypeName, name: str) -> object:
    if item.upper() == "NULL":
        return _value(None, kind, name)
    if item.startswith("'") and item.endswith("'") and len(item) > 1:
        text = unescape(item[1:-1].replace("''", "'"), name)
        return _value(text, kind, name)
    return _value(item, kind, name)
