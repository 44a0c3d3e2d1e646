"""Keys and roles: every route and kind of statement, with every kind of key."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import urllib3

from tests.server.http import Http
from zeptodb.server.keys import create_key, revoke_key
from zeptodb.server.serve import BackgroundServer
from zeptodb.server.settings import ServerSettings


@dataclass(frozen=True)
class Guarded:
    http: Http
    file: Path
    keys: dict[str, str]
    server: BackgroundServer

    def as_(self, role: str) -> dict[str, str]:
        return {} if role == "nobody" else {"Authorization": f"Bearer {self.keys[role]}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    keys = {role: create_key(file, role=role, name=role) for role in ("admin", "writer", "reader")}
    keys["trades only"] = create_key(file, role="reader", name="trades only", tables=["trades"])
    keys["writes trades"] = create_key(file, role="writer", name="writes trades", tables=["trades"])
    keys["expired"] = create_key(file, role="admin", name="expired", expires="2020-01-01")
    keys["wrong"] = "zepto_" + "0" * 64
    settings = ServerSettings(port=0, backend="cpu", require_auth=True, keys=file)
    with BackgroundServer(settings) as server, urllib3.PoolManager(retries=False) as pool:
        server.pipeline.execute("CREATE TABLE secret (symbol STRING, price DOUBLE)").raise_for_error()
        server.pipeline.execute("CREATE VIEW disguised AS SELECT * FROM secret").raise_for_error()
        yield Guarded(Http(pool, server.url), file, keys, server)


def _stream() -> bytes:
    sink = io.BytesIO()
    table = pa.table({"symbol": [1], "price": [1], "volume": [1]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


ROLES = ("nobody", "wrong", "expired", "trades only", "writes trades", "reader", "writer", "admin")
REQUESTS: dict[str, tuple[str, str, bytes | None]] = {
    "ping": ("GET", "/ping", None),
    "health": ("GET", "/health", None),
    "ready": ("GET", "/ready", None),
    "stats": ("GET", "/stats", None),
    "metrics": ("GET", "/metrics", None),
    "queries": ("GET", "/queries", None),
    "kill": ("DELETE", "/queries/none", None),
    "insert/arrow": ("POST", "/insert/arrow?table=trades", _stream()),
    "insert/arrow new": ("POST", "/insert/arrow?table=made", _stream()),
    "select": ("POST", "/", b"SELECT count(*) FROM trades"),
    "select other": ("POST", "/", b"SELECT * FROM secret"),
    "select join": ("POST", "/", b"SELECT * FROM trades JOIN secret USING (price)"),
    "select cte": ("POST", "/", b"WITH secret AS (SELECT * FROM secret) SELECT * FROM secret"),
    "select words": ("POST", "/", b"SELECT countIf(price > 0), version() FROM `default`.`secret`"),
    "show": ("POST", "/", b"SHOW TABLES"),
    "insert": ("POST", "/", b"INSERT INTO trades (symbol, price, volume) VALUES (1, 2, 3)"),
    "insert other": ("POST", "/", b"INSERT INTO secret VALUES ('A', 1.5)"),
    "insert select": ("POST", "/", b"INSERT INTO trades (symbol, price, volume) SELECT 1, price::INT, 1 FROM secret"),
    "insert subquery": (
        "POST", "/", b"INSERT INTO trades (symbol, price, volume) VALUES (1, (SELECT count(*) FROM secret), 1)",
    ),
    "delete": ("POST", "/", b"DELETE FROM trades WHERE price < -1"),
    "create": ("POST", "/", b"CREATE TABLE IF NOT EXISTS fresh (a BIGINT)"),
    "kill query": ("POST", "/", b"KILL QUERY WHERE query_id = 'none'"),
    "information_schema": ("POST", "/", b"SELECT table_name FROM information_schema.tables"),
}  # fmt: skip

ANYBODY = dict.fromkeys(ROLES, 200)
WITH_KEY = {**ANYBODY, "nobody": 401, "wrong": 403, "expired": 403}
ALL_TABLES = {**WITH_KEY, "trades only": 403, "writes trades": 403}
WRITERS = {**WITH_KEY, "trades only": 403, "reader": 403}
WRITERS_OF_ALL = {**WRITERS, "writes trades": 403}
ADMINS = {**WRITERS_OF_ALL, "writer": 403}

EXPECTED = {
    "ping": ANYBODY,
    "health": ANYBODY,
    "ready": ANYBODY,
    "stats": WITH_KEY,
    "metrics": ALL_TABLES,
    "queries": ADMINS,
    "kill": {**ADMINS, "admin": 404},
    "insert/arrow": WRITERS,
    "insert/arrow new": ADMINS,
    "select": WITH_KEY,
    "select other": ALL_TABLES,
    "select join": ALL_TABLES,
    "select cte": ALL_TABLES,
    "select words": ALL_TABLES,
    "show": WITH_KEY,
    "insert": WRITERS,
    "insert other": WRITERS_OF_ALL,
    "insert select": WRITERS_OF_ALL,
    "insert subquery": WRITERS_OF_ALL,
    "delete": WRITERS,
    "create": ADMINS,
    "kill query": ADMINS,
    "information_schema": ALL_TABLES,
}


@pytest.mark.parametrize("name", REQUESTS)
def test_every_route_with_every_role(guarded: Guarded, name: str) -> None:
    method, path, body = REQUESTS[name]
    statuses = {role: guarded.http.request(method, path, body=body, headers=guarded.as_(role)).status for role in ROLES}
    assert statuses == EXPECTED[name]


def test_every_route_is_in_the_table(guarded: Guarded) -> None:
    app = guarded.server._server.config.app
    paths = {route.path for route in app.routes}  # type: ignore[union-attr]
    tried = {path.partition("?")[0].replace("/none", "/{query_id}") for _, path, _ in REQUESTS.values()}
    assert paths == tried


@pytest.mark.parametrize("way", ["bearer", "header", "basic", "parameter"])
def test_a_key_may_be_sent_in_four_ways(guarded: Guarded, way: str) -> None:
    key = guarded.keys["reader"]
    basic = base64.b64encode(f"anybody:{key}".encode()).decode()
    headers = {
        "bearer": {"Authorization": f"Bearer {key}"},
        "header": {"X-ClickHouse-User": "anybody", "X-ClickHouse-Key": key},
        "basic": {"Authorization": f"Basic {basic}"},
        "parameter": {},
    }[way]
    options = {"user": "anybody", "password": key} if way == "parameter" else {}
    answer = guarded.http.post("SELECT currentUser()", headers=headers, **options)
    assert (answer.status, answer.data) == (200, b"reader\n")


def test_broken_basic_authentication_is_refused(guarded: Guarded) -> None:
    answer = guarded.http.post("SELECT 1", headers={"Authorization": "Basic not*base64"})
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (403, "516")


def test_failures_have_clickhouses_codes(guarded: Guarded) -> None:
    codes = {
        role: guarded.http.post("DROP TABLE trades", headers=guarded.as_(role)).headers["X-ClickHouse-Exception-Code"]
        for role in ("nobody", "wrong", "expired", "reader")
    }
    assert codes == {"nobody": "194", "wrong": "516", "expired": "516", "reader": "497"}


def test_a_key_for_single_tables_sees_only_these(guarded: Guarded) -> None:
    headers = guarded.as_("trades only")
    assert guarded.http.post("SHOW TABLES", headers=headers).data == b"trades\n"
    assert guarded.http.post("EXISTS TABLE secret", headers=headers).data == b"0\n"
    assert guarded.http.post("DESCRIBE TABLE secret", headers=headers).status == 404
    listed = guarded.http.post("SELECT name FROM system.tables WHERE database = 'default'", headers=headers)
    assert listed.data == b"trades\n"
    assert json.loads(guarded.http.get("/stats", headers=headers).data)["tables"].keys() == {"trades"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM query('SELECT * FROM secret')",
        "SELECT * FROM query_table('secret')",
        "SELECT * FROM duckdb_tables()",
        "SELECT (SELECT max(price) FROM secret)",
        'SELECT * FROM "secret"',
        "SELECT * FROM SECRET",
        "SELECT * FROM (VALUES (1)) AS t(x) WHERE EXISTS (SELECT 1 FROM secret)",
        "SELECT 1 UNION ALL SELECT count(*) FROM secret",
        "FROM secret",
        "SUMMARIZE secret",
        "EXPLAIN ANALYZE SELECT * FROM secret",
        "SELECT secret FROM trades, secret",
        "PIVOT secret ON symbol USING max(price)",
        "DESCRIBE SELECT * FROM secret",
        "SHOW CREATE TABLE secret",
        "SELECT * FROM pragma_table_info('secret')",
        "SELECT * FROM memory.main.secret",
        "SELECT * FROM {t:Identifier}",
        "SELECT * FROM disguised",
        "DESCRIBE disguised",
        "DESC (SELECT * FROM secret)",
    ],
)
def test_no_way_around_the_tables_of_a_key(guarded: Guarded, sql: str) -> None:
    answer = guarded.http.post(sql, headers=guarded.as_("trades only"), param_t="secret")
    assert answer.status in (400, 403, 404), answer.data


@pytest.mark.parametrize("name", ["names", "secret"])
def test_tables_of_a_form_open_no_other_table(guarded: Guarded, name: str) -> None:
    fields = [("query", f"SELECT max(price) FROM {name}, secret"), (name, (name, b"1\n"))]
    body, kind = urllib3.encode_multipart_formdata(fields)
    headers = {**guarded.as_("trades only"), "Content-Type": kind}
    assert guarded.http.post(body, headers=headers, **{f"{name}_structure": "price Int64"}).status == 403
    assert guarded.http.post(body, headers={"Content-Type": kind}).status == 401


def test_a_key_may_be_a_field_of_a_form(guarded: Guarded) -> None:
    fields = {"query": "SELECT currentUser()", "password": guarded.keys["reader"]}
    body, kind = urllib3.encode_multipart_formdata(fields)
    assert guarded.http.post(body, headers={"Content-Type": kind}).data == b"reader\n"


def test_a_get_request_never_writes(guarded: Guarded) -> None:
    for sql in (
        "INSERT INTO trades (symbol, price, volume) VALUES (1, 2, 3)",
        "DROP TABLE trades",
        "DELETE FROM trades",
    ):
        answer = guarded.http.get(headers=guarded.as_("admin"), query=sql)
        assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (403, "164")
    for sql in ("EXPLAIN ANALYZE DELETE FROM trades", "WITH x AS (SELECT 1) DELETE FROM trades"):
        assert guarded.http.get(headers=guarded.as_("admin"), query=sql).status == 403
        assert guarded.http.post(sql, headers=guarded.as_("reader")).status == 403


def test_a_revoked_key_ends_at_once(guarded: Guarded) -> None:
    key = create_key(guarded.file, role="reader", name="brief")
    headers = {"Authorization": f"Bearer {key}"}
    assert guarded.http.post("SELECT 1", headers=headers).status == 200
    revoke_key(guarded.file, "brief")
    assert guarded.http.post("SELECT 1", headers=headers).status == 403


def test_who_has_no_key_cannot_make_the_server_read_a_body(guarded: Guarded) -> None:
    answer = guarded.http.post(b"x" * 1000, headers={"Content-Encoding": "gzip"})
    assert answer.status == 401
