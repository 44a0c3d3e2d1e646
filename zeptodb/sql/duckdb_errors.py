"""Errors of DuckDB in our words: what is wrong, where in the text, the nearest known name, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from zeptodb.errors import MemoryLimitError, QueryError, UnknownColumnError, ZeptoError, did_you_mean
from zeptodb.sql.source_text import pointed

OUR_FUNCTIONS = (
    "vwap", "xbar", "ema", "delta", "ratio", "wavg", "percentile", "epoch_s", "epoch_ms", "epoch_ns", "haversine",
    "st_distance", "st_within", "wj_avg", "wj_sum", "wj_min", "wj_max", "wj_count", "wj_first", "wj_last",
)  # fmt: skip
"""Functions that DuckDB does not have; a misspelt one is rather one of these."""

_SHOWN_CANDIDATES = 4
_QUOTED = re.compile(r'"([^"\n]+)"')
_EXCERPT = re.compile(r"\n+LINE \d+:.*", re.DOTALL)
_HIDDEN = re.compile(r'(, )?"?(?:[\w.]+\.)?__row_\d+"?')


def query_error(error: Exception, columns: Iterable[str], text: str) -> ZeptoError:
    """An error of DuckDB as ours; `columns` are those that the statement might have meant."""
    import duckdb

    message = _HIDDEN.sub("", _EXCERPT.sub("", str(error))).strip()
    if isinstance(error, duckdb.OutOfMemoryException):
        return MemoryLimitError(f"The statement needs more memory than DuckDB may use (memory_limit). {message}")
    known = list(dict.fromkeys(columns))
    for pattern, explain in _EXPLANATIONS:
        found = pattern.search(message)
        if found is not None:
            return explain(found, known, text)
    quoted = _QUOTED.search(message)
    return QueryError(pointed(message, text, place_of(quoted.group(1), text) if quoted is not None else None))


def place_of(name: str, text: str) -> int | None:
    """The offset of the first occurrence of a name in the text, None when it does not occur."""
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
    return None if found is None else found.start()


# ---- one function per kind of error --------------------------------------------------------------------------------


def _unknown_column(found: re.Match[str], known: list[str], text: str) -> ZeptoError:
    name = found.group("column")
    tail = did_you_mean(name, known) if known else ""
    return UnknownColumnError(pointed(f'There is no column "{name}" here.{tail}', text, place_of(name, text)))


def _unknown_qualifier(found: re.Match[str], known: list[str], text: str) -> ZeptoError:  # noqa: ARG001
    name, tables = found.group("table"), found.group("tables") or ""
    names = [t for t in re.findall(r'"([^"]+)"', tables) if not t.startswith("__")]
    tail = did_you_mean(name, names) if names else ""
    return QueryError(pointed(f'No table is called "{name}" in FROM.{tail}', text, place_of(name, text)))


def _unknown_function(found: re.Match[str], known: list[str], text: str) -> ZeptoError:  # noqa: ARG001
    name = found.group("function")
    message = f'There is no function "{name}".{_nearest_function(name)}'
    return QueryError(pointed(message, text, place_of(name, text)))


def _nearest_function(name: str) -> str:
    import difflib

    for names in (OUR_FUNCTIONS, _functions()):
        close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7)
        if close:
            return f' Did you mean "{close[0]}"?'
    return ""


@lru_cache(maxsize=1)
def _functions() -> tuple[str, ...]:
    """The names of DuckDB's functions."""
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        rows = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions() ORDER BY ALL").fetchall()
    return tuple(str(name) for (name,) in rows if str(name).isidentifier())


def _wrong_types(found: re.Match[str], known: list[str], text: str) -> ZeptoError:  # noqa: ARG001
    call, candidates = found.group("call"), re.findall(r"\n\t(.+?) -> ", found.group("candidates") or "")
    takes = [c.replace(", /", "").replace('"', "") for c in candidates[:_SHOWN_CANDIDATES]]
    more = ", ..." if len(candidates) > _SHOWN_CANDIDATES else ""
    hint = f" There is {', '.join(takes)}{more}; cast the arguments." if takes else ""
    name = call.split("(")[0]
    return QueryError(pointed(f"{call} does not fit: wrong types of arguments.{hint}", text, place_of(name, text)))


def _no_number(found: re.Match[str], known: list[str], text: str) -> ZeptoError:  # noqa: ARG001
    value, kind = found.group("value"), found.group("type")
    message = f"'{value}' stands where {kind} is wanted and cannot be read as one."
    place = _place_of_string(value, text)
    if place is None:  # a value of a row
        message += " A column of strings compares with strings: put the number into quotes."
    return QueryError(pointed(message, text, place))


def _place_of_string(value: str, text: str) -> int | None:
    place = text.find("'" + value.replace("'", "''") + "'")
    return None if place < 0 else place


def _aggregate_in_where(found: re.Match[str], known: list[str], text: str) -> ZeptoError:  # noqa: ARG001
    message = "WHERE cannot contain aggregates; put the condition into HAVING."
    return QueryError(pointed(message, text, place_of("WHERE", text)))


def _negative_limit(found: re.Match[str], known: list[str], text: str) -> ZeptoError:  # noqa: ARG001
    place = place_of("LIMIT", text)
    message = "LIMIT and OFFSET cannot be negative; give whole numbers of at least 0."
    return QueryError(pointed(message, text, place_of("OFFSET", text) if place is None else place))


def _not_parsed(found: re.Match[str], known: list[str], text: str) -> ZeptoError:  # noqa: ARG001
    near = found.group("near")
    bare = _join_without_condition(text)
    if bare is not None:
        message = "This JOIN has no condition; write ON ... or USING (...), or CROSS JOIN for all pairs."
        return QueryError(pointed(message, text, bare))
    message = f'Syntax error near "{near}": this was not expected here.'
    return QueryError(pointed(message, text, place_of(near, text)))


_TOKENS = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\w+|\S")
_CONDITIONS = frozenset(("ON", "USING"))
_NO_CONDITION = frozenset(("CROSS", "NATURAL", "POSITIONAL"))
_CLAUSES = frozenset(
    ("WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "QUALIFY", "UNION", "EXCEPT", "INTERSECT", "WINDOW", ";", ")")
)


def _join_without_condition(text: str) -> int | None:
    """The place of the first JOIN that wants a condition and has none."""
    open_joins: list[list[int]] = [[]]
    previous = ""
    for token in _TOKENS.finditer(text):
        word = token.group().upper()
        if word == "(":
            open_joins.append([])
        elif word == "JOIN" and previous not in _NO_CONDITION:
            open_joins[-1].append(token.start())
        elif word in _CONDITIONS and open_joins[-1]:
            open_joins[-1].pop()
        elif word in _CLAUSES and open_joins[-1]:
            return open_joins[-1][0]
        if word == ")" and len(open_joins) > 1:
            open_joins.pop()
        previous = word
    return next((joins[0] for joins in open_joins if joins), None)


_Explain = Callable[[re.Match[str], list[str], str], ZeptoError]

_EXPLANATIONS: tuple[tuple[re.Pattern[str], _Explain], ...] = (
    (re.compile(r'Referenced column "(?P<column>[^"]+)" not found in FROM clause'), _unknown_column),
    (re.compile(r'(?:Table|Values list) "[^"]*" does not have a column named "(?P<column>[^"]+)"'), _unknown_column),
    (re.compile(r'Referenced table "(?P<table>[^"]+)" not found!(?:\n.*: (?P<tables>.*))?'), _unknown_qualifier),
    (re.compile(r"Function with name (?P<function>\S+) does not exist"), _unknown_function),
    (re.compile(r"No function matches the given .* types '(?P<call>[^']+)'(?P<candidates>[\s\S]*)"), _wrong_types),
    (re.compile(r"Could not convert string '(?P<value>[^']*)' to (?P<type>\w+)"), _no_number),
    (re.compile(r"WHERE clause cannot contain aggregates"), _aggregate_in_where),
    (re.compile(r"LIMIT/OFFSET cannot be negative"), _negative_limit),
    (re.compile(r'Parser Error: syntax error at or near "(?P<near>[^"]*)"'), _not_parsed),
)  # fmt: skip
"""What is tried in turn on a message of DuckDB."""
