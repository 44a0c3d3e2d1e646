"""Formats for people: boxes, one value per line, Markdown; and XML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import pyarrow as pa

from zeptodb.server.formats.cells import PLAIN, cells

if TYPE_CHECKING:
    from zeptodb.server.formats.answer import Answer

MOST_ROWS = 10_000
"""Rows that the boxes show, as ClickHouse does."""

_PIECE_ROWS = 1_000


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _rows(answer: Answer, most: int | None = None) -> Iterator[list[tuple[str, ...]]]:
    """The rows as text, some at a time."""
    for columns in answer.pieces(_PIECE_ROWS, most=most):
        yield list(zip(*(cells(column, PLAIN).to_pylist() for column in columns), strict=True))


def vertical(answer: Answer) -> Iterator[bytes]:
    """Each row as a list of names and values."""
    width = max((len(name) for name in answer.names), default=0) + 1
    number = 0
    for rows in _rows(answer):
        texts = []
        for row in rows:
            number += 1
            title = f"Row {number}:"
            body = "".join(f"{name + ':':<{width}} {value}\n" for name, value in zip(answer.names, row, strict=True))
            texts.append(f"{title}\n{'─' * len(title)}\n{body}")
        text = "\n".join(texts)
        yield (text if number <= _PIECE_ROWS else "\n" + text).encode()


def _aligned(value: str, width: int, *, is_right: bool) -> str:
    return value.rjust(width) if is_right else value.ljust(width)


def _shown(answer: Answer) -> tuple[list[tuple[str, ...]], list[int], list[bool]]:
    rows = [row for piece in _rows(answer, MOST_ROWS) for row in piece]
    widths = [max([len(name), *(len(row[i]) for row in rows)]) for i, name in enumerate(answer.names)]
    return rows, widths, [_is_number(kind) for kind in answer.schema.types]


def _omitted(answer: Answer) -> str:
    more = answer.rows - MOST_ROWS
    return f"  Showed first {MOST_ROWS}; {more} more are not shown.\n" if more > 0 else ""


def pretty(answer: Answer) -> Iterator[bytes]:
    """A box with a line between rows."""
    if not answer.rows:
        return
    rows, widths, right = _shown(answer)
    head = (
        "┃"
        + "┃".join(
            f" {_aligned(name, width, is_right=is_right)} "
            for name, width, is_right in zip(answer.names, widths, right, strict=True)
        )
        + "┃"
    )
    bars = [("━" * (width + 2)) for width in widths]
    thin = [("─" * (width + 2)) for width in widths]
    out = ["┏" + "┳".join(bars) + "┓", head, "┡" + "╇".join(bars) + "┩"]
    for number, row in enumerate(rows):
        if number:
            out.append("├" + "┼".join(thin) + "┤")
        out.append(_row_line(row, widths, right))
    out.append("└" + "┴".join(thin) + "┘")
    yield ("\n".join(out) + "\n" + _omitted(answer)).encode()


def _row_line(row: tuple[str, ...], widths: list[int], right: list[bool]) -> str:
    parts = [
        f" {_aligned(value, width, is_right=is_right)} "
        for value, width, is_right in zip(row, widths, right, strict=True)
    ]
    return "│" + "│".join(parts) + "│"


def pretty_compact(answer: Answer) -> Iterator[bytes]:
    """A box whose names stand in its upper line."""
    if not answer.rows:
        return
    rows, widths, right = _shown(answer)
    names = [
        ("─" + name.rjust(width, "─") + "─") if is_right else ("─" + name.ljust(width, "─") + "─")
        for name, width, is_right in zip(answer.names, widths, right, strict=True)
    ]
    out = ["┌" + "┬".join(names) + "┐", *(_row_line(row, widths, right) for row in rows)]
    out.append("└" + "┴".join("─" * (width + 2) for width in widths) + "┘")
    yield ("\n".join(out) + "\n" + _omitted(answer)).encode()


def markdown(answer: Answer) -> Iterator[bytes]:
    """A table of Markdown."""
    marks = ["-:" if _is_number(kind) else ":-" for kind in answer.schema.types]
    yield ("| " + " | ".join(answer.names) + " |\n|" + "|".join(marks) + "|\n").encode()
    for rows in _rows(answer):
        yield "".join("| " + " | ".join(value.replace("|", "\\|") for value in row) + " |\n" for row in rows).encode()


def xml(answer: Answer) -> Iterator[bytes]:
    """ClickHouse's XML document."""
    columns = "".join(
        f"\t\t\t<column>\n\t\t\t\t<name>{escape(name)}</name>\n\t\t\t\t<type>{escape(kind)}</type>\n\t\t\t</column>\n"
        for name, kind in zip(answer.names, answer.types, strict=True)
    )
    yield (
        "<?xml version='1.0' encoding='UTF-8' ?>\n<result>\n\t<meta>\n\t\t<columns>\n"
        f"{columns}\t\t</columns>\n\t</meta>\n\t<data>\n"
    ).encode()
    tags = [_tag(name) for name in answer.names]
    for rows in _rows(answer):
        yield "".join(
            "\t\t<row>\n"
            + "".join(f"\t\t\t<{tag}>{escape(value)}</{tag}>\n" for tag, value in zip(tags, row, strict=True))
            + "\t\t</row>\n"
            for row in rows
        ).encode()
    yield f"\t</data>\n\t<rows>{answer.rows}</rows>\n</result>\n".encode()


def _tag(name: str) -> str:
    return name if name.isidentifier() else "field"
