"""Clients that go away, are slow, or ask for too much; statements that are killed; a stop amid an insert."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import clickhouse_connect
import pytest
import urllib3
from clickhouse_connect.driver.exceptions import StreamFailureError

from tests.server.http import Http
from zeptodb.errors import InvalidInputError
from zeptodb.server.formats import output
from zeptodb.server.serve import BackgroundServer
from zeptodb.server.settings import ServerSettings

ENDLESS = "SELECT sum(a.range * b.range % 7) FROM range(3000000) a, range(3000000) b"
"""Runs for hours if nobody ends it."""

PATIENCE = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    settings = ServerSettings(
        port=0,
        backend="cpu",
        max_concurrent_statements=2,
        max_waiting_statements=1,
        max_result_rows=200_000,
        body_timeout_seconds=0.3,
        send_timeout_seconds=0.5,
    )
    with BackgroundServer(settings) as running:
        yield running


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.005)


def running(http: Http) -> list[str]:
    return [entry["query_id"] for entry in json.loads(http.get("/queries").data)]


def send(server: BackgroundServer, head: str, body: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
    return connection


def received(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "sql",
    [
        ENDLESS,
        "SELECT version(), (SELECT sum(a.range * b.range % 7) FROM range(3000000) a, range(3000000) b)",
        "SELECT count(*) FROM system.columns a, range(3000000) b, range(3000000) c WHERE (b.range * c.range) % 7 = 3",
    ],
)
def test_a_statement_over_its_time_ends(http: Http, sql: str) -> None:
    answer = http.post(sql, max_execution_time=1)
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (408, "159")
    assert running(http) == []


def test_a_client_that_goes_away_frees_its_statement(server: BackgroundServer, http: Http) -> None:
    connection = send(
        server, f"POST /?query_id=left HTTP/1.1\nHost: x\nContent-Length: {len(ENDLESS)}", ENDLESS.encode()
    )
    until(lambda: running(http) == ["left"])
    connection.close()
    until(lambda: running(http) == [])
    until(lambda: not server.pipeline.running_queries())


@pytest.mark.parametrize("way", ["statement", "route"])
def test_a_running_statement_can_be_killed(http: Http, way: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(http.post, ENDLESS, query_id="doomed")
        until(lambda: "doomed" in running(http))
        listed = http.text("SELECT query FROM system.processes WHERE query_id = 'doomed'")
        assert listed.startswith("SELECT sum(")
        if way == "statement":
            assert http.text("KILL QUERY WHERE query_id = 'doomed'").startswith("waiting\tdoomed\t")
        else:
            assert http.request("DELETE", "/queries/doomed").status == 200
        answer = asked.result()
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (500, "394")


def test_more_statements_than_may_wait_are_turned_away(http: Http) -> None:
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(http.post, ENDLESS, query_id=f"busy{i}") for i in range(3)]
        until(lambda: len(running(http)) == 3)
        until(lambda: json.loads(http.get("/stats").data)["statements_waiting"] == 1)
        answer = http.post("SELECT 1")
        assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (429, "202")
        assert answer.headers["Retry-After"] == "1"
        assert http.get("/ready").status == 503
        assert http.get("/health").status == 200
        for i in (2, 1, 0):
            http.request("DELETE", f"/queries/busy{i}")
        assert {future.result().status for future in asked} == {500}
    assert http.get("/ready").status == 200


def test_a_query_id_that_runs_already_is_refused(http: Http) -> None:
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(http.post, ENDLESS, query_id="twice")
        until(lambda: "twice" in running(http))
        assert http.post("SELECT 1", query_id="twice").status == 400
        http.request("DELETE", "/queries/twice")
        assert asked.result().status == 500


def test_more_rows_than_allowed_are_refused(http: Http) -> None:
    answer = http.post("SELECT range FROM range(200001)")
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (413, "396")
    assert http.post("SELECT range FROM range(11)", max_result_rows=10).status == 413
    assert http.post("SELECT range FROM range(10)", max_result_rows=10).status == 200


def test_a_body_that_falls_silent_ends_the_request_and_stores_nothing(server: BackgroundServer) -> None:
    head = "POST /?query=INSERT+INTO+trades+FORMAT+CSV HTTP/1.1\nHost: x\nContent-Length: 1000\nConnection: close"
    with send(server, head, b"1,2,3,4\n") as connection:
        assert received(connection).startswith(b"HTTP/1.1 408 ")
    assert server.pipeline.count(1) == 0


def test_a_body_that_breaks_off_stores_nothing(server: BackgroundServer, http: Http) -> None:
    head = "POST /?query=INSERT+INTO+trades+FORMAT+CSV HTTP/1.1\nHost: x\nContent-Length: 1000"
    send(server, head, b"1,2,3,4\n").close()
    until(lambda: running(http) == [])
    assert http.text("SELECT count(*) FROM trades") == "0\n"


@pytest.mark.parametrize("length", ["-5", "abc", "1, 2", "99999999999999999999"])
def test_a_bad_content_length_is_refused(server: BackgroundServer, length: str) -> None:
    with send(
        server, f"POST / HTTP/1.1\nHost: x\nContent-Length: {length}\nConnection: close", b"SELECT 1"
    ) as connection:
        answer = received(connection)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))


def test_a_client_that_reads_nothing_is_dropped_and_others_go_on(server: BackgroundServer, http: Http) -> None:
    sql = b"SELECT range, repeat('x', 500) FROM range(150000)"
    with send(server, f"POST / HTTP/1.1\nHost: x\nContent-Length: {len(sql)}", sql) as slow:
        assert http.text("SELECT 1") == "1\n"
        time.sleep(1.5)  # longer than the server's patience; nothing else can be observed from here
        slow.settimeout(PATIENCE)
        got = 0
        try:
            while part := slow.recv(1 << 20):
                got += len(part)
        except ConnectionError:
            pass
    assert got < 70_000_000


def test_a_client_that_leaves_midway_is_no_harm(server: BackgroundServer, http: Http) -> None:
    sql = b"SELECT range, repeat('x', 500) FROM range(150000)"
    with send(server, f"POST / HTTP/1.1\nHost: x\nContent-Length: {len(sql)}", sql) as leaving:
        assert leaving.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert http.text("SELECT 1") == "1\n"
    until(lambda: running(http) == [])


def test_a_stop_finishes_the_insert_that_is_in_flight() -> None:
    server = BackgroundServer(ServerSettings(port=0, backend="cpu"))
    with server:
        head = "POST /?query=INSERT+INTO+trades+FORMAT+CSV HTTP/1.1\nHost: x\nContent-Length: 16"
        with send(server, head, b"1,2,3,4\n") as connection:
            until(lambda: bool(server._server.server_state.tasks))
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            until(lambda: not server._server.servers[0].is_serving())
            connection.sendall(b"5,6,7,8\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
    assert server.pipeline.execute("SELECT count(*) FROM trades").rows == [[2]]
    with pytest.raises(OSError):  # noqa: PT011 - refused, or reset
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


def test_a_stop_gives_up_an_insert_that_does_not_end() -> None:
    server = BackgroundServer(ServerSettings(port=0, backend="cpu", grace_seconds=1, body_timeout_seconds=60))
    with server:
        head = "POST /?query=INSERT+INTO+trades+FORMAT+CSV HTTP/1.1\nHost: x\nContent-Length: 16"
        with send(server, head, b"1,2,3,4\n"):
            until(lambda: bool(server._server.server_state.tasks))
            server.stop()
    assert server.pipeline.execute("SELECT count(*) FROM trades").rows == [[0]]


def test_queued_ticks_are_stored_when_the_server_stops() -> None:
    with BackgroundServer(ServerSettings(port=0, backend="cpu")) as server:
        for i in range(1000):
            server.pipeline.ingest(symbol=1, price=i, volume=1)
    assert server.pipeline.stats().ticks_stored == 1000


def test_many_clients_write_and_read_and_lose_nothing(tmp_path: object) -> None:
    settings = ServerSettings(port=0, backend="cpu")
    with BackgroundServer(settings) as server, urllib3.PoolManager(maxsize=16, retries=False) as pool:
        http = Http(pool, server.url)

        def client(number: int) -> int:
            for i in range(20):
                http.text(f"INSERT INTO trades (symbol, price, volume) VALUES ({number}, {i}, 1), ({number}, {i}, 1)")
                assert http.text(f"SELECT count(*) FROM trades WHERE symbol = {number}") == f"{2 * i + 2}\n"
            return 40

        with ThreadPoolExecutor(16) as threads:
            written = sum(threads.map(client, range(16)))
        assert http.text("SELECT count(*) FROM trades") == f"{written}\n"


def test_an_error_midway_is_told_in_the_body(
    http: Http, server: BackgroundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = output.output_format("Native")

    def breaks(answer: output.Answer) -> Iterator[output.Piece]:
        pieces = real.write(answer)
        yield next(pieces)
        if answer.table.num_rows > 1000:  # not what clients ask when they connect
            raise InvalidInputError("the rest is gone")

    monkeypatch.setitem(output._BY_NAME, "native", replace(real, write=breaks))
    answer = http.post("SELECT range FROM range(150000) FORMAT Native")
    tag = answer.headers["X-ClickHouse-Exception-Tag"].encode()
    text, length = re.search(
        rb"\r\n__exception__\r\n%s\r\n(.*?\n)(\d+) %s\r\n__exception__\r\n$" % (tag, tag), answer.data, re.DOTALL
    ).groups()
    assert b"the rest is gone" in text
    assert len(text) == int(length)
    with (
        clickhouse_connect.get_client(host="127.0.0.1", port=server.port) as client,
        pytest.raises(StreamFailureError, match="gone"),
    ):
        client.query("SELECT range FROM range(150000)")


def test_a_statement_over_its_memory_ends() -> None:
    settings = ServerSettings(port=0, backend="cpu", memory_limit=50_000_000)
    with BackgroundServer(settings) as small, urllib3.PoolManager(retries=False) as pool:
        answer = Http(pool, small.url).post("SELECT list(range) FROM range(50000000)")
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (500, "241"), answer.data
