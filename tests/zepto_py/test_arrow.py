"""ArrowSession: Arrow, DuckDB and polars over the engine's own memory, at one moment."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from zepto_py import ArrowSession
from zepto_py.arrow import zepto_schema_to_arrow, zeptodb_schema_to_arrow
from zeptodb import InvalidTypeError, Pipeline

NAMES = ["timestamp", "price", "volume"]
LONG = 5_000  # rows per symbol from which on columns are not gathered


def address_of(column: pa.ChunkedArray, chunk: int = 0) -> int:
    array = column.chunk(chunk)
    return int(array.buffers()[1].address + array.offset * array.type.bit_width // 8)


def filled() -> Pipeline:
    """Three symbols of LONG rows each."""
    made = Pipeline(backend="cpu")
    rows = np.arange(3 * LONG)
    made.ingest_batch(rows % 3, 100 + rows, 1 + rows % 7, rows)
    return made


@pytest.fixture
def pipeline() -> Pipeline:
    return filled()


def test_tables_batches_and_columns_go_in() -> None:
    table = pa.table({"s": [1, 1, 2], "p": [1.5, 2.5, 3.5], "v": [1, 2, 3], "t": [3, 4, 5]})
    names = {"symbol_col": "s", "price_col": "p", "volume_col": "v", "timestamp_col": "t", "price_scale": 10}
    for ingest in (
        lambda session: session.ingest_arrow(table, **names),
        lambda session: session.ingest_arrow(table.to_reader(), **names),
        lambda session: session.ingest_arrow(pl.DataFrame(table), **names),
        lambda session: session.ingest_record_batch(table.to_batches()[0], **names),
        lambda session: session.ingest_arrow_columnar(
            symbols=table["s"], prices=table["p"], volumes=table["v"], timestamps=table["t"], price_scale=10
        ),
    ):
        pipeline = Pipeline(backend="cpu")
        session = ArrowSession(pipeline)
        assert ingest(session) == 3
        assert session.to_arrow(1).to_pydict() == {"timestamp": [3, 4], "price": [15, 25], "volume": [1, 2]}
        assert session.to_arrow(2)["price"].to_pylist() == [35]


@pytest.mark.parametrize("rows", [1, 100, LONG])
def test_buffers_of_one_symbol_lie_where_get_column_shows_them(rows: int) -> None:
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest_batch(np.ones(rows, np.int64), np.arange(rows), np.arange(rows), np.arange(rows))
    table = ArrowSession(pipeline).to_arrow(symbol=1)
    assert table.schema == pa.schema([(name, pa.int64()) for name in NAMES])
    for name in NAMES:
        column = pipeline.get_column(1, name)
        assert table[name].num_chunks == 1
        assert address_of(table[name]) == column.ctypes.data
        assert table[name].to_pylist() == column.tolist()
    moments = ArrowSession(pipeline).to_arrow(1, timestamps="datetime")["timestamp"]
    assert moments.type == pa.timestamp("ns", tz="UTC")
    assert address_of(moments) == pipeline.get_column(1, "timestamp").ctypes.data


def test_buffers_of_all_symbols_do_so_too(pipeline: Pipeline) -> None:
    table = ArrowSession(pipeline).to_arrow()
    assert table.column_names == ["symbol", "price", "volume", "timestamp"]
    for name in NAMES:
        addresses = [address_of(table[name], chunk) for chunk in range(3)]
        assert addresses == [pipeline.get_column(symbol, name).ctypes.data for symbol in range(3)]
    assert table["symbol"].to_pylist() == [0] * LONG + [1] * LONG + [2] * LONG
    table.validate(full=True)


def test_polars_shares_the_memory(pipeline: Pipeline) -> None:
    frame = ArrowSession(pipeline).to_polars_zero_copy(symbol=2)
    for name in NAMES:
        column = pipeline.get_column(2, name)
        shown = frame[name].to_numpy()
        assert shown.ctypes.data == column.ctypes.data
        np.testing.assert_array_equal(shown, column)
    whole = ArrowSession(pipeline).to_polars_zero_copy()
    assert whole["price"].n_chunks() == 3
    assert whole["price"].get_chunks()[1].to_numpy().ctypes.data == pipeline.get_column(1, "price").ctypes.data
    answer = pipeline.execute("SELECT symbol, sum(price) AS p FROM trades GROUP BY symbol ORDER BY symbol").rows
    assert whole.group_by("symbol").agg(pl.col("price").sum()).sort("symbol").rows() == [tuple(row) for row in answer]


def test_readers_cut_batches_without_a_copy(pipeline: Pipeline) -> None:
    reader = ArrowSession(pipeline).to_record_batch_reader(symbol=1, batch_rows=2_000)
    batches = list(reader)
    assert [batch.num_rows for batch in batches] == [2_000, 2_000, 1_000]
    prices = pipeline.get_column(1, "price")
    for number, batch in enumerate(batches):
        column = batch.column("price")
        assert column.buffers()[1].address + 8 * column.offset == prices.ctypes.data + 16_000 * number
    assert sum(batch.num_rows for batch in ArrowSession(pipeline).to_record_batch_reader()) == 3 * LONG


def test_duckdb_answers_as_the_engine_does(pipeline: Pipeline) -> None:
    session = ArrowSession(pipeline)
    one = session.to_duckdb(symbol=1, table_name="trades")
    frame = one.execute("SELECT avg(price), stddev(price) FROM trades").fetchdf()
    ours = pipeline.execute("SELECT avg(price), stddev(price) FROM trades WHERE symbol = 1").rows[0]
    np.testing.assert_allclose(frame.to_numpy()[0], ours, rtol=1e-12)
    whole = session.to_duckdb()
    question = "SELECT symbol, count(*), sum(volume), min(price), max(timestamp) FROM trades GROUP BY symbol ORDER BY 1"
    assert whole.execute(question).fetchall() == [tuple(row) for row in pipeline.execute(question).rows]


def test_duckdb_joins_several_tables_under_names_of_ones_own(pipeline: Pipeline) -> None:
    pipeline.append("venues", {"symbol": [0, 1], "venue": ["XNAS", None], "timestamp": [1, 1]})
    session = ArrowSession(pipeline)
    connection = session.to_duckdb()
    assert session.to_duckdb(table_name="venues", connection=connection) is not None
    session.to_duckdb(2, name="second", connection=connection)
    joined = connection.execute("SELECT venue, count(*) FROM trades JOIN venues USING (symbol) GROUP BY 1 ORDER BY 1")
    assert joined.fetchall() == [("XNAS", LONG), (None, LONG)]
    assert connection.execute("SELECT count(*) FROM second").fetchone() == (LONG,)


def test_exports_stay_as_they_are_whatever_comes_later(pipeline: Pipeline) -> None:
    session = ArrowSession(pipeline)
    exported = [session.to_arrow(), session.to_arrow(1)]
    connection = session.to_duckdb()
    before = [table.to_pydict() for table in exported]
    total = connection.execute("SELECT sum(price), count(*) FROM trades").fetchone()
    for _ in range(3):
        late = np.arange(LONG)
        pipeline.ingest_batch(late % 4, late, late, late)
        pipeline.execute("UPDATE trades SET volume = 0 WHERE symbol = 1")
        assert pipeline.count(1) > LONG
    pipeline.execute("DROP TABLE trades")
    del pipeline, session
    gc.collect()
    assert [table.to_pydict() for table in exported] == before
    assert connection.execute("SELECT sum(price), count(*) FROM trades").fetchone() == total


def test_an_export_keeps_no_more_memory_than_it_shows(pipeline: Pipeline) -> None:
    table = ArrowSession(pipeline).to_arrow()
    mapped = []
    for number in range(40):  # late rows on every round, each read by a query
        pipeline.ingest_batch([0, 1, 2], [number] * 3, [1] * 3, [5] * 3)
        pipeline.count(1)
        pipeline.execute("SELECT max(price) FROM trades")
        mapped.append(pipeline.catalog.get("trades").mapped_bytes)
    assert mapped[-1] == mapped[3]
    assert table.num_rows == 3 * LONG


def test_memory_goes_when_the_last_buffer_goes() -> None:
    pipeline = filled()
    column = ArrowSession(pipeline).to_arrow(1)["price"]
    contents = weakref.ref(pipeline.catalog.get("trades").contents)
    del pipeline
    gc.collect()
    assert contents() is None
    assert column.to_pylist()[:2] == [101, 104]


def test_short_symbols_are_gathered_with_the_same_answer() -> None:
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest_batch([5, 3, 5, 3], [1, 2, 3, 4], [1, 1, 1, 1], [2, 2, 1, 3])
    table = ArrowSession(pipeline).to_arrow()
    assert table["symbol"].to_pylist() == [5, 5, 3, 3]
    assert table.drop("symbol").to_pydict() == {"price": [3, 1, 2, 4], "volume": [1] * 4, "timestamp": [1, 2, 2, 3]}
    assert table.schema == ArrowSession(pipeline).get_schema()


def test_scales_give_floats() -> None:
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest_batch([1, 1], [15025, 15050], [5, 10], [1, 2])
    session = ArrowSession(pipeline)
    expected = {"timestamp": [1, 2], "price": [150.25, 150.5], "volume": [0.5, 1.0]}
    scales: dict[str, Any] = {"price_scale": 100, "volume_scale": 10}
    assert session.to_arrow(1, **scales).to_pydict() == expected
    assert session.to_polars_zero_copy(1, **scales).to_dict(as_series=False) == expected
    assert session.to_record_batch_reader(1, **scales).read_all().to_pydict() == expected
    assert session.to_duckdb(1, **scales).execute("SELECT max(price) FROM trades").fetchone() == (150.5,)


def test_schemas() -> None:
    pipeline = Pipeline(backend="cpu")
    session = ArrowSession(pipeline)
    int64 = pa.int64()
    assert zepto_schema_to_arrow is zeptodb_schema_to_arrow
    assert zepto_schema_to_arrow(NAMES) == pa.schema([(name, int64) for name in NAMES])
    assert session.get_schema() == pa.schema([(n, int64) for n in ("symbol", "price", "volume", "timestamp")])
    assert session.to_arrow().schema == session.get_schema()
    pipeline.append("q", {"symbol": ["a"], "ok": [True], "f": [1.5], "i": np.array([1], np.int32), "timestamp": [1]})
    text = pa.dictionary(pa.int32(), pa.string())
    kinds = [("symbol", text), ("ok", pa.bool_()), ("f", pa.float64()), ("i", pa.int32()), ("timestamp", int64)]
    assert session.get_schema("q") == pa.schema(kinds) == session.to_arrow(table_name="q").schema
    assert zeptodb_schema_to_arrow(pipeline.schema("q")) == pa.schema(kinds)
    for wrong in ("price", [1]):
        with pytest.raises(InvalidTypeError, match="give a list of column names"):
            zepto_schema_to_arrow(wrong)  # type: ignore[arg-type]


def test_writers_never_tear_an_export() -> None:
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest_batch([0, 1, 2], [0, 0, 0], [0, 0, 0])
    is_done = threading.Event()

    def write() -> None:
        number = 0
        while not is_done.is_set():
            number += 1
            pipeline.ingest_batch([0, 1, 2], [number] * 3, [number] * 3)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(100):
            table = ArrowSession(pipeline).to_arrow()
            assert table["price"].equals(table["volume"])
            rows_per_batch = np.unique(table["price"].to_numpy(), return_counts=True)[1]
            assert (rows_per_batch == 3).all()
    finally:
        is_done.set()
        thread.join()
