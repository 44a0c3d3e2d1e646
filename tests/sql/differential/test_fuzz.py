"""Mutated statements of every kind: no exception leaves execute, none takes a second, and the tables stay usable."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.sql.differential.statements import Generator
from tests.sql.differential.tables import random_host
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.sql import QueryExecutor

SLOWEST_CPU_SECONDS = 1.0
TIMEOUT_SECONDS = 1.0
CHANGES = (
    "INSERT INTO fills VALUES (1, 1700000000000000000, 2, 3)", "DELETE FROM ticks WHERE size > 3 AND side = 'B'",
    "UPDATE quotes SET bid = bid + 1, depth = NULL WHERE symbol = 'AIG'", "CREATE TABLE made AS SELECT * FROM fills",
    "CREATE TABLE other (symbol SYMBOL, timestamp TIMESTAMP_NS, x FLOAT64)", "DROP TABLE IF EXISTS made",
    "INSERT INTO quotes SELECT * FROM quotes WHERE depth > 3", "SHOW TABLES", "DESCRIBE ticks", "SUMMARIZE ticks",
    "EXPLAIN ANALYZE SELECT symbol, max(price) FROM ticks GROUP BY symbol", "SELECT 1; SELECT $a, ?, $1; SELECT 2",
    "SELECT ema(price, 3) OVER (PARTITION BY symbol ORDER BY timestamp), delta(price) OVER () FROM ticks",
    "SELECT * FROM ticks t ASOF JOIN quotes q USING (symbol, timestamp) PIVOT (max(bid) FOR side IN ('B', 'S'))",
    "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 5) SELECT * FROM n, ticks",
    "SELECT date_trunc('week', timestamp), epoch_ms(timestamp), timestamp > now() - INTERVAL '5m' FROM ticks",
    "SELECT list(price ORDER BY size), struct_pack(a := 1), [1, 2][1], {'a': 1}.a, x -> x + 1 FROM ticks",
    "SELECT * FROM ticks AJ0 JOIN quotes USING (symbol, timestamp) WHERE bid > 1", "SELECT * FROM ticks SAMPLE 0.5",
    (
        "SELECT t.symbol, wj_avg(q.bid) AS b, wj_count(q.bid) AS n FROM ticks t WINDOW JOIN quotes q "
        "ON t.symbol = q.symbol AND q.timestamp BETWEEN t.timestamp - 60000000000 AND t.timestamp + INTERVAL '1 minute'"
    ),
    "SELECT * FROM fills UNION JOIN quotes", "CREATE VIEW seen AS SELECT symbol, price FROM ticks",
    "SELECT * FROM seen",
    (
        "SELECT * FROM (SELECT symbol, sum(size) AS v FROM ticks GROUP BY symbol) a PLUS JOIN "
        "(SELECT symbol, sum(depth) AS v FROM quotes GROUP BY symbol) b USING (symbol)"
    ),
    (
        "CREATE MATERIALIZED VIEW bars AS SELECT symbol, xbar(timestamp, 60000000000) AS bar, last(price) AS p "
        "FROM ticks GROUP BY symbol, bar"
    ),
    "SELECT * FROM bars WHERE bar > '2023-01-01'", "DROP VIEW IF EXISTS seen",
    "ALTER TABLE fills ADD COLUMN note STRING",
    "ALTER TABLE ticks SET TTL 30 DAYS", "ALTER TABLE fills DROP COLUMN note",
    "SELECT symbol, ema(price, 3) OVER (PARTITION BY symbol ORDER BY timestamp) AS e, delta(size) OVER () FROM ticks",
    "SELECT unnest(range(3)), row_number() OVER w FROM fills WINDOW w AS (ORDER BY price ROWS 3 PRECEDING)",
)  # fmt: skip
WORDS = (
    "NULL", "SELECT", "FROM", "1e400", "-9223372036854775809", "CASE", "OVER (", "\0", "é", "JOIN", "ASOF", "AJ0 JOIN",
    "WINDOW JOIN", "UNION JOIN", "SAMPLE 0.5", "LIMIT -1", "GROUP BY ALL", "QUALIFY", "LATERAL", "xbar(timestamp, 0)",
    "WITH r AS (", "INTERVAL '1 month'", "::TIMESTAMP_NS", "'\ud800'", "/*", "--", "$$", "e'\\", "\U0001f600",
    "9" * 400,
)  # fmt: skip


TOKEN = re.compile(r"\w+|\s+|'[^']*'|[<>=!]+|.", re.DOTALL)
EXCHANGED = (
    ("symbol", "timestamp", "price", "size", "big", "ratio", "side", "is_open", "bid", "depth", "volume", "c0", "c9"),
    ("ticks", "quotes", "fills", "r", "nothing", "information_schema.tables"),
    ("sum", "avg", "min", "max", "first", "last", "stddev", "median", "count", "vwap", "abs", "xbar", "ln", "nix"),
    ("=", "<", "<=", ">", ">=", "<>", "+", "-", "*", "/", "//", "%", "||", "AND", "OR", "IN", "LIKE", "IS", "::"),
    ("0", "1", "-1", "1e0", "NULL", "true", "'x'", "''", "9223372036854775807", "now()", "INTERVAL '5m'", "$a"),
    ("ASC", "DESC", "NULLS FIRST", "LIMIT 1", "OFFSET 2", "DISTINCT", "ALL", "FILTER (WHERE true)", "OVER ()"),
    ("JOIN", "LEFT JOIN", "ASOF JOIN", "CROSS JOIN", "FULL JOIN", "UNION", "UNION ALL", "EXCEPT", ",", "NATURAL JOIN"),
)  # fmt: skip


def mutated(chance: random.Random, sql: str, others: list[str]) -> str:
    """The statement with a few words exchanged for like ones, or characters lost, doubled, exchanged, or foreign."""
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        change = exchanged if chance.random() < 0.7 else cut
        sql = change(chance, sql, others)
    return sql[:6_000]


def exchanged(chance: random.Random, sql: str, others: list[str]) -> str:
    """A word for another of its kind, or two words for each other, or one lost or doubled."""
    tokens = TOKEN.findall(sql) or [""]
    place = chance.randrange(len(tokens))
    kinds = [kind for kind in EXCHANGED if tokens[place] in kind]
    known = [i for i, token in enumerate(tokens) if any(token in kind for kind in EXCHANGED)]
    if not kinds and known and chance.random() < 0.8:
        place = chance.choice(known)
        kinds = [kind for kind in EXCHANGED if tokens[place] in kind]
    draw = chance.random()
    if kinds and draw < 0.7:
        tokens[place] = chance.choice(kinds[0])
    elif draw < 0.8:
        other = chance.randrange(len(tokens))
        tokens[place], tokens[other] = tokens[other], tokens[place]
    elif draw < 0.9:
        tokens[place] = chance.choice(["", tokens[place] * 2, f"({tokens[place]})", f"{tokens[place]} {tokens[place]}"])
    else:
        tokens.insert(place, f" {chance.choice(chance.choice(EXCHANGED))} ")
    return "".join(tokens)


def cut(chance: random.Random, sql: str, others: list[str]) -> str:
    """Characters lost, doubled or foreign."""
    place, end = sorted(chance.randint(0, len(sql)) for _ in range(2))
    other = chance.choice(others)
    begin = chance.randint(0, len(other))
    part = chance.choice(
        [
            "", chr(chance.randint(1, 0x2FF)), chance.choice("()[]{}'\"`;,.*-+/\\$?:%@#!~|&<>="), sql[place:end],
            f" {chance.choice(WORDS)} ", other[begin : begin + chance.randint(0, 40)], f"({other})",
        ]
    )  # fmt: skip
    return sql[:place] + part + sql[min(len(sql), place + chance.randint(0, 8)) :]


def test_mutated_statements_answer_or_fail_cleanly(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    wanted, first_seed = request.config.getoption("mutations"), request.config.getoption("statement_seed")
    backend: Any = CpuBackend(threads=2)
    chance = random.Random(first_seed)
    host = random_host(first_seed, 40, backend)
    executor, generator = QueryExecutor(host), Generator(chance)
    executor.execute("SELECT median(price) AS m FROM ticks")  # opens DuckDB
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for _ in range(wanted):
        statement = generator.statement().ours if chance.random() < 0.7 else chance.choice(CHANGES)
        others = [*CHANGES, generator.statement().ours]
        sql = mutated(chance, statement, others)
        if not {"ticks", "quotes", "fills"} <= set(host.catalog.names()):
            host = random_host(first_seed, 40, backend)
            executor = QueryExecutor(host)
        started = time.thread_time()
        result = executor.execute(sql, timeout=TIMEOUT_SECONDS)
        took = time.thread_time() - started
        assert took < SLOWEST_CPU_SECONDS, sql
        assert result.ok() is (result.error == "")
        assert result.error_type is None or "cannot be run" not in result.error, f"{sql!r}\n{result.error}"
        slowest = max(slowest, took)
        outcomes[result.engine or "error"] += 1
    summary = f"{wanted:,} mutated statements, slowest {slowest * 1e3:,.0f} ms of processor time: {dict(outcomes)}"
    record_property("fuzz", summary)
    assert executor.execute("SELECT count(*) AS n FROM fills").ok()
