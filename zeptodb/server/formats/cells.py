"""Values as the text of each format, whole columns at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zeptodb.record import record

Escape = Callable[[str], str]

_EXPONENT_FROM = 1e15
_EXPONENT_ABOVE = 1e21
"""Arrow writes 1e+15 and larger with an exponent, ClickHouse 1e21 and larger."""


@record
class CellStyle:
    """How one format writes values.

    Attributes:
        null: what NULL is.
        escape: a string as the format writes it, within its quotes if it has some.
        needs_escape: a regular expression that finds the strings that `escape` changes; empty: all.
        quote: what stands around strings.
        quotes_times: whether times are quoted as well.
        nan: what NaN and infinities are; None: nan, inf, -inf.
    """

    null: str
    escape: Escape
    needs_escape: str
    quote: str = ""
    quotes_times: bool = False
    nan: str | None = None


_TSV = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\0": "\\0", "'": "\\'"}
)


def escape_tsv(text: str) -> str:
    r"""A string as TabSeparated has it.

    >>> escape_tsv("a\tb")
    'a\\tb'
    """
    return text.translate(_TSV)


def escape_json(text: str) -> str:
    """A string as JSON has it, without its quotes."""
    return orjson.dumps(text).decode()[1:-1]


TSV = CellStyle("\\N", escape_tsv, r"[\x00\x08\t\n\x0c\r'\\]")
TSV_RAW = CellStyle("\\N", str, "$.^")
CSV = CellStyle("\\N", lambda text: text.replace('"', '""'), '"', quote='"', quotes_times=True)
JSON = CellStyle("null", escape_json, r'[\x00-\x1f"\\]', quote='"', quotes_times=True, nan="null")
SQL = CellStyle("NULL", escape_tsv, r"[\x00\x08\t\n\x0c\r'\\]", quote="'", quotes_times=True)
PLAIN = CellStyle("ᴺᵁᴸᴸ", str, "$.^")


def cells(array: pa.Array, style: CellStyle) -> pa.Array:
    """The values as text of a format."""
    kind = array.type
    if pa.types.is_null(kind):
        return pa.array([style.null] * len(array), pa.string())
    if pa.types.is_list(kind):
        text = _list_cells(array, style)
    elif (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        text = _string_cells(array, style)
    elif pa.types.is_floating(kind):
        text = _float_cells(array, style)
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        text = _quoted(_time_cells(array), style.quote if style.quotes_times else "")
    elif pa.types.is_decimal(kind):
        text = array.cast(pa.string())
    else:
        text = array.cast(pa.string())
    return text.fill_null(style.null) if text.null_count else text


def _quoted(text: pa.Array, quote: str) -> pa.Array:
    return pc.binary_join_element_wise(quote, text, quote, "") if quote else text


def _time_cells(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        array = array.cast(pa.timestamp(kind.unit))
    return array.cast(pa.string())


def _float_cells(array: pa.Array, style: CellStyle) -> pa.Array:
    text = array.cast(pa.string())
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    size = np.abs(values)
    large = size >= _EXPONENT_FROM
    if large.any():
        fixed = large & (size < _EXPONENT_ABOVE)
        spelt = [
            np.format_float_positional(value, trim="-") if is_fixed else None
            for value, is_fixed in zip(values, fixed, strict=True)
        ]
        without_plus = pc.replace_substring(text, "e+", "e")
        text = pc.if_else(pa.array(fixed), pa.array(spelt, pa.string()), without_plus)
        text = pc.if_else(array.is_valid(), text, pa.scalar(None, pa.string()))
    if style.nan is not None and not np.isfinite(values).all():
        text = pc.if_else(pa.array(np.isfinite(values)), text, style.nan)
        text = pc.if_else(array.is_valid(), text, pa.scalar(None, pa.string()))
    return text


def _string_cells(array: pa.Array, style: CellStyle) -> pa.Array:
    text = _as_text(array)
    found = pc.match_substring_regex(text, style.needs_escape)
    if pc.any(found).as_py():
        coded = text.dictionary_encode()
        escaped = pa.array([style.escape(value) for value in coded.dictionary.to_pylist()], pa.string())
        text = escaped.take(coded.indices)
    return _quoted(text, style.quote)


def _as_text(array: pa.Array) -> pa.Array:
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        try:
            return array.cast(pa.string())
        except pa.ArrowInvalid:
            values = [None if v is None else v.decode("utf-8", "replace") for v in array.to_pylist()]
            return pa.array(values, pa.string())
    return array.cast(pa.string()) if pa.types.is_large_string(array.type) else array


def _list_cells(array: pa.Array, style: CellStyle) -> pa.Array:
    inner_style = style if style.quote == '"' and style.nan is not None else SQL
    inner = cells(array.flatten(), inner_style).to_pylist()
    texts: list[str | None] = []
    position = 0
    for length in array.value_lengths().to_pylist():
        if length is None:
            texts.append(None)
            continue
        texts.append("[" + ",".join(inner[position : position + length]) + "]")
        position += length
    text = pa.array(texts, pa.string())
    return _quoted(text, '"') if style is CSV else text
