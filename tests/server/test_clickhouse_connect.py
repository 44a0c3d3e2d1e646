"""The real clickhouse-connect, unmodified."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import clickhouse_connect
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from zeptodb.server.serve import BackgroundServer


@pytest.fixture
def client(server: BackgroundServer) -> Iterator[Client]:
    server.pipeline.execute("DROP TABLE IF EXISTS ticks").raise_for_error()
    server.pipeline.execute(
        "CREATE TABLE ticks (symbol STRING, price DOUBLE, volume BIGINT, timestamp TIMESTAMP_NS)"
    ).raise_for_error()
    with clickhouse_connect.get_client(host="127.0.0.1", port=server.port) as opened:
        yield opened


ROWS = [["A", 1.5, 100, 1], ["B", 2.5, 200, 2], ["Ä" * 200, -0.25, None, 3]]
NAMES = ["symbol", "price", "volume", "timestamp"]


def test_it_connects_and_pings(client: Client) -> None:
    assert client.ping()
    assert client.server_version == "26.1.1.1"


def test_rows_go_in_and_come_out(client: Client) -> None:
    summary = client.insert("ticks", ROWS, column_names=NAMES)
    assert summary.written_rows == 3
    assert client.query("SELECT * FROM ticks ORDER BY timestamp").result_rows == [tuple(row) for row in ROWS]


def test_frames_go_in_and_come_out(client: Client) -> None:
    frame = pd.DataFrame({"symbol": ["A", "B"], "price": [1.5, 2.5], "volume": [1, 2], "timestamp": [1, 2]})
    client.insert_df("ticks", frame)
    answer = client.query_df("SELECT * FROM ticks ORDER BY timestamp")
    assert answer.astype(object).to_dict("list") == frame.astype(object).to_dict("list")


def test_arrow_goes_in_and_comes_out(client: Client) -> None:
    table = pa.table({"symbol": ["A", "B"], "price": [1.5, 2.5], "volume": [1, 2], "timestamp": [1, 2]})
    client.insert_arrow("ticks", table)
    assert client.query_arrow("SELECT * FROM ticks ORDER BY timestamp").to_pydict() == table.to_pydict()


def test_numpy_arrays_have_the_columns_types(client: Client) -> None:
    client.insert("ticks", ROWS[:2], column_names=NAMES)
    array = client.query_np("SELECT price, timestamp FROM ticks ORDER BY timestamp")
    assert array.dtype == np.dtype([("price", "<f8"), ("timestamp", "<i8")])


def test_errors_carry_code_and_name(client: Client) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT * FROM nowhere")
    assert (caught.value.code, caught.value.name) == (60, "UNKNOWN_TABLE")


def test_parameters_are_bound_on_the_server(client: Client) -> None:
    client.insert("ticks", ROWS, column_names=NAMES)
    sql = (
        "SELECT timestamp FROM ticks WHERE symbol IN {names:Array(String)} AND price < {price:Float64} LIMIT {n:UInt8}"
    )
    answer = client.query(sql, parameters={"names": ["A", "it's"], "price": 2.0, "n": 5})
    assert answer.result_rows == [(1,)]
    echoed = client.query("SELECT {text:String} AS text", parameters={"text": "it's\ta\\b"})
    assert echoed.result_rows == [("it's\ta\\b",)]


def test_parameters_may_come_in_a_form(server: BackgroundServer) -> None:
    with clickhouse_connect.get_client(host="127.0.0.1", port=server.port, form_encode_query_params=True) as client:
        assert client.query("SELECT {x:Int64} AS x", parameters={"x": 7}).result_rows == [(7,)]


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", False])
def test_bodies_may_be_compressed_both_ways(server: BackgroundServer, client: Client, compression: str | bool) -> None:
    with clickhouse_connect.get_client(host="127.0.0.1", port=server.port, compress=compression) as compressing:
        compressing.insert("ticks", ROWS * 500, column_names=NAMES)
        rows = compressing.query("SELECT symbol, volume FROM ticks").result_rows
    assert len(rows) == 1500
    assert rows.count(("B", 200)) == 500


def test_commands_answer_with_values_or_a_summary(client: Client) -> None:
    assert client.command("SELECT 1") == 1
    assert client.command("SELECT version()") == "26.1.1.1"
    client.command("CREATE TABLE made (a Int64, b Nullable(String)) ENGINE = MergeTree ORDER BY a")
    assert client.command("EXISTS TABLE made") == 1
    client.command("DROP TABLE made")
    assert client.command("EXISTS TABLE made") == 0


def test_command_with_data_inserts_it(client: Client) -> None:
    client.command("INSERT INTO ticks FORMAT CSV", data='"A",1.5,3,1\n')
    assert client.query("SELECT symbol, volume FROM ticks").result_rows == [("A", 3)]


def test_raw_data_goes_in_and_comes_out(client: Client) -> None:
    client.raw_insert("ticks", NAMES, b"A\t1.5\t3\t1\n", fmt="TabSeparated")
    packed = gzip.compress(b"B\t2.5\t\\N\t2\n")
    client.raw_insert("ticks", NAMES, packed, fmt="TabSeparated", compression="gzip")
    text = client.raw_query("SELECT symbol, volume FROM ticks ORDER BY symbol", fmt="JSONEachRow")
    assert text == b'{"symbol":"A","volume":3}\n{"symbol":"B","volume":null}\n'


def test_large_answers_stream_in_blocks(client: Client) -> None:
    sql = "SELECT range AS i, 'row ' || range AS text FROM range(200000)"
    with client.query_row_block_stream(sql) as stream:
        blocks = list(stream)
    assert len(blocks) > 1
    assert sum(map(len, blocks)) == 200_000
    assert blocks[-1][-1] == (199_999, "row 199999")


def test_limit_zero_gives_names_and_types(client: Client) -> None:
    answer = client.query("SELECT symbol, price FROM ticks LIMIT 0")
    assert answer.column_names == ("symbol", "price")


def test_an_empty_answer_has_names(client: Client) -> None:
    answer = client.query("SELECT symbol, price FROM ticks WHERE price > 1e9")
    assert answer.column_names == ("symbol", "price")
    assert answer.result_rows == []


def test_values_of_many_types_arrive(client: Client) -> None:
    answer = client.query(
        "SELECT true AS b, -1::TINYINT AS i, 1.5::FLOAT AS f, DATE '2024-01-02' AS d, "
        "TIMESTAMP_NS '2024-01-02 03:04:05.123456789' AS n, TIMESTAMP_S '2024-01-02 03:04:05' AS s, "
        "1.25::DECIMAL(9,2) AS e, 12345678901234567890::DECIMAL(30,0) AS w, [1, 2] AS l, NULL AS z, uuid() IS NULL AS u"
    )
    row = dict(zip(answer.column_names, answer.result_rows[0], strict=True))
    assert (row["b"], row["i"], row["f"], row["l"], row["z"], row["u"]) == (True, -1, 1.5, [1, 2], None, False)
    assert str(row["d"]) == "2024-01-02"
    assert str(row["s"]).startswith("2024-01-02 03:04:05")
    assert str(row["n"]).startswith("2024-01-02 03:04:05.123456")
    assert (str(row["e"]), str(row["w"])) == ("1.25", "12345678901234567890")


def test_a_serialization_error_of_the_client_stores_nothing(client: Client) -> None:
    with pytest.raises(Exception, match=r"(?s).*"):
        client.insert("ticks", [["A", 1.0, 1, 1], ["B", "no number", 1, 1]], column_names=NAMES)
    assert client.command("SELECT count(*) FROM ticks") == 0


def test_an_insert_with_a_wrong_column_stores_nothing(client: Client) -> None:
    with pytest.raises(DatabaseError):
        client.insert_arrow("ticks", pa.table({"symbol": ["A"], "cost": [1.5]}))
    assert client.command("SELECT count(*) FROM ticks") == 0


def test_several_sessions_may_query_at_once(client: Client) -> None:
    with client.query_rows_stream("SELECT range FROM range(100000)") as first:
        begun = next(iter(first))
        assert begun == (0,)
