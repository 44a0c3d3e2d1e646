"""Which rows DuckDB is handed: of every type, of any number of symbols, and no more than the statement can see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.sql.fallback_host import MIXED, Host, host_with_trades
from zeptodb.types import TRADES

MINUTE = 60_000_000_000


@pytest.fixture(scope="module")
def host() -> Host:
    return host_with_trades(2_000, symbols=5)


def test_every_type_and_null_arrives_in_duckdb() -> None:
    data: dict[str, Any] = {
        "name": ["AIG", "IBM", "AIG", "BAC"],
        "timestamp": [3, 2, 1, -5],
        "size": pa.array([1, None, 3, -4], pa.int32()),
        "price": [1.5, None, float("inf"), -0.0],
        "ratio": pa.array([0.5, None, 2.5, 3.5], pa.float32()),
        "side": ["buy", None, "s'ell", ""],
        "is_open": [True, None, False, True],
    }
    host = Host()
    host.create("ticks", MIXED, data)
    columns = ", ".join(data)
    assert host.run(f"SELECT {columns} FROM ticks").table.schema.types == [
        pa.string(),
        pa.int64(),
        pa.int32(),
        pa.float64(),
        pa.float32(),
        pa.string(),
        pa.bool_(),
    ]
    assert host.rows(f"SELECT {columns} FROM ticks ORDER BY timestamp") == host.oracle_rows(
        f"SELECT {columns} FROM ticks ORDER BY timestamp"
    )
    assert host.rows("SELECT name, side FROM ticks WHERE side = 'buy' OR side LIKE 's''%'") == [
        ["AIG", "s'ell"],
        ["AIG", "buy"],
    ]


def test_long_segments_with_nulls_are_scanned_in_place() -> None:
    rows = 30_000
    rng = np.random.default_rng(5)
    present = rng.random(rows) > 0.1
    host = Host()
    host.create(
        "ticks",
        MIXED,
        {
            "name": np.array(["A", "B"])[rng.integers(0, 2, rows)].tolist(),
            "timestamp": rng.permutation(rows),
            "size": pa.array(rng.integers(0, 9, rows), pa.int32(), mask=~present),
            "price": pa.array(rng.normal(0, 1, rows), mask=~present),
            "ratio": pa.array(rng.random(rows).astype(np.float32)),
            "side": pa.array(np.array(["x", "y", "zz"])[rng.integers(0, 3, rows)], mask=~present),
            "is_open": pa.array(rng.random(rows) > 0.5, mask=~present),
        },
    )
    text = (
        "SELECT name, side, is_open, count(*), count(size), sum(size), max(price), min(timestamp) FROM ticks "
        "WHERE timestamp BETWEEN 777 AND 25000 GROUP BY ALL ORDER BY ALL"
    )
    assert host.rows(text) == host.oracle_rows(text)


def test_a_hundred_thousand_symbols_of_a_few_rows() -> None:
    rows, symbols = 60_000, 20_000
    host = Host()
    rng = np.random.default_rng(6)
    host.create(
        "trades",
        TRADES,
        {
            "symbol": rng.integers(0, symbols, rows),
            "price": rng.integers(0, 99, rows),
            "volume": rng.integers(0, 99, rows),
            "timestamp": rng.integers(0, 99, rows),
        },
    )
    text = (
        "SELECT symbol, sum(price * volume), count(*) FROM trades WHERE timestamp > 10 GROUP BY symbol ORDER BY symbol"
    )
    assert host.rows(text) == host.oracle_rows(text)


def test_an_empty_table_answers_like_an_empty_table() -> None:
    host = Host()
    host.catalog.create("trades", TRADES)
    assert host.rows("SELECT * FROM trades ORDER BY price") == []
    assert host.rows("SELECT count(*), sum(price), first(price), vwap(price, volume) FROM trades") == [
        [0, None, None, None]
    ]


def test_timestamp_columns_are_known_by_their_origin(host: Host) -> None:
    text = (
        "SELECT symbol, max(timestamp), xbar(timestamp, 60), timestamp - lag(timestamp) OVER (PARTITION BY symbol), "
        "timestamp + INTERVAL '1h', coalesce(timestamp, 0), price FROM trades GROUP BY symbol, timestamp, price"
    )
    assert host.run(text).timestamp_columns == {1, 2, 4, 5}
    outer = (
        "SELECT a.*, b.t FROM (SELECT symbol, timestamp FROM trades) a JOIN (SELECT symbol, "
        "min(timestamp) AS t FROM trades GROUP BY 1) b USING (symbol)"
    )
    assert host.run(outer).timestamp_columns == {1, 2}


def test_only_what_the_where_clause_lets_through_is_registered(host: Host) -> None:
    exact = (
        "SELECT count(*) FROM trades WHERE symbol = 3 AND timestamp >= 1700000500000000000 AND "
        "timestamp < '2023-11-14 22:30'"
    )
    answer = host.run(exact)
    assert (
        answer.table.column(0)[0].as_py()
        == answer.rows_scanned
        == host.oracle_rows(
            "SELECT count(*) FROM trades WHERE symbol = 3 AND timestamp >= 1700000500000000000 AND "
            "timestamp < 1700001000000000000"
        )[0][0]
    )
    assert host.run("SELECT * FROM trades WHERE symbol = 77").rows_scanned == 0
    assert host.run("SELECT * FROM trades WHERE symbol = 1 OR price = 5").rows_scanned == 2_000


@pytest.mark.parametrize(
    "text",
    [
        (
            "SELECT count(*) FROM trades t LEFT JOIN trades u ON t.timestamp = u.timestamp AND u.symbol "
            "= 2 WHERE t.symbol = 1"
        ),
        "SELECT count(*) FROM trades t FULL JOIN trades u ON t.timestamp = u.timestamp WHERE u.symbol = 2",
        "SELECT count(*) FROM trades t RIGHT JOIN trades u USING (symbol, timestamp) WHERE symbol = 2",
        "SELECT count(*) FROM trades t POSITIONAL JOIN trades u WHERE u.symbol = 2",
        "SELECT count(*) FROM trades WHERE symbol IN (1, 2) AND symbol IN (2, 3) AND NOT symbol = 2",
        "SELECT count(*) FROM trades WHERE symbol = 2 AND symbol IN (SELECT symbol FROM trades WHERE symbol < 4)",
        "SELECT (SELECT count(*) FROM trades WHERE symbol = 1) + count(*) FROM trades WHERE 2 = symbol",
        "SELECT count(*) FROM trades WHERE timestamp > 1700000900000000000 AND 1700000300000000000 > timestamp",
        "SELECT count(*) FROM trades WHERE timestamp IN (1700000000000000000, 1700000010000000000)",
        (
            "SELECT symbol FROM trades WHERE symbol = '3' AND timestamp > -9223372036854775808 AND "
            "timestamp <= 9223372036854775807"
        ),
    ],
)
def test_pruning_never_changes_an_answer(host: Host, text: str) -> None:
    if "POSITIONAL" in text:
        expected = 2_000 if host.rows("SELECT count(*) FROM trades WHERE symbol = 2")[0][0] else 0
        assert host.rows(text)[0][0] < expected
        assert host.run(text).rows_scanned == 2_000
        return
    assert sorted(host.rows(text)) == sorted(host.oracle_rows(text))


def test_now_is_one_moment_per_statement_and_prunes(host: Host) -> None:
    text = "SELECT count(*) FROM trades WHERE timestamp > now() - INTERVAL '5 minutes' AND timestamp <= now()"
    at = 1_700_000_600_000_000_000
    answer = host.run(text, at_ns=at)
    expected = host.oracle_rows(
        f"SELECT count(*) FROM trades WHERE timestamp > {at - 5 * MINUTE} AND timestamp <= {at}"
    )
    assert answer.table.column(0).to_pylist() == expected[0]
    assert answer.rows_scanned == expected[0][0]
