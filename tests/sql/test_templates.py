"""A statement that differs in literals only is answered from a template, exactly as from its text."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlglot.errors import TokenError

from tests.sql.fallback_host import Host
from tests.sql.tables_to_compare import make_host
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.sql import QueryExecutor, executor
from zeptodb.sql.dialect import DIALECT
from zeptodb.sql.lifting import lift
from zeptodb.sql.result import QueryResult


@pytest.fixture(scope="module")
def host() -> Host:
    return make_host(CpuBackend(threads=1), 300, 5)


def answer(host: Host, sql: str, params: Any = None) -> tuple[Any, ...]:
    result = QueryExecutor(host).execute(sql, params)
    return facts(result)


def facts(result: QueryResult) -> tuple[Any, ...]:
    """What is compared; summaries grow from run to run."""
    lines = [line for line in result.plan.splitlines() if not line.startswith("summaries:")]
    return result.error, result.column_names, result.rows, result.engine, lines


class Parses:
    """Counts how often a text is parsed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        self._parse = executor.parse
        monkeypatch.setattr(executor, "parse", self)

    def __call__(self, text: str) -> Any:
        self.texts.append(text)
        return self._parse(text)


WITHOUT_PARSING = {
    "symbol": ("SELECT vwap(price, volume) AS v FROM trades WHERE symbol = {}", ["1", "2", "99", "3"]),
    "string symbol": ("SELECT count(*) AS n FROM ticks WHERE symbol = {}", ["'IBM'", "'AIG'", "'none'", "'it''s'"]),
    "range": (
        "SELECT price FROM trades WHERE symbol = 1 AND timestamp BETWEEN {} AND 1700000500000000000 ORDER BY timestamp",
        ["1700000000000000000", "1700000300000000000", "1800000000000000000"],
    ),
    "list": ("SELECT sum(price) AS s FROM trades WHERE symbol IN (1, {}) AND NOT (price < 3 OR volume = 1)", "21"),
    "negative": ("SELECT count(*) AS n FROM trades WHERE price > -{} GROUP BY symbol", ["3", "1", "2000"]),
    "moment": ("SELECT count(*) FROM quotes WHERE timestamp > TIMESTAMP '2023-11-14 22:{}:00'", ["14", "20"]),
    "text moment": ("SELECT count(*) FROM quotes WHERE timestamp > {}", ["'2023-11-14'", "'2023-11-15T00:00:00Z'"]),
    "decimal": ("SELECT count(*) FROM ticks WHERE price >= {}", ["1.5", "20.25", "0.0"]),
    "exponent": ("SELECT count(*) FROM ticks WHERE price < {}", ["1e1", "2.5e0"]),
    "order of storage": ("SELECT price FROM trades WHERE symbol IN ({}, 1) ORDER BY symbol, timestamp", ["1", "2"]),
}


@pytest.mark.parametrize("name", WITHOUT_PARSING)
def test_other_literals_need_no_parser(host: Host, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    form, literals = WITHOUT_PARSING[name][0], list(WITHOUT_PARSING[name][1])
    kept = QueryExecutor(host)
    kept.execute(form.format(literals[0])).raise_for_error()
    parses = Parses(monkeypatch)
    results = [kept.execute(form.format(literal)) for literal in literals * 2]
    assert parses.texts == []
    monkeypatch.undo()
    for literal, result in zip(literals * 2, results, strict=True):
        assert facts(result) == answer(host, form.format(literal))


KEPT_IN_THE_KEY = {
    "an unnamed column": ("SELECT price * {} FROM trades", ["2", "3"]),
    "a condition in a name": ("SELECT count(*) FILTER (WHERE price > {}) FROM trades", ["2", "30"]),
    "a limit": ("SELECT price FROM trades WHERE symbol = 1 ORDER BY timestamp LIMIT {}", ["2", "3"]),
    "a position": ("SELECT symbol, count(*) AS n FROM trades GROUP BY 1 ORDER BY {}", ["1", "2"]),
    "a width": ("SELECT xbar(timestamp, {}) AS b, count(*) AS n FROM trades GROUP BY b", ["60000000000", "7000000000"]),
    "an interval": ("SELECT xbar(timestamp, INTERVAL {}) AS b, count(*) FROM trades GROUP BY b", ["'1m'", "'2m'"]),
    "HAVING": ("SELECT symbol, count(*) AS n FROM trades GROUP BY symbol HAVING count(*) > {}", ["3", "70"]),
    "arithmetic": ("SELECT count(*) AS n FROM trades WHERE price * {} > 30", ["1", "2"]),
    "a length of a list": ("SELECT count(*) AS n FROM trades WHERE price IN ({})", ["1", "1, 2", "1, 2, 3"]),
    "types": ("SELECT count(*) AS n FROM trades WHERE price > {}", ["1", "1.5", "1e0", "'1'", "9223372036854775808"]),
    "an always false bound": ("SELECT count(*) AS n FROM trades WHERE timestamp < {}", ["1", "9223372036854775807"]),
    "a comment": ("SELECT count(*) AS n FROM trades WHERE price > /* 5 */ {}", ["1", "7"]),
    "a quoted name": ('SELECT price AS "1" FROM trades WHERE price > {}', ["1", "7"]),
    "a comment with a quote": ("SELECT count(*) AS n FROM trades WHERE price > {} -- it's 5", ["1", "7"]),
    "a name with a quote": ('SELECT count(*) AS "it\'s" FROM trades WHERE price > {} OR 5 < volume', ["1", "7"]),
    "a string in dollars": ("SELECT count(*) AS n FROM ticks WHERE symbol <> $$1$$ AND price > {}", ["1", "7"]),
    "a point first": ("SELECT count(*) AS n FROM ticks WHERE price > {}", [".5", "1.5", ".75"]),
    "a string of its own kind": ("SELECT count(*) AS n FROM ticks WHERE symbol = E{}", ["'IBM'", "'AIG'"]),
    "DuckDB": ("SELECT median(price) AS m FROM trades WHERE symbol = {}", ["1", "2"]),
    "a join": ("SELECT t.price FROM trades t ASOF JOIN quotes q USING (symbol, timestamp) WHERE t.price > {}", "39"),
    "no table": ("SELECT {} AS x", ["1", "2"]),
    "several statements": ("SELECT 1; SELECT count(*) AS n FROM trades WHERE price > {}", ["1", "20"]),
}


@pytest.mark.parametrize("name", KEPT_IN_THE_KEY)
def test_a_literal_never_changes_another_statements_answer(host: Host, name: str) -> None:
    form, literals = KEPT_IN_THE_KEY[name][0], list(KEPT_IN_THE_KEY[name][1])
    kept = QueryExecutor(host)
    for literal in literals * 2:
        result = kept.execute(form.format(literal))
        found = facts(result)
        expected = answer(host, form.format(literal))
        assert found[:2] == expected[:2]
        assert sorted(map(str, found[2])) == sorted(map(str, expected[2]))
        assert found[3:] == expected[3:]


def test_parameters_are_exchanged_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = "SELECT count(*) AS n FROM trades WHERE symbol = ? AND price > ?"
    kept = QueryExecutor(host)
    kept.execute(sql, [1, 3]).raise_for_error()
    parses = Parses(monkeypatch)
    results = [(given, kept.execute(sql, given).rows) for given in ([1, 5], (2, -4), [3, 10])]
    assert parses.texts == []
    monkeypatch.undo()
    for values, rows in results:
        assert rows == answer(host, sql, list(values))[2]
    for values in ([1, 2.5], [1, True], [1, None], ["x", 1], [1], None):
        assert kept.execute(sql, values).error == answer(host, sql, values)[0]
        assert kept.execute(sql, values).rows == answer(host, sql, values)[2]


def test_a_template_ends_with_its_table() -> None:
    host = make_host(CpuBackend(threads=1), 40, 6)
    kept = QueryExecutor(host)
    sql = "SELECT count(*) AS n FROM trades WHERE price > {}"
    assert kept.execute(sql.format(-10)).rows == [[40]]
    host.catalog.drop("trades")
    assert "trades" in kept.execute(sql.format(-11)).error


def test_names_and_words_keep_their_digits() -> None:
    text = "SELECT a1, t.c3, x.5 FROM t4 WHERE p = 12 AND q = 1.5e-3 AND r = 'a''b' AND s > .5 AND y = $1"
    lifted = lift(text, None)
    assert lifted is not None
    assert lifted.texts == ("12", "1.5e-3", "'a''b'", ".5")


FRAGMENTS = (
    "a1", "t.c3", '"b 2"', '"it\'s"', "0x1F", "1_000", "12", "7", "1.5", "2.", ".25", "1e5", "2.5e-3", "1e", "5days",
    "'text'", "'it''s'", "''", "E'x 1'", "x'0a'", "$1", "$$1 'x$$", "$t$ 2 $t$", "?", "(", ")", ",", "+", "-", "*", "/",
    "=", ">", ".", ";", " ", "\n", "-- it's 1\n", "/* 5 ' */", "{", "[3]", "é9", "\x00",
)  # fmt: skip
OTHERS = {"integer": "98765", "decimal": "43.21", "exponent": "6.5E+1", "string": "'o''ther -- 1'"}


@settings(max_examples=300, deadline=None)
@example(["1e5", "+", "0x1F"])
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12))
def test_another_literal_of_its_kind_is_read_as_one_token_in_its_place(fragments: list[str]) -> None:
    text = "".join(fragments)
    lifted = lift(text, None)
    assert lifted is not None
    assert "".join(part for pair in zip_longest(lifted.between, lifted.texts, fillvalue="") for part in pair) == text
    tokens = tokens_of(text)
    for place, (start, _, kind) in enumerate(tokens):
        number = lifted.literals().get(start)
        if number is None or kind not in ("NUMBER", "STRING"):
            continue
        other = OTHERS[lifted.shape[1][number]]  # type: ignore[index]
        changed = text[:start] + other + text[start + len(lifted.texts[number]) :]
        moved = len(other) - len(lifted.texts[number])
        rest = [(start + moved, text, kind) for start, text, kind in tokens[place + 1 :]]
        found = tokens_of(changed)
        assert found[:place] + found[place + 1 :] == tokens[:place] + rest
        assert (found[place][0], found[place][2]) == (start, kind)


def tokens_of(text: str) -> list[tuple[int, str, str]]:
    """Start, text and kind of each token; none of a text that cannot be read."""
    try:
        return [(token.start, token.text, token.token_type.name) for token in DIALECT.tokenize(text)]
    except TokenError:
        return []
