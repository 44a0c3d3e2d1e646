"""Rows in every format that INSERT takes, told by what is stored."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.server.http import Http

COLUMNS = "(symbol STRING, price DOUBLE, volume BIGINT, flag BOOL, timestamp TIMESTAMP_NS)"
ROWS = [
    ["A\tb'\"\\", 1.5, 100, True, 1_704_164_645_000_000_000],
    ["ä", -0.25, None, False, 1_704_164_645_123_456_789],
]
TABLE = pa.table(
    {
        "symbol": [ROWS[0][0], ROWS[1][0]],
        "price": [1.5, -0.25],
        "volume": [100, None],
        "flag": [True, False],
        "timestamp": [ROWS[0][4], ROWS[1][4]],
    }
)


def _stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _row_binary(row: list[Any]) -> bytes:
    symbol, price, volume, flag, timestamp = row
    text = symbol.encode()
    nullable_volume = b"\1" if volume is None else b"\0" + struct.pack("<q", volume)
    values = struct.pack("<Bd", 0, price) + nullable_volume + struct.pack("<BBq", 0, flag, timestamp)
    return bytes([len(text)]) + text + values


_ROW_BINARY = b"".join(map(_row_binary, ROWS))

DATA: dict[str, bytes] = {
    "CSV": b'"A\tb\'""\\",1.5,100,true,2024-01-02 03:04:05\n"\xc3\xa4",-0.25,,0,2024-01-02 03:04:05.123456789\n',
    "CSVWithNames": b'price,symbol,volume,flag,timestamp\r\n1.5,"A\tb\'""\\",100,true,1704164645000000000\r\n'
    b"-0.25,\xc3\xa4,\\N,false,1704164645123456789\r\n",
    "TabSeparated": b"A\\tb\\'\"\\\\\t1.5\t100\ttrue\t2024-01-02 03:04:05\n"
    b"\xc3\xa4\t-0.25\t\\N\tfalse\t2024-01-02 03:04:05.123456789",
    "TSVWithNames": b"volume\tsymbol\tprice\tflag\ttimestamp\n100\tA\\tb\\'\"\\\\\t1.5\t1\t1704164645000000000\n"
    b"\\N\t\xc3\xa4\t-0.25\t0\t1704164645123456789\n",
    "TSVWithNamesAndTypes": b"volume\tsymbol\tprice\tflag\ttimestamp\nInt64\tString\tFloat64\tBool\tInt64\n"
    b"100\tA\\tb\\'\"\\\\\t1.5\t1\t1704164645000000000\n\\N\t\xc3\xa4\t-0.25\t0\t1704164645123456789\n",
    "JSONEachRow": rb'{"symbol":"A\tb'
    b"'"
    rb'\"\\","price":1.5,"volume":100,"flag":true,"timestamp":"2024-01-02 03:04:05"}'
    b'\n{"symbol":"\xc3\xa4","price":-0.25,"volume":null,"flag":false,"timestamp":"2024-01-02 03:04:05.123456789"}\n',
    "JSONCompactEachRow": rb'["A\tb' + b"'" + rb'\"\\", 1.5, "100", true, 1704164645000000000]'
    b'\n["\xc3\xa4", -0.25, null, false, "1704164645123456789"]\n',
    "Values": b"('A\\tb\\'\"\\\\', 1.5, 100, true, '2024-01-02 03:04:05'), "
    b"('\xc3\xa4', -0.25, NULL, false, 1704164645123456789)",
    "ArrowStream": _stream(TABLE),
    "Arrow": _file(TABLE),
    "Parquet": _parquet(TABLE),
    "RowBinary": _ROW_BINARY,
    "RowBinaryWithNamesAndTypes": b"\5\6symbol\5price\6volume\4flag\x09timestamp"
    b"\6String\x11Nullable(Float64)\x0fNullable(Int64)\x0eNullable(Bool)\5Int64" + _ROW_BINARY,
}


@pytest.fixture
def ticks(http: Http) -> Callable[[], list[list[Any]]]:
    http.text("DROP TABLE IF EXISTS ticks")
    http.text(f"CREATE TABLE ticks {COLUMNS}")

    def stored() -> list[list[Any]]:
        data = http.post("SELECT * FROM ticks ORDER BY timestamp FORMAT ArrowStream").data
        return [list(row.values()) for row in pa.ipc.open_stream(data).read_all().to_pylist()]

    return stored


@pytest.mark.parametrize("name", DATA)
def test_rows_are_stored(http: Http, ticks: Callable[[], list[list[Any]]], name: str) -> None:
    separator = " " if name == "Values" else "\n"
    statement = "INSERT INTO ticks VALUES" if name == "Values" else f"INSERT INTO ticks FORMAT {name}"
    answer = http.post(statement.encode() + separator.encode() + DATA[name])
    assert (answer.status, answer.data) == (200, b"")
    assert '"written_rows": "2"' in answer.headers["X-ClickHouse-Summary"]
    assert ticks() == ROWS


@pytest.mark.parametrize("name", DATA)
def test_a_statement_in_the_url_has_the_whole_body_as_data(
    http: Http, ticks: Callable[[], list[list[Any]]], name: str
) -> None:
    statement = "INSERT INTO ticks VALUES" if name == "Values" else f"INSERT INTO ticks FORMAT {name}"
    assert http.post(DATA[name], query=statement).status == 200
    assert ticks() == ROWS


@pytest.mark.parametrize("name", [n for n in DATA if "Binary" in n or n in ("Arrow", "ArrowStream", "Parquet")])
def test_half_of_the_data_stores_nothing(http: Http, ticks: Callable[[], list[list[Any]]], name: str) -> None:
    data = DATA[name]
    answer = http.post(f"INSERT INTO ticks FORMAT {name}\n".encode() + data[: len(data) * 3 // 5])
    assert answer.status == 400, answer.data
    assert ticks() == []


@pytest.mark.parametrize(
    ("statement", "data", "words"),
    [
        ("INSERT INTO ticks FORMAT CSV", b'"A",1.5,100\n', b"column"),
        ("INSERT INTO ticks (symbol, price) FORMAT CSV", b'"A",1.5\n"B",x\n', b"conversion"),
        ("INSERT INTO ticks (symbol, nope) FORMAT CSV", b'"A",1.5\n', b'"nope"'),
        ("INSERT INTO ticks FORMAT CSVWithNames", b"symbol,nope\nA,1\n", b'"nope"'),
        ("INSERT INTO ticks FORMAT JSONEachRow", b'{"symbol":"A","price":"x"}\n', b'"price"'),
        ("INSERT INTO ticks FORMAT JSONEachRow", b'{"symbol":"A","nope":1}\n', b'"nope"'),
        ("INSERT INTO ticks FORMAT JSONEachRow", b'{"symbol":"A"', b"JSON"),
        ("INSERT INTO ticks FORMAT Native", b"\1\1\6symbol\6String\x7fabc", b"middle of a value"),
        ("INSERT INTO ticks FORMAT Native", b"\1\1\1x\7Unknown\0", b"Unknown"),
        ("INSERT INTO ticks FORMAT Native", b"\xff" * 40, b"9 bytes"),
        ("INSERT INTO ticks FORMAT Native", b"\1\1\1x\x0aEnum8('a')\0", b"not valid Native"),
        ("INSERT INTO ticks FORMAT RowBinary", b"\1A\0", b"middle of a value"),
        ("INSERT INTO ticks FORMAT Nonsense", b"x", b"Nonsense"),
        ("INSERT INTO ticks (symbol, price) VALUES", b"('A', 1), ('B')", b"Row 2"),
        ("INSERT INTO ticks (symbol, price) VALUES", b"('A', 'x')", b'"price"'),
        ("INSERT INTO nowhere FORMAT CSV", b"1\n", b"nowhere"),
        ("INSERT INTO ticks (symbol, timestamp) FORMAT CSV", b"A,yesterday\n", b'"timestamp"'),
    ],
)
def test_bad_data_is_refused_and_stores_nothing(
    http: Http, ticks: Callable[[], list[list[Any]]], statement: str, data: bytes, words: bytes
) -> None:
    answer = http.post(statement.encode() + b"\n" + data)
    assert 400 <= answer.status < 500, answer.data
    assert words in answer.data
    assert ticks() == []


def test_values_may_be_expressions(http: Http, ticks: Callable[[], list[list[Any]]]) -> None:
    http.text("INSERT INTO ticks (symbol, price, volume, timestamp) VALUES (upper('a'), 1 + 0.5, 10 * 10, 5)")
    assert ticks() == [["A", 1.5, 100, None, 5]]


def test_columns_of_an_insert_may_be_quoted_and_in_any_order(http: Http, ticks: Callable[[], list[list[Any]]]) -> None:
    http.text('INSERT INTO `default`.`ticks` (`timestamp`, "symbol") FORMAT CSV\n7,Z')
    assert ticks() == [["Z", None, None, None, 7]]


def test_trades_take_rows_without_a_time(http: Http) -> None:
    http.text('INSERT INTO trades FORMAT JSONEachRow\n{"symbol":9,"price":1,"volume":2}')
    http.text("INSERT INTO trades (symbol, price, volume) FORMAT CSV\n9,1,2")
    assert (
        http.text("SELECT count(*), min(timestamp) > 1700000000000000000 FROM trades WHERE symbol = 9") == "2\ttrue\n"
    )


def test_an_empty_body_inserts_nothing(http: Http, ticks: Callable[[], list[list[Any]]]) -> None:
    for name in ("CSV", "Native", "JSONEachRow", "TSV"):
        assert http.post(f"INSERT INTO ticks FORMAT {name}\n").status == 200
    assert ticks() == []


@pytest.mark.parametrize("data", ['["x"]\n', '["x"]', '[["x"]]', '["x"]\n["x"]', ' [ ["x"], ["x"] ] '])
def test_json_arrays_may_be_one_or_many_and_in_an_array(http: Http, data: str) -> None:
    http.text("CREATE OR REPLACE TABLE single (name STRING)")
    http.text(data, query="INSERT INTO single FORMAT JSONCompactEachRow")
    assert http.text("SELECT count(*), min(name) FROM single") == f"{data.count('x')}\tx\n"


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (_stream(TABLE)[: len(_stream(TABLE)) * 3 // 5], {}, b"nothing was stored"),
        (_stream(TABLE)[:-8], {}, b"end mark"),
        (_file(TABLE)[:-8], {}, b"nothing was stored"),
        (b"", {}, b"nothing was stored"),
        (b"no arrow at all", {}, b"nothing was stored"),
        (_stream(pa.table({"symbol": ["A"], "nope": [1]})), {}, b'"nope"'),
        (_stream(pa.table({"symbol": ["A"], "price": ["x"]})), {}, b'"price"'),
        (_stream(pa.table({"symbol": ["A"], "volume": [1]})), {"price_scale": "100"}, b'"price"'),
        (_stream(TABLE), {"price_scale": "x"}, b"numbers"),
    ],
)
def test_bad_arrow_is_refused_and_stores_nothing(
    http: Http, ticks: Callable[[], list[list[Any]]], rows: bytes, options: dict[str, str], words: bytes
) -> None:
    answer = http.post(rows, "/insert/arrow", table="ticks", **options)
    assert 400 <= answer.status < 500, answer.data
    assert words in answer.data
    assert ticks() == []
