"""Text formats of answers: TabSeparated, CSV, the JSONs, Values and TSKV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zeptodb.server.formats.cells import CSV, JSON, SQL, TSV, TSV_RAW, CellStyle, cells, escape_tsv

if TYPE_CHECKING:
    from zeptodb.server.formats.answer import Answer

TEXT_PIECE_ROWS = 32_768


def lines(columns: list[pa.Array], before: list[str], end: str) -> bytes:
    """Rows of text: in front of each column its `before`, after the last `end`."""
    parts: list[object] = []
    for text, column in zip(before, columns, strict=True):
        if text:
            parts.append(text)
        parts.append(column)
    parts.append(end)
    joined = pc.binary_join_element_wise(*parts, "")
    _, offsets, data = joined.buffers()
    if data is None:
        return b""
    bounds = np.frombuffer(offsets, np.int32, count=len(joined) + 1, offset=4 * joined.offset)
    return bytes(memoryview(data)[int(bounds[0]) : int(bounds[-1])])


def _pieces(answer: Answer, style: CellStyle, before: list[str], end: str) -> Iterator[bytes]:
    for columns in answer.pieces(TEXT_PIECE_ROWS):
        yield lines([cells(column, style) for column in columns], before, end)


def _separated(answer: Answer, style: CellStyle, separator: str) -> Iterator[bytes]:
    if answer.table.num_columns:
        yield from _pieces(answer, style, ["", *[separator] * (answer.table.num_columns - 1)], "\n")


def tab_separated(*, names: bool, types: bool) -> Callable[[Answer], Iterator[bytes]]:
    """TabSeparated, with a line of names, or of names and of types, before the rows."""

    def write(answer: Answer) -> Iterator[bytes]:
        if names:
            yield ("\t".join(escape_tsv(name) for name in answer.names) + "\n").encode()
        if types:
            yield ("\t".join(escape_tsv(kind) for kind in answer.types) + "\n").encode()
        yield from _separated(answer, TSV, "\t")

    return write


def tab_separated_raw(answer: Answer) -> Iterator[bytes]:
    """TabSeparated without escapes."""
    yield from _separated(answer, TSV_RAW, "\t")


def csv(*, names: bool) -> Callable[[Answer], Iterator[bytes]]:
    """CSV, strings in double quotes."""

    def write(answer: Answer) -> Iterator[bytes]:
        if names:
            yield (",".join('"' + name.replace('"', '""') + '"' for name in answer.names) + "\n").encode()
        yield from _separated(answer, CSV, ",")

    return write


def tskv(answer: Answer) -> Iterator[bytes]:
    """name=value, separated by tabs."""
    keys = [escape_tsv(name).replace("=", "\\=") + "=" for name in answer.names]
    yield from _pieces(answer, TSV, [*keys[:1], *["\t" + key for key in keys[1:]]], "\n")


def values(answer: Answer) -> Iterator[bytes]:
    """(1,'a'),(2,'b')."""
    count = answer.table.num_columns
    is_first = True
    for piece in _pieces(answer, SQL, [",(", *[","] * (count - 1)], ")"):
        yield piece[1:] if is_first else piece
        is_first = False


# ---- JSON ----------------------------------------------------------------------------------------------------------


def _key(name: str) -> str:
    return orjson.dumps(name).decode()


def _json_pieces(answer: Answer, before: list[str], end: str) -> Iterator[bytes]:
    """Rows as JSON; 64-bit integers in quotes when the client wants it so."""
    for columns in answer.pieces(TEXT_PIECE_ROWS):
        texts = []
        for column in columns:
            text = cells(column, JSON)
            is_long = column.type in (pa.int64(), pa.uint64())
            if answer.quotes_integers and is_long:
                text = pc.if_else(pc.equal(text, "null"), text, pc.binary_join_element_wise('"', text, '"', ""))
            texts.append(text)
        yield lines(texts, before, end)


def json_each_row(answer: Answer) -> Iterator[bytes]:
    """One object per line."""
    keys = [_key(name) + ":" for name in answer.names]
    yield from _json_pieces(answer, ["{" + keys[0], *["," + key for key in keys[1:]]] if keys else [], "}\n")


def json_compact_each_row(answer: Answer) -> Iterator[bytes]:
    """One array per line."""
    yield from _json_pieces(answer, ["[", *[", "] * (answer.table.num_columns - 1)], "]\n")


def json_strings_each_row(answer: Answer) -> Iterator[bytes]:
    """One object per line, every value a string."""
    keys = [_key(name) + ":" for name in answer.names]
    before = ["{" + keys[0], *["," + key for key in keys[1:]]] if keys else []
    for columns in answer.pieces(TEXT_PIECE_ROWS):
        yield lines([cells(cells(column, TSV_RAW), JSON) for column in columns], before, "}\n")


def json_objects(answer: Answer) -> Iterator[bytes]:
    """One document: meta, data as objects, rows, statistics."""
    keys = [f"\t\t\t{_key(name)}: " for name in answer.names]
    before = [",\n\t\t{\n" + keys[0], *[",\n" + key for key in keys[1:]]] if keys else []
    yield from _document(answer, before, "\n\t\t}")


def json_compact(answer: Answer) -> Iterator[bytes]:
    """One document: meta, data as arrays, rows, statistics."""
    yield from _document(answer, [",\n\t\t[", *[", "] * (answer.table.num_columns - 1)], "]")


def _document(answer: Answer, before: list[str], end: str) -> Iterator[bytes]:
    meta = ",\n".join(
        f'\t\t{{\n\t\t\t"name": {_key(name)},\n\t\t\t"type": {_key(kind)}\n\t\t}}'
        for name, kind in zip(answer.names, answer.types, strict=True)
    )
    yield f'{{\n\t"meta":\n\t[\n{meta}\n\t],\n\n\t"data":\n\t['.encode()
    is_first = True
    if answer.table.num_columns:
        for piece in _json_pieces(answer, before, end):
            yield piece[1:] if is_first else piece
            is_first = False
    statistics = (
        f'\n\t\t"elapsed": {answer.elapsed_seconds:.9f},\n\t\t"rows_read": {answer.rows_read},'
        f'\n\t\t"bytes_read": {answer.bytes_read}\n'
    )
    yield (f'\n\t],\n\n\t"rows": {answer.rows},\n\n\t"statistics":\n\t{{{statistics}\t}}\n}}\n').encode()
