"""Views and materialized views: what they answer, what they follow, and what they refuse."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from tests.sql.tick_tables import answer
from zeptodb import Pipeline
from zeptodb.errors import InvalidInputError

SECOND = 1_000_000_000

BARS = (
    "SELECT symbol, xbar(timestamp, INTERVAL '10s') AS bar, first(price) AS open, max(price) AS high, "
    "min(price) AS low, last(price) AS close, sum(volume) AS volume, vwap(price, volume) AS vwap "
    "FROM trades GROUP BY symbol, bar"
)


def _ingest(pipeline: Pipeline, rows: int, *, seed: int, start: int = 0) -> None:
    rng = np.random.default_rng(seed)
    pipeline.ingest_batch(
        rng.integers(1, 4, rows),
        rng.integers(100, 200, rows),
        rng.integers(1, 9, rows),
        (start + rng.integers(0, 60, rows)) * SECOND,
    )


@pytest.fixture
def pipeline() -> Pipeline:
    made = Pipeline(backend="cpu")
    _ingest(made, 500, seed=1)
    return made


def _rows(pipeline: Pipeline, text: str) -> list[list[Any]]:
    return sorted(answer(pipeline, text).rows)


# ---- views ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("SELECT * FROM v", "SELECT symbol, price * 2 AS twice, timestamp FROM trades WHERE price > 150"),
        ("SELECT x.symbol, max(twice) FROM V AS x GROUP BY 1", "SELECT symbol, max(price) * 2 FROM trades GROUP BY 1"),
        (
            "SELECT count(*) FROM trades t JOIN v ON v.symbol = t.symbol AND v.timestamp = t.timestamp",
            "SELECT count(*) FROM trades t JOIN trades u USING (symbol, timestamp) WHERE u.price > 150",
        ),
        ("SELECT max(twice) FROM v WHERE timestamp > '1970-01-01 00:00:30'", "SELECT 398"),
        ("WITH v AS (SELECT 1 AS one) SELECT * FROM v", "SELECT 1"),
        ("WITH v AS (SELECT * FROM v LIMIT 3) SELECT count(*) FROM v", "SELECT 3"),
        ("WITH a AS (SELECT 7 AS x), v AS (SELECT * FROM a) SELECT x FROM v", "SELECT 7"),
        ("SELECT (SELECT max(twice) FROM v)", "SELECT max(price) * 2 FROM trades"),
        ("SELECT * FROM v UNION SELECT * FROM v", "SELECT DISTINCT * FROM v"),
        ("SELECT count(*) FROM v SAMPLE 1", "SELECT count(*) FROM v"),
        ("SELECT a, b FROM renamed", "SELECT symbol, twice FROM v"),
        ("SELECT b, y FROM renamed AS r(x, y)", "SELECT timestamp, twice FROM v"),
    ],
)
def test_a_view_is_its_query(pipeline: Pipeline, text: str, same: str) -> None:
    answer(pipeline, "CREATE VIEW v AS SELECT symbol, price * 2 AS twice, timestamp FROM trades WHERE price > 150")
    answer(pipeline, "CREATE VIEW renamed (a, b) AS SELECT symbol, twice, timestamp AS at FROM v")
    if "renamed AS r" in text:
        answer(pipeline, "CREATE OR REPLACE VIEW renamed (a) AS SELECT symbol, twice, timestamp AS b FROM v")
    assert _rows(pipeline, text) == _rows(pipeline, same)


def test_a_view_follows_its_tables_and_what_it_is_replaced_by(pipeline: Pipeline) -> None:
    answer(pipeline, "CREATE VIEW v AS SELECT count(*) AS n FROM trades")
    assert _rows(pipeline, "SELECT n FROM v") == [[500]]
    _ingest(pipeline, 5, seed=2)
    assert _rows(pipeline, "SELECT n FROM v") == [[505]]
    answer(pipeline, "CREATE OR REPLACE VIEW v AS SELECT 7 AS n")
    assert _rows(pipeline, "SELECT n FROM v") == [[7]]
    answer(pipeline, "CREATE VIEW IF NOT EXISTS v AS SELECT 8 AS n")
    assert _rows(pipeline, "SELECT n FROM v") == [[7]]
    answer(pipeline, "DROP VIEW v")
    assert 'There is no table "v"' in pipeline.execute("SELECT n FROM v").error
    answer(pipeline, "DROP VIEW IF EXISTS v")


def test_a_view_may_hold_tick_words_and_several_statements_may_follow(pipeline: Pipeline) -> None:
    answer(
        pipeline,
        "CREATE VIEW v AS SELECT symbol, ema(price, 5) OVER (PARTITION BY symbol ORDER BY timestamp) AS e "
        "FROM trades SAMPLE 0.5; SELECT 1",
    )
    assert len(answer(pipeline, "SELECT e FROM v").rows) == len(answer(pipeline, "SELECT 1 FROM trades SAMPLE .5").rows)


def test_insert_create_update_and_delete_read_views(pipeline: Pipeline) -> None:
    answer(pipeline, "CREATE VIEW high AS SELECT * FROM trades WHERE price >= 190")
    high = _rows(pipeline, "SELECT symbol, price FROM high")
    answer(pipeline, "CREATE TABLE copied AS SELECT symbol, price FROM high")
    assert _rows(pipeline, "SELECT * FROM copied") == high
    answer(pipeline, "INSERT INTO copied SELECT symbol, price FROM high")
    assert len(answer(pipeline, "SELECT * FROM copied")) == 2 * len(high)
    answer(pipeline, "UPDATE copied SET price = 0 WHERE price = (SELECT max(price) FROM high)")
    answer(pipeline, "DELETE FROM copied WHERE price IN (SELECT price FROM high)")
    assert {row[1] for row in _rows(pipeline, "SELECT * FROM copied")} == {0}


# ---- materialized views ---------------------------------------------------------------------------------------------


def test_a_materialized_bar_view_is_fresh_after_each_append(pipeline: Pipeline) -> None:
    answer(pipeline, f"CREATE MATERIALIZED VIEW bars AS {BARS}")
    for change in (
        lambda: _ingest(pipeline, 50, seed=3, start=60),
        lambda: _ingest(pipeline, 50, seed=4),  # late
        lambda: pipeline.ingest(symbol=1, price=999, volume=1, timestamp=5),
        lambda: pipeline.execute("UPDATE trades SET price = 1000 WHERE price = 999"),
        lambda: pipeline.execute("DELETE FROM trades WHERE symbol = 2"),
        lambda: None,
    ):
        change()
        assert _rows(pipeline, "SELECT * FROM bars") == _rows(pipeline, BARS)
    assert answer(pipeline, "SELECT symbol, max(high) FROM bars GROUP BY symbol").engine.startswith("native")


def test_a_materialized_view_is_computed_once_per_change(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(pipeline, f"CREATE MATERIALIZED VIEW bars AS {BARS}")
    view = pipeline.catalog.get("bars")
    computed = []
    compute = view._compute  # type: ignore[attr-defined]
    monkeypatch.setattr(view, "_compute", lambda: computed.append(1) or compute())
    for _ in range(3):
        answer(pipeline, "SELECT * FROM bars")
    before = len(computed)
    _ingest(pipeline, 5, seed=5)
    for _ in range(3):
        answer(pipeline, "SELECT * FROM bars")
    assert (before, len(computed)) == (1, 2)


def test_materialized_views_may_read_views_and_each_other(pipeline: Pipeline) -> None:
    answer(pipeline, "CREATE VIEW high AS SELECT * FROM trades WHERE price > 150")
    answer(pipeline, "CREATE MATERIALIZED VIEW a AS SELECT symbol, count(*) AS n FROM high GROUP BY symbol")
    answer(pipeline, "CREATE MATERIALIZED VIEW b AS SELECT sum(n) AS n FROM a")
    _ingest(pipeline, 100, seed=6)
    assert _rows(pipeline, "SELECT n FROM b") == _rows(pipeline, "SELECT count(*) FROM trades WHERE price > 150")
    error = pipeline.execute("DROP TABLE trades").error
    assert 'The materialized view "a" reads "trades"; DROP VIEW a first.' in error
    assert 'The materialized view "b" reads "a"' in pipeline.execute("DROP VIEW a").error
    answer(pipeline, "DROP VIEW b; DROP VIEW a; DROP TABLE trades")


def test_a_materialized_view_of_an_empty_table_takes_the_kind_of_symbols_that_come() -> None:
    pipeline = Pipeline(backend="cpu")
    answer(pipeline, "CREATE MATERIALIZED VIEW n AS SELECT symbol, sum(volume) AS v FROM trades GROUP BY symbol")
    assert answer(pipeline, "SELECT * FROM n").rows == []
    pipeline.ingest_batch(["X", "Y"], [1, 2], [3, 4], [5, 6])
    assert _rows(pipeline, "SELECT * FROM n") == [["X", 3], ["Y", 4]]


def test_direct_calls_see_a_fresh_materialized_view(pipeline: Pipeline) -> None:
    answer(pipeline, "CREATE MATERIALIZED VIEW one AS SELECT symbol, price, volume, timestamp FROM trades")
    _ingest(pipeline, 10, seed=7)
    assert pipeline.count(1, table="one") == pipeline.count(1)
    assert "one: 510 rows" in repr(pipeline)
    with pytest.raises(InvalidInputError, match="is a materialized view"):
        pipeline.ingest_batch([1], [2], [3], table_name="one")


def test_readers_see_whole_materialized_rows_while_others_append(pipeline: Pipeline) -> None:
    answer(pipeline, "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS rows, sum(volume) AS v FROM trades")
    seen: list[int] = []

    def read() -> None:
        seen.extend(answer(pipeline, "SELECT rows FROM n").rows[0][0] for _ in range(20))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for seed in range(20):
        _ingest(pipeline, 10, seed=seed)
    for reader in readers:
        reader.join()
    assert all((rows - 500) % 10 == 0 for rows in seen)
    assert answer(pipeline, "SELECT rows FROM n").rows == [[700]]


# ---- the catalog, errors --------------------------------------------------------------------------------------------


def test_views_are_listed_and_described(pipeline: Pipeline) -> None:
    answer(pipeline, "CREATE VIEW v AS SELECT symbol, timestamp AS at, price / 2 AS half FROM trades")
    answer(pipeline, f"CREATE MATERIALIZED VIEW bars AS {BARS}")
    assert answer(pipeline, "SHOW TABLES").rows == [["trades", 500], ["bars", 18], ["v", None]]
    assert answer(pipeline, "DESCRIBE v").rows == [["symbol", "INT64"], ["at", "TIMESTAMP_NS"], ["half", "FLOAT64"]]
    assert answer(pipeline, "DESCRIBE bars").rows[:2] == [["symbol", "INT64"], ["bar", "TIMESTAMP_NS"]]
    kinds = answer(pipeline, "SELECT table_name, table_type FROM information_schema.tables t ORDER BY 1").rows
    assert kinds == [["bars", "VIEW"], ["trades", "BASE TABLE"], ["v", "VIEW"]]
    columns = answer(
        pipeline, "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'v'"
    ).rows
    assert columns == [["symbol", "BIGINT"], ["at", "TIMESTAMP_NS"], ["half", "DOUBLE"]]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE VIEW v AS SELECT 1", '"v" is a view already; DROP VIEW it first or write CREATE OR REPLACE VIEW'),
        ("CREATE VIEW trades AS SELECT 1", 'Table "trades" exists already'),
        ("CREATE TABLE v (a INT)", '"v" is a view already'),
        ("CREATE VIEW w AS SELECT * FROM nosuch", 'There is no table "nosuch"'),
        ("CREATE VIEW w AS SELECT pric FROM trades", 'Did you mean "price"'),
        ("CREATE VIEW w AS SELECT ? + 1", "without parameters"),
        ("CREATE VIEW w (a, b) AS SELECT 1", "names 2 columns, its query has 1"),
        ("CREATE VIEW w", "CREATE VIEW w needs AS and a query"),
        ("CREATE OR REPLACE VIEW v AS SELECT * FROM v", 'View "v" cannot read itself'),
        ("CREATE OR REPLACE VIEW v AS SELECT * FROM w2", 'View "v" cannot read itself'),
        ("INSERT INTO v VALUES (1)", '"v" is a view; change the tables it reads. (line 1, column 13)'),
        ("UPDATE m SET n = 1", '"m" is a view; change the tables it reads'),
        ("DELETE FROM m", '"m" is a view'),
        ("ALTER TABLE v ADD COLUMN a INT", '"v" is a view'),
        ("DROP TABLE v", '"v" is a view'),
        ("DROP VIEW trades", '"trades" is a table; DROP TABLE it. (line 1, column 11)'),
        ("DROP VIEW w", 'There is no view "w". Did you mean "w2"? Known: v, w2, m'),
    ],
)
def test_what_views_cannot_do_is_said(pipeline: Pipeline, statement: str, message: str) -> None:
    answer(pipeline, "CREATE VIEW v AS SELECT 1 AS n")
    answer(pipeline, "CREATE VIEW w2 AS SELECT * FROM v")
    answer(pipeline, "CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM trades")
    names = pipeline.catalog.names()
    assert message in pipeline.execute(statement, [1] if "?" in statement else None).error
    assert pipeline.catalog.names() == names
    assert _rows(pipeline, "SELECT n FROM w2") == [[1]]
