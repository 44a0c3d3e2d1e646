"""No text, however long, deep or broken, raises out of execute, hangs, or keeps the next statement from its answer."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.sql.statements_to_compare import Generator
from zeptodb.pipeline import Pipeline
from zeptodb.sql.limits import MAX_CHAIN, MAX_DEPTH, MAX_LEXEMES

FUZZED_STATEMENTS = 500
SLOWEST_CPU_SECONDS = 1.0
"""An answer within a second; processor time, so that a busy machine does not fail the test."""


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with Pipeline() as made:
        made.ingest_batch(np.arange(40) % 3, np.arange(40) + 1, np.arange(40) % 7, np.arange(40) * 10)
        made.execute("SELECT count(*) AS n FROM trades WHERE price > 1")
        made.execute("SELECT median(price) AS m FROM trades")  # opens DuckDB
        yield made


def answer(pipeline: Pipeline, sql: str) -> str:
    """The error of a statement, "" for none; raises nothing and takes no longer than it may."""
    started = time.thread_time()
    result = pipeline.execute(sql)
    assert time.thread_time() - started < SLOWEST_CPU_SECONDS
    assert result.ok() is (result.error == "")
    return result.error


NESTED = {
    "brackets": lambda n: f"SELECT {'(' * n}price{')' * n} AS x FROM trades",
    "calls": lambda n: f"SELECT {'abs(' * n}price{')' * n} AS x FROM trades",
    "cases": lambda n: f"SELECT {'CASE WHEN price > 1 THEN ' * n}1{' END' * n} AS x FROM trades",
    "negations": lambda n: f"SELECT price FROM trades WHERE {'NOT ' * n}price > 1",
    "signs": lambda n: f"SELECT {'- ' * n}price AS x FROM trades",
    "subqueries": lambda n: f"SELECT * FROM {'(SELECT * FROM ' * n}trades{')' * n}",
    "ctes": lambda n: f"{'WITH a AS (' * n}SELECT 1 AS x{') SELECT * FROM a' * n}",
}


@pytest.mark.parametrize("form", NESTED)
@pytest.mark.parametrize("levels", [21, 60, MAX_DEPTH - 5])
def test_statements_within_the_limit_of_depth_are_answered(pipeline: Pipeline, form: str, levels: int) -> None:
    result = pipeline.execute(NESTED[form](levels))
    assert result.ok(), result.error


@pytest.mark.parametrize("form", NESTED)
@pytest.mark.parametrize("levels", [MAX_DEPTH + 5, 3_000, 100_000])
def test_deeper_statements_are_refused(pipeline: Pipeline, form: str, levels: int) -> None:
    error = answer(pipeline, NESTED[form](levels))
    assert "levels deep" in error or "bytes" in error


LONG = {
    "megabyte of letters": "a" * 1_000_000,
    "megabyte of brackets": "(" * 1_000_000,
    "megabyte of ANDs": "SELECT price FROM trades WHERE " + " AND ".join(["price > 1"] * 90_000),
    "long OR": "SELECT median(price) FROM trades WHERE " + " OR ".join(["price = 1"] * 15_000),
    "long sum": "SELECT " + "+".join(["1"] * 60_000) + " AS x",
    "long list": f"SELECT count(*) FROM trades WHERE price IN ({', '.join(map(str, range(35_000)))})",
    "commas": "SELECT " + "," * 250_000,
    "unions": "SELECT 1" + " UNION ALL SELECT 1" * 12_000,
    "joins": "SELECT * FROM trades " + " JOIN trades USING (symbol)" * 5_000,
    "casts": "SELECT 1" + "::int" * 30_000,
    "dots": "SELECT a" + ".a" * 100_000,
    "subscripts": "SELECT a" + "[1]" * 60_000,
    "words": "SELECT " * 30_000,
    "statements": "SELECT 1;" * 25_000,
    "quotes": "'" * 250_001,
    "dollars": "$a$" * 80_001,
    "backticks": "`" * 200_000,
}


@pytest.mark.parametrize("form", LONG)
def test_long_statements_are_refused_at_once(pipeline: Pipeline, form: str) -> None:
    assert answer(pipeline, LONG[form])


GARBAGE = ["SELECT \0 1", "SELECT '\ud800'", "\x01\x02\xff%%%$$$@@@", "", " \n\t", ";;;", "SELECT '"]


@pytest.mark.parametrize("sql", GARBAGE)
def test_garbage_is_an_error(pipeline: Pipeline, sql: str) -> None:
    assert answer(pipeline, sql)


def test_long_lists_go_through_parameters(pipeline: Pipeline) -> None:
    wanted = list(range(MAX_LEXEMES))
    result = pipeline.execute("SELECT count(*) AS n FROM trades WHERE price IN $wanted", {"wanted": wanted})
    assert result.rows == [[40]]


def test_a_chain_within_the_limit_is_answered(pipeline: Pipeline) -> None:
    chain = " AND ".join(["price > 1"] * 900)
    assert chain.count(" ") + 1 < MAX_CHAIN
    assert pipeline.execute(f"SELECT count(*) AS n FROM trades WHERE {chain}").rows == [[39]]
    assert pipeline.execute(f"SELECT median(price) AS n FROM trades WHERE {chain}").ok()


def mutated(chance: random.Random, sql: str, others: list[str]) -> str:
    """The statement with a few characters or words lost, doubled, exchanged, or foreign."""
    for _ in range(chance.randint(1, 4)):
        place, end = sorted(chance.randint(0, len(sql)) for _ in range(2))
        other = chance.choice(others)
        part = chance.choice(
            [
                "", chr(chance.randint(1, 0x2FF)), chance.choice("()[]{}'\"`;,.*-+/\\$?:%@#!~|&<>="), sql[place:end],
                chance.choice(["NULL", "SELECT", "FROM", "1e400", "-9223372036854775809", "CASE", "OVER (", "\0", "é"]),
                other[: chance.randint(0, len(other))],
            ]
        )  # fmt: skip
        sql = sql[:place] + part + sql[min(len(sql), place + chance.randint(0, 3)) :]
    return sql[:4_000]


def test_mutated_statements_answer_or_fail_cleanly(pipeline: Pipeline) -> None:
    chance, generator = random.Random(20_240), Generator(3)
    others = [
        "INSERT INTO trades VALUES (1, 2, 3, 4)", "EXPLAIN SELECT 1", "DESCRIBE trades", "SHOW TABLES",
        "WITH a AS (SELECT 1 AS x) SELECT * FROM a", "SELECT $a, $1, ?",
        "SELECT * FROM trades t ASOF JOIN trades q USING (symbol, timestamp)",
        "SELECT ema(price, 3) OVER (PARTITION BY symbol ORDER BY timestamp) FROM trades",
    ]  # fmt: skip
    for _ in range(FUZZED_STATEMENTS):
        statement = generator.statement().sql if chance.random() < 0.7 else chance.choice(others)
        sql = mutated(chance, statement, others)
        answer(pipeline, sql)
    assert pipeline.execute("SELECT min(price) AS low FROM trades WHERE timestamp < 400").rows == [[1]]
