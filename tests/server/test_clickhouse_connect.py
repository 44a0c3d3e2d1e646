"""The real clickhouse-connect, unmodified."""

from __future__ import annotations

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
