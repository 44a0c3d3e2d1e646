"""The HTTP client against a real server."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import zepto_py
import zeptodb
from zepto_py import ApexConnection, ZeptoConnection
from zeptodb.errors import (
    AccessDeniedError,
    InvalidTypeError,
    RemoteQueryError,
    RemoteTableError,
    ServerBusyError,
    ServerError,
    ServerUnreachableError,
    UnknownColumnError,
)
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
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def test_parameters_are_bound_on_the_server(db: ApexConnection) -> None:
    db.ingest_pandas(pd.DataFrame(TICKS))
    sql = "SELECT price FROM trades WHERE symbol IN {symbols:Array(Int64)} AND price > {least:Float64} ORDER BY price"
    assert db.execute(sql, {"symbols": [1, 2], "least": 15005.5}) == [(15010,), (20000,)]
    values = {
        "s": "it's\ta\\b\n",
        "n": None,
        "b": True,
        "d": dt.date(2024, 1, 2),
        "t": dt.datetime(2024, 1, 2, 4, 4, tzinfo=dt.timezone(dt.timedelta(hours=1))),
    }
    sql = "SELECT {s:String} AS s, {n:Nullable(Int64)} IS NULL AS n, {b:Bool} AS b, {d:Date} AS d, {t:DateTime} AS t"
    row = db.execute(sql, values)[0]
    assert row[:4] == ("it's\ta\\b\n", True, True, dt.date(2024, 1, 2))
    assert str(row[4]) == "2024-01-02 03:04:00"


def test_a_parameter_of_an_unknown_kind_is_refused_before_it_is_sent(db: ApexConnection) -> None:
    with pytest.raises(InvalidTypeError, match="'x' is a dict"):
        db.execute("SELECT {x:String}", {"x": {}})


def test_times_as_nanoseconds_or_datetimes(db: ApexConnection) -> None:
    db.ingest_pandas(pd.DataFrame(TICKS))
    sql = "SELECT timestamp FROM trades ORDER BY timestamp"
    assert db.query_pandas(sql)["timestamp"].dtype == "int64"
    assert str(db.query_pandas(sql, timestamps="datetime")["timestamp"].dtype) == "datetime64[ns, UTC]"


def test_nulls_and_huge_sums_keep_their_values(db: ApexConnection) -> None:
    sql = "SELECT * FROM (VALUES (1, 9007199254740993, 'a'), (NULL, NULL, NULL)) AS t(i, l, s)"
    frame = db.query_pandas(sql)
    assert str(frame["i"].dtype) == "float64"
    assert frame["l"].tolist() == [9007199254740993, pd.NA]
    assert db.query_polars(sql)["l"].to_list() == [9007199254740993, None]
    assert db.query_numpy(sql)["l"].tolist() == [9007199254740993, None]
    assert db.query_pandas("SELECT sum(9223372036854775807 + 0 * range) AS s FROM range(3)")["s"].tolist() == [
        3 * (2**63 - 1)
    ]


def test_repeated_names_get_a_counter(db: ApexConnection) -> None:
    assert list(db.query_pandas("SELECT 1 AS a, 2 AS a").columns) == ["a", "a_1"]
    assert list(db.query_numpy("SELECT 1 AS a, 2 AS a")) == ["a", "a_1"]


def test_statements_without_an_answer_give_no_rows(db: ApexConnection) -> None:
    assert db.execute("CREATE TABLE made (a BIGINT)") == []
    assert db.tables() == ["trades", "made"]
    assert db.query_pandas("INSERT INTO made VALUES (1)").empty
    assert db.execute("SELECT * FROM made") == [(1,)]


def test_frames_of_any_schema_are_appended(db: ApexConnection) -> None:
    frame = pd.DataFrame(
        {"symbol": ["A", "B"], "price": [1.5, None], "at": pd.to_datetime(["2024-01-01", "2024-01-02"])}
    )
    assert db.append("fills", frame) == 2
    assert db.append("fills", pl.from_pandas(frame)) == 2
    assert db.append("fills", {"symbol": ["C"], "price": [2.5]}) == 1
    assert db.execute("SELECT count(*), count(price) FROM fills") == [(5, 3)]


def test_a_large_answer_arrives_whole(db: ApexConnection) -> None:
    table = db.query_arrow("SELECT range AS i, 'row ' || range AS text FROM range(300000)")
    assert table.num_rows == 300_000
    assert table["text"][299_999].as_py() == "row 299999"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"symbol": [1], "price": [1.25], "volume": [1]}, "price_scale"),
        ({"symbol": [1, 2], "price": [1.0, None], "volume": [1, 1]}, "price"),
        ({"symbol": [1], "price": ["x"], "volume": [1]}, "price"),
    ],
)
def test_bad_ticks_are_refused_and_nothing_is_stored(
    db: ApexConnection, data: dict[str, list[object]], words: str
) -> None:
    with pytest.raises(ServerError, match=words):
        db.ingest_pandas(pd.DataFrame(data))
    assert db.execute("SELECT count(*) FROM trades") == [(0,)]


def test_a_missing_column_is_found_before_anything_is_sent() -> None:
    with pytest.raises(UnknownColumnError, match="cost"):
        ApexConnection("127.0.0.1", 1).ingest_pandas(pd.DataFrame(TICKS), price_col="cost")


@pytest.mark.parametrize(
    ("sql", "kind", "name"),
    [
        ("SELEC 1", RemoteQueryError, "SYNTAX_ERROR"),
        ("SELECT nothing FROM trades", RemoteQueryError, "UNKNOWN_IDENTIFIER"),
        ("SELECT * FROM nowhere", RemoteTableError, "UNKNOWN_TABLE"),
        ("SELECT * FROM read_csv('x')", AccessDeniedError, "ACCESS_DENIED"),
    ],
)
def test_errors_are_typed(db: ApexConnection, sql: str, kind: type[ServerError], name: str) -> None:
    with pytest.raises(kind) as caught:
        db.execute(sql)
    assert caught.value.name == name
    assert db.ping()


class _Impatient(BaseHTTPRequestHandler):
    """Answers 503 or breaks the connection as often as it is told, then 200."""

    failures: ClassVar[list[str]] = []
    seen: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(self.path.partition("?")[0])
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "break":
            self.connection.close()
            return
        body = (
            b"Code: 202. DB::Exception: full (TOO_MANY_SIMULTANEOUS_QUERIES) (version 1)\n"
            if failure
            else b'{"rows": 3}'
        )
        self.send_response(503 if failure else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def impatient() -> Iterator[tuple[ApexConnection, type[_Impatient]]]:
    _Impatient.failures, _Impatient.seen = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Impatient)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    with ApexConnection("127.0.0.1", server.server_address[1], retries=1) as connection:
        yield connection, _Impatient
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_busy_server_is_asked_again(impatient: tuple[ApexConnection, type[_Impatient]]) -> None:
    db, server = impatient
    server.failures = ["busy"]
    assert db.ingest_pandas(pd.DataFrame(TICKS)) == 3
    assert server.seen == ["/insert/arrow"] * 2
    server.failures = ["busy", "busy"]
    with pytest.raises(ServerBusyError, match="full"):
        db.ingest_pandas(pd.DataFrame(TICKS))


def test_an_insert_whose_connection_broke_is_not_repeated(impatient: tuple[ApexConnection, type[_Impatient]]) -> None:
    db, server = impatient
    server.failures = ["break"]
    with pytest.raises(ServerUnreachableError, match="may have been carried out"):
        db.ingest_pandas(pd.DataFrame(TICKS))
    assert server.seen == ["/insert/arrow"]
    server.failures = ["break"]
    with pytest.raises(ServerUnreachableError, match="may have been carried out"):
        db.execute("WITH x AS (SELECT 1) DELETE FROM trades")
    assert len(server.seen) == 2


def test_a_statement_that_reads_is_repeated(impatient: tuple[ApexConnection, type[_Impatient]]) -> None:
    db, server = impatient
    server.failures = ["break"]
    assert db.execute("SELECT 1") == []  # this server has no tables
    assert server.seen == ["/", "/"]


def test_the_key_is_never_shown() -> None:
    assert "zepto_" not in repr(ApexConnection(api_key="zepto_" + "0" * 64))


def test_a_server_that_does_not_answer_in_time_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        db = ApexConnection("127.0.0.1", silent.getsockname()[1], timeout=0.05, retries=0)
        with db, pytest.raises(ServerUnreachableError, match="did not answer"):
            db.execute("SELECT 1")


ARROW = b"HTTP/1.1 200 OK\r\nX-ClickHouse-Format: ArrowStream\r\nConnection: close\r\n"
TOLD = b"\r\n__exception__\r\n0123456789abcdef\r\nCode: 241. DB::Exception: memory is gone (MEMORY_LIMIT_EXCEEDED)\n"


def _stream() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.table(TICKS).schema) as writer:
        writer.write_table(pa.table(TICKS))
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ARROW + b"Content-Length: 10000\r\n\r\n" + _stream(), "broke off"),
        (ARROW + b"Content-Length: 300\r\n\r\n" + _stream()[:300], "no end"),
        (ARROW + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + _stream()[:50], "broke off"),
        (ARROW + b"\r\n" + _stream()[:300] + TOLD, "memory is gone"),
        (ARROW + b"Content-Length: 18\r\n\r\nno arrow" + b"\xff" * 4 + b"\0" * 4 + b"..", "no end"),
    ],
)
def test_half_an_answer_is_an_error(answer: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # a request that is not read to its end resets the connection
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            ApexConnection("127.0.0.1", listening.getsockname()[1], timeout=10, retries=0) as db,
            pytest.raises(ServerUnreachableError, match=words),
        ):
            db.query_pandas("SELECT 1")
        thread.join()
