"""Queries through the fallback against the same rows in DuckDB's own tables, with every order spelled out there."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.sql.fallback_host import MIXED, Host, host_with_trades
from zeptodb.errors import QueryError, UnknownColumnError, UnknownTableError
from zeptodb.sql.fallback import run_over_arrow
from zeptodb.sql.result import QueryResult

MINUTE = 60_000_000_000
BAR = "(timestamp - ((timestamp % 300000000000) + 300000000000) % 300000000000)"


@pytest.fixture(scope="module")
def host() -> Host:
    return host_with_trades(2_000, symbols=5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("SELECT count(*), sum(price), min(volume) FROM trades", None),
        (
            "SELECT * FROM trades WHERE symbol = 3",
            "SELECT symbol, price, volume, timestamp FROM trades WHERE symbol = 3",
        ),
        ("SELECT symbol, count(*) FROM trades GROUP BY ALL HAVING count(*) > 390", None),
        ("SELECT DISTINCT volume % 7 FROM trades", None),
        ("SELECT symbol FROM trades WHERE price IN (SELECT max(price) FROM trades GROUP BY volume)", None),
        ("SELECT CASE WHEN price > 1500 THEN 'high' ELSE 'low' END AS c, count(*) FROM trades GROUP BY c", None),
        ("SELECT count(*) FROM trades a JOIN trades b ON a.symbol = b.symbol AND a.timestamp = b.timestamp", None),
        (
            (
                "SELECT symbol, price FROM trades WHERE symbol = 1 UNION ALL SELECT symbol, volume FROM "
                "trades WHERE price < 1100"
            ),
            None,
        ),
        ("SELECT symbol FROM trades EXCEPT SELECT 2", None),
        ("SELECT price // 7, price % 7, price / 7, -price // 7 FROM trades", None),
        (
            (
                "SELECT t.symbol, (SELECT max(u.price) FROM trades u WHERE u.symbol = t.symbol) FROM trades "
                "t WHERE t.volume = 3"
            ),
            None,
        ),
        (
            (
                "SELECT symbol, stddev(price), variance(price), median(price), count(DISTINCT volume) FROM "
                "trades GROUP BY symbol"
            ),
            None,
        ),
        (
            "SELECT xbar(timestamp, 300000000000) AS b, first(price), last(volume) FROM trades GROUP BY b",
            (
                f"SELECT {BAR} AS b, first(price ORDER BY timestamp, symbol_order, arrival), last(volume "
                "ORDER BY timestamp, symbol_order, arrival) FROM ordered GROUP BY b"
            ),
        ),
        (
            "SELECT symbol, first(price), last(price) FILTER (WHERE volume > 10) FROM trades GROUP BY symbol",
            (
                "SELECT symbol, first(price ORDER BY timestamp, arrival), last(price ORDER BY timestamp, "
                "arrival) FILTER (WHERE volume > 10) FROM trades GROUP BY symbol"
            ),
        ),
        (
            (
                "WITH bars AS (SELECT symbol, xbar(timestamp, INTERVAL '5m') AS b, last(price) AS c FROM "
                "trades GROUP BY 1, 2) SELECT max(c), min(b) FROM bars"
            ),
            (
                f"WITH bars AS (SELECT symbol, {BAR} AS b, last(price ORDER BY timestamp, arrival) AS c FROM "
                "trades GROUP BY 1, 2) SELECT max(c), min(b) FROM bars"
            ),
        ),
        (
            "SELECT date_trunc('hour', timestamp) AS h, count(*) FROM trades GROUP BY h",
            "SELECT epoch_ns(date_trunc('hour', make_timestamp_ns(timestamp))) AS h, count(*) FROM trades GROUP BY h",
        ),
        (
            "SELECT epoch_s(timestamp), epoch_ms(timestamp) FROM trades",
            "SELECT timestamp // 1000000000, timestamp // 1000000 FROM trades",
        ),
        (
            (
                "SELECT symbol, price, lag(price) OVER (PARTITION BY symbol) AS l, delta(price) OVER "
                "(PARTITION BY symbol ORDER BY timestamp) AS d, ratio(price) OVER (PARTITION BY symbol) AS r "
                "FROM trades"
            ),
            (
                "SELECT symbol, price, lag(price) OVER w AS l, price - lag(price) OVER w AS d, price::DOUBLE "
                "/ lag(price) OVER w AS r FROM trades WINDOW w AS (PARTITION BY symbol ORDER BY timestamp, "
                "arrival)"
            ),
        ),
        (
            "SELECT sum(price) OVER (PARTITION BY symbol ORDER BY timestamp ROWS 5 PRECEDING) AS s FROM trades",
            (
                "SELECT sum(price) OVER (PARTITION BY symbol ORDER BY timestamp, arrival ROWS 5 PRECEDING) "
                "AS s FROM trades"
            ),
        ),
        (
            (
                "SELECT sum(price) OVER (PARTITION BY symbol ORDER BY timestamp) AS s, sum(price) OVER "
                "(PARTITION BY symbol) AS t FROM trades"
            ),
            None,
        ),
        (
            (
                "SELECT symbol, first_value(price) OVER (PARTITION BY symbol) AS f, last_value(price) OVER "
                "(PARTITION BY symbol) AS l FROM trades"
            ),
            (
                "SELECT symbol, first_value(price) OVER w AS f, last_value(price) OVER w AS l FROM trades "
                "WINDOW w AS (PARTITION BY symbol ORDER BY timestamp, arrival ROWS BETWEEN UNBOUNDED "
                "PRECEDING AND UNBOUNDED FOLLOWING)"
            ),
        ),
        (
            "SELECT count(*) FROM trades WHERE price LIKE '15%'",
            "SELECT count(*) FROM trades WHERE price::VARCHAR LIKE '15%'",
        ),
        (
            "SELECT count(*) FROM trades WHERE price NOT LIKE '1_5%' AND timestamp LIKE '17%'",
            "SELECT count(*) FROM trades WHERE price::VARCHAR NOT LIKE '1_5%' AND timestamp::VARCHAR LIKE '17%'",
        ),
        ("SELECT percentile(price, 90) AS p FROM trades", "SELECT quantile_cont(price, 0.9) AS p FROM trades"),
        ("SELECT a.symbol FROM trades a LEFT JOIN trades b ON a.price = b.volume WHERE b.symbol IS NULL", None),
        ("SELECT count(*) FROM trades t SEMI JOIN (SELECT symbol FROM trades WHERE price > 1990) USING (symbol)", None),
        (
            "SELECT symbol, sum(price) AS s, row_number() OVER (ORDER BY sum(price)) AS r FROM trades GROUP BY symbol",
            None,
        ),
        ("PIVOT trades ON symbol USING sum(price) GROUP BY volume", None),
        (
            "SELECT * FROM (trades a JOIN trades b USING (symbol, price, volume, timestamp)) WHERE symbol = 1",
            (
                "SELECT symbol, price, volume, timestamp FROM trades a JOIN trades b USING (symbol, price, "
                "volume, timestamp) WHERE symbol = 1"
            ),
        ),
        ("SELECT sum(volume) FROM trades, range(3) r(i) WHERE symbol = i", None),
        ("VALUES (1, 'a'), (2, 'b')", None),
    ],
)
def test_rows_and_types_are_those_of_duckdb(host: Host, ours: str, theirs: str | None) -> None:
    host.oracle.sql(
        "CREATE OR REPLACE TEMP VIEW ordered AS SELECT *, first_value(arrival) OVER (PARTITION BY "
        "symbol ORDER BY arrival)"
        " AS symbol_order FROM trades"
    )
    answer = host.run(ours)
    expected = host.oracle.sql(ours if theirs is None else theirs).to_arrow_table()
    assert answer.table.schema.types == expected.schema.types
    if theirs is None:
        assert answer.table.column_names == expected.column_names
    assert _sorted(answer.table) == _sorted(expected)


def _sorted(table: pa.Table) -> list[list[Any]]:
    """Rows as a multiset; floats to nine digits, as DuckDB's own sums depend on the order of rows."""
    rows = [
        [float(f"{v:.9g}") if isinstance(v, float) else v for v in row] for row in QueryResult.from_arrow(table).rows
    ]
    return sorted(rows, key=repr)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            "SELECT * FROM trades ORDER BY price, volume LIMIT 50",
            (
                "SELECT symbol, price, volume, timestamp FROM ordered ORDER BY price, volume, symbol_order, "
                "timestamp, arrival LIMIT 50"
            ),
        ),
        (
            ("SELECT symbol, price FROM trades WHERE symbol = 2 ORDER BY timestamp DESC LIMIT 20 OFFSET 5"),
            ("SELECT symbol, price FROM trades WHERE symbol = 2 ORDER BY timestamp DESC, arrival LIMIT 20 OFFSET 5"),
        ),
        (
            "SELECT timestamp, price FROM trades WHERE symbol = 4 LIMIT 30",
            ("SELECT timestamp, price FROM trades WHERE symbol = 4 ORDER BY timestamp, arrival LIMIT 30"),
        ),
        (
            "SELECT *, price * 2 AS p FROM trades ORDER BY p DESC NULLS FIRST, symbol LIMIT 9",
            (
                "SELECT symbol, price, volume, timestamp, price * 2 AS p FROM trades ORDER BY p DESC, "
                "symbol, timestamp, arrival LIMIT 9"
            ),
        ),
    ],
)
def test_order_is_by_the_keys_then_by_arrival_within_a_symbol(host: Host, ours: str, theirs: str) -> None:
    host.oracle.sql(
        "CREATE OR REPLACE TEMP VIEW ordered AS SELECT *, first_value(arrival) OVER (PARTITION BY "
        "symbol ORDER BY arrival)"
        " AS symbol_order FROM trades"
    )
    assert host.rows(ours) == host.oracle_rows(theirs)


def test_plain_statements_reach_duckdb_as_they_were_written(host: Host) -> None:
    text = "select len('abc'), bool_and(price > 0) from trades where symbol in (1, 2)"
    answer = host.run(text)
    assert answer.sql == text
    assert answer.table.column_names == ["len('abc')", "bool_and((price > 0))"]


def test_rewritten_columns_keep_the_names_that_duckdb_would_give_them(host: Host) -> None:
    text = "SELECT len('abc'), VWAP(price, volume), xbar(timestamp, 5)+1, timestamp, t.price FROM trades t GROUP BY ALL"
    assert host.run(text).table.column_names == [
        "len('abc')",
        "vwap(price, volume)",
        '(xbar("timestamp", 5) + 1)',
        "timestamp",
        "price",
    ]


def test_names_of_subqueries_can_be_used_outside(host: Host) -> None:
    inner = "SELECT symbol, vwap(price, volume) FROM trades GROUP BY symbol"
    assert len(host.rows(f'SELECT max("vwap(price, volume)") FROM ({inner})')) == 1


def test_vwap_is_exact_to_a_trillionth_and_null_for_zero_volume() -> None:
    host = Host()
    rng = np.random.default_rng(3)
    rows = 3_000
    price, size = 100 + rng.normal(0, 1, rows), rng.integers(0, 9, rows).astype(np.int32)
    name = np.array(["A", "B", "C"])[rng.integers(0, 2, rows)]
    name[-1], size[-1] = "C", 0
    host.create(
        "ticks",
        MIXED,
        {
            "name": name.tolist(),
            "timestamp": np.arange(rows),
            "size": size,
            "price": [None if i % 17 == 0 else p for i, p in enumerate(price.tolist())],
            "ratio": np.ones(rows, np.float32),
            "side": ["buy"] * rows,
            "is_open": [True] * rows,
        },
    )
    answer = dict(host.rows("SELECT name, vwap(price, size) FILTER (WHERE size <> 5) FROM ticks GROUP BY name"))
    assert answer["C"] is None
    for symbol in ("A", "B"):
        kept = [i for i in range(rows) if name[i] == symbol and i % 17 and size[i] != 5]
        exact = sum(Fraction(float(price[i])) * int(size[i]) for i in kept) / sum(int(size[i]) for i in kept)
        assert math.isclose(answer[symbol], exact, rel_tol=1e-12)


def test_parameters_by_position_and_by_name_never_become_text(host: Host) -> None:
    answer = host.run(
        "SELECT count(*), ? FROM trades WHERE symbol = ? AND timestamp < ?", ["x'; DROP", 2, "2023-11-14 22:20"]
    )
    assert "DROP" not in answer.sql
    expected = host.oracle_rows("SELECT count(*) FROM trades WHERE symbol = 2 AND timestamp < 1700000400000000000")
    assert QueryResult.from_arrow(answer.table).rows == [[*expected[0], "x'; DROP"]]
    assert answer.rows_scanned == expected[0][0]
    by_name = host.rows(
        "SELECT count(*) FROM trades WHERE symbol IN $s AND timestamp < $t",
        {"s": [1, 2], "t": np.datetime64("2023-11-14T22:20")},
    )
    assert by_name == host.oracle_rows(
        "SELECT count(*) FROM trades WHERE symbol IN (1, 2) AND timestamp < 1700000400000000000"
    )


@pytest.mark.parametrize(
    ("text", "params", "words"),
    [
        ("SELECT ?", [], "1 parameter"),
        ("SELECT ?", [1, 2], "2 value"),
        ("SELECT $a", {"b": 1}, "no value for $a"),
        ("SELECT $a", [1], "give a dict"),
        ("SELECT 1", [1], "0 parameter"),
    ],
)
def test_parameters_that_do_not_fit_are_errors(host: Host, text: str, params: Any, words: str) -> None:
    with pytest.raises(QueryError, match=words.replace("$", r"\$")):
        host.run(text, params)


def test_unknown_tables_and_columns_name_the_nearest(host: Host) -> None:
    with pytest.raises(UnknownTableError, match=r'Did you mean "trades"\?(.|\n)*line 2, column 6'):
        host.run("SELECT *\nFROM trade")
    with pytest.raises(UnknownTableError, match='no table "nosuch"'):
        host.run("SELECT * FROM trades WHERE symbol IN (SELECT x FROM nosuch)")
    with pytest.raises(UnknownColumnError, match=r'Did you mean "price"\?'):
        host.run("SELECT pric FROM trades")
    with pytest.raises(UnknownColumnError, match="volum"):
        host.run("SELECT t.volum, xbar(timestamp, 5) FROM trades t ORDER BY 1")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("SELECT xbar(timestamp, 0) FROM trades", QueryError, "positive"),
        ("SELECT xbar(timestamp, -5) FROM trades", QueryError, "positive"),
        ("SELECT xbar(timestamp) FROM trades", QueryError, "2 argument"),
        ("SELECT xbar(timestamp, INTERVAL '1 month') FROM trades", QueryError, "fixed length"),
        ("SELECT percentile(price, 101) FROM trades", QueryError, "0 to 100"),
        ("SELECT date_trunc('fortnight', timestamp) FROM trades", QueryError, "fortnight"),
        ("SELECT delta(price) FROM trades", QueryError, "OVER"),
        ("SELECT ema(price) OVER (PARTITION BY symbol) FROM trades", QueryError, "takes 2 arguments"),
        ("SELECT * FROM trades WHERE timestamp > 'yesterday'", QueryError, "not a timestamp"),
        ("SELECT nofunc(price) FROM trades", QueryError, "nofunc"),
        ("SELECT sum(DISTINCT) FROM trades", QueryError, "Error"),
    ],
)
def test_bad_statements_say_why(host: Host, text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        host.run(text)


def test_python_variables_are_not_tables(host: Host) -> None:
    frame = pa.table({"a": [1]})
    assert frame.num_rows == 1
    with pytest.raises(UnknownTableError):
        host.run("SELECT * FROM frame")


def test_files_join_with_live_tables(host: Host, tmp_path: Any) -> None:
    path = tmp_path / "names.parquet"
    host.oracle.sql(f"COPY (SELECT 2 AS symbol, 'two' AS name) TO '{path}'")
    expected = host.oracle_rows("SELECT 'two', count(*) FROM trades WHERE symbol = 2")
    for source in (f"read_parquet('{path}')", f"duckdb('{path}')", f"'{path}'"):
        assert (
            host.rows(f"SELECT f.name, count(*) FROM trades t JOIN {source} f ON t.symbol = f.symbol GROUP BY 1")
            == expected
        )


def test_great_circle_distance_is_the_haversine_formula(host: Host) -> None:
    quarter = host.rows("SELECT haversine(0.0, 0.0, 0.0, 90.0)")[0][0]
    assert math.isclose(quarter, math.pi / 2 * 6_371_008.8, rel_tol=1e-12)


def test_information_schema_lists_our_tables(host: Host) -> None:
    assert ["trades"] in host.rows("SELECT table_name FROM information_schema.tables")


def test_run_over_arrow_finishes_a_small_result(host: Host) -> None:
    leaf = pa.table({"symbol": [1, 2], "v": [1.5, 2.5]})
    assert run_over_arrow(host, "SELECT max(v) AS m FROM leaf WHERE symbol > $1", {"leaf": leaf}, [1]).to_pylist() == [
        {"m": 2.5}
    ]
