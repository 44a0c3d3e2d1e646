"""Lifts the literals out of a statement's text by one regular expression, so that statements that differ in nothing
else share a key. What the literals mean is not looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from zeptodb.sql.parameters import Parameters

# Whatever holds no literal is passed over in one go; nothing is tried at every character, and nothing backtracks.
_LEXEME = re.compile(
    r"""(?:[^\w'"$.\-/\x00]+|[^\W\d][\w.]*+|-(?!-)|/(?!\*))*+
    (?:(?P<string>(?<!\w)'(?:[^']|'')*+')
    |(?P<exponent>(?:\d++(?:\.\d*+)?+|\.\d++)[eE][+-]?\d++(?![\w.]))
    |(?P<decimal>(?:\d++\.\d*+|\.\d++)(?![\w.]))
    |(?P<integer>\d++(?![\w.]))
    |(?P<name>"(?:[^"]|"")*+"|\$\w*+(?!\$)[\w.]*+|[\d.][\w.]*+)
    |(?P<other>['"$\x00\-/])
    |\Z)""",
    re.VERBOSE,
)
_LONGEST_TEXT = 16_384
"""Longer statements are remembered by their whole text."""


@dataclass(frozen=True, slots=True)
class Lifted:
    """A statement without its literals.

    Attributes:
        shape: the text with each literal replaced by its kind, and the names and kinds of the parameters.
        texts: the literals as written, in order.
        starts: the offset of each.
        params: the parameters' values by name; those of a sequence are called "1", "2", ...
    """

    shape: Hashable
    texts: tuple[str, ...]
    starts: tuple[int, ...]
    params: Mapping[str, object]


def lift(text: str, params: Parameters) -> Lifted | None:
    """The statement without its literals; None for a text with comments, or with strings of other kinds than 'x'.

    >>> lift("SELECT 'a' FROM t WHERE x > 1.5 LIMIT 3", None).texts
    ("'a'", '1.5', '3')
    """
    if len(text) > _LONGEST_TEXT:
        return None
    named = _named(params)
    if named is None:
        return None
    parts: list[str] = []
    texts: list[str] = []
    starts: list[int] = []
    done = 0
    for match in _LEXEME.finditer(text):
        kind = match.lastgroup
        if kind == "name":
            continue
        if kind is None:
            break
        if kind == "other":
            return None
        start, end = match.span(kind)
        parts += (text[done:start], f"\x00{kind}\x00")
        texts.append(text[start:end])
        starts.append(start)
        done = end
    parts.append(text[done:])
    shape: Hashable = "".join(parts)
    if named:
        shape = (shape, tuple((name, type(value)) for name, value in named.items()))
    return Lifted(shape, tuple(texts), tuple(starts), named)


def _named(params: Parameters) -> Mapping[str, object] | None:
    if params is None:
        return {}
    if isinstance(params, Mapping):
        return dict(params)
    if not isinstance(params, (list, tuple)):
        return None
    return {str(number): value for number, value in enumerate(params, start=1)}
