"""CREATE, DROP, INSERT, UPDATE, DELETE, COPY, SHOW and DESCRIBE."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.sql.fallback_host import Host, execute, host_with_trades
from zeptodb.errors import (
    AlreadyExistsError,
    InvalidInputError,
    InvalidTypeError,
    LossyConversionError,
    NotSupportedError,
    QueryError,
    UnknownColumnError,
    UnknownTableError,
    ZeptoError,
)
from zeptodb.types import TRADES, ColumnType


@pytest.fixture
def host() -> Host:
    host = Host()
    host.catalog.create("trades", TRADES)
    return host


def _rows(host: Host, text: str) -> list[list[Any]]:
    return execute(host, text).rows


MIXED_TABLE = "CREATE TABLE mixed (name SYMBOL, ts TIMESTAMP_NS, x FLOAT64, y FLOAT32, s STRING, b BOOL, i INT32)"


# ---- tables --------------------------------------------------------------------------------------------------------


def test_create_table_knows_every_type_name_and_the_roles() -> None:
    host = Host()
    execute(
        host,
        "CREATE TABLE t (a INT64, b bigint NOT NULL, c INT32, d int, e FLOAT64, f double, g FLOAT32, h TIMESTAMP, "
        "i timestamp_ns, j SYMBOL, k STRING, l VARCHAR, m TEXT, n BOOL)",
    )
    schema = host.catalog.get("t").schema
    types = [f.type for f in schema.fields]
    assert types[:8] == [ColumnType.INT64] * 2 + [ColumnType.INT32] * 2 + [ColumnType.FLOAT64] * 2 + [
        ColumnType.FLOAT32,
        ColumnType.TIMESTAMP_NS,
    ]
    assert types[8:] == [
        ColumnType.TIMESTAMP_NS,
        ColumnType.SYMBOL,
        ColumnType.STRING,
        ColumnType.STRING,
        ColumnType.STRING,
        ColumnType.BOOL,
    ]
    assert (schema.symbol, schema.timestamp) == ("j", "h")
    assert [f.name for f in schema.fields if not f.is_nullable] == ["b", "h", "j"]


def test_columns_of_those_names_are_symbol_and_timestamp_whatever_comes_first() -> None:
    host = Host()
    execute(host, "CREATE TABLE t (s SYMBOL, t0 TIMESTAMP, symbol STRING, timestamp TIMESTAMP)")
    schema = host.catalog.get("t").schema
    assert (schema.symbol, schema.timestamp) == ("symbol", "timestamp")
    assert schema.field("s").type is ColumnType.STRING


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("CREATE TABLE trades (a INT)", AlreadyExistsError, "exists already"),
        ("CREATE TABLE t (a DECIMAL(3, 2))", QueryError, "allowed: INT64"),
        ("CREATE TABLE t (a INT PRIMARY KEY)", NotSupportedError, "PRIMARY KEY"),
        ("CREATE TABLE t (a INT, A INT)", AlreadyExistsError, "twice"),
        ("CREATE TEMP TABLE v AS SELECT 1", NotSupportedError, "TEMPORARY"),
        ("DROP TABLE nosuch", UnknownTableError, "nosuch"),
        ("CREATE INDEX i ON trades (price)", NotSupportedError, "CREATE INDEX"),
        ("DROP SCHEMA s", NotSupportedError, "DROP SCHEMA"),
        ("ALTER TABLE trades ALTER COLUMN price TYPE DOUBLE", NotSupportedError, "takes ADD COLUMN"),
        ("ALTER TABLE trades OWNER TO me", NotSupportedError, "takes ADD COLUMN"),
        ("ALTER VIEW v RENAME TO w", NotSupportedError, "ALTER TABLE is"),
        ("DESCRIBE trade", UnknownTableError, 'Did you mean "trades"'),
        ("BEGIN", NotSupportedError, "not supported"),
        ("SET threads = 1", NotSupportedError, "not supported"),
    ],
)
def test_ddl_that_cannot_be_done_says_why(host: Host, text: str, error: type[ZeptoError], words: str) -> None:
    with pytest.raises(error, match=words):
        execute(host, text)
    assert host.catalog.names() == ["trades"]


def test_create_and_drop_if_exists(host: Host) -> None:
    execute(host, "CREATE TABLE IF NOT EXISTS trades (a INT)")
    assert host.catalog.get("trades").schema is TRADES
    execute(host, "DROP TABLE IF EXISTS nosuch")
    execute(host, "DROP TABLE trades")
    assert host.catalog.names() == []


def test_create_table_as_keeps_types_and_rows() -> None:
    host = host_with_trades(200)
    text = (
        "SELECT symbol, xbar(timestamp, INTERVAL '5m') AS timestamp, last(price) AS c, vwap(price, "
        "volume) AS v, sum(volume) AS s FROM trades GROUP BY 1, 2"
    )
    assert execute(host, f"CREATE TABLE bars AS {text}").rows == [[len(_rows(host, text))]]
    schema = host.catalog.get("bars").schema
    assert [f.type.value for f in schema.fields] == ["INT64", "TIMESTAMP_NS", "INT64", "FLOAT64", "INT64"]
    assert (schema.symbol, schema.timestamp) == ("symbol", "timestamp")
    assert sorted(_rows(host, "SELECT * FROM bars")) == sorted(_rows(host, text))
    execute(host, "CREATE OR REPLACE TABLE bars AS SELECT 1 AS a, 2.5 AS b, NULL AS c")
    assert _rows(host, "SELECT * FROM bars") == [[1, 2.5, None]]


def test_show_tables_and_describe(host: Host) -> None:
    execute(host, "INSERT INTO trades VALUES (1, 2, 3, 4)")
    execute(host, MIXED_TABLE)
    shown = execute(host, "SHOW TABLES")
    assert (shown.column_names, shown.rows) == (["name", "rows"], [["trades", 1], ["mixed", 0]])
    described = execute(host, "DESCRIBE trades")
    assert described.column_names == ["column", "type"]
    assert described.rows == [
        ["symbol", "INT64"],
        ["price", "INT64"],
        ["volume", "INT64"],
        ["timestamp", "TIMESTAMP_NS"],
    ]


# ---- INSERT --------------------------------------------------------------------------------------------------------


def test_insert_takes_rows_in_declared_order_and_counts_them(host: Host) -> None:
    result = execute(
        host,
        "INSERT INTO trades VALUES (1, 100, 10, 2000), (2, -5, 0, '2024-01-01 00:00:00.123456789'), (1, 101, 11, 1000)",
    )
    assert (result.column_names, result.rows) == (["Count"], [[3]])
    assert _rows(host, "SELECT * FROM trades") == [
        [1, 101, 11, 1000],
        [1, 100, 10, 2000],
        [2, -5, 0, 1704067200123456789],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO trades VALUES (1, 2, 3)",
        "INSERT INTO trades (volume, price, symbol) VALUES (3, 2, 1)",
        "INSERT INTO trades SELECT 1, 2, 3",
    ],
)
def test_a_missing_timestamp_is_the_time_of_arrival(host: Host, text: str) -> None:
    before = time.time_ns()
    execute(host, text)
    (row,) = _rows(host, "SELECT * FROM trades")
    assert row[:3] == [1, 2, 3]
    assert before <= row[3] <= time.time_ns()


def test_insert_takes_parameters_and_expressions(host: Host) -> None:
    execute(host, "INSERT INTO trades VALUES (?, ?, ?, ?)", [1, 2, 3, datetime(2024, 1, 1, tzinfo=UTC)])
    execute(host, "INSERT INTO trades VALUES ($s, 40 + 2, abs(-7), TIMESTAMP '2024-01-02')", {"s": 1})
    execute(host, "INSERT INTO trades BY NAME SELECT 9 AS volume, 8 AS price, 1 AS symbol, 5 AS timestamp")
    assert _rows(host, "SELECT * FROM trades") == [
        [1, 8, 9, 5],
        [1, 2, 3, 1704067200000000000],
        [1, 42, 7, 1704153600000000000],
    ]


def test_insert_select_sees_the_table_as_it_was(host: Host) -> None:
    execute(host, "INSERT INTO trades VALUES (1, 2, 3, 4), (2, 3, 4, 5)")
    assert execute(host, "INSERT INTO trades SELECT symbol, price * 1.0, volume, timestamp + 1 FROM trades").rows == [
        [2]
    ]
    assert execute(host, "WITH x AS (SELECT 7 AS a) INSERT INTO trades SELECT a, a, a, a FROM x").rows == [[1]]
    assert _rows(host, "SELECT count(*), sum(price) FROM trades") == [[5, 17]]


def test_columns_of_every_type_take_values_and_null() -> None:
    host = Host()
    execute(host, MIXED_TABLE)
    execute(
        host,
        (
            "INSERT INTO mixed VALUES ('B', 2, 1, 1e3, 'it''s', false, -5), ('A', 1, 1.5, 2, 'x', true, "
            "5), ('B', 3, NULL, NULL, NULL, NULL, NULL)"
        ),
    )
    execute(host, "INSERT INTO mixed (name, ts) VALUES ('C', 9)")
    assert _rows(host, "SELECT * FROM mixed") == [
        ["B", 2, 1.0, 1000.0, "it's", False, -5],
        ["B", 3, None, None, None, None, None],
        ["A", 1, 1.5, 2.0, "x", True, 5],
        ["C", 9, None, None, None, None, None],
    ]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("INSERT INTO trades VALUES (1, 2, 3, 4), (1, 1.5, 2, 3)", LossyConversionError, "1.5"),
        ("INSERT INTO trades SELECT 1, 1.5::DOUBLE, 2, 3", LossyConversionError, "1.5"),
        ("INSERT INTO trades VALUES (1, 9223372036854775808, 2, 3)", InvalidInputError, "int64"),
        (
            "INSERT INTO trades SELECT 1, 9223372036854775807::HUGEINT + 1, 2, 3",
            ZeptoError,
            "9223372036854775808|int64|INT64",
        ),
        ("INSERT INTO trades VALUES ('a', 1, 2, 3), (1, 2, 3, 4)", ZeptoError, ""),
        ("INSERT INTO trades VALUES (1, NULL, 2, 3)", InvalidInputError, "NULL"),
        ("INSERT INTO trades VALUES (1, 'x', 2, 3)", InvalidTypeError, "string"),
        ("INSERT INTO trades VALUES (1, 1, 2, 'noon')", QueryError, "noon"),
        ("INSERT INTO trades VALUES (1, 2)", QueryError, "2 value"),
        ("INSERT INTO trades VALUES (1, 2, 3, 4), (1, 2, 3)", QueryError, "3 value"),
        ("INSERT INTO trades (symbol, price, price) VALUES (1, 2, 3)", QueryError, "twice"),
        ("INSERT INTO trades (symbol, price) VALUES (1, 2)", InvalidInputError, "volume"),
        ("INSERT INTO trades (pric) VALUES (1)", UnknownColumnError, 'Did you mean "price"'),
        ("INSERT INTO trade VALUES (1, 2, 3, 4)", UnknownTableError, 'Did you mean "trades"'),
        ("INSERT INTO trades VALUES (1, 2, 3, 4) RETURNING *", NotSupportedError, "RETURNING"),
        ("INSERT OR REPLACE INTO trades VALUES (1, 2, 3, 4)", NotSupportedError, "ALTERNATIVE"),
    ],
)
def test_an_insert_that_fails_inserts_nothing(host: Host, text: str, error: type[ZeptoError], words: str) -> None:
    with pytest.raises(error, match=words or "."):
        execute(host, text)
    assert host.catalog.get("trades").row_count == 0


# ---- UPDATE and DELETE ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trades SET price = price + 1, volume = price WHERE symbol = 2",
        "UPDATE trades SET price = 7",
        "UPDATE trades SET volume = volume * 2 WHERE timestamp > 1700000500000000000 AND price < 1500",
        (
            "UPDATE trades SET price = (SELECT max(u.price) FROM trades u WHERE u.symbol = "
            "trades.symbol) WHERE volume < 10"
        ),
        "UPDATE trades SET symbol = symbol + 10 WHERE price > 1800",
        "UPDATE trades SET price = 1 WHERE symbol = 99",
        "DELETE FROM trades WHERE symbol = 1",
        "DELETE FROM trades WHERE price % 3 = 0 OR volume = 5",
        "DELETE FROM trades WHERE price IN (SELECT max(price) FROM trades GROUP BY symbol)",
        "DELETE FROM trades",
    ],
)
def test_update_and_delete_do_what_duckdb_does(change: str) -> None:
    host = host_with_trades(400)
    count = host.oracle.execute(change).fetchall()
    assert execute(host, change).rows == [list(row) for row in count]
    ours = _rows(host, "SELECT * FROM trades")
    assert sorted(ours) == sorted(host.oracle_rows("SELECT symbol, price, volume, timestamp FROM trades"))


def test_update_of_the_timestamp_sorts_anew_and_keeps_exact_integers() -> None:
    host = Host()
    host.catalog.create("trades", TRADES)
    big = 2**62 + 1
    execute(host, f"INSERT INTO trades VALUES (1, {big}, 1, 10), (1, 2, 2, 20), (1, 3, 3, 30)")
    execute(host, "UPDATE trades SET timestamp = timestamp + INTERVAL '1 hour', price = price * 0.5 WHERE price = 2")
    assert _rows(host, "SELECT price, volume, timestamp FROM trades") == [
        [big, 1, 10],
        [3, 3, 30],
        [1, 2, 3_600_000_000_020],
    ]


def test_update_changes_values_of_every_type_and_null() -> None:
    host = Host()
    execute(host, MIXED_TABLE)
    execute(host, "INSERT INTO mixed VALUES ('A', 1, 1.5, 2, 'x', true, 5), ('B', 2, NULL, NULL, NULL, NULL, NULL)")
    execute(host, "UPDATE mixed SET x = 2.5, y = 0.5, s = 'new', b = true, i = 7 WHERE name = 'B'")
    execute(host, "UPDATE mixed SET s = NULL, x = NULL, b = NOT b WHERE name = 'A'")
    assert _rows(host, "SELECT * FROM mixed") == [
        ["A", 1, None, 2.0, None, False, 5],
        ["B", 2, 2.5, 0.5, "new", True, 7],
    ]
    execute(host, "UPDATE mixed SET s = 'again', name = 'Z' WHERE name = 'A'")
    assert _rows(host, "SELECT name, s FROM mixed ORDER BY ts") == [["Z", "again"], ["B", "new"]]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("UPDATE trades SET price = price * 1.001", LossyConversionError),
        ("UPDATE trades SET price = 'x'", InvalidTypeError),
        ("UPDATE trades SET price = NULL WHERE symbol = 1", InvalidInputError),
        ("UPDATE trades SET timestamp = NULL", InvalidInputError),
        ("UPDATE trades SET nosuch = 1", UnknownColumnError),
        ("UPDATE trades SET price = 1, price = 2", QueryError),
        ("UPDATE trades SET price = nosuch", UnknownColumnError),
        ("UPDATE trades SET price = u.price FROM trades u", NotSupportedError),
        ("DELETE FROM trades WHERE nosuch = 1", UnknownColumnError),
        ("DELETE FROM trades USING trades u", NotSupportedError),
    ],
)
def test_a_change_that_fails_changes_nothing(text: str, error: type[ZeptoError]) -> None:
    host = host_with_trades(50)
    before = _rows(host, "SELECT * FROM trades")
    with pytest.raises(error):
        execute(host, text)
    assert _rows(host, "SELECT * FROM trades") == before


def test_truncate_empties_a_table_that_can_be_filled_again() -> None:
    host = host_with_trades(50)
    assert execute(host, "TRUNCATE TABLE trades").rows == [[50]]
    execute(host, "INSERT INTO trades VALUES (1, 2, 3, 4)")
    assert _rows(host, "SELECT * FROM trades") == [[1, 2, 3, 4]]


# ---- COPY ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_copy_writes_a_file_that_copy_reads_back(suffix: str, tmp_path: Any) -> None:
    host = Host()
    execute(host, MIXED_TABLE)
    execute(
        host,
        (
            "INSERT INTO mixed VALUES ('A', 1700000000123456789, 1.5, 2, 'x', true, 5), ('B', 2, NULL, "
            "NULL, 'y,\"z', NULL, NULL)"
        ),
    )
    path = tmp_path / f"mixed.{suffix}"
    assert execute(host, f"COPY mixed TO '{path}'").rows == [[2]]
    execute(host, MIXED_TABLE.replace("mixed", "again"))
    assert execute(host, f"COPY again FROM '{path}'").rows == [[2]]
    assert _rows(host, "SELECT * FROM again") == _rows(host, "SELECT * FROM mixed")


def test_copy_of_a_query_expands_our_words(tmp_path: Any) -> None:
    host = host_with_trades(50)
    path = tmp_path / "vwap.parquet"
    query = "SELECT symbol, vwap(price, volume) AS v FROM trades GROUP BY symbol"
    execute(host, f"COPY ({query}) TO '{path}'")
    assert sorted(_rows(host, f"SELECT * FROM '{path}'")) == sorted(_rows(host, query))
