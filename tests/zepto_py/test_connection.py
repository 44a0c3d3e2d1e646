"""The HTTP client against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import zepto_py
import zeptodb
from zepto_py import ApexConnection, ZeptoConnection
from zeptodb.errors import RemoteTableError, ServerUnreachableError
from zeptodb.server.serve import BackgroundServer
from zeptodb.server.settings import ServerSettings

TICKS = {"symbol": [1, 1, 2], "price": [15000, 15010, 20000], "volume": [100, 50, 80], "timestamp": [1, 2, 3]}


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer(ServerSettings(port=0, backend="cpu")) as running:
        yield running


@pytest.fixture
def db(server: BackgroundServer) -> Iterator[ApexConnection]:
    with zeptodb.connect("127.0.0.1", server.port) as connection:
        yield connection


def test_all_names_make_the_same_connection() -> None:
    assert ZeptoConnection is ApexConnection
    assert isinstance(zeptodb.connect(), ApexConnection)
    assert isinstance(zepto_py.connect("localhost", 8123), ApexConnection)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_ticks_go_in_and_come_out(db: ApexConnection, kind: str) -> None:
    if kind == "pandas":
        stored = db.ingest_pandas(pd.DataFrame(TICKS))
    elif kind == "polars":
        stored = db.ingest_polars(pl.DataFrame(TICKS))
    else:
        stored = db.ingest_arrow(pa.table(TICKS))
    assert stored == 3
    sql = "SELECT * FROM trades"
    assert db.query_pandas(sql).to_dict("list") == TICKS
    assert db.query_polars(sql).to_dict(as_series=False) == TICKS
    assert {name: array.tolist() for name, array in db.query_numpy(sql).items()} == TICKS
    assert db.query_numpy(sql)["price"].dtype == np.int64


def test_float_prices_are_scaled(db: ApexConnection) -> None:
    db.ingest_pandas(pd.DataFrame({"symbol": [1], "price": [150.25], "volume": [7]}), price_scale=100)
    assert db.execute("SELECT price, volume FROM trades") == [(15025, 7)]


def test_a_server_that_is_not_there_is_an_error_and_no_ping(unused_port: int) -> None:
    nobody = ApexConnection("127.0.0.1", unused_port, retries=0)
    assert not nobody.ping()
    with pytest.raises(ServerUnreachableError):
        nobody.execute("SELECT 1")


def test_errors_have_the_servers_code(db: ApexConnection) -> None:
    with pytest.raises(RemoteTableError) as caught:
        db.query_pandas("SELECT * FROM nowhere")
    assert (caught.value.code, caught.value.name, caught.value.status) == (60, "UNKNOWN_TABLE", 404)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
