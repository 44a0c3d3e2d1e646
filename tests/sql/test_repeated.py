"""A statement that is asked again sees what has changed meanwhile, however it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

import zeptodb
from zeptodb.sql import QueryExecutor

Row = tuple[int, int, int, int]
STATEMENTS = [
    "SELECT count(*) AS n, sum(volume) AS v FROM trades WHERE symbol = 1",
    "SELECT count(*) AS n, sum(volume) AS v FROM trades WHERE symbol = 1 AND price > 12",
    "SELECT count(*) AS n, sum(volume) AS v FROM trades WHERE price > 12 AND volume < 60",
    "SELECT count(*) AS n, sum(volume) AS v FROM trades WHERE timestamp BETWEEN 15 AND 45",
    "SELECT count(*) AS n, sum(volume) AS v FROM trades WHERE symbol IN (1, 3) AND NOT price = 12",
]
FURTHER = [
    "SELECT first(price) AS f, last(price) AS l, vwap(price, volume) AS w FROM trades WHERE symbol = 1",
    "SELECT symbol, max(price) AS m FROM trades GROUP BY symbol ORDER BY symbol",
    "SELECT xbar(timestamp, 20) AS b, last(price) AS c FROM trades WHERE symbol = 1 GROUP BY b ORDER BY b",
    "SELECT price FROM trades WHERE symbol = 1 ORDER BY timestamp DESC LIMIT 2",
    "SELECT price, timestamp FROM trades WHERE price > 11 ORDER BY price DESC, timestamp LIMIT 3",
    "SELECT price FROM trades WHERE symbol = 1 AND timestamp >= 20 LIMIT 3",
]
CONDITIONS: list[Callable[[Row], bool]] = [
    lambda r: r[0] == 1,
    lambda r: r[0] == 1 and r[1] > 12,
    lambda r: r[1] > 12 and r[2] < 60,
    lambda r: 15 <= r[3] <= 45,
    lambda r: r[0] in (1, 3) and r[1] != 12,
]


@dataclass
class Model:
    """The rows in plain Python, beside the pipeline."""

    pipeline: zeptodb.Pipeline
    rows: list[Row] = field(default_factory=list)

    def add(self, *rows: Row) -> None:
        self.pipeline.ingest_batch(*zip(*rows, strict=True))
        self.rows += rows

    def run(self, sql: str) -> None:
        self.pipeline.execute(sql).raise_for_error()

    def check(self) -> None:
        for sql, condition in zip(STATEMENTS, CONDITIONS, strict=True):
            chosen = [row for row in self.rows if condition(row)]
            answer = self.pipeline.execute(sql).raise_for_error()
            assert answer.rows == [[len(chosen), sum(row[2] for row in chosen) if chosen else None]], sql
            assert answer.engine.startswith("native"), sql
        for sql in STATEMENTS + FURTHER:
            kept, planned_now = self.pipeline.execute(sql), QueryExecutor(self.pipeline).execute(sql)
            assert (kept.error, kept.rows, kept.engine) == (planned_now.error, planned_now.rows, planned_now.engine)


@pytest.fixture
def model() -> Model:
    model = Model(zeptodb.Pipeline(backend="cpu"))
    model.add((1, 11, 50, 10), (2, 12, 60, 20), (1, 13, 70, 30))
    model.check()
    return model


def test_appended_rows(model: Model) -> None:
    for price in range(10, 16):
        model.add((1, price, price, 40 + price))
        model.check()


def test_new_symbols(model: Model) -> None:
    for symbol in range(3, 9):
        model.add((symbol, 14, 5, 30))
        model.check()


def test_late_rows(model: Model) -> None:
    for timestamp in (25, 5, 15, 1):
        model.add((1, 14, timestamp, timestamp))
        model.check()


def test_single_ticks(model: Model) -> None:
    model.pipeline.ingest(symbol=1, price=20, volume=30, timestamp=50)
    model.rows.append((1, 20, 30, 50))
    model.check()


def test_update_and_delete(model: Model) -> None:
    model.run("UPDATE trades SET volume = 1 WHERE price = 13")
    model.rows[2] = (1, 13, 1, 30)
    model.check()
    model.run("DELETE FROM trades WHERE symbol = 2")
    del model.rows[1]
    model.check()


def test_a_table_made_anew_under_the_same_name(model: Model) -> None:
    model.run("DROP TABLE trades")
    assert "trades" in model.pipeline.execute(STATEMENTS[0]).error
    model.run("CREATE TABLE trades (symbol SYMBOL, price BIGINT, volume BIGINT, timestamp TIMESTAMP_NS)")
    model.rows = []
    model.check()
    model.add((3, 12, 9, 40))
    model.check()


def test_a_table_made_anew_with_other_columns(model: Model) -> None:
    model.run("DROP TABLE trades")
    model.run("CREATE TABLE trades (timestamp TIMESTAMP_NS, price DOUBLE, volume BIGINT, symbol SYMBOL)")
    model.run("INSERT INTO trades VALUES (10, 12.5, 7, 1), (20, 11.5, 8, 1)")
    for sql, rows in zip(STATEMENTS[:4], ([[2, 15]], [[1, 7]], [[1, 7]], [[1, 8]]), strict=True):
        assert model.pipeline.execute(sql).raise_for_error().rows == rows


def test_the_first_rows_settle_what_symbols_are() -> None:
    pipeline = zeptodb.Pipeline(backend="cpu")
    sql = "SELECT count(*) AS n FROM trades WHERE symbol = {}"
    for literal in ("1", "'IBM'", "1"):
        assert pipeline.execute(sql.format(literal)).rows == [[0]]
    pipeline.ingest_batch(["IBM", "AIG"], [1, 2], [3, 4], [5, 6])
    assert pipeline.execute(sql.format("'IBM'")).rows == [[1]]
    assert pipeline.execute(sql.format("'none'")).rows == [[0]]
    number, planned_now = pipeline.execute(sql.format("1")), QueryExecutor(pipeline).execute(sql.format("1"))
    assert (number.rows, number.error) == (planned_now.rows, planned_now.error)


def test_strings_that_come_later(model: Model) -> None:
    pipeline = model.pipeline
    pipeline.append("ticks", {"symbol": ["A", "B"], "venue": ["x", "y"], "timestamp": [1, 2]})
    sql = "SELECT count(*) AS n FROM ticks WHERE venue = '{}'"
    assert [pipeline.execute(sql.format(venue)).rows for venue in ("x", "z", "x")] == [[[1]], [[0]], [[1]]]
    pipeline.append("ticks", {"symbol": ["A"], "venue": ["z"], "timestamp": [3]})
    assert [pipeline.execute(sql.format(venue)).rows for venue in ("x", "z", "none")] == [[[1]], [[1]], [[0]]]


def test_nulls_that_come_later(model: Model) -> None:
    pipeline = model.pipeline
    pipeline.append("ticks", {"symbol": [1, 1], "bid": [10, 20], "timestamp": [1, 2]})
    sql = "SELECT count(bid) AS n, sum(bid) AS s, last(bid) AS l FROM ticks WHERE symbol = 1 AND timestamp > {}"
    assert pipeline.execute(sql.format(0)).rows == [[2, 30, 20]]
    pipeline.append("ticks", {"symbol": [1], "bid": [None], "timestamp": [3]})
    assert pipeline.execute(sql.format(0)).rows == [[2, 30, None]]
    assert pipeline.execute(sql.format(1)).rows == [[1, 20, None]]
