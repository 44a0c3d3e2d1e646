"""Statements end when their time is over, when they are cancelled from another thread, and when they want too much."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pytest

from zeptodb.config import PipelineConfig
from zeptodb.errors import (
    AlreadyExistsError,
    InvalidInputError,
    InvalidTypeError,
    MemoryLimitError,
    QueryCancelledError,
    QueryTimeoutError,
)
from zeptodb.pipeline import Pipeline
from zeptodb.sql.result import QueryResult
from zeptodb.sql.running import RunningQuery

ROWS = 3_000_000
ENDLESS = "SELECT count(*) AS n FROM trades a, trades b, trades c WHERE a.price + b.price + c.price = 7"
ENDLESS_WRITES = {
    "insert": "INSERT INTO trades SELECT a.symbol, a.price, a.volume, a.timestamp FROM trades a, trades b, trades c",
    "delete": "DELETE FROM trades WHERE price > (SELECT count(*) FROM trades a, trades b, trades c WHERE a.price > 0)",
    "update": "UPDATE trades SET price = (SELECT count(*) FROM trades a, trades b, trades c WHERE a.price > 0)",
}
LONG_NATIVE = (
    "SELECT symbol, stddev(price * 1e0) AS s, stddev(volume * 1e0) AS v FROM trades WHERE price > 3 GROUP BY 1"
)
SOON_SECONDS = 0.1
FAR_SECONDS = 10.0


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    rng = np.random.default_rng(1)
    with Pipeline() as made:
        made.ingest_batch(
            rng.integers(0, 10, ROWS), rng.integers(1, 1_000, ROWS), rng.integers(1, 100, ROWS), np.arange(ROWS)
        )
        made.warm_up()
        yield made


class Background:
    """Runs a statement in a thread of its own."""

    def __init__(self, pipeline: Pipeline, sql: str, *, query_id: str | None = None, repeat: bool = False) -> None:
        self._future: Future[QueryResult] = Future()
        self._pipeline, self._sql, self._query_id, self._repeat = pipeline, sql, query_id, repeat
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            result = self._pipeline.execute(self._sql, query_id=self._query_id)
            if not (self._repeat and result.ok()):
                break
        self._future.set_result(result)

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> QueryResult:
        answer = self._future.result(FAR_SECONDS)
        self._thread.join()
        return answer


def running_now(pipeline: Pipeline) -> RunningQuery:
    """Wait until a statement runs."""
    until = time.monotonic() + FAR_SECONDS
    while time.monotonic() < until:
        for query in pipeline.running_queries():
            return query
    raise AssertionError("no statement runs")


def assert_works(pipeline: Pipeline) -> None:
    assert pipeline.execute("SELECT count(*) AS n FROM trades").rows == [[ROWS]]
    assert pipeline.execute("SELECT median(symbol) >= 0 AS m, count(*) AS n FROM trades").rows == [[True, ROWS]]
    assert pipeline.running_queries() == ()


def test_a_statement_in_duckdb_ends_at_its_timeout(pipeline: Pipeline) -> None:
    began = time.monotonic()
    result = pipeline.execute(ENDLESS, timeout=SOON_SECONDS)
    assert SOON_SECONDS <= time.monotonic() - began < FAR_SECONDS
    assert result.error == "The statement ran longer than its timeout of 0.1 s."
    assert result.error_type is QueryTimeoutError
    with pytest.raises(TimeoutError, match="timeout"):
        result.raise_for_error()
    assert_works(pipeline)


def test_a_native_statement_ends_at_its_timeout(pipeline: Pipeline) -> None:
    assert pipeline.execute(LONG_NATIVE, timeout=FAR_SECONDS).engine == "native:cpu"
    assert pipeline.execute(LONG_NATIVE, timeout=1e-4).error_type is QueryTimeoutError
    assert_works(pipeline)


def test_a_timeout_counts_for_all_statements_of_a_text(pipeline: Pipeline) -> None:
    assert pipeline.execute(f"SELECT 1; {ENDLESS}; SELECT 2", timeout=SOON_SECONDS).error_type is QueryTimeoutError


@pytest.mark.parametrize("query_id", [None, "mine", "7"])
def test_a_statement_in_duckdb_is_cancelled_from_another_thread(pipeline: Pipeline, query_id: str | None) -> None:
    statement = Background(pipeline, ENDLESS, query_id=query_id)
    found = running_now(pipeline)
    assert found.text == ENDLESS
    assert found.elapsed >= 0
    assert abs(found.started + found.elapsed - time.time()) < FAR_SECONDS
    assert found.query_id == query_id or (query_id is None and found.query_id.isdecimal())
    assert pipeline.cancel(found.query_id)
    result = statement.result()
    assert result.error == "The statement was cancelled."
    assert result.error_type is QueryCancelledError
    assert not pipeline.cancel(found.query_id)
    assert_works(pipeline)


def test_a_native_statement_is_cancelled_from_another_thread(pipeline: Pipeline) -> None:
    statement = Background(pipeline, LONG_NATIVE, query_id="long", repeat=True)
    while not statement.done():
        pipeline.cancel("long")
    assert statement.result().error_type is QueryCancelledError
    assert_works(pipeline)


def test_of_two_statements_one_is_cancelled(pipeline: Pipeline) -> None:
    ends, stays = Background(pipeline, ENDLESS, query_id="a"), Background(pipeline, ENDLESS, query_id="b")
    while not pipeline.cancel("a"):
        pass
    assert ends.result().error_type is QueryCancelledError
    while not pipeline.cancel("b"):
        pass
    assert stays.result().error_type is QueryCancelledError


@pytest.mark.parametrize("name", ENDLESS_WRITES)
def test_a_change_that_ends_early_changes_nothing(pipeline: Pipeline, name: str) -> None:
    before = pipeline.execute("SELECT sum(price) AS s FROM trades").rows
    assert pipeline.execute(ENDLESS_WRITES[name], timeout=SOON_SECONDS).error_type is QueryTimeoutError
    assert pipeline.execute("SELECT sum(price) AS s FROM trades").rows == before
    assert_works(pipeline)


def test_an_id_is_used_once_at_a_time(pipeline: Pipeline) -> None:
    statement = Background(pipeline, ENDLESS, query_id="one")
    running_now(pipeline)
    with pytest.raises(AlreadyExistsError, match='query_id "one" runs already'):
        pipeline.execute("SELECT 1", query_id="one")
    pipeline.cancel("one")
    statement.result()
    assert pipeline.execute("SELECT 1 AS one", query_id="one").rows == [[1]]


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_positive(pipeline: Pipeline, timeout: float) -> None:
    with pytest.raises(InvalidInputError, match="give seconds as a positive number"):
        pipeline.execute("SELECT 1", timeout=timeout)


@pytest.mark.parametrize("timeout", ["1", True])
def test_a_timeout_is_a_number(pipeline: Pipeline, timeout: object) -> None:
    with pytest.raises(InvalidTypeError, match="give seconds as a positive number"):
        pipeline.execute("SELECT 1", timeout=timeout)  # type: ignore[arg-type]


def test_an_endless_timeout_is_none(pipeline: Pipeline) -> None:
    assert pipeline.execute("SELECT median(1) AS m", timeout=float("inf")).rows == [[1.0]]


LIMIT_BYTES = 32 * 1024 * 1024
WIDE_NATIVE = {
    "rows": "SELECT * FROM trades",
    "filtered rows": "SELECT * FROM trades WHERE price > 3",
    "sorted rows": "SELECT * FROM trades ORDER BY price",
    "joined rows": "SELECT a.price, b.price FROM trades a ASOF JOIN trades b ON a.symbol = b.symbol "
    "AND a.timestamp >= b.timestamp",
}


@pytest.fixture(scope="module")
def limited() -> Iterator[Pipeline]:
    rng = np.random.default_rng(1)
    with Pipeline(PipelineConfig(memory_limit=LIMIT_BYTES)) as made:
        made.ingest_batch(
            rng.integers(0, 10, ROWS), rng.integers(1, 1_000, ROWS), rng.integers(1, 100, ROWS), np.arange(ROWS)
        )
        yield made


@pytest.mark.parametrize("name", WIDE_NATIVE)
def test_native_operators_hold_the_memory_limit(limited: Pipeline, name: str) -> None:
    result = limited.execute(WIDE_NATIVE[name])
    assert result.error_type is MemoryLimitError
    assert "more than the memory_limit of 33,554,432 bytes" in result.error
    with pytest.raises(MemoryError):
        result.raise_for_error()
    assert limited.execute("SELECT min(price) >= 0 AS m, count(*) AS n FROM trades, range(1)").rows == [[True, ROWS]]


def test_statements_within_the_memory_limit_run_however_many_they_are(limited: Pipeline) -> None:
    for _ in range(3):
        assert len(limited.execute("SELECT * FROM trades LIMIT 500000")) == 500_000


def test_duckdb_holds_the_memory_limit(limited: Pipeline) -> None:
    result = limited.execute("SELECT list(price) AS p, list(volume) AS v, list(timestamp) AS t FROM trades")
    assert result.error_type is MemoryLimitError
    assert "memory_limit" in result.error
    assert limited.execute("SELECT min(price) >= 0 AS m, count(*) AS n FROM trades, range(1)").rows == [[True, ROWS]]
