"""What is wrong, where, and what to write instead: the messages for the mistakes that people make."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from zeptodb.pipeline import Pipeline

MISTAKES = {
    "unknown table": (
        "SELECT * FROM trade",
        'There is no table "trade". Did you mean "trades"? Known: trades, quotes.',
        15,
    ),
    "unknown cte": ("WITH a AS (SELECT 1 AS x) SELECT * FROM b", 'There is no table "b". Known: trades, quotes.', 41),
    "unknown column": (
        "SELECT pric FROM trades",
        'There is no column "pric" in "trades". Did you mean "price"? Known: symbol, price, volume, timestamp.',
        8,
    ),
    "unknown column in DuckDB": ("SELECT median(pric) AS m FROM trades", 'There is no column "pric"', 15),
    "unknown column of a subquery": ("SELECT a FROM (SELECT price FROM trades) t", 'There is no column "a" here.', 8),
    "unknown alias of a table": ("SELECT x.price FROM trades t", 'No table is called "x" in FROM. Known: t.', 8),
    "unknown alias in DuckDB": ("SELECT median(x.price) FROM trades t", 'No table is called "x" in FROM.', 15),
    "unknown function": ("SELECT nosuchthing(price) FROM trades", 'There is no function "nosuchthing".', 8),
    "misspelt tick function": (
        "SELECT vwapp(price, volume) FROM trades",
        'There is no function "vwapp". Did you mean "vwap"?',
        8,
    ),
    "misspelt bar": ("SELECT xbarr(timestamp, 5) FROM trades", 'There is no function "xbarr". Did you mean "xbar"?', 8),
    "misspelt function of DuckDB": (
        "SELECT medain(price) FROM trades",
        'There is no function "medain". Did you mean "median"?',
        8,
    ),
    "width of zero": ("SELECT xbar(timestamp, 0) FROM trades", "The width of xbar must be positive, got 0.", None),
    "string symbol": (
        "SELECT * FROM trades WHERE symbol = 'AAPL'",
        ("'AAPL' is no number and is compared with integers."),
        28,
    ),
    "string symbols": (
        "SELECT * FROM trades WHERE symbol IN ('A', 'B')",
        "'A' is no number and is compared with integers.",
        28,
    ),
    "string in arithmetic": (
        "SELECT price + 'x' FROM trades",
        ("'x' stands where INT64 is wanted and cannot be read as one."),
        16,
    ),
    "sum of strings": (
        "SELECT sum(side) FROM quotes",
        ("sum(VARCHAR) does not fit: wrong types of arguments. There is sum("),
        8,
    ),
    "one argument too few": ("SELECT vwap(price) FROM trades", "vwap wants two arguments, price and volume", 8),
    "aggregate in WHERE": (
        "SELECT * FROM trades WHERE sum(price) > 3",
        "WHERE cannot contain aggregates; put the condition into HAVING.",
        22,
    ),
    "nested aggregates": ("SELECT sum(sum(price)) FROM trades", "aggregate function calls cannot be nested", None),
    "ambiguous name": (
        "SELECT symbol FROM trades t JOIN quotes q ON t.symbol = q.symbol",
        "Ambiguous reference to column name \"symbol\" (use: 't.symbol' or 'q.symbol')",
        8,
    ),
    "ambiguous name in an as-of join": (
        "SELECT symbol FROM trades t ASOF JOIN quotes q ON t.symbol = q.symbol AND t.timestamp >= q.timestamp",
        'Column "symbol" is ambiguous: write t.symbol or q.symbol.',
        8,
    ),
    "missing ON": (
        "SELECT bid FROM trades JOIN quotes",
        "This JOIN has no condition; write ON ... or USING (...), or CROSS JOIN for all pairs.",
        24,
    ),
    "missing ON of an as-of join": (
        "SELECT bid FROM trades t ASOF JOIN quotes q WHERE bid > 1",
        "ASOF JOIN needs a condition, such as ON t.symbol = q.symbol",
        None,
    ),
    "column that is not grouped": (
        "SELECT symbol, price FROM trades GROUP BY symbol",
        'column "price" must appear in the GROUP BY',
        16,
    ),
    "negative LIMIT": ("SELECT price FROM trades LIMIT -1", "LIMIT and OFFSET cannot be negative", 26),
    "LIMIT of a string": ("SELECT price FROM trades LIMIT 'x'", "'x' stands where INT64 is wanted", 32),
    "no such moment": (
        "SELECT price FROM trades WHERE timestamp > 'yesterday'",
        "'yesterday' is not a timestamp between 1677 and 2262",
        None,
    ),
    "no such unit": (
        "SELECT date_trunc('fortnight', timestamp) FROM trades",
        "date_trunc does not know the unit 'fortnight'",
        None,
    ),
    "percentile beyond 100": (
        "SELECT percentile(price, 101) FROM trades",
        "needs a number from 0 to 100, got 101.",
        None,
    ),
    "sets of different width": ("SELECT price FROM trades UNION SELECT 1, 2", "same number of result columns", None),
    "open string": ("SELECT 'abc FROM trades", "Syntax error: the string that begins here is not closed.", 8),
    "open name": ('SELECT "abc FROM trades', "Syntax error: the quoted name that begins here is not closed.", 8),
    "open comment": ("SELECT 1 /* FROM trades", "Syntax error: the comment that begins here is not closed.", 10),
    "NUL character": ("SELECT price FROM trades\x00", "The statement holds a NUL character; remove it.", 25),
    "too deep": (f"SELECT {'(' * 300}1{')' * 300}", "The statement is more than 200 levels deep; flatten it.", 208),
    "misspelt SELECT": ("SELEC price FROM trades", 'Did you mean SELECT instead of "SELEC"?', None),
    "misspelt FROM": ("SELECT price FORM trades", 'Did you mean FROM instead of "FORM"?', None),
    "nothing": (" ;; ", "The statement is empty; give at least one SQL statement.", None),
    "expression": ("price + 1", "This is an expression, not a statement; write SELECT before it.", 1),
}


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with Pipeline() as made:
        made.ingest_batch(np.arange(40) % 3, np.arange(40) + 1, np.arange(40) % 7, np.arange(40) * 10)
        made.execute("CREATE TABLE quotes (symbol INT64, timestamp TIMESTAMP_NS, bid FLOAT64, side STRING)")
        made.execute("INSERT INTO quotes VALUES (1, 10, 1.5, 'B')")
        yield made


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained(pipeline: Pipeline, name: str) -> None:
    sql, message, column = MISTAKES[name]
    error = pipeline.execute(sql).error
    assert message in error
    if column is not None:
        assert f"(line 1, column {column})" in error


def test_the_offending_line_of_several_is_shown(pipeline: Pipeline) -> None:
    error = pipeline.execute("SELECT\n  symbol,\n  pric\nFROM trades").error
    assert error.splitlines()[0].endswith("(line 3, column 3)")
    assert error.splitlines()[1:] == ["  pric", "  ^"]


def test_hidden_columns_are_not_named(pipeline: Pipeline) -> None:
    error = pipeline.execute("SELECT first(nosuch) FROM trades t JOIN quotes q USING (symbol)").error
    assert "nosuch" in error
    assert "__row" not in error


def test_division_by_zero_is_as_in_duckdb(pipeline: Pipeline) -> None:
    sql = (
        "SELECT 1 / 0 AS a, -1 / 0 AS b, 1 // 0 AS c, 1 % 0 AS d, volume / 0 AS e FROM trades WHERE volume = 0 LIMIT 1"
    )
    row = pipeline.execute(sql).rows[0]
    assert row[:4] == [np.inf, -np.inf, None, None]
    assert np.isnan(row[4])
