"""How statements are rewritten for DuckDB: pairs of SQL that a reviewer can read, and arithmetic against Python."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sql.fallback_host import Host, host_with_trades
from zeptodb.types import TRADES

NOW = 1_700_000_000_123_456_789


@pytest.fixture(scope="module")
def host() -> Host:
    return host_with_trades(30)


@pytest.mark.parametrize(
    ("written", "run"),
    [
        ("SELECT price FROM trades", "SELECT price FROM trades"),
        (
            "SELECT price FROM trades WHERE timestamp > '2024-01-01'",
            "SELECT price FROM trades WHERE timestamp > 1704067200000000000",
        ),
        (
            "SELECT price FROM trades WHERE timestamp >= TIMESTAMP '2024-01-01 00:00:00.000000001' - INTERVAL '1h30m'",
            "SELECT price FROM trades WHERE timestamp >= 1704061800000000001",
        ),
        (
            "SELECT price FROM trades WHERE timestamp BETWEEN '2024-01-01' AND DATE '2024-01-02'",
            "SELECT price FROM trades WHERE timestamp BETWEEN 1704067200000000000 AND 1704153600000000000",
        ),
        (
            "SELECT price FROM trades WHERE timestamp > now() - INTERVAL '5 minutes'",
            f"SELECT price FROM trades WHERE timestamp > {NOW - 300_000_000_000}",
        ),
        (
            "SELECT price FROM trades WHERE timestamp < date_trunc('day', now()) AND symbol = 1",
            f"SELECT price FROM trades WHERE timestamp < {NOW - NOW % 86_400_000_000_000} AND symbol = 1",
        ),
        (
            "SELECT price FROM trades t WHERE now() - t.timestamp < INTERVAL 2 DAYS",
            f"SELECT price FROM trades AS t WHERE {NOW} - t.timestamp < 172800000000000",
        ),
        (
            "SELECT timestamp + INTERVAL 500 milliseconds AS t FROM trades",
            "SELECT timestamp + 500000000 AS t FROM trades",
        ),
        (
            "SELECT first(price) AS f FROM trades",
            'SELECT FIRST(price ORDER BY "trades"."timestamp", "trades"."__row_0") AS f FROM trades',
        ),
        (
            "SELECT first(price ORDER BY volume) AS f, xbar(price, 5) AS x FROM trades GROUP BY price",
            "SELECT FIRST(price ORDER BY volume) AS f, (price - ((price % 5) + 5) % 5) AS x FROM trades GROUP BY price",
        ),
        (
            "SELECT * FROM trades ORDER BY price",
            'SELECT * EXCLUDE ("__row_0") FROM trades ORDER BY price, "trades"."__row_0"',
        ),
        (
            "SELECT t.*, delta(t.price) OVER (PARTITION BY symbol ORDER BY timestamp) AS d FROM trades t",
            (
                'SELECT t.* EXCLUDE ("__row_0"), (t.price - LAG(t.price) OVER (PARTITION BY symbol ORDER BY timestamp, '
                '"t"."__row_0")) AS d FROM trades AS t'
            ),
        ),
        (
            "SELECT percentile(price, 12.5) AS p FROM trades WHERE price LIKE '1%'",
            "SELECT QUANTILE_CONT(price, 0.125) AS p FROM trades WHERE CAST(price AS TEXT) LIKE '1%'",
        ),
        (
            (
                "SELECT count(*) AS c FROM trades a JOIN trades b USING (symbol) WHERE a.symbol = 1 AND "
                "xbar(b.price, 2) = 4"
            ),
            (
                'SELECT COUNT(*) AS c FROM trades AS a JOIN "trades_2" AS b USING (symbol) WHERE a.symbol = 1 AND '
                "(b.price - ((b.price % 2) + 2) % 2) = 4"
            ),
        ),
        ("SELECT INTERVAL '5 min', sum(price) FROM trades", "SELECT INTERVAL '5 min', sum(price) FROM trades"),
    ],
)
def test_statements_for_duckdb(host: Host, written: str, run: str) -> None:
    assert host.run(written, at_ns=NOW).sql == run


MOMENTS = st.integers(-(2**60), 2**60)


@settings(max_examples=20, deadline=None)
@given(st.lists(MOMENTS, min_size=1, max_size=20), st.integers(1, 2**50))
def test_xbar_rounds_down_also_before_the_epoch(moments: list[int], width: int) -> None:
    host = Host()
    host.catalog.create("trades", TRADES)
    rows = len(moments)
    host.append("trades", {"symbol": [1] * rows, "price": moments, "volume": [1] * rows, "timestamp": moments})
    answer = host.rows(f"SELECT timestamp, xbar(timestamp, {width}), xbar(price, {width}) FROM trades")
    assert answer == [[t, t - t % width, t - t % width] for t in sorted(moments)]


@settings(max_examples=15, deadline=None)
@given(MOMENTS)
def test_calendar_words_agree_with_python(moment: int) -> None:
    host = Host()
    host.catalog.create("trades", TRADES)
    host.append("trades", {"symbol": [1], "price": [0], "volume": [0], "timestamp": [moment]})
    at = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=moment // 1_000)
    monday = (at - dt.timedelta(days=at.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    first = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + dt.timedelta(days=32)).replace(day=1)
    answer = host.rows(
        "SELECT date_trunc('week', timestamp), date_trunc('month', timestamp), date_trunc('ms', timestamp), "
        "date_trunc('month', date_trunc('month', timestamp) + INTERVAL '1 month'), year(timestamp), hour(timestamp), "
        "timestamp::DATE::VARCHAR, epoch_s(timestamp), epoch_ms(timestamp), strftime(timestamp, '%n') FROM trades"
    )
    assert answer == [
        [
            _ns(monday),
            _ns(first),
            moment - moment % 1_000_000,
            _ns(following),
            at.year,
            at.hour,
            at.date().isoformat(),
            moment // 1_000_000_000,
            moment // 1_000_000,
            f"{moment % 1_000_000_000:09d}",
        ]
    ]


def _ns(moment: dt.datetime) -> int:
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1) * 1_000


def test_ema_in_the_order_of_storage_is_a_column_handed_to_duckdb(host: Host) -> None:
    text = "SELECT ema(price, 5) OVER (PARTITION BY symbol ORDER BY timestamp) AS e FROM trades"
    assert "OVER" not in host.run(text).sql
    assert "OVER" in host.run(text.replace("trades", "trades WHERE volume > 3")).sql


def test_a_window_join_reads_the_symbols_of_its_left_side(host: Host) -> None:
    join = "WINDOW JOIN trades q ON q.symbol = t.symbol AND q.timestamp BETWEEN t.timestamp - 5 AND t.timestamp"
    every = host.run(f"SELECT wj_count(q.price) FROM trades t {join}").rows_scanned
    some = host.run(f"SELECT wj_count(q.price) FROM trades t {join} WHERE t.symbol = 1").rows_scanned
    of_one = len(host.run("SELECT price FROM trades WHERE symbol = 1").table)
    assert (every, some) == (30, of_one)
