"""Parsing: statements, tick words, limits, and errors that point at their place."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from zeptodb.errors import QueryError, ZeptoError
from zeptodb.sql.dialect import Explain, parse
from zeptodb.sql.keywords import KEYWORDS


def test_several_statements_come_in_order_without_empty_ones() -> None:
    assert [type(s) for s in parse("SELECT 1;; DROP TABLE t;")] == [exp.Select, exp.Drop]


def test_explain_holds_the_statement() -> None:
    (statement,) = parse("EXPLAIN ANALYZE SELECT 1")
    assert isinstance(statement, Explain)
    assert statement.args["analyze"]
    assert isinstance(statement.this, exp.Select)


def test_question_marks_are_numbered_in_the_order_of_the_text() -> None:
    (statement,) = parse("SELECT ? FROM t WHERE a = ? LIMIT ?")
    assert statement.sql("duckdb") == "SELECT $1 FROM t WHERE a = $2 LIMIT $3"


@pytest.mark.parametrize("word", ["AJ0", "WINDOW", "UNION", "PLUS", "plus", "Aj0"])
@pytest.mark.parametrize("alias", ["", " t", " AS t"])
def test_tick_joins_are_no_aliases(word: str, alias: str) -> None:
    (statement,) = parse(f"SELECT * FROM trades{alias} {word} JOIN quotes q ON true")
    (join,) = statement.args["joins"]
    assert join.args["method"] == word.upper()
    assert statement.args["from_"].this.alias == alias[-1:].strip()
    assert join.this.alias == "q"


@pytest.mark.parametrize("alias", ["", " t", " AS t"])
def test_the_join_after_aj0_may_be_left_out(alias: str) -> None:
    (statement,) = parse(f"SELECT * FROM trades{alias} AJ0 quotes ON true")
    assert statement.args["joins"][0].args["method"] == "AJ0"


def test_a_tick_join_may_follow_a_subquery_without_alias() -> None:
    (statement,) = parse("SELECT * FROM (SELECT 1) UNION JOIN (SELECT 2) PLUS JOIN q USING (a) WHERE true")
    assert [join.args["method"] for join in statement.args["joins"]] == ["UNION", "PLUS"]


@pytest.mark.parametrize(
    "text", ["SELECT * FROM t SAMPLE 0.1", "SELECT * FROM t sample 1", "SELECT * FROM (SELECT 2) SAMPLE 0.5"]
)
def test_sample_is_no_alias(text: str) -> None:
    (statement,) = parse(text)
    assert not statement.args["from_"].this.alias
    assert statement.args["from_"].this.args["fraction"].name == text.rsplit(maxsplit=1)[-1]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT sample, window FROM t",
        "SELECT sample AS plus FROM t",
        "SELECT * FROM trades AS plus JOIN quotes ON true",
        "SELECT 1 UNION SELECT 2",
        "SELECT * FROM t USING SAMPLE 10%",
        "SELECT sample.price FROM t sample WHERE sample > 1",
        "SELECT * FROM t aj0, q plus",
        'SELECT * FROM t "plus" JOIN q ON true',
    ],
)
def test_tick_words_stay_names_elsewhere(text: str) -> None:
    assert len(parse(text)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" ;; ", "empty"),
        ("SELECT * FORM t", r'near "t".*line 1, column 15\)\nSELECT \* FORM t\n {14}\^'),
        ("SELECT a,\n b c d FROM t", r'near "d".*line 2, column 6'),
        ("SELEC price FROM t", 'this was not expected here. Did you mean SELECT instead of "SELEC"'),
        ("SELECT price FROM t GRUOP BY price", 'Did you mean GROUP instead of "GRUOP"'),
        ("SELECT (1", "line 1, column"),
        ("SELECT 'abc", r"string that begins here is not closed. \(line 1, column 8\)"),
        ('SELECT "abc', "quoted name that begins here is not closed"),
        ("SELECT /* abc", "comment that begins here is not closed"),
        ("SELECT 1 =", "something is missing"),
        ("EXPLAIN", "something is missing"),
        ("SELECT \x00", "NUL"),
        ("SELECT '\ud800'", "surrogate"),
    ],
)
def test_bad_text_is_a_query_error_that_says_where(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 300 + "1" + ")" * 300,
        "SELECT " + "- " * 300 + "1",
        "SELECT " + "NOT " * 300 + "true",
        "SELECT " + "CASE WHEN " * 300,
        "EXPLAIN " * 300 + "SELECT 1",
        "SELECT * FROM " + "(SELECT * FROM " * 100_000,
    ],
)
def test_depth_is_limited_before_the_parser_sees_the_text(text: str) -> None:
    with pytest.raises(QueryError, match=r"levels deep|bytes"):
        parse(text)


@pytest.mark.parametrize(
    ("begin", "end"), [("(", ")"), ("(SELECT ", ")"), ("CASE WHEN true THEN ", " END"), ("- ", "")]
)
def test_two_hundred_levels_are_allowed(begin: str, end: str) -> None:
    limit = sys.getrecursionlimit()
    assert len(parse("SELECT " + begin * 195 + "1" + end * 195)) == 1
    assert sys.getrecursionlimit() == limit


def test_size_is_limited() -> None:
    with pytest.raises(QueryError, match="262,144"):
        parse("SELECT '" + "x" * 262_144 + "'")


def test_long_chains_are_not_deep() -> None:
    assert len(parse("SELECT " + " AND ".join(["a = 1"] * 2_000))) == 1


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    parse("ALTER TABLE t SET TTL 30 DAYS; EXPLAIN SELECT 1; CREATE MATERIALIZED VIEW v AS SELECT 1")
    assert capsys.readouterr() == ("", "")
    assert caplog.records == []


@given(st.text(max_size=60) | st.text(alphabet="SELECT FROMwhere()'\"$?.,;*/-+<>=123 \n", max_size=60))
def test_no_text_raises_anything_but_our_errors(text: str) -> None:
    with suppress(ZeptoError):
        parse(text)


def test_keywords_are_duckdbs() -> None:
    import duckdb

    rows = duckdb.connect().execute("SELECT DISTINCT keyword_name FROM duckdb_keywords()").fetchall()
    assert {name for (name,) in rows} == KEYWORDS
