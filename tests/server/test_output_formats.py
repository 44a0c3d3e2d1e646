"""Answers in every format: exact text where ClickHouse's is known, and other libraries' reading of the rest."""

from __future__ import annotations

import csv
import io
import json
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.server.http import Http
from zeptodb.server.formats.output import FORMATS
from zeptodb.server.serve import BackgroundServer

THREE = "SELECT * FROM (VALUES (15000, 100), (15010, 150), (15020, 200)) AS t(price, volume)"
ODD = (
    "SELECT * FROM (VALUES (1, 'a' || chr(9) || 'b' || chr(10) || '\"q\"' || chr(92) || '''', 1.5::DOUBLE, true), "
    "(2, NULL, 'nan'::DOUBLE, false), (3, 'äöü €', 1e300::DOUBLE, NULL)) AS t(i, s, f, b) ORDER BY i"
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TabSeparated", "15000\t100\n15010\t150\n15020\t200\n"),
        ("TSVWithNames", "price\tvolume\n15000\t100\n15010\t150\n15020\t200\n"),
        ("TabSeparatedWithNamesAndTypes", "price\tvolume\nInt32\tInt32\n15000\t100\n15010\t150\n15020\t200\n"),
        ("CSV", "15000,100\n15010,150\n15020,200\n"),
        ("CSVWithNames", '"price","volume"\n15000,100\n15010,150\n15020,200\n'),
        (
            "JSONEachRow",
            '{"price":15000,"volume":100}\n{"price":15010,"volume":150}\n{"price":15020,"volume":200}\n',
        ),
        ("JSONCompactEachRow", "[15000, 100]\n[15010, 150]\n[15020, 200]\n"),
        ("Values", "(15000,100),(15010,150),(15020,200)"),
        ("TSKV", "price=15000\tvolume=100\nprice=15010\tvolume=150\nprice=15020\tvolume=200\n"),
        (
            "Vertical",
            (
                "Row 1:\n──────\nprice:  15000\nvolume: 100\n\nRow 2:\n──────\nprice:  15010\nvolume: 150\n\n"
                "Row 3:\n──────\nprice:  15020\nvolume: 200\n"
            ),
        ),
        ("Markdown", "| price | volume |\n|-:|-:|\n| 15000 | 100 |\n| 15010 | 150 |\n| 15020 | 200 |\n"),
        ("Null", ""),
        (
            "Pretty",
            (
                "┏━━━━━━━┳━━━━━━━━┓\n┃ price ┃ volume ┃\n┡━━━━━━━╇━━━━━━━━┩\n│ 15000 │    100 │\n├───────┼────────┤\n"
                "│ 15010 │    150 │\n├───────┼────────┤\n│ 15020 │    200 │\n└───────┴────────┘\n"
            ),
        ),
        (
            "PrettyCompact",
            "┌─price─┬─volume─┐\n│ 15000 │    100 │\n│ 15010 │    150 │\n│ 15020 │    200 │\n└───────┴────────┘\n",
        ),
    ],
)
def test_text_is_clickhouses(http: Http, name: str, expected: str) -> None:
    assert http.text(f"{THREE} FORMAT {name}") == expected


def test_tsv_escapes(http: Http) -> None:
    assert http.text(ODD) == '1\ta\\tb\\n"q"\\\\\\\'\t1.5\ttrue\n2\t\\N\tnan\tfalse\n3\täöü €\t1e300\t\\N\n'


def test_csv_is_what_other_readers_read(http: Http) -> None:
    rows = list(csv.reader(io.StringIO(http.text(f"{ODD} FORMAT CSV"))))
    assert rows == [["1", 'a\tb\n"q"\\\'', "1.5", "true"], ["2", "\\N", "nan", "false"], ["3", "äöü €", "1e300", "\\N"]]


@pytest.mark.parametrize("name", ["JSON", "JSONCompact"])
def test_json_documents(http: Http, name: str) -> None:
    document = json.loads(http.text(f"{ODD} FORMAT {name}"))
    assert document["rows"] == 3
    assert document["meta"] == [
        {"name": "i", "type": "Int32"},
        {"name": "s", "type": "Nullable(String)"},
        {"name": "f", "type": "Float64"},
        {"name": "b", "type": "Nullable(Bool)"},
    ]
    expected = [[1, 'a\tb\n"q"\\\'', 1.5, True], [2, None, None, False], [3, "äöü €", 1e300, None]]
    rows = document["data"] if name == "JSONCompact" else [list(row.values()) for row in document["data"]]
    assert rows == expected


def test_json_has_clickhouses_layout(http: Http) -> None:
    text = http.text("SELECT 1 AS x FORMAT JSON")
    meta = '\t"meta":\n\t[\n\t\t{\n\t\t\t"name": "x",\n\t\t\t"type": "Int32"\n\t\t}\n\t],\n'
    head = "{\n" + meta + '\n\t"data":\n\t[\n\t\t{\n\t\t\t"x": 1\n\t\t}\n\t],\n\n\t"rows": 1,\n'
    assert text.startswith(head)
    assert text.endswith("\n}\n")


def test_json_quotes_long_integers_when_asked(http: Http) -> None:
    text = http.text(
        "SELECT 5::BIGINT AS x, NULL::BIGINT AS y FORMAT JSONEachRow", output_format_json_quote_64bit_integers=1
    )
    assert text == '{"x":"5","y":null}\n'


def test_no_rows(http: Http) -> None:
    assert http.text(f"{THREE} WHERE price < 0") == ""
    assert json.loads(http.text(f"{THREE} WHERE price < 0 FORMAT JSON"))["data"] == []


def test_floats_round_trip(http: Http) -> None:
    values = "0.1, 1e15, 123456789012345680, 1e20, 1e21, 1e22, 1e-7, -0.5, 1e300, 5e-324, 150"
    sql = "SELECT " + ", ".join(f"{value}::DOUBLE" for value in values.split(", "))
    expected = (
        "0.1\t1000000000000000\t123456789012345680\t100000000000000000000\t1e21\t1e22\t1e-7\t-0.5\t1e300\t5e-324\t150\n"
    )
    assert http.text(sql) == expected


def test_times(http: Http) -> None:
    sql = (
        "SELECT DATE '2024-01-02', TIMESTAMP_S '2024-01-02 03:04:05', TIMESTAMP_MS '2024-01-02 03:04:05.1', "
        "TIMESTAMP_NS '2024-01-02 03:04:05.123456789', TIMESTAMPTZ '2024-01-02 03:04:05+01'"
    )
    expected = (
        "2024-01-02\t2024-01-02 03:04:05\t2024-01-02 03:04:05.100\t2024-01-02 03:04:05.123456789\t"
        "2024-01-02 02:04:05.000000\n"
    )
    assert http.text(sql) == expected
    names = http.text(f"{sql} FORMAT TSVWithNamesAndTypes").splitlines()[1].split("\t")
    assert names == ["Date32", "DateTime", "DateTime64(3)", "DateTime64(9)", "DateTime64(6, \\'UTC\\')"]


def test_arrow_parquet_and_native_hold_the_same_rows(http: Http) -> None:
    expected = {"i": [1, 2, 3], "s": ['a\tb\n"q"\\\'', None, "äöü €"], "b": [True, False, None]}
    stream = pa.ipc.open_stream(http.post(f"{ODD} FORMAT ArrowStream").data).read_all()
    file = pa.ipc.open_file(pa.BufferReader(http.post(f"{ODD} FORMAT Arrow").data)).read_all()
    parquet = pq.read_table(io.BytesIO(http.post(f"{ODD} FORMAT Parquet").data))
    for table in (stream, file, parquet):
        assert table.select(["i", "s", "b"]).to_pydict() == expected


def test_native_bytes_are_those_of_the_protocol(http: Http) -> None:
    data = http.post("SELECT price::BIGINT AS price FROM (VALUES (1), (2)) AS t(price) FORMAT Native").data
    assert data == bytes([1, 2, 5]) + b"price" + bytes([5]) + b"Int64" + struct.pack("<qq", 1, 2)
    with_info = http.post("SELECT 1::BIGINT AS x FORMAT Native", client_protocol_version=54460).data
    assert with_info == bytes.fromhex("010002ffffffff00") + b"\1\1\1x\5Int64\0" + struct.pack("<q", 1)


def test_row_binary_bytes_are_those_of_the_protocol(http: Http) -> None:
    sql = "SELECT * FROM (VALUES (1::INT, 'ab', 2.5::DOUBLE), (2, NULL, 3.5)) AS t(i, s, f) ORDER BY i"
    head = b"\3\1i\1s\1f\5Int32\x10Nullable(String)\7Float64"
    rows = struct.pack("<iB", 1, 0) + b"\2ab" + struct.pack("<d", 2.5) + struct.pack("<iBd", 2, 1, 3.5)
    assert http.post(f"{sql} FORMAT RowBinaryWithNamesAndTypes").data == head + rows
    assert http.post(f"{sql} FORMAT RowBinary").data == rows


def test_long_strings_and_many_rows_in_row_binary(http: Http) -> None:
    data = http.post("SELECT repeat('x', range::INT) AS s FROM range(300) FORMAT RowBinary").data
    position = 0
    for length in range(300):
        size = 1 if length < 128 else 2
        assert data[position + size : position + size + length] == b"x" * length
        position += size + length
    assert position == len(data)


@pytest.mark.parametrize("chosen", FORMATS, ids=lambda chosen: chosen.name)
def test_every_format_takes_every_type_and_no_rows(http: Http, chosen: object) -> None:
    sql = (
        "SELECT 1 AS i, 'x' AS s, 1.5 AS f, true AS b, DATE '2024-01-02' AS d, TIMESTAMP '2024-01-02' AS t, "
        "[1, NULL] AS l, {'a': 1} AS r, MAP {'k': 1} AS m, INTERVAL 1 DAY AS v, TIME '01:02:03' AS o, uuid() AS u, "
        "'a'::BLOB AS w, NULL AS n, 1.25::DECIMAL(30, 2) AS e, 1::HUGEINT AS h, ['a', 'b'] AS q"
    )
    name = chosen.name  # type: ignore[attr-defined]
    for statement in (sql, f"SELECT * FROM ({sql}) WHERE i < 0"):
        answer = http.post(f"{statement} FORMAT {name}")
        assert answer.status == 200, answer.data
        assert answer.headers["X-ClickHouse-Format"] == name


def test_an_unknown_format_names_the_nearest(http: Http) -> None:
    answer = http.post("SELECT 1 FORMAT JSONEachRoww")
    assert answer.status == 404
    assert answer.headers["X-ClickHouse-Exception-Code"] == "73"
    assert b'Did you mean "JSONEachRow"' in answer.data


def test_the_clause_wins_over_the_default(http: Http) -> None:
    assert http.text("SELECT 1 AS x FORMAT CSV", default_format="JSON") == "1\n"
    assert http.text("SELECT 1 AS x", default_format="JSONEachRow") == '{"x":1}\n'
    assert http.post("SELECT 1 AS x", headers={"X-ClickHouse-Format": "JSONEachRow"}).data == b'{"x":1}\n'


def test_a_large_answer_is_chunked_and_whole(http: Http, server: BackgroundServer) -> None:
    answer = http.post("SELECT range FROM range(500000)")
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.data == b"".join(b"%d\n" % i for i in range(500_000))
