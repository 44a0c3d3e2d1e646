"""ALTER TABLE: columns, names, time to live, attributes; all of a statement or nothing."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from tests.sql.tick_tables import answer
from zeptodb import Pipeline

HOUR = 3_600_000_000_000


@pytest.fixture
def pipeline() -> Pipeline:
    made = Pipeline(backend="cpu")
    answer(made, "CREATE TABLE t (symbol SYMBOL, timestamp TIMESTAMP, price FLOAT64, side STRING)")
    answer(made, "INSERT INTO t VALUES ('A', 2, 1.5, 'buy'), ('B', 1, 2.5, NULL), ('A', 1, NULL, 'sell')")
    return made


def _rows(pipeline: Pipeline, text: str) -> list[list[Any]]:
    return answer(pipeline, text).rows


def test_an_added_column_is_null_and_can_be_filled(pipeline: Pipeline) -> None:
    answer(pipeline, "ALTER TABLE t ADD COLUMN venue VARCHAR")
    answer(pipeline, "ALTER TABLE t ADD COLUMN size INT64")
    assert _rows(pipeline, "SELECT * FROM t ORDER BY symbol, timestamp") == [
        ["A", 1, None, "sell", None, None],
        ["A", 2, 1.5, "buy", None, None],
        ["B", 1, 2.5, None, None, None],
    ]
    answer(pipeline, "UPDATE t SET venue = 'X', size = 7 WHERE symbol = 'B'")
    answer(pipeline, "INSERT INTO t (symbol, timestamp, size) VALUES ('C', 3, 9)")
    assert _rows(pipeline, "SELECT symbol, venue, sum(size) FROM t GROUP BY ALL ORDER BY symbol") == [
        ["A", None, None],
        ["B", "X", 7],
        ["C", None, 9],
    ]
    answer(pipeline, "ALTER TABLE t ADD COLUMN IF NOT EXISTS size INT64")
    assert answer(pipeline, "SELECT sum(size) FROM t").engine.startswith("native")


def test_trades_with_an_added_column_take_ticks_and_batches() -> None:
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest(symbol=1, price=2, volume=3, timestamp=1)
    answer(pipeline, "ALTER TABLE trades ADD COLUMN venue STRING")
    pipeline.ingest(symbol=1, price=3, volume=3, timestamp=2)
    pipeline.ingest_batch([1], [4], [3], [3])
    answer(pipeline, "INSERT INTO trades VALUES (1, 5, 3, 4), (1, 6, 3, 5)")
    answer(pipeline, "INSERT INTO trades VALUES (1, 7, 3, 6, 'X')")
    answer(pipeline, "INSERT INTO trades VALUES (2, 7, 3)")
    rows = _rows(pipeline, "SELECT price, venue FROM trades WHERE symbol = 1 ORDER BY timestamp")
    assert rows == [[2, None], [3, None], [4, None], [5, None], [6, None], [7, "X"]]
    assert pipeline.vwap(symbol=1) == 4.5


def test_columns_are_dropped_and_renamed_with_their_values(pipeline: Pipeline) -> None:
    answer(pipeline, "ALTER TABLE t RENAME COLUMN price TO paid")
    answer(pipeline, "ALTER TABLE t RENAME side TO way")
    assert _rows(pipeline, "SELECT symbol, paid, way FROM t ORDER BY 1, timestamp DESC")[0] == ["A", 1.5, "buy"]
    answer(pipeline, "ALTER TABLE t DROP COLUMN paid")
    assert answer(pipeline, "SELECT * FROM t").column_names == ["symbol", "timestamp", "way"]
    answer(pipeline, "ALTER TABLE t DROP COLUMN IF EXISTS paid")
    answer(pipeline, "ALTER TABLE t RENAME COLUMN timestamp TO at")
    schema = pipeline.catalog.get("t").schema
    assert (schema.symbol, schema.timestamp) == ("symbol", "at")
    assert _rows(pipeline, "SELECT way FROM t WHERE symbol = 'A' AND at >= 2") == [["buy"]]


def test_a_renamed_table_is_the_same_table(pipeline: Pipeline) -> None:
    before = _rows(pipeline, "SELECT * FROM t ORDER BY ALL")
    assert len(_rows(pipeline, "SELECT price FROM t")) == 3  # its plan is kept
    answer(pipeline, "ALTER TABLE t RENAME TO u")
    assert _rows(pipeline, "SELECT * FROM u ORDER BY ALL") == before
    assert 'There is no table "t"' in pipeline.execute("SELECT price FROM t").error
    answer(pipeline, "CREATE TABLE t (a INT)")
    assert 'Table "U" exists already' in pipeline.execute("ALTER TABLE t RENAME TO U").error


def test_readers_and_writers_go_on_while_columns_come_and_go(pipeline: Pipeline) -> None:
    failures: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            result = pipeline.execute("SELECT symbol, count(*), max(timestamp) FROM t GROUP BY symbol")
            failures.extend([result.error] if not result.ok() else [])

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(20):
        answer(pipeline, f"ALTER TABLE t ADD COLUMN c{i} INT64")
        pipeline.append("t", {"symbol": ["A"], "timestamp": [i], f"c{i}": [i]})
        answer(pipeline, f"ALTER TABLE t DROP COLUMN c{i}")
    done.set()
    reader.join()
    assert failures == []
    assert answer(pipeline, "SELECT count(*) FROM t").rows == [[23]]


# ---- SET TTL --------------------------------------------------------------------------------------------------------


def test_rows_older_than_the_time_to_live_go_at_once_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(backend="cpu")
    now = time.time_ns()
    hours = np.arange(100)
    pipeline.ingest_batch(hours % 2, hours, hours + 1, now - hours * HOUR)
    answer(pipeline, "ALTER TABLE trades SET TTL 50 HOURS")
    assert _rows(pipeline, "SELECT count(*), max(price) FROM trades") == [[50, 49]]
    assert pipeline.count(0) == 25
    later = now + 20 * HOUR
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert _rows(pipeline, "SELECT max(price) FROM trades") == [[30]]  # exactly as old as rows may be
    answer(pipeline, "ALTER TABLE trades SET TTL NONE")
    later += 1_000 * HOUR
    assert _rows(pipeline, "SELECT count(*) FROM trades") == [[31]]


@pytest.mark.parametrize("length", ["30 DAYS", "'30 days'", "INTERVAL '30 days'", "INTERVAL 30 DAYS", "720 h"])
def test_the_time_to_live_is_an_interval(pipeline: Pipeline, length: str) -> None:
    answer(pipeline, f"ALTER TABLE t SET TTL {length}")
    assert pipeline.catalog.get("t").ttl_ns == 720 * HOUR


# ---- SET ATTRIBUTE --------------------------------------------------------------------------------------------------


def test_attributes_are_verified_and_described(pipeline: Pipeline) -> None:
    assert answer(pipeline, "DESCRIBE t").column_names == ["column", "type"]
    answer(pipeline, "ALTER TABLE t SET ATTRIBUTE timestamp SORTED")
    answer(pipeline, "ALTER TABLE t SET ATTRIBUTE symbol parted")
    assert _rows(pipeline, "DESCRIBE t") == [
        ["symbol", "STRING", "PARTED"],
        ["timestamp", "TIMESTAMP_NS", "SORTED"],
        ["price", "FLOAT64", ""],
        ["side", "STRING", ""],
    ]
    answer(pipeline, "ALTER TABLE t SET ATTRIBUTE symbol GROUPED")
    assert _rows(pipeline, "DESCRIBE t")[0][2] == "GROUPED"


def test_sorted_is_said_as_long_as_it_is_true(pipeline: Pipeline) -> None:
    error = pipeline.execute("ALTER TABLE t SET ATTRIBUTE price SORTED").error
    assert 'Column "price" of table "t" is not SORTED' in error
    answer(pipeline, "DELETE FROM t WHERE price IS NULL")
    answer(pipeline, "ALTER TABLE t SET ATTRIBUTE price SORTED")
    answer(pipeline, "INSERT INTO t VALUES ('A', 3, 7.5, 'buy'), ('A', 4, NULL, 'buy'), ('B', 0, 2.5, 'a')")
    assert _rows(pipeline, "DESCRIBE t")[2][2] == "SORTED"
    answer(pipeline, "INSERT INTO t VALUES ('A', 3, 1.0, 'buy')")
    assert _rows(pipeline, "DESCRIBE t")[2][2] == ""


def test_strings_are_sorted_as_strings(pipeline: Pipeline) -> None:
    answer(pipeline, "DELETE FROM t; INSERT INTO t VALUES ('A', 1, 1, 'z'), ('A', 2, 1, 'a')")
    assert not pipeline.execute("ALTER TABLE t SET ATTRIBUTE side SORTED").ok()
    answer(pipeline, "UPDATE t SET side = 'zz' WHERE side = 'a'")
    answer(pipeline, "ALTER TABLE t SET ATTRIBUTE side SORTED")


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("ALTER TABLE nosuch ADD COLUMN a INT", 'There is no table "nosuch"'),
        ("ALTER TABLE t ADD COLUMN price INT", 'Table "t" has a column "price" already'),
        ("ALTER TABLE t ADD COLUMN a DECIMAL(3,1)", "allowed: INT64/BIGINT"),
        ("ALTER TABLE t ADD COLUMN a INT NOT NULL", "leave NOT NULL out"),
        ("ALTER TABLE t ADD COLUMN a INT DEFAULT 5", "not supported"),
        ("ALTER TABLE t DROP COLUMN pric", 'Did you mean "price"'),
        ("ALTER TABLE t DROP COLUMN symbol", "what the rows are parted or ordered by and cannot be dropped"),
        ("ALTER TABLE t DROP COLUMN timestamp", "cannot be dropped"),
        ("ALTER TABLE t RENAME COLUMN pric TO x", 'Did you mean "price"'),
        ("ALTER TABLE t RENAME COLUMN price TO side", 'Table "t" has a column "side" already'),
        ("ALTER TABLE t RENAME TO trades", 'Table "trades" exists already'),
        ("ALTER TABLE trades RENAME TO x", "is the default table of every ingest call and keeps its name"),
        ("ALTER TABLE trades DROP COLUMN volume", "one that every tick has and cannot be dropped"),
        ("ALTER TABLE trades RENAME COLUMN price TO p", "one that every tick has and cannot be renamed"),
        ("ALTER TABLE t SET TTL soon", "SET TTL takes a length of time such as 30 DAYS or 12 HOURS, or NONE; got soon"),
        ("ALTER TABLE t SET TTL", "SET TTL takes a length of time"),
        ("ALTER TABLE t SET TTL 1 MONTH", "SET TTL takes a length of time"),
        ("ALTER TABLE one SET TTL 1 DAY", 'Table "one" has no timestamp column'),
        ("ALTER TABLE t SET ATTRIBUTE price GROUPED", "cannot be GROUPED or PARTED: the symbol column is both"),
        ("ALTER TABLE t SET ATTRIBUTE price HASHED", "SET ATTRIBUTE takes SORTED, GROUPED or PARTED, got HASHED"),
        ("ALTER TABLE t SET ATTRIBUTE pric SORTED", 'Did you mean "price"'),
        ("ALTER TABLE one DROP COLUMN a", "is the only column"),
    ],
)
def test_an_alter_that_fails_changes_nothing(pipeline: Pipeline, statement: str, message: str) -> None:
    answer(pipeline, "CREATE TABLE one (a INT)")
    before = [answer(pipeline, f"DESCRIBE {name}").rows for name in ("t", "one", "trades")]
    assert message in pipeline.execute(statement).error
    assert [answer(pipeline, f"DESCRIBE {name}").rows for name in ("t", "one", "trades")] == before
    assert len(_rows(pipeline, "SELECT * FROM t")) == 3
