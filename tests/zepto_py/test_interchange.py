"""Every library in, every library out, with typed tables and string symbols; PyCapsule, DLPack."""

from __future__ import annotations

import datetime as dt
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from zepto_py import ArrowSession, from_arrow, to_pandas, to_polars
from zeptodb import Pipeline

UTC = dt.UTC
TYPED: dict[str, list[Any]] = {
    "symbol": ["AAPL", "IBM", "AAPL"],
    "price": [150.25, -0.5, 1e-9],
    "size": [2**31 - 1, -(2**31), 0],
    "odd": [True, False, True],
    "venue": ["XNAS", "ärea", ""],
    "seen": [dt.datetime(1969, 12, 31, tzinfo=UTC), dt.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)] * 1
    + [dt.datetime(2262, 4, 11, tzinfo=UTC)],
    "timestamp": [dt.datetime(2024, 1, 1, 0, 0, second, tzinfo=UTC) for second in (1, 2, 3)],
}
COLUMNS = [name for name in TYPED if name not in ("symbol", "timestamp")]


def arrow_table() -> pa.Table:
    moment = pa.timestamp("us", tz="UTC")
    kinds = [pa.string(), pa.float64(), pa.int32(), pa.bool_(), pa.string(), moment, moment]
    return pa.table({name: pa.array(v, k) for (name, v), k in zip(TYPED.items(), kinds, strict=True)})


class Exporter:
    """Nothing but an Arrow PyCapsule stream."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._data.__arrow_c_stream__(requested_schema)


class ArrayExporter:
    """Nothing but an Arrow PyCapsule array."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def __arrow_c_array__(self, requested_schema: object | None = None) -> object:
        return self._batch.__arrow_c_array__(requested_schema)


NUMPY_TYPES = {"size": "i4", "seen": "M8[us]", "timestamp": "M8[us]"}


def plain(values: list[Any]) -> list[Any]:
    """numpy knows no time zones."""
    return [value.replace(tzinfo=None) if isinstance(value, dt.datetime) else value for value in values]


IN: dict[str, Any] = {
    "pandas": lambda: arrow_table().to_pandas(),
    "pandas of Arrow types": lambda: arrow_table().to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda: pl.DataFrame(arrow_table()),
    "Arrow table": arrow_table,
    "Arrow batch": lambda: arrow_table().to_batches()[0],
    "Arrow reader": lambda: arrow_table().to_reader(),
    "DuckDB": lambda: duckdb.from_arrow(arrow_table()),
    "PyCapsule stream": lambda: Exporter(arrow_table()),
    "PyCapsule array": lambda: ArrayExporter(arrow_table().to_batches()[0]),
    "dict of lists": lambda: dict(TYPED),
    "dict of numpy": lambda: {name: np.array(plain(values), NUMPY_TYPES.get(name)) for name, values in TYPED.items()},
}


def ns(moment: dt.datetime) -> int:
    return (moment - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(microseconds=1) * 1_000


def expected(symbol: str) -> dict[str, list[Any]]:
    rows = [row for row, name in enumerate(TYPED["symbol"]) if name == symbol]
    values = {name: [TYPED[name][row] for row in rows] for name in ["timestamp", *COLUMNS]}
    return values | {name: [ns(m) for m in values[name]] for name in ("timestamp", "seen")}


def outputs(pipeline: Pipeline, symbol: str) -> dict[str, dict[str, list[Any]]]:
    session = ArrowSession(pipeline)
    sql = f"SELECT * EXCLUDE (symbol) FROM ticks WHERE symbol = '{symbol}' ORDER BY timestamp"
    return {
        "pandas": to_pandas(pipeline, symbol, table_name="ticks").to_dict("list"),
        "polars": to_polars(pipeline, symbol, table_name="ticks").to_dict(as_series=False),
        "Arrow": session.to_arrow(symbol, "ticks").to_pydict(),
        "polars, no copy": session.to_polars_zero_copy(symbol, "ticks").to_dict(as_series=False),
        "DuckDB": session.to_duckdb(symbol, "ticks").table("ticks").to_arrow_table().to_pydict(),
        "SQL": pipeline.execute(sql).to_arrow().to_pydict(),
        "PyCapsule of a result": pl.DataFrame(pipeline.execute(sql)).to_dict(as_series=False),
    }


@pytest.mark.parametrize("source", IN)
def test_typed_tables_with_string_symbols_from_everywhere_to_everywhere(source: str) -> None:
    pipeline = Pipeline(backend="cpu")
    assert pipeline.append("ticks", IN[source]()) == 3
    assert [field.type.value for field in pipeline.schema("ticks").fields] == [
        "STRING", "FLOAT64", "INT64" if source == "dict of lists" else "INT32", "BOOL", "STRING",
        "TIMESTAMP_NS", "TIMESTAMP_NS",
    ]  # fmt: skip
    for symbol in ("AAPL", "IBM"):
        for name, found in outputs(pipeline, symbol).items():
            assert {column: list(values) for column, values in found.items()} == expected(symbol), name
        assert pipeline.get_column(symbol, "price", "ticks").tolist() == expected(symbol)["price"]
    assert outputs(pipeline, "MSFT")["Arrow"] == {name: [] for name in expected("AAPL")}


@pytest.mark.parametrize("source", IN)
def test_what_comes_out_goes_in_again(source: str) -> None:
    pipeline = Pipeline(backend="cpu")
    pipeline.append("ticks", IN[source]())
    session = ArrowSession(pipeline)
    whole = session.to_arrow(table_name="ticks")
    for number, again in enumerate(
        (
            whole,
            whole.to_reader(),
            session.to_polars_zero_copy(table_name="ticks"),
            session.to_duckdb(table_name="ticks").table("ticks"),
            pipeline.execute("SELECT * FROM ticks"),
            pipeline.execute("SELECT * FROM ticks").to_pandas(),
            pipeline.execute("SELECT * FROM ticks", timestamps="datetime").to_pandas(),
        )
    ):
        name = f"copy_{number}"
        pipeline.append(name, again)
        assert session.to_arrow("AAPL", name).to_pydict() == expected("AAPL")


def test_nulls_survive_both_directions() -> None:
    table = pa.table(
        {
            "symbol": ["a", "a", "b"],
            "f": pa.array([1.5, None, None]),
            "i": pa.array([None, 2, None], pa.int32()),
            "b": pa.array([None, False, True]),
            "s": pa.array(["x", None, None]),
            "timestamp": [1, 2, 3],
        }
    )
    for data in (table, pl.DataFrame(table), table.to_pandas(types_mapper=pd.ArrowDtype), Exporter(table)):
        pipeline = Pipeline(backend="cpu")
        pipeline.append("ticks", data)
        session = ArrowSession(pipeline)
        assert session.to_arrow(table_name="ticks").to_pylist() == table.to_pylist()
        assert session.to_polars_zero_copy(table_name="ticks").to_dicts() == table.to_pylist()
        assert session.to_duckdb(table_name="ticks").table("ticks").to_arrow_table().to_pylist() == table.to_pylist()
        assert pl.DataFrame(pipeline.execute("SELECT * FROM ticks ORDER BY timestamp")).to_dicts() == table.to_pylist()


def test_trades_go_in_from_any_capsule() -> None:
    ticks = pa.table({"symbol": ["AAPL", "IBM"], "price": [1, 2], "volume": [3, 4], "timestamp": [5, 6]})
    for data in (Exporter(ticks), ArrayExporter(ticks.to_batches()[0]), Exporter(pl.DataFrame(ticks))):
        for store in (from_arrow, lambda data, pipeline: pipeline.append("trades", data)):
            pipeline = Pipeline(backend="cpu")
            assert store(data, pipeline) == 2
            assert pipeline.get_column("IBM", "price").tolist() == [2]
    pipeline = Pipeline(backend="cpu")
    columns = [ArrayColumn(ticks[name]) for name in ticks.column_names]
    assert pipeline.ingest_batch(*columns) == 2
    assert pipeline.get_column("AAPL", "volume").tolist() == [3]


class ArrayColumn:
    """A column that is nothing but an Arrow PyCapsule array."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._array = column.combine_chunks()

    def __arrow_c_array__(self, requested_schema: object | None = None) -> object:
        return self._array.__arrow_c_array__(requested_schema)


def test_results_offer_a_schema_and_a_stream() -> None:
    pipeline = Pipeline(backend="cpu")
    pipeline.append("ticks", arrow_table())
    result = pipeline.execute("SELECT symbol, avg(price) AS mean FROM ticks GROUP BY symbol ORDER BY symbol")
    assert pa.schema(result) == pa.schema([("symbol", pa.string()), ("mean", pa.float64())])
    for read in (
        pa.table,
        pl.DataFrame,
        lambda r: duckdb.from_arrow(pa.table(r)).to_arrow_table(),
        pd.DataFrame.from_arrow,
    ):
        frame = read(result)
        assert list(frame["symbol"].to_pylist() if isinstance(frame, pa.Table) else frame["symbol"]) == ["AAPL", "IBM"]


@pytest.mark.parametrize("name", ["price", "volume", "timestamp"])
def test_columns_offer_dlpack_read_only_and_without_a_copy(name: str) -> None:
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest_batch([1, 1], [10, 20], [1, 2], [3, 4])
    column = pipeline.get_column(1, name)
    taken = np.from_dlpack(column)
    assert taken.ctypes.data == column.ctypes.data
    assert not taken.flags.writeable
    np.testing.assert_array_equal(taken, column)
    copied = np.from_dlpack(column, copy=True)
    assert copied.flags.writeable
    with pytest.raises(BufferError, match="readonly"):  # an old consumer, which cannot be told that it must not write
        column.__dlpack__()
    del column
    pipeline.ingest_batch([1], [5], [5], [0])
    assert taken.tolist() == {"price": [10, 20], "volume": [1, 2], "timestamp": [3, 4]}[name]


def test_dlpack_columns_go_in() -> None:
    class OnlyDLPack:
        def __init__(self, array: np.ndarray) -> None:
            self._array = array

        def __dlpack__(self, **options: Any) -> object:
            return self._array.__dlpack__(**options)

        def __dlpack_device__(self) -> object:
            return self._array.__dlpack_device__()

    pipeline = Pipeline(backend="cpu")
    columns = [OnlyDLPack(np.array(values)) for values in ([1, 1], [2.0, 3.0], [4, 5], [6, 7])]
    assert pipeline.ingest_batch(*columns) == 2
    assert pipeline.get_column(1, "price").tolist() == [2, 3]
