"""What a request's text is: its kind, its FORMAT clause, the data behind an INSERT; without a full parse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from zeptodb.record import record
from zeptodb.server.codes import Code, failure

Kind = Literal["read", "write", "define", "copy", "session", "kill"]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(
        ("SELECT", "FROM", "VALUES", "(", "SHOW", "DESCRIBE", "DESC", "EXISTS", "SUMMARIZE", "PIVOT", "UNPIVOT"), "read"
    ),
    **dict.fromkeys(("INSERT", "UPDATE", "DELETE", "TRUNCATE", "MERGE"), "write"),
    **dict.fromkeys(("CREATE", "DROP", "ALTER", "RENAME", "OPTIMIZE"), "define"),
    "COPY": "copy",
    **dict.fromkeys(("SET", "USE"), "session"),
    "KILL": "kill",
}

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|$))
      | (?P<string>'(?:[^'\\]|\\.|'')*(?:'|$))
      | (?P<name>"(?:[^"]|"")*(?:"|$)|`(?:[^`\\]|\\.|``)*(?:`|$))
      | (?P<dollar>\$\w*\$)
      | (?P<word>[^\W\d]\w*)
      | (?P<number>\d[\w.]*)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)

HEAD_BYTES = 64 * 1024
"""How far into a request the header of an INSERT may reach."""


@record
class Token:
    """A piece of a statement that is neither blank nor comment."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def upper(self) -> str:
        """A word in upper case; other pieces as they are."""
        return self.text.upper() if self.kind == "word" else self.text


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    """The pieces of a statement in order."""
    position = start
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:  # pragma: no cover - `other` takes any character
            return
        kind = found.lastgroup or "other"
        if kind == "dollar":  # a string between $tag$ and $tag$
            close = text.find(found.group(), found.end())
            end = len(text) if close < 0 else close + len(found.group())
            yield Token("string", text[position:end], position, end)
            position = end
            continue
        if kind != "space":
            yield Token(kind, found.group(), position, found.end())
        position = found.end()


@record
class Statement:
    """A statement that is no INSERT with data.

    Attributes:
        text: the statement without FORMAT, SETTINGS, comments at its ends and semicolons.
        keyword: its first word.
        kind: what it does.
        format: the FORMAT clause, None without one.
        settings: what the SETTINGS clause says.
    """

    text: str
    keyword: str
    kind: Kind
    format: str | None
    settings: dict[str, str]


@record
class InsertData:
    """INSERT INTO table [(columns)] with data behind it.

    Attributes:
        table: the name of the table, its database taken off.
        database: the database, if one was named.
        columns: the names in parentheses; None: as the data says, or all.
        format: of the data.
        settings: what the SETTINGS clause says.
    """

    table: str
    database: str | None
    columns: tuple[str, ...] | None
    format: str
    settings: dict[str, str]


def read_statement(text: str) -> Statement:
    """Take a statement's text apart; raises SYNTAX_ERROR for none, and for more than one."""
    found = list(tokens(text))
    while found and found[-1].text == ";":
        found.pop()
    if not found:
        raise failure(
            Code.SYNTAX_ERROR, "Syntax error: the request has no statement; send SQL in the body or in ?query=."
        )
    if any(token.text == ";" for token in found):
        raise failure(Code.SYNTAX_ERROR, "Syntax error: a request takes one statement; send several one by one.")
    kind = _kind(found)
    chosen, found = _cut_format(found)
    settings: dict[str, str] = {}
    if kind == "read":
        settings, found = _cut_settings(found)
        again, found = _cut_format(found)  # FORMAT may also stand before SETTINGS
        chosen = chosen or again
    body = text[found[0].start : found[-1].end]
    return Statement(body, found[0].upper, kind, chosen, settings)


def _kind(found: list[Token]) -> Kind:
    """What a statement does, by its first word, and for WITH and EXPLAIN by what follows."""
    first = found[0].upper
    if first == "EXPLAIN":
        rest = found[1:]
        while rest and rest[0].upper in ("ANALYZE", "PLAN", "VERBOSE"):
            rest = rest[1:]
        return _kind(rest) if rest else "read"
    if first == "WITH":
        depth = 0
        for token in found[1:]:
            depth += (token.text == "(") - (token.text == ")")
            kind = _KINDS.get(token.upper) if depth == 0 and token.kind == "word" else None
            if kind is not None and token.upper not in ("SHOW", "SET", "EXISTS", "DESC", "USE"):
                return kind
        return "read"
    kind = _KINDS.get(first)
    if kind is not None:
        return kind
    shown = found[0].text[:40]
    if found[0].kind == "word" and first in _REFUSED:
        raise failure(Code.NOT_IMPLEMENTED, f"{first} is not available over HTTP.")
    raise failure(
        Code.SYNTAX_ERROR,
        f'Syntax error near "{shown}": a statement begins with SELECT, WITH, INSERT, CREATE, DROP, ALTER, UPDATE, '
        "DELETE, TRUNCATE, SHOW, DESCRIBE, EXISTS or EXPLAIN.",
    )


_REFUSED = frozenset(
    ("ATTACH", "DETACH", "INSTALL", "LOAD", "PRAGMA", "CALL", "EXPORT", "IMPORT", "CHECKPOINT", "VACUUM", "ANALYZE",
     "PREPARE", "EXECUTE", "DEALLOCATE", "BEGIN", "COMMIT", "ROLLBACK", "RESET", "GRANT", "REVOKE", "SYSTEM", "BACKUP",
     "RESTORE", "UPDATE_EXTENSIONS", "COMMENT", "FORCE")
)  # fmt: skip


def _cut_format(found: list[Token]) -> tuple[str | None, list[Token]]:
    if len(found) > 2 and found[-2].upper == "FORMAT" and found[-1].kind == "word" and found[-2].kind == "word":
        before = found[-3]
        if before.kind in ("string", "name", "number", "word") or before.text in (")", "*", "]", "}", "?"):
            return found[-1].text, found[:-2]
    return None, found


def _cut_settings(found: list[Token]) -> tuple[dict[str, str], list[Token]]:
    """SETTINGS a = 1, b = 'x' at the end."""
    depth = 0
    for index in range(len(found) - 1, 0, -1):
        depth += (found[index].text in ")]") - (found[index].text in "([")
        if found[index].upper == "SETTINGS" and found[index].kind == "word" and depth == 0 and index + 2 < len(found):
            settings = _settings(found[index + 1 :])
            return (settings, found[:index]) if settings else ({}, found)
    return {}, found


def _settings(found: list[Token]) -> dict[str, str]:
    settings: dict[str, str] = {}
    position = 0
    while position + 2 < len(found):
        name, equals, value = found[position : position + 3]
        if name.kind != "word" or equals.text != "=":
            return {}
        settings[name.text] = value.text.strip("'")
        position += 3
        if position < len(found):
            if found[position].text != ",":
                return {}
            position += 1
    return settings if position >= len(found) else {}


# ---- INSERT --------------------------------------------------------------------------------------------------------


def read_insert(head: str) -> tuple[InsertData, int] | None:
    """An INSERT whose data stands behind its header, and where the header ends; None for other statements.

    INSERT ... SELECT is no such statement. `head` is the beginning of the request as Latin-1, so that offsets count
    bytes whatever data follows.
    """
    stream = tokens(head)
    first = next(stream, None)
    if first is None or first.upper != "INSERT":
        return None
    found = [first]
    depth = 0
    for token in stream:
        found.append(token)
        depth += (token.text == "(") - (token.text == ")")
        if token.text == ";":
            return None
        follows_name = len(found) > 2 and found[-2].text != "." and found[-2].upper not in ("INTO", "TABLE")
        if token.kind == "word" and depth == 0 and follows_name:
            word = token.upper
            if word == "FORMAT":
                chosen = next(stream, None)
                if chosen is None or chosen.kind != "word":
                    raise failure(Code.SYNTAX_ERROR, "Syntax error: INSERT ... FORMAT lacks the name of the format.")
                return _insert(found[1:-1], chosen.text), chosen.end
            if word == "VALUES":
                return _insert(found[1:-1], "Values"), token.end
            if word in ("SELECT", "WITH", "FROM", "DEFAULT", "BY"):
                return None
    return None


def _insert(found: list[Token], chosen: str) -> InsertData:
    position = 0
    for word in ("INTO", "TABLE"):
        if position < len(found) and found[position].upper == word:
            position += 1
    names: list[str] = []
    while position < len(found) and found[position].kind in ("word", "name", "string"):
        names.append(identifier(found[position]))
        position += 1
        if position < len(found) and found[position].text == ".":
            position += 1
            continue
        break
    if not names or len(names) > 2:
        raise failure(Code.SYNTAX_ERROR, "Syntax error: INSERT INTO lacks the name of a table.")
    columns: tuple[str, ...] | None = None
    if position < len(found) and found[position].text == "(":
        columns, position = _columns(found, position + 1)
    settings: dict[str, str] = {}
    if position < len(found):
        rest = found[position:]
        settings = _settings(rest[1:]) if rest[0].upper == "SETTINGS" else {}
        if not settings:
            raise failure(Code.SYNTAX_ERROR, f'Syntax error near "{rest[0].text[:40]}" in INSERT INTO.')
    return InsertData(names[-1], names[0] if len(names) == 2 else None, columns, chosen, settings)


def _columns(found: list[Token], position: int) -> tuple[tuple[str, ...], int]:
    columns: list[str] = []
    while position < len(found) and found[position].text != ")":
        if found[position].kind not in ("word", "name"):
            raise failure(
                Code.SYNTAX_ERROR, f'Syntax error near "{found[position].text[:40]}" in the columns of INSERT.'
            )
        columns.append(identifier(found[position]))
        position += 1
        if position < len(found) and found[position].text == ",":
            position += 1
    if position >= len(found):
        raise failure(Code.SYNTAX_ERROR, "Syntax error: the list of columns of INSERT is not closed.")
    return tuple(columns), position + 1


def identifier(token: Token) -> str:
    """The name that a piece of a statement (as Latin-1) means."""
    text = token.text
    if token.kind in ("name", "string"):
        quote = text[0]
        text = text[1:-1].replace(quote * 2, quote).replace("\\" + quote, quote).replace("\\\\", "\\")
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
