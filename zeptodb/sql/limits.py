"""Limits on a statement's size and depth, checked by a scan of our own before the parser sees the text.

The parser recurses with every bracket, CASE and prefix operator, so that a few hundred levels end in a RecursionError
and many thousands may end the process.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from zeptodb.sql.source_text import query_error

MAX_STATEMENT_BYTES = 256 * 1024
MAX_DEPTH = 200
MAX_LEXEMES = 40_000
"""More words, numbers and signs than this take the parser longer than a second."""
MAX_CHAIN = 4_500
"""Most operators between two commas or brackets of the same level; the parser's tree is as deep as a chain is long."""
_SHALLOW = 20
_CALLS = 12_000

_LEXEME = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<operand>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
        |[\d.]+(?:[eE][+-]?\d+)?|[,;])
    |(?P<unclosed>[eE]?'|"|/\*)
    |(?P<open>[(\[{])|(?P<close>[)\]}])
    |(?P<word>[^\W\d]\w*)|(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)

_CHAINED = frozenset({"AND", "OR", "UNION", "INTERSECT", "EXCEPT", "JOIN", "BETWEEN", "INTERVAL", "SELECT", "FROM"})
"""Words that make chains, as signs do."""

_UNCLOSED = {"'": "string", '"': "quoted name", "/": "comment"}


_room_lock = threading.Lock()
_room_users = 0
_room_before = 0


@contextmanager
def room_for_depth(depth: int) -> Iterator[None]:
    """Let Python recurse as far as a statement of `depth` levels needs; shallow ones need nothing.

    The parser takes some twenty calls per level, which Python's limit of a thousand allows for forty levels only. The
    limit is the interpreter's: the last one to leave sets it back.
    """
    global _room_users, _room_before  # noqa: PLW0603
    if depth <= _SHALLOW:
        yield
        return
    with _room_lock:
        if _room_users == 0:
            _room_before = sys.getrecursionlimit()
            sys.setrecursionlimit(max(_room_before, _CALLS))
        _room_users += 1
    try:
        yield
    finally:
        with _room_lock:
            _room_users -= 1
            if _room_users == 0:
                sys.setrecursionlimit(_room_before)


def check_limits(text: str, *, max_bytes: int = MAX_STATEMENT_BYTES, max_depth: int = MAX_DEPTH) -> int:
    """How many levels deep `text` is.

    Raises QueryError unless it is encodable, of at most `max_bytes` in UTF-8 and at most `max_depth` levels deep.

    It may have MAX_LEXEMES lexemes and MAX_CHAIN operators in a chain. A level is an open bracket, an open CASE, or one
    more sign or repeated word in a run without an operand between: the runs that a parser descends into, such as
    NOT NOT NOT x and - - - x.
    """
    _check_characters(text)
    size = len(text.encode())
    if size > max_bytes:
        raise query_error(
            f"The statement has {size:,} bytes; at most {max_bytes:,} are allowed. Give long lists as parameters.",
            "",
            None,
        )
    depth, run, previous, deepest, lexemes, chains = 0, 0, "", 0, 0, [0]
    for lexeme in _LEXEME.finditer(text):
        kind = lexeme.lastgroup
        if kind == "space":
            continue
        if kind == "unclosed":
            what = _UNCLOSED[lexeme.group().lstrip("eE")[0]]
            raise query_error(f"Syntax error: the {what} that begins here is not closed.", text, lexeme.start())
        lexemes += 1
        word = lexeme.group().upper() if kind == "word" else ""
        run = run + 1 if kind == "sign" or (word and word == previous) or word == "NOT" else 0
        previous = word
        if kind == "open" or word == "CASE":
            depth += 1
            chains.append(0)
        elif (kind == "close" or word == "END") and depth > 0:
            depth -= 1
            chains.pop()
        elif lexeme.group() == ",":
            chains[-1] = 0
        elif kind == "sign" or word in _CHAINED:
            chains[-1] += 1
        deepest = max(deepest, depth, run)
        if lexemes > MAX_LEXEMES or chains[-1] > MAX_CHAIN:
            what = f"{MAX_LEXEMES:,} words and signs" if lexemes > MAX_LEXEMES else f"{MAX_CHAIN:,} operators in a row"
            message = f"The statement has more than {what}; give long lists as parameters."
            raise query_error(message, text, lexeme.start())
        if deepest > max_depth:
            raise query_error(f"The statement is more than {max_depth} levels deep; flatten it.", text, lexeme.start())
    return deepest


def _check_characters(text: str) -> None:
    if "\x00" in text:
        raise query_error("The statement holds a NUL character; remove it.", text, text.index("\x00"))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise query_error(
            f"The statement holds half of a surrogate pair at character {error.start}; remove it.", "", None
        ) from None
