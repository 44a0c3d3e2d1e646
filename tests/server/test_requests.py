"""The protocol around statements: paths, methods, headers, sessions, parameters."""

from __future__ import annotations

import json
import socket

import pytest
import urllib3

from tests.server.http import Http
from zeptodb.server.serve import BackgroundServer


def test_a_get_without_a_statement_says_ok(http: Http) -> None:
    assert http.get().data == b"Ok.\n"
    assert http.get("/ping").data == b"Ok.\n"


def test_statement_in_the_url_in_the_body_or_in_both(http: Http) -> None:
    assert http.get(query="SELECT 1").data == b"1\n"
    assert http.post("SELECT 2").data == b"2\n"
    assert http.post("2 + 1", query="SELECT").data == b"3\n"


def test_blanks_comments_and_a_semicolon_are_fine(http: Http) -> None:
    assert http.text(" /* a ; b */ SELECT 1 -- c\n ; \n") == "1\n"
    assert http.text("SELECT ';' AS x FORMAT CSV;") == '";"\n'


@pytest.mark.parametrize("sql", ["", "  ", "-- nothing", "SELECT 1; SELECT 2", "SELEC 1", "SELECT FROM WHERE", "))"])
def test_what_is_no_statement_is_a_syntax_error(http: Http, sql: str) -> None:
    answer = http.post(sql)
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (400, "62"), answer.data


@pytest.mark.parametrize(
    ("sql", "status", "code", "name"),
    [
        ("SELECT * FROM nowhere", 404, "60", "UNKNOWN_TABLE"),
        ("SELECT nothing FROM trades", 404, "47", "UNKNOWN_IDENTIFIER"),
        ("SELECT nofunction(1)", 404, "46", "UNKNOWN_FUNCTION"),
        ("SELECT * FROM system.nowhere", 404, "60", "UNKNOWN_TABLE"),
        ("SELECT CAST('x' AS INT)", 400, "6", "CANNOT_PARSE_TEXT"),
        ("CREATE TABLE trades (a BIGINT)", 400, "57", "TABLE_ALREADY_EXISTS"),
        ("SHOW TABLES FROM nowhere", 404, "81", "UNKNOWN_DATABASE"),
        ("INSERT INTO nowhere VALUES (1)", 404, "60", "UNKNOWN_TABLE"),
        ("INSERT INTO trades (symbol, nope) VALUES (1, 2)", 404, "47", "UNKNOWN_IDENTIFIER"),
        ("ATTACH 'x'", 501, "48", "NOT_IMPLEMENTED"),
    ],
)
def test_errors_have_clickhouses_code_name_and_status(http: Http, sql: str, status: int, code: str, name: str) -> None:
    answer = http.post(sql)
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (status, code), answer.data
    text = answer.data.decode()
    assert text.startswith(f"Code: {code}. DB::Exception: ")
    assert text.endswith(f" ({name}) (version 26.1.1.1 (official build))\n")


def test_invalid_utf8_is_refused(http: Http) -> None:
    answer = http.post(b"SELECT '\xff\xfe'")
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (400, "6")
    assert b"byte 8" in answer.data


def test_an_unknown_database_is_refused(http: Http) -> None:
    assert http.post("SELECT 1", database="default").status == 200
    answer = http.post("SELECT 1", database="other")
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (404, "81")
    assert http.post("SELECT 1", headers={"X-ClickHouse-Database": "other"}).status == 404


def test_headers_of_an_answer(http: Http) -> None:
    answer = http.post("SELECT 1 AS x FORMAT JSONEachRow", query_id="mine")
    assert answer.headers["X-ClickHouse-Query-Id"] == "mine"
    assert answer.headers["X-ClickHouse-Timezone"] == "UTC"
    assert answer.headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    summary = json.loads(answer.headers["X-ClickHouse-Summary"])
    assert summary["result_rows"] == "1"
    assert all(isinstance(value, str) for value in summary.values())


def test_an_empty_query_id_is_made_up_and_line_breaks_are_stripped(http: Http) -> None:
    first, second = (http.post("SELECT 1", query_id="").headers["X-ClickHouse-Query-Id"] for _ in range(2))
    assert len(first) == 36
    assert first != second
    answer = http.post("SELECT 1", query_id="a\r\nX-Evil: 1")
    assert answer.headers["X-ClickHouse-Query-Id"] == "aX-Evil: 1"
    assert "X-Evil" not in answer.headers


def test_the_connection_stays_open_after_an_error(http: Http) -> None:
    with urllib3.HTTPConnectionPool(
        http.url.removeprefix("http://").split(":")[0], int(http.url.split(":")[2])
    ) as pool:
        for sql in ("SELEC", "SELECT 1", "SELECT * FROM nowhere", "SELECT 1"):
            pool.urlopen("POST", "/", body=sql)
        assert pool.num_connections == 1


@pytest.mark.parametrize(
    "path", ["/nowhere", "/../etc/passwd", "/%2e%2e/etc/passwd", "/insert", "/insert/arrow/x", "//"]
)
def test_an_unknown_path_is_404(http: Http, path: str) -> None:
    answer = http.get(path)
    assert answer.status == 404
    assert b"root:" not in answer.data


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/"), ("DELETE", "/"), ("PATCH", "/"), ("POST", "/ping"), ("GET", "/insert/arrow"), ("POST", "/metrics")],
)
def test_a_wrong_method_is_405(http: Http, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert answer.status == 405
    assert "Allow" in answer.headers


def test_head_answers_without_a_body(http: Http) -> None:
    answer = http.request("HEAD", "/", query="SELECT 1")
    assert (answer.status, answer.data) == (200, b"")
    assert answer.headers["X-ClickHouse-Format"] == "TabSeparated"


def test_options_allows_other_origins(http: Http) -> None:
    answer = http.request("OPTIONS", "/")
    assert answer.status == 204
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


def test_expect_100_continue_is_answered_at_once(server: BackgroundServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"SELECT 5")
        received = b""
        while part := connection.recv(1000):
            received += part
    assert received.endswith(b"5\n")


def test_settings_in_the_statement_and_in_the_url_do_no_harm(http: Http) -> None:
    assert http.text("SELECT 1 SETTINGS max_threads = 1, x = 'y' FORMAT CSV", max_block_size=1, made_up="1") == "1\n"


def test_a_session_keeps_what_set_says(http: Http) -> None:
    http.text("SET param_x = 7", session_id="a")
    assert http.text("SELECT {x:Int64}", session_id="a") == "7\n"
    assert http.post("SELECT {x:Int64}", session_id="b").status == 400
    http.text("SET output_format_json_quote_64bit_integers = 1", session_id="a")
    assert http.text("SELECT 1::BIGINT AS x FORMAT JSONEachRow", session_id="a") == '{"x":"1"}\n'


def test_a_session_can_be_asked_to_exist(http: Http) -> None:
    answer = http.post("SELECT 1", session_id="none", session_check=1)
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (404, "372")


@pytest.mark.parametrize(
    ("kind", "text", "sql", "expected"),
    [
        ("Int64", "-5", "SELECT {p:Int64} + 1", "-4"),
        ("Float64", "0.5", "SELECT {p:Float64} * 2", "1"),
        ("String", "a\\tb\\\\n'; DROP TABLE trades; --", "SELECT {p:String}", "a\\tb\\\\n\\'; DROP TABLE trades; --"),
        ("Bool", "true", "SELECT {p:Bool}", "true"),
        ("Date", "2024-01-02", "SELECT {p:Date} + 1", "2024-01-03"),
        ("DateTime", "2024-01-02 03:04:05", "SELECT {p:DateTime}", "2024-01-02 03:04:05"),
        ("Nullable(Int32)", "\\N", "SELECT {p:Nullable(Int32)} IS NULL", "true"),
        ("Array(Int64)", "[1, 2, 3]", "SELECT 2 IN {p:Array(Int64)}, 9 IN {p:Array(Int64)}", "true\tfalse"),
        ("Array(String)", "['a', 'b\\'c']", "SELECT {p:Array(String)}[2]", "b\\'c"),
        ("Identifier", "trades", "SELECT count(*) >= 0 FROM {p:Identifier}", "true"),
        ("UInt8", "1", "SELECT * FROM range(5) ORDER BY 1 LIMIT {p:UInt8} OFFSET {p:UInt8}", "1"),
        ("String", "x", "SELECT '{p:String}'", "{p:String}"),
    ],
)
def test_parameters(http: Http, kind: str, text: str, sql: str, expected: str) -> None:
    assert http.text(sql, param_p=text) == expected + "\n"


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("Int8", "300", 457), ("Int64", "x", 457), ("UInt8", "-1", 457), ("Date", "soon", 457), ("String", "a\tb", 457),
        ("Array(Int64)", "1, 2", 457), ("Int64", "\\N", 457), ("Nonsense", "1", 50),
    ],
)  # fmt: skip
def test_bad_parameters(http: Http, kind: str, text: str, code: int) -> None:
    answer = http.post(f"SELECT {{p:{kind}}}", param_p=text)
    assert answer.headers["X-ClickHouse-Exception-Code"] == str(code), answer.data


def test_a_missing_parameter_is_named(http: Http) -> None:
    answer = http.post("SELECT {wanted:Int64}")
    assert answer.headers["X-ClickHouse-Exception-Code"] == "456"
    assert b"'wanted'" in answer.data
    assert http.text("SELECT {'a': 1}.a") == "1\n"


def test_health_readiness_and_figures(http: Http, server: BackgroundServer) -> None:
    http.text("SELECT 1")
    assert json.loads(http.get("/health").data)["status"] == "ok"
    assert json.loads(http.get("/ready").data)["status"] == "ready"
    stats = json.loads(http.get("/stats").data)
    assert stats["queries_executed"] == server.pipeline.stats().queries_executed
    assert stats["tables"] == {"trades": 0}
    metrics = http.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b'zeptodb_requests_total{method="POST",route="/",status="200"}' in metrics.data
    assert b'zeptodb_table_rows{table="trades"} 0.0' in metrics.data


@pytest.mark.parametrize(
    ("sql", "rows", "size"),
    [
        ("SELECT sum(price) FROM read_from", 3, 24),
        ("SELECT * FROM read_from", 3, 3 * (8 + 4 + 8)),
        ("SELECT symbol FROM read_from", 3, 0),  # a symbol is stored once, not per row
        ("SELECT symbol, count(*) FROM read_from WHERE size > 0 GROUP BY symbol", 3, 12),
        ("SELECT time_bucket(INTERVAL '1 second', timestamp) AS t, max(size) FROM read_from GROUP BY t", 3, 36),
        ("SELECT a.size, b.price FROM read_from a ASOF JOIN read_from b USING (symbol, timestamp)", 6, 3 * 12 + 3 * 16),
        ("SELECT median(price) FROM read_from", 3, 24),
    ],
)  # fmt: skip
def test_the_summary_says_what_was_read(http: Http, sql: str, rows: int, size: int) -> None:
    http.text("CREATE OR REPLACE TABLE read_from (symbol SYMBOL, price BIGINT, size INT, timestamp TIMESTAMP_NS)")
    http.text("INSERT INTO read_from VALUES (1, 10, 1, 1), (1, 11, 2, 2), (2, 20, 3, 3)")
    answer = http.post(sql + " FORMAT JSON")
    summary = json.loads(answer.headers["X-ClickHouse-Summary"])
    assert (summary["read_rows"], summary["read_bytes"]) == (str(rows), str(size)), answer.data
    assert json.loads(answer.data)["statistics"]["bytes_read"] == size


def test_the_summary_of_an_insert_says_what_was_written(http: Http) -> None:
    http.text("CREATE OR REPLACE TABLE written (a BIGINT)")
    answer = http.post("1\n2\n3\n", query="INSERT INTO written FORMAT CSV")
    summary = json.loads(answer.headers["X-ClickHouse-Summary"])
    assert (summary["written_rows"], summary["written_bytes"], summary["read_rows"]) == ("3", "6", "0")


def test_a_temporary_table_is_refused(http: Http) -> None:
    answer = http.post("CREATE TEMPORARY TABLE t (a Int64)", session_id="s")
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (501, "48"), answer.data
    assert http.post("SELECT * FROM t", session_id="s").status == 404
