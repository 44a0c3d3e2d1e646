"""Tables that come with a statement, in a form."""

from __future__ import annotations

import io
from collections.abc import Iterator

import clickhouse_connect
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import urllib3
from clickhouse_connect.driver.external import ExternalData

from tests.server.http import Http
from zeptodb.server.serve import BackgroundServer
from zeptodb.server.settings import ServerSettings

LIMIT = 200_000


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer(ServerSettings(port=0, backend="cpu", max_body_bytes=LIMIT)) as running:
        ticks = {"symbol": [1, 1, 2], "price": [10, 11, 20], "volume": [1, 2, 3], "timestamp": [1000, 2000, 3000]}
        running.pipeline.append("trades", pa.table(ticks))
        running.pipeline.execute("CREATE VIEW prices AS SELECT symbol, price FROM trades").raise_for_error()
        yield running


def ask(http: Http, sql: str, files: dict[str, bytes], **options: str) -> urllib3.BaseHTTPResponse:
    fields: list[tuple[str, object]] = [("query", sql)]
    fields += [(name, (name + ".dat", data)) for name, data in files.items()]
    body, kind = urllib3.encode_multipart_formdata(fields)  # type: ignore[arg-type]
    answer: urllib3.BaseHTTPResponse = http.post(body, headers={"Content-Type": kind}, **options)
    return answer


NAMES = b"1\tone\n2\ttwo\n"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM names ORDER BY id", b"1\tone\n2\ttwo\n"),
        (
            "SELECT name, sum(volume) FROM trades JOIN names ON symbol = id GROUP BY name ORDER BY 1",
            b"one\t3\ntwo\t3\n",
        ),
        ("SELECT count(*) FROM trades WHERE symbol IN (SELECT id FROM names WHERE name = 'one')", b"2\n"),
        ("SELECT countIf(name = 'one') FROM default.names", b"1\n"),
        ("SELECT max(p.price) FROM prices p JOIN names n ON n.id = p.symbol WHERE n.name = 'two'", b"20\n"),
        ("SELECT name FROM names WHERE id = {id:Int64}", b"two\n"),
    ],
)
def test_a_statement_reads_them_beside_ours(http: Http, sql: str, expected: bytes) -> None:
    answer = ask(http, sql, {"names": NAMES}, names_structure="id Int64, name String", param_id="2")
    assert (answer.status, answer.data) == (200, expected)
    assert http.post("SELECT * FROM names").status == 404  # nobody else sees them


def test_columns_without_names_and_other_formats(http: Http) -> None:
    answer = ask(http, "SELECT _1 * 2, _2 FROM t ORDER BY 1", {"t": NAMES}, t_types="Int64,Nullable(String)")
    assert answer.data == b"2\tone\n4\ttwo\n"
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [5, 6], "x": [0.5, None]}), sink)
    structure = {"t_structure": "id Int32, x Nullable(Float64)", "t_format": "Parquet"}
    assert ask(http, "SELECT * FROM t", {"t": sink.getvalue()}, **structure).data == b"5\t0.5\n6\t\\N\n"
    both = {"a_types": "Int64", "b_types": "String", "a_format": "CSV", "b_format": "JSONCompactEachRow"}
    answer = ask(http, "SELECT a._1, b._1 FROM a, b", {"a": b"7\n", "b": b'["x"]\n'}, **both)
    assert (answer.status, answer.data) == (200, b"7\tx\n")


def test_times_are_times(http: Http) -> None:
    data = b"2024-01-02 03:04:05\tx\n"
    options = {"t_structure": "at DateTime64(3), name LowCardinality(String)"}
    assert ask(http, "SELECT toYear(at), name FROM t", {"t": data}, **options).data == b"2024\tx\n"


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({}, 400, "36"),
        ({"names_structure": "id Int64 name"}, 400, "36"),
        ({"names_structure": "id Int64); DROP TABLE trades; --"}, 400, "36"),
        ({"names_structure": "id Nonsense"}, 400, "36"),
        ({"names_types": "Int64"}, 400, None),
        ({"names_types": "Int64,Int64"}, 400, None),
        ({"names_types": "Int64,String", "names_format": "Nonsense"}, 404, "73"),
    ],
)
def test_bad_ones_are_refused(http: Http, options: dict[str, str], status: int, code: str | None) -> None:
    answer = ask(http, "SELECT * FROM names", {"names": NAMES}, **options)
    assert answer.status == status, answer.data
    assert code in (None, answer.headers["X-ClickHouse-Exception-Code"])
    assert http.text("SELECT count(*) FROM trades") == "3\n"


def test_a_name_that_is_none_and_a_statement_that_writes_are_refused(http: Http) -> None:
    assert ask(http, "SELECT 1", {"no name": NAMES}).status == 400
    answer = ask(http, "DELETE FROM trades", {"names": NAMES}, names_types="Int64,String")
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (501, "48")


def test_a_form_over_the_limit_is_refused(http: Http) -> None:
    assert ask(http, "SELECT 1", {"t": b"1\n" * LIMIT}, t_types="Int64").status == 413
    body, kind = urllib3.encode_multipart_formdata([("query", "SELECT 1"), ("t", ("t", b"1\n" * LIMIT))])
    pieces = (body[i : i + 50_000] for i in range(0, len(body), 50_000))  # without a Content-Length
    url = f"{http.url}/?t_types=Int64"
    assert http.pool.request("POST", url, body=pieces, headers={"Content-Type": kind}).status == 413


def test_clickhouse_connect_sends_them(server: BackgroundServer) -> None:
    external = ExternalData(
        file_name="names.csv", data=b'1,"one"\n2,"two"\n', fmt="CSV", structure="id Int64, n String"
    )
    with clickhouse_connect.get_client(host="127.0.0.1", port=server.port) as client:
        sql = "SELECT n, max(price) AS most FROM trades JOIN names ON id = symbol GROUP BY n ORDER BY n"
        assert client.query(sql, external_data=external).result_rows == [("one", 11), ("two", 20)]
        assert client.query_df(sql, external_data=external)["most"].tolist() == [11, 20]
        assert client.query_arrow(sql, external_data=external).num_rows == 2
