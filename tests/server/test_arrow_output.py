"""Arrow answers: what is sent from the tables' own memory is what pyarrow would have written from a copy."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from tests.server.http import Http
from zepto_py import ApexConnection
from zeptodb.server.formats.answer import Answer, answer_of
from zeptodb.server.formats.arrow_output import arrow, arrow_bytes
from zeptodb.server.formats.output import FORMATS
from zeptodb.server.serve import BackgroundServer
from zeptodb.server.settings import ServerSettings

ROWS, SYMBOLS = 20_000, 5


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer(ServerSettings(port=0, backend="cpu")) as running:
        rows = np.arange(SYMBOLS * ROWS, dtype=np.int64)
        ticks = {"symbol": rows // ROWS, "price": rows, "volume": rows % 7, "timestamp": rows}
        running.pipeline.append("trades", pa.table(ticks))
        running.pipeline.execute("CREATE TABLE names (symbol STRING, price DOUBLE, note STRING)").raise_for_error()
        names = pa.array(["AAPL", "MSFT", "IBM", "Ω", ""]).take(pa.array(rows // ROWS))
        notes = pa.array(["x", None, "z"]).take(pa.array(rows % 3))
        running.pipeline.append("names", pa.table({"symbol": names, "price": rows / 2, "note": notes}))
        yield running


def _chunked(*parts: list[int | None], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(part, kind or pa.int64()) for part in parts])


def _symbols(*runs: tuple[object, int]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.DictionaryArray.from_arrays([0] * rows, pa.array([value])) for value, rows in runs])


def _sliced(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([chunk.slice(1) for chunk in column.chunks])


TABLES = {
    "one chunk": pa.table({"a": _chunked([1, 2, 3])}),
    "chunks of different lengths": pa.table({"a": _chunked([1], [2, 3], [], [4]), "b": _chunked([5, 6, 7], [8])}),
    "narrow numbers": pa.table(
        {"a": _chunked([1], [2, 3], kind=pa.int8()), "b": _chunked([4, 5], [6], kind=pa.float32())}
    ),
    "slices": pa.table({"a": _sliced(_chunked([0, 1], [0, 2, 3]))}),
    "times": pa.table({"a": _chunked([1], [2], kind=pa.timestamp("ns", "UTC"))}),
    "symbols": pa.table({"s": _symbols((7, 2), (9, 1)), "a": _chunked([1, 2], [3])}),
    "names": pa.table({"s": _symbols(("x", 2), ("y", 1)), "a": _chunked([1, 2], [3])}),
    "NULL": pa.table({"a": _chunked([1, None], [3])}),
    "booleans": pa.table({"a": pa.chunked_array([[True], [False, True]])}),
    "strings": pa.table({"a": pa.chunked_array([["x"], ["yy", None]])}),
    "no rows": pa.table({"a": _chunked([]), "s": pa.chunked_array([], pa.dictionary(pa.int8(), pa.int64()))}),
}


def _plain(table: pa.Table) -> pa.Table:
    columns = [
        c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.combine_chunks().columns
    ]
    return pa.table(columns, names=table.column_names)


def _written(answer: Answer, name: str) -> bytes:
    return b"".join(arrow(is_file=name == "Arrow")(answer))


@pytest.mark.parametrize("block_rows", [0, 2, 2**31 - 1])
@pytest.mark.parametrize("name", ["Arrow", "ArrowStream"])
@pytest.mark.parametrize("table", TABLES)
def test_bytes_are_those_of_pyarrow(table: str, name: str, block_rows: int) -> None:
    answer = answer_of(TABLES[table], block_rows=block_rows)
    expected = pa.BufferOutputStream()
    make = pa.ipc.new_file if name == "Arrow" else pa.ipc.new_stream
    plain = _plain(TABLES[table])
    with make(expected, plain.schema) as writer:
        for batch in plain.to_batches(max_chunksize=block_rows or 1000):
            writer.write_batch(pa.RecordBatch.from_pylist(batch.to_pylist(), plain.schema))  # not a slice
    written = _written(answer, name)
    are_numbers = not any(pa.types.is_string(kind) or pa.types.is_boolean(kind) for kind in plain.schema.types)
    if are_numbers and not any(column.null_count for column in plain.columns):
        assert written == expected.getvalue().to_pybytes()
    make_reader = pa.ipc.open_file if name == "Arrow" else pa.ipc.open_stream
    assert make_reader(written).read_all().combine_chunks().equals(plain.combine_chunks())
    assert arrow_bytes(answer, name) in (len(written), None)


def test_symbols_go_as_runs_to_who_takes_them() -> None:
    for name in ("symbols", "names"):
        answer = answer_of(TABLES[name], takes_runs=True)
        written = _written(answer, "ArrowStream")
        assert arrow_bytes(answer, "ArrowStream") == len(written)
        read = pa.ipc.open_stream(written).read_all()
        read.validate(full=True)
        assert pa.types.is_run_end_encoded(read.schema.field("s").type)
        assert read.column("s").to_pylist() == _plain(TABLES[name]).column("s").to_pylist()
        assert read.column("a").to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("chosen", [chosen.name for chosen in FORMATS])
def test_every_format_is_the_same_from_the_tables_memory_as_from_a_copy(http: Http, chosen: str) -> None:
    for sql in ("SELECT symbol, price FROM trades", "SELECT * FROM names"):
        shared = http.post(f"{sql} FORMAT {chosen}", max_block_size=65_536)
        copied = http.post(f"SELECT * FROM ({sql}) WHERE price >= 0 FORMAT {chosen}", max_block_size=65_536)
        assert shared.status == copied.status == 200
        if chosen in ("Arrow", "ArrowStream"):
            read = pa.ipc.open_file if chosen == "Arrow" else pa.ipc.open_stream
            assert read(shared.data).read_all().equals(read(copied.data).read_all())
        elif chosen in ("JSON", "JSONCompact"):  # the time that it took differs
            assert shared.data.partition(b'"statistics"')[0] == copied.data.partition(b'"statistics"')[0]
        elif chosen != "Parquet":
            assert shared.data == copied.data


def test_a_batch_has_as_many_rows_as_the_client_wants(http: Http) -> None:
    sql = "SELECT * FROM trades FORMAT ArrowStream"
    batches = [batch.num_rows for batch in pa.ipc.open_stream(http.post(sql, max_block_size=30_000).data)]
    assert batches == [30_000, 30_000, 30_000, 10_000]
    one = pa.ipc.open_stream(http.post(sql, max_block_size=2**31 - 1).data)
    assert [batch.num_rows for batch in one] == [100_000]


def test_what_is_being_sent_does_not_change_when_rows_are_written(server: BackgroundServer) -> None:
    expected = "".join(f"{price}\n" for price in range(SYMBOLS * ROWS)).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", "/", b"SELECT price FROM trades FORMAT TSV")
    answer = connection.getresponse()
    received = answer.read(1000)
    late = {"symbol": [0] * 50, "price": [-1] * 50, "volume": [1] * 50, "timestamp": list(range(50))}
    server.pipeline.append("trades", pa.table(late))
    received += answer.read()
    connection.close()
    server.pipeline.execute("DELETE FROM trades WHERE price = -1").raise_for_error()
    assert received == expected


@pytest.mark.parametrize("ends", ["leaves", "falls silent"])
def test_a_client_that_takes_no_more_frees_what_it_was_sent(ends: str) -> None:
    with BackgroundServer(ServerSettings(port=0, backend="cpu", send_timeout_seconds=0.3)) as server:
        rows = np.arange(2_000_000)
        server.pipeline.append("trades", pa.table(dict.fromkeys(("symbol", "price", "volume"), rows // 500000)))
        reclaimer = server.pipeline.catalog.get("trades").contents.reclaimer
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("POST", "/", b"SELECT price, volume, timestamp FROM trades FORMAT ArrowStream")
        assert connection.getresponse().read(1000)
        views = server.pipeline.catalog.get("trades").contents._views
        assert len(views) > 0
        views.clear()  # those that get_column() and exports find again; the answer holds its own
        assert len(reclaimer._owners) > 0
        if ends == "leaves":
            connection.close()
        waits_until = time.monotonic() + 20
        while len(reclaimer._owners):
            assert time.monotonic() < waits_until, "the answer is still held"
            time.sleep(0.01)
        connection.close()


def test_a_stop_finishes_the_answer_that_is_being_sent() -> None:
    with BackgroundServer(ServerSettings(port=0, backend="cpu")) as server:
        rows = np.arange(2_000_000)
        server.pipeline.append("trades", pa.table(dict.fromkeys(("symbol", "price", "volume"), rows)))
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("POST", "/", b"SELECT sum(price), count(*) FROM trades WHERE price >= 0 FORMAT TSV")
        assert connection.getresponse().read() == b"1999999000000\t2000000\n"
        connection.request("POST", "/", b"SELECT price, volume, timestamp FROM trades FORMAT ArrowStream")
        answer = connection.getresponse()
        begun = answer.read(1000)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        received = pa.ipc.open_stream(begun + answer.read()).read_all()
        connection.close()
        stopping.join(20)
        assert not stopping.is_alive()
    assert received.num_rows == 2_000_000


def test_frames_of_our_client_are_writable_and_lie_where_they_arrived(server: BackgroundServer) -> None:
    with ApexConnection("127.0.0.1", server.port) as db:
        frame = db.query_pandas("SELECT symbol, price, volume FROM trades")
        assert frame["symbol"].tolist() == [row // ROWS for row in range(SYMBOLS * ROWS)]
        assert frame["price"].to_numpy().base is not None  # a view, of what came through the socket
        assert db.query_arrow("SELECT symbol FROM trades").schema.types == [pa.int64()]
        names = db.query_pandas("SELECT symbol, price FROM names")
        assert names["symbol"].iloc[[0, ROWS, -1]].tolist() == ["AAPL", "MSFT", ""]
        assert db.query_polars("SELECT symbol, price FROM names")["symbol"].unique().len() == SYMBOLS
    frame.loc[0, "price"] = -7
    frame["volume"] += 1
    frame["symbol"] *= 2
    assert frame.iloc[0].tolist() == [0, -7, 1]
    assert frame.iloc[-1].tolist() == [2 * (SYMBOLS - 1), SYMBOLS * ROWS - 1, (SYMBOLS * ROWS - 1) % 7 + 1]
