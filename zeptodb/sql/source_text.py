"""Places in a statement's text: offsets, lines, and the excerpt with a caret that error messages end with."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.errors import NotSupportedError, QueryError

EXCERPT_CHARACTERS = 120
NOT_AS_WRITTEN = "not as written"
"""Key in `meta` of a statement that is not what its text says: part of it, or with something put in place of names."""


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of the character at `offset` (clipped into the text)."""
    offset = max(0, min(offset, len(text)))
    line = text.count("\n", 0, offset) + 1
    return line, offset - (text.rfind("\n", 0, offset) + 1) + 1


def offset_of(text: str, line: int, column: int) -> int:
    """The offset of the character at a line and column, both from 1 (clipped into the text)."""
    start = 0
    for _ in range(line - 1):
        newline = text.find("\n", start)
        if newline < 0:
            break
        start = newline + 1
    return max(0, min(start + column - 1, len(text)))


def pointed(message: str, text: str, offset: int | None) -> str:
    """`message`, then where `offset` is: line, column, the offending line and a caret under the place.

    >>> print(pointed("No such column.", "SELECT pric FROM trades", 7))
    No such column. (line 1, column 8)
    SELECT pric FROM trades
           ^
    """
    if offset is None or not text:
        return message
    line, column = line_and_column(text, offset)
    begin = text.rfind("\n", 0, max(0, min(offset, len(text)))) + 1
    end = text.find("\n", begin)
    content = text[begin : end if end >= 0 else len(text)]
    caret = column - 1
    if len(content) > EXCERPT_CHARACTERS:
        first = max(0, min(caret - EXCERPT_CHARACTERS // 2, len(content) - EXCERPT_CHARACTERS))
        content = content[first : first + EXCERPT_CHARACTERS]
        caret -= first
    shown = "".join(c if c.isprintable() else " " for c in content)
    return f"{message} (line {line}, column {column})\n{shown}\n{' ' * caret}^"


def query_error(message: str, text: str, offset: int | None) -> QueryError:
    """A QueryError that points at `offset`."""
    return QueryError(pointed(message, text, offset))


def not_supported(message: str, text: str, offset: int | None) -> NotSupportedError:
    """A NotSupportedError that points at `offset`."""
    return NotSupportedError(pointed(message, text, offset))


def position_of(node: exp.Expr | None) -> int | None:
    """The offset of the first character of `node` in its statement's text, None when the parser kept no position."""
    if node is None:
        return None
    starts = [n.meta_get("start") for n in node.walk() if n.meta_get("start") is not None]
    return min(starts, default=None)
