"""The executor: errors as results, parameters, plan cache, EXPLAIN, parallel switches."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zeptodb
from tests.sql.slow_backend import SlowBackend
from tests.sql.tables_to_compare import START_NS, make_host
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.errors import InvalidInputError
from zeptodb.sql import QueryExecutor
from zeptodb.types import TRADES


@pytest.fixture(scope="module")
def host() -> Any:
    return make_host(SlowBackend(AnonymousMemory()), 60, 3)


@pytest.fixture
def executor(host: Any) -> QueryExecutor:
    return QueryExecutor(host)


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT pric FROM trades", r'no column "pric".*Did you mean "price".*line 1, column 8'),
        ("SELECT * FROM trdes", r'no table "trdes".*Did you mean "trades".*line 1, column 15'),
        ("SELECT price FROM trades WHERE sum(price) > 1", "aggregates"),
        ("SELECT nosuch(price) FROM trades", "nosuch"),
        ("SELECT * FROM trades LIMIT -1", "negative"),
        ("SELECT symbol FROM trades ORDER BY 3", "ORDER"),
        ("SELECT symbol, count(*) FROM trades", "GROUP BY"),
        ("", "empty"),
        ("1 + 1", "expression, not a statement"),
        ("SELECT ?", "parameter"),
        ("SELECT vwap(price) FROM trades", "vwap"),
    ],
)
def test_bad_sql_is_a_result_with_an_error(sql: str, error: str, executor: QueryExecutor) -> None:
    result = executor.execute(sql)
    assert not result.ok()
    assert re.search(error, result.error, re.DOTALL | re.IGNORECASE), result.error


@given(st.text(max_size=80))
def test_no_text_raises(host: Any, text: str) -> None:
    QueryExecutor(host).execute(text)


@pytest.mark.parametrize(
    ("begin", "end"), [("(", ")"), ("(SELECT ", ")"), ("CASE WHEN true THEN ", " END"), ("- ", "")]
)
def test_deep_statements_run(begin: str, end: str, executor: QueryExecutor) -> None:
    result = executor.execute("SELECT " + begin * 150 + "1" + end * 150 + " AS x")
    assert result.rows == [[1]], result.error


@pytest.mark.parametrize("link", [" AND price = 1", " OR price = 1", " + 1 > price", "::INT > price"])
def test_long_chains_are_answers_or_errors(link: str, executor: QueryExecutor) -> None:
    executor.execute("SELECT count(*) FROM trades WHERE price = 1" + link * 3_000)


def test_no_mutated_statement_raises(executor: QueryExecutor) -> None:
    rng = random.Random(7)
    sql = (
        "SELECT symbol, sum(price * volume) AS s FROM trades WHERE price > 1.5 AND symbol IN (1, 2) GROUP BY 1 LIMIT 5"
    )
    words = [*sql.split(), "(", ")", "'", "NOT", "JOIN", "ASOF", ";", "--", "NULL", "xbar(timestamp, 0)", "?", "CASE"]
    for _ in range(150):
        parts = sql.split()
        for _ in range(rng.randint(1, 4)):
            parts[rng.randrange(len(parts))] = rng.choice(words)
        executor.execute(" ".join(parts))


def test_parameters_are_values(executor: QueryExecutor) -> None:
    want = executor.execute("SELECT price FROM trades WHERE symbol = 1 AND price > 3 ORDER BY 1")
    by_place = executor.execute("SELECT price FROM trades WHERE symbol = ? AND price > ? ORDER BY 1", [1, 3])
    by_name = executor.execute(
        "SELECT price FROM trades WHERE symbol IN $s AND price > $p ORDER BY 1", {"p": np.int64(3), "s": [1]}
    )
    assert want.rows == by_place.rows == by_name.rows
    assert by_place.engine == by_name.engine == "native:slow"


def test_a_parameter_is_never_sql(executor: QueryExecutor) -> None:
    result = executor.execute("SELECT count(*) FROM ticks WHERE symbol = ?", ["x' OR 'a' = 'a"])
    assert result.rows == [[0]]
    assert result.engine == "native:slow"


def test_parameters_of_one_text_do_not_share_a_plan(executor: QueryExecutor) -> None:
    sql = "SELECT count(*) FROM trades WHERE symbol = ?"
    assert executor.execute(sql, [1]).rows != executor.execute(sql, [99]).rows


def test_several_statements_return_the_last_result(executor: QueryExecutor) -> None:
    assert executor.execute("SELECT 1; SELECT count(*) AS n FROM trades;").column_names == ["n"]


def test_a_repeated_statement_sees_new_rows_and_a_settled_symbol_type() -> None:
    host = make_host(SlowBackend(AnonymousMemory()), 0, 1)
    host.catalog.drop("trades")
    host.catalog.create("trades", TRADES)
    executor = QueryExecutor(host)
    sql = "SELECT symbol, sum(volume) FROM trades GROUP BY symbol"
    assert executor.execute(sql).rows == []
    for volume in (5, 7):
        host.append("trades", {"symbol": ["IBM"], "price": [1], "volume": [volume], "timestamp": [START_NS]})
        result = executor.execute(sql)
    assert result.rows == [["IBM", 12]]
    assert result.engine == "native:slow"


def test_explain_does_not_run_and_names_engine_and_reasons(executor: QueryExecutor) -> None:
    native = executor.execute("EXPLAIN SELECT vwap(price, volume) FROM trades WHERE symbol = 1 AND timestamp > 5")
    assert native.engine == "none"
    moment = "1970-01-01 00:00:00.000000006"
    assert native.rows == [
        ["engine: native:slow"],
        ["aggregate vwap(price, volume)"],
        [f"scan trades: symbols 1 by lookup; time from {moment} to before the end by binary search"],
    ]
    other = executor.execute("EXPLAIN SELECT median(price) FROM trades")
    assert other.rows == [
        ["engine: duckdb"],
        ["not native: function median has no native form (line 1, column 16)"],
        ["duckdb reads trades: columns price"],
    ]


def test_explain_analyze_runs(executor: QueryExecutor) -> None:
    rows = [line for (line,) in executor.execute("EXPLAIN ANALYZE SELECT price FROM trades").rows]
    assert rows[0] == "engine: native:slow"
    assert rows[-2:] == ["rows scanned: 60", "rows returned: 60"]


def test_arithmetic_overflow_is_duckdbs_error(executor: QueryExecutor) -> None:
    result = executor.execute("SELECT price * 9223372036854775807 AS x FROM trades")
    assert "verflow" in result.error


def test_parallel_switches_reach_the_backend(host: Any, executor: QueryExecutor) -> None:
    executor.enable_parallel(num_threads=8, row_threshold=5)
    assert host.backend.threads == (8, 5)
    executor.disable_parallel()
    assert host.backend.threads[0] == 1
    with pytest.raises(InvalidInputError, match="num_threads"):
        executor.enable_parallel(num_threads=0)


def test_timestamps_come_as_integers_or_datetimes(executor: QueryExecutor) -> None:
    sql = "SELECT max(timestamp) AS t FROM trades"
    assert isinstance(executor.execute(sql).rows[0][0], int)
    assert str(executor.execute(sql, timestamps="datetime").to_arrow().schema.types[0]) == "timestamp[ns, tz=UTC]"


def test_the_last_rows_of_one_symbol_are_read_alone(executor: QueryExecutor) -> None:
    result = executor.execute("SELECT timestamp FROM trades WHERE symbol = 1 ORDER BY timestamp DESC LIMIT 2")
    every = executor.execute("SELECT timestamp FROM trades WHERE symbol = 1").rows
    assert result.rows == sorted(every, reverse=True)[:2]
    assert result.rows_scanned == 2


def test_sums_beyond_int64_are_exact() -> None:
    host = make_host(SlowBackend(AnonymousMemory()), 0, 1)
    big = 2**62
    data = {"symbol": [1] * 4, "price": [big] * 4, "volume": [1] * 4, "timestamp": [START_NS] * 4}
    host.append("trades", data)
    result = QueryExecutor(host).execute(
        "SELECT sum(price) AS s, sum(price) * 3 - 1 AS t, -sum(price) // 3 AS u FROM trades"
    )
    assert result.rows == [[4 * big, 12 * big - 1, -(4 * big // 3)]]
    assert result.engine == "native:slow"


@pytest.mark.parametrize("names", [[7, -3, 5, 900, 0], ["MSFT", "AAPL", "TSLA", "GOOG", "IBM"]])
def test_groups_of_symbols_come_in_the_order_of_symbols_whichever_arrived_first(names: list[Any]) -> None:
    with zeptodb.Pipeline() as pipeline:
        kind = "BIGINT" if names[0] == 7 else "STRING"
        pipeline.execute(f"CREATE TABLE t (symbol {kind}, price BIGINT, ts TIMESTAMP)")
        pipeline.append("t", {"symbol": names, "price": [1, 2, 3, 4, 5], "ts": [1, 2, 3, 4, 5]})
        every = pipeline.execute("SELECT symbol, sum(price), first(price) FROM t GROUP BY symbol").rows
        prices = dict(zip(names, range(1, 6), strict=True))
        assert every == [[name, prices[name], prices[name]] for name in sorted(names)]
        some = pipeline.execute("SELECT symbol, max(price) FROM t WHERE price != 3 GROUP BY symbol").rows
        assert some == [[name, prices[name]] for name in sorted(names) if prices[name] != 3]
