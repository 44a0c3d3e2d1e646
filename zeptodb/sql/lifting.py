"""Lifts what look like literals out of a statement's text by one regular expression, so that statements that differ in
nothing else share a key. What they mean, and whether they are literals at all, is not looked at here.

Exchanging one of them is safe where a token of the first statement begins at its place: whatever stands before is the
same text, so that another of its kind is one token there, too, and what follows is read alike.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from itertools import accumulate
from typing import Literal, NamedTuple

from zeptodb.sql.parameters import Parameters

Kind = Literal["string", "integer", "decimal", "exponent", "other"]

# The set of first characters comes first: the text is searched for these alone. Nothing backtracks. A sign that follows
# 1e5 is taken along, because the tokenizer takes it for a part of the number; it is no exponent then.
_LIFTED = re.compile(
    r"""([0-9.'](?:
    (?<=')(?<!\w')[^']*+(?:''[^']*+)*+'
    |(?:(?<=[0-9])|(?<=\.)(?=[0-9]))(?<![\w.$].)
    (?:[0-9.]*+[eE][0-9]++[+-]|[\w.]*+(?:(?<=[eE])[+-][0-9][\w.]*+)?)
    ))""",
    re.VERBOSE,
)
_DECIMAL = re.compile(r"[0-9]*\.?[0-9]*")
_EXPONENT = re.compile(r"[0-9]*\.?[0-9]*[eE][+-]?[0-9]+")
_LONGEST_TEXT = 16_384
"""Longer statements are remembered by their whole text."""


class Lifted(NamedTuple):
    """A statement without what look like its literals.

    Attributes:
        shape: the text between them, their kinds, and the names and kinds of the parameters.
        texts: these as written, in order.
        params: the parameters' values by name; those of a sequence are called "1", "2", ...
        between: the text before, between and behind them.
    """

    shape: Hashable
    texts: tuple[str, ...]
    params: Mapping[str, object]
    between: tuple[str, ...]

    def literals(self) -> dict[int, int]:
        """Offset and number of those that are literals, if a token begins there."""
        lengths = (len(before) + len(text) for before, text in zip(self.between, self.texts, strict=False))
        ends = accumulate(lengths)
        starts = (end - len(text) for end, text in zip(ends, self.texts, strict=True))
        return {start: k for k, start in enumerate(starts) if _kind(self.texts[k]) != "other"}


def lift(text: str, params: Parameters) -> Lifted | None:
    """The statement without its literals; None for one that is too long, or for parameters of no known form.

    >>> lift("SELECT 'a' FROM t WHERE x > 1.5 LIMIT 3", None).texts
    ("'a'", '1.5', '3')
    """
    if len(text) > _LONGEST_TEXT:
        return None
    pieces = _LIFTED.split(text)
    texts, between = tuple(pieces[1::2]), tuple(pieces[::2])
    kinds = tuple([_kind(literal) for literal in texts])
    if params is None:
        return Lifted((between, kinds), texts, {}, between)
    named = _named(params)
    if named is None:
        return None
    types = tuple([(name, type(value)) for name, value in named.items()])
    return Lifted((between, kinds, types), texts, named, between)


def _kind(text: str) -> Kind:
    if text.isdecimal() and text.isascii():
        return "integer"
    if text[0] == "'":
        return "string"
    if _DECIMAL.fullmatch(text):
        return "decimal"
    return "exponent" if _EXPONENT.fullmatch(text) else "other"


def _named(params: Parameters) -> Mapping[str, object] | None:
    if isinstance(params, Mapping):
        return dict(params)
    if not isinstance(params, (list, tuple)):
        return None
    return {str(number): value for number, value in enumerate(params, start=1)}
