"""Window functions by symbol run natively, with the names, types and values of DuckDB; others say why they do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.sql.slow_backend import SlowBackend
from tests.sql.statements_to_compare import Statement
from tests.sql.tables_to_compare import make_host
from tests.sql.test_native_equals_duckdb import compare
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.pipeline import Pipeline
from zeptodb.sql import QueryExecutor

OVER = "OVER (PARTITION BY symbol ORDER BY timestamp)"

NATIVE = [
    f"SELECT symbol, timestamp, price, ema(price, 5) {OVER} AS e FROM trades",
    f"SELECT ema(price, 5) {OVER}, volume * 2, ema(volume * 2, 0.3) {OVER} FROM trades ORDER BY symbol, timestamp",
    f"SELECT *, ema(price, 9) {OVER} - ema(price, 3) {OVER} AS d, d * 2 AS twice FROM ticks",
    f"SELECT ema(price, 1) {OVER} AS e, ema(ratio, 2.5) {OVER} AS r, ema(size, 3) {OVER} AS s FROM ticks",
    "SELECT symbol, ema(amount, 7) OVER (PARTITION BY symbol) AS e FROM ticks WHERE symbol = 'IBM' AND amount > 3",
    f"SELECT bid, ema(bid, 4) {OVER} AS e FROM quotes WHERE depth IS NOT NULL AND bid < 20 ORDER BY e DESC, 1",
    "SELECT ema(price, 5) OVER w AS a, ema(volume, 5) OVER w AS b FROM trades WINDOW w AS (PARTITION BY symbol)",
    f"SELECT t.symbol, ema(t.price, 5) {OVER} AS e FROM trades t WHERE t.symbol IN (1, 3) ORDER BY symbol, timestamp",
]

FRAME = "OVER (PARTITION BY symbol ORDER BY timestamp ROWS BETWEEN {} PRECEDING AND CURRENT ROW)"
CALLS = ("count(*)", "count({})", "sum({})", "avg({})", "min({})", "max({})", "stddev({})", "var_pop({})",
         "stddev_pop({})", "variance({})", "stddev_samp({})", "var_samp({})")  # fmt: skip
COLUMNS = {
    "trades": ("price", "volume"),
    "ticks": ("price", "amount", "size", "ratio"),
    "quotes": ("bid",),
}
NATIVE += [
    f"SELECT {', '.join(call.format(column) + ' ' + FRAME.format(rows) for call in CALLS)} FROM {table}"
    for table, columns in COLUMNS.items()
    for column in columns
    for rows in ("0", "3", "UNBOUNDED")
]
NATIVE += [
    f"SELECT symbol, avg(price) {FRAME.format(4)} AS a FROM ticks WHERE size > 1 ORDER BY a NULLS FIRST, 1 LIMIT 7",
    f"SELECT min(timestamp) {FRAME.format(4)}, sum(timestamp) {FRAME.format(2)} AS s FROM ticks",
    "SELECT sum(bid) OVER (PARTITION BY symbol ORDER BY timestamp ROWS 4 PRECEDING) FROM quotes",
    "SELECT sum(amount) OVER (PARTITION BY symbol ROWS CURRENT ROW) + 1 AS a, symbol FROM ticks",
    f"SELECT price / avg(price) {FRAME.format(5)} - 1 AS a, max(price * 2) {FRAME.format(1)} AS b FROM trades",
]

NOT_NATIVE = {
    "SELECT ema(price, 5) OVER (ORDER BY timestamp) AS e FROM trades": "PARTITION BY the symbol only",
    "SELECT ema(price, 5) OVER (PARTITION BY symbol, volume ORDER BY timestamp) AS e FROM trades": "PARTITION BY",
    "SELECT ema(price, 5) OVER (PARTITION BY symbol ORDER BY timestamp DESC) AS e FROM trades": "ORDER BY the time",
    "SELECT ema(price, 5) OVER (PARTITION BY symbol ORDER BY volume) AS e FROM trades": "ORDER BY the time only",
    f"SELECT rank() {OVER} AS r FROM trades": "rank OVER has no native form",
    f"SELECT ema(is_open, 3) {OVER} AS e FROM ticks": "of BOOLEAN has no native form",
    f"SELECT ema(price, 5) {OVER} AS e FROM trades QUALIFY e > 3": "QUALIFY has no native form",
    f"SELECT sum(price) {OVER} AS s FROM trades": "frames are native as ROWS",
    f"SELECT sum(price) {FRAME.format(3).replace('CURRENT ROW', '1 FOLLOWING')} AS s FROM trades": "frames are native",
    f"SELECT sum(DISTINCT price) {FRAME.format(3)} AS s FROM trades": "DISTINCT has no native form",
    f"SELECT min(side) {FRAME.format(3)} AS s FROM ticks": "of VARCHAR has no native form",
    f"SELECT sum(price) FILTER (WHERE price > 3) {FRAME.format(3)} AS s FROM trades": "OVER has no native form",
}


@pytest.fixture(scope="module", params=["slow", "cpu"])
def host(request: pytest.FixtureRequest) -> Any:
    backend = SlowBackend(AnonymousMemory()) if request.param == "slow" else CpuBackend(threads=2)
    return make_host(backend, 300, 8)


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    with Pipeline(backend="cpu") as made:
        made.ingest_batch([1, 1, 2, 1, 2], [100, 101, 50, 103, 51], [1, 2, 3, 4, 5], [10, 20, 30, 40, 50])
        yield made


@pytest.mark.parametrize("sql", NATIVE)
def test_windows_by_symbol_are_native_and_equal_the_fallback(host: Any, sql: str) -> None:
    is_ordered = "ORDER BY symbol, timestamp" in sql.replace(OVER, "")
    assert compare(host, Statement(sql, is_ordered=is_ordered, is_plain=False))


@pytest.mark.parametrize(("sql", "reason"), NOT_NATIVE.items())
def test_other_windows_run_in_duckdb_and_say_why(host: Any, sql: str, reason: str) -> None:
    result = QueryExecutor(host).execute(sql)
    assert result.ok(), result.error
    assert "native:" not in result.engine
    assert reason in result.plan


def test_an_alias_of_a_window_means_nothing_in_where(pipeline: Pipeline) -> None:
    result = pipeline.execute(f"SELECT ema(price, 3) {OVER} AS e FROM trades WHERE e > 100")
    assert not result.ok()


def test_limit_takes_the_first_rows_and_windows_see_all_before(pipeline: Pipeline) -> None:
    sql = f"SELECT symbol, ema(price, 3) {OVER} AS e FROM trades ORDER BY symbol, timestamp LIMIT 2 OFFSET 2"
    result = pipeline.execute(sql)
    assert result.engine == "native:cpu"
    assert result.rows == [[1, 101.75], [2, 50.0]]


def test_the_plan_names_functions_and_rows(pipeline: Pipeline) -> None:
    sql = f"SELECT symbol, ema(price, 3) {OVER} AS e FROM trades WHERE symbol = 1"
    lines = [row[0] for row in pipeline.execute(f"EXPLAIN {sql}").rows]
    assert lines == [
        "engine: native:cpu",
        "windows by symbol ema(price) with alpha 0.5",
        "select symbol",
        "scan trades: symbols 1 by lookup",
    ]


def test_windows_in_a_subquery_are_a_native_part(pipeline: Pipeline) -> None:
    result = pipeline.execute(f"SELECT max(e) AS m FROM (SELECT ema(price, 3) {OVER} AS e FROM trades) t")
    assert result.engine == "native:cpu+duckdb"
    assert result.rows == [[101.75]]


def test_repeated_statements_with_other_literals_share_a_plan(pipeline: Pipeline) -> None:
    for symbol, length, expected in ((1, 3, 101.75), (2, 3, 50.5), (1, 1, 103.0)):
        sql = f"SELECT ema(price, {length}) {OVER} AS e FROM trades WHERE symbol = {symbol} ORDER BY timestamp"
        assert pipeline.execute(sql).rows[-1] == [expected]
