"""What goes wrong is said with its place, what is allowed, and the nearest known name."""

from __future__ import annotations

import pytest

from zeptodb import Pipeline


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    made = Pipeline(backend="cpu")
    made.ingest_batch([1, 2], [10, 20], [3, 4], [5, 6])
    made.execute("CREATE TABLE quotes (symbol INT64, bid FLOAT64, timestamp TIMESTAMP)")
    return made


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SELECT * FROM trade", ['There is no table "trade". Did you mean "trades"?', "(line 1, column 15)"]),
        ("SELECT pric FROM trades", ['"pric"', 'Did you mean "price"?', "(line 1, column 8)\nSELECT pric FROM trades"]),
        ("SELECT t.pric FROM trades t JOIN quotes q USING (symbol)", ['"pric"', 'Did you mean "price"?', "column 10)"]),
        ("SELECT epoch_z(timestamp) FROM trades", ['no function "epoch_z". Did you mean "epoch_s"?', "column 8)"]),
        ("SELECT\n floot(price) FROM trades", ['no function "floot". Did you mean "floor"?', "(line 2, column 2)"]),
        ("SELECT price FROM trades WHERE sum(price) > 1", ["cannot contain aggregates", "HAVING", "column 26)"]),
        ("SELECT symbol FROM trades, quotes", ['Ambiguous reference to column name "symbol"', "column 8)"]),
        (
            "SELECT price FROM trades WHERE symbol = 'abc'",
            ["'abc' is no number and is compared", "column 32)"],
        ),
        ("SELECT price + 'abc' FROM trades", ["'abc' stands where INT64 is wanted", "column 16)"]),
        ("SELECT sum(symbol || 'x') FROM trades", ["sum(VARCHAR)"]),
        ("SELECT * FROM trades WHERE timestamp > 'noon'", ["'noon' is not a timestamp", "'2024-01-31 09:30:00"]),
        ("SELECT * FROM trades ASOF JOIN quotes", ["ASOF JOIN needs a condition, such as ON t.symbol = q.symbol"]),
        ("SELECT * FROM trades AJ0 JOIN quotes", ["AJ0 JOIN needs a condition"]),
        ("SELECT * FROM trades t AJ0 JOIN quotes q ON t.symbol = q.symbol", ["one comparison of times"]),
        ("SELECT * FROM trades WINDOW JOIN quotes", ["WINDOW JOIN needs a condition", "BETWEEN"]),
        ("SELECT * FROM trades PLUS JOIN quotes", ["PLUS JOIN needs a condition", "USING (symbol)"]),
        ("SELECT * FROM trades t PLUS JOIN quotes q ON t.symbol > q.symbol", ["PLUS JOIN matches equal columns"]),
        ("SELECT * FROM trades t UNION JOIN quotes q ON true", ["UNION JOIN takes neither ON nor USING"]),
        ("SELECT * FROM trades, quotes UNION JOIN quotes", ["put the join before it in a subquery"]),
        ("SELECT wj_avg(price) FROM trades", ["wj_avg(x) stands for a column of the right side of a WINDOW JOIN"]),
        ("SELECT q.bid FROM trades t WINDOW JOIN quotes q ON q.symbol = t.symbol", ["inside wj_ functions only"]),
        ("SELECT * FROM trades LIMIT -1", ["LIMIT", "negative"]),
        ("SELECT xbar(timestamp, 0) FROM trades", ["The width of xbar must be positive, got 0"]),
        ("SELECT date_trunc('fortnight', timestamp) FROM trades", ["does not know the unit 'fortnight'; allowed: ns"]),
        ("SELECT " + "(" * 300 + "1" + ")" * 300, ["more than 200 levels deep"]),
        ("SELECT 'open", ["the string that begins here is not closed", "(line 1, column 8)"]),
        ('SELECT "open', ["the quoted name that begins here is not closed"]),
        ("SELECT 1\x00", ["holds a NUL character"]),
        ("SELECT * FORM trades", ['near "trades"']),
        ("INSERT INTO trades VALUES (1, 2)", ["2 value(s) for 4 column(s): symbol, price, volume, timestamp"]),
        ("UPDATE trades SET pric = 1", ['no column "pric"', 'Did you mean "price"?']),
        ("", ["The statement is empty"]),
    ],
)
def test_an_error_says_what_where_and_what_to_do(pipeline: Pipeline, statement: str, words: list[str]) -> None:
    result = pipeline.execute(statement)
    assert not result.ok()
    for word in words:
        assert word in result.error
    assert pipeline.execute("SELECT count(*), sum(price) FROM trades").rows == [[2, 30]]


def test_division_by_zero_is_duckdbs(pipeline: Pipeline) -> None:
    assert pipeline.execute("SELECT price / 0, price // 0, price % 0 FROM trades WHERE symbol = 1").rows == [
        [float("inf"), None, None]
    ]


def test_of_several_statements_those_before_the_failing_one_stay_done(pipeline: Pipeline) -> None:
    result = pipeline.execute("CREATE TABLE a (x INT); INSERT INTO a VALUES (1); INSERT INTO a VALUES ('b'); SELECT 1")
    assert not result.ok()
    assert pipeline.execute("SELECT * FROM a").rows == [[1]]
    assert pipeline.execute("INSERT INTO a VALUES (2);; SELECT sum(x) FROM a;").rows == [[3]]


def test_a_number_compared_with_strings_is_to_be_quoted(pipeline: Pipeline) -> None:
    pipeline.execute("CREATE TABLE named (symbol SYMBOL, price BIGINT)").raise_for_error()
    pipeline.execute("INSERT INTO named VALUES ('SPY', 1)").raise_for_error()
    error = pipeline.execute("SELECT * FROM named WHERE symbol = 5").error
    assert error.startswith("'SPY' stands where INT32 is wanted and cannot be read as one. A column of strings")
