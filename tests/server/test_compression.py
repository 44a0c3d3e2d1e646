"""Compressed bodies in both directions, broken ones, and bombs."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import lz4.frame
import pytest
import urllib3

from tests.server.http import Http
from zeptodb.server.compression import framed, unframed
from zeptodb.server.serve import BackgroundServer
from zeptodb.server.settings import ServerSettings

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT = 1_000_000
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
    "lz4": lz4.frame.compress,
}
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": zstd.decompress,
    "lz4": lz4.frame.decompress,
}


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer(ServerSettings(port=0, backend="cpu", max_body_bytes=LIMIT)) as running:
        yield running


@pytest.mark.parametrize("encoding", PACK)
def test_requests_may_be_compressed(http: Http, encoding: str) -> None:
    answer = http.post(PACK[encoding](b"SELECT 42"), headers={"Content-Encoding": encoding})
    assert (answer.status, answer.data) == (200, b"42\n")


@pytest.mark.parametrize("encoding", PACK)
def test_several_frames_are_read_to_the_end(http: Http, encoding: str) -> None:
    body = b"".join(PACK[encoding](part) for part in (b"SELECT ", b"4", b"2"))
    assert http.post(body, headers={"Content-Encoding": encoding}).data == b"42\n"


@pytest.mark.parametrize("encoding", PACK)
def test_answers_are_compressed_when_both_sides_want_it(http: Http, encoding: str) -> None:
    sql = "SELECT range FROM range(100000)"
    expected = b"".join(b"%d\n" % i for i in range(100_000))
    answer = http.post(sql, headers={"Accept-Encoding": f"br, {encoding}"}, enable_http_compression=1)
    assert answer.headers["Content-Encoding"] == encoding
    assert UNPACK[encoding](answer.data) == expected
    plain = http.post(sql, headers={"Accept-Encoding": encoding})
    assert "Content-Encoding" not in plain.headers
    assert plain.data == expected


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("damage", ["truncated", "not compressed", "flipped"])
def test_broken_compression_is_refused(http: Http, encoding: str, damage: str) -> None:
    body = PACK[encoding](b"SELECT 42 -- " + bytes(range(32, 127)) * 20)
    broken = {
        "truncated": body[:-9],
        "not compressed": b"SELECT 42",
        "flipped": body[:20] + bytes(b ^ 255 for b in body[20:40]) + body[40:],
    }[damage]
    answer = http.post(broken, headers={"Content-Encoding": encoding})
    assert answer.status == 400, answer.data
    assert answer.headers["X-ClickHouse-Exception-Code"] in ("271", "354", "6", "62")


@pytest.mark.parametrize("encoding", PACK)
def test_a_bomb_is_stopped_at_the_limit(http: Http, encoding: str) -> None:
    bomb = PACK[encoding](b"SELECT 1 --" + bytes(30_000_000))
    answer = http.post(bomb, headers={"Content-Encoding": encoding})
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (413, "223"), answer.data


def test_an_unknown_encoding_is_refused(http: Http) -> None:
    answer = http.post(b"SELECT 1", headers={"Content-Encoding": "snappy"})
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (400, "89")


def test_blocks_of_clickhouse_in_and_out(http: Http) -> None:
    answer = http.post("SELECT range FROM range(100000)", compress=1)
    assert unframed(answer.data, 10**9) == b"".join(b"%d\n" % i for i in range(100_000))
    body = b"".join(framed([b"SELECT 4", b"2"]))
    assert http.post(body, decompress=1).data == b"42\n"


@pytest.mark.parametrize("damage", ["truncated", "flipped", "size"])
def test_broken_blocks_are_refused(http: Http, damage: str) -> None:
    body = b"".join(framed([b"SELECT 42" * 10]))
    broken = {
        "truncated": body[:-3],
        "flipped": body[:30] + bytes([body[30] ^ 1]) + body[31:],
        "size": body[:17] + b"\xff\xff\xff\x7f" + body[21:],
    }[damage]
    assert http.post(broken, decompress=1).status == 400


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: BackgroundServer) -> None:
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(LIMIT + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_chunked_body_over_the_limit_is_refused(http: Http) -> None:
    pool, url = http.pool, http.url
    try:
        answer = pool.request("POST", url + "/", body=(b"x" * 100_000 for _ in range(30)))
        assert answer.status == 413
    except urllib3.exceptions.ProtocolError:
        pass  # the server has answered and closed while more was being sent
