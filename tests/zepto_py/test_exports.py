"""Rows of one symbol and answers to SQL come out as DataFrames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from tests.zepto_py.pipelines import PublicPipeline
from zepto_py import from_polars, query_to_pandas, query_to_polars, to_pandas, to_polars
from zeptodb.errors import InvalidInputError, InvalidTypeError, QueryError, UnknownColumnError
from zeptodb.types import ColumnType, Field, Schema

TICKS = pl.DataFrame(
    {"symbol": [1, 2, 1], "price": [15025, 20000, 15050], "volume": [100, 80, 200], "timestamp": [20, 5, 10]}
)
EXPORTS = [to_pandas, to_polars]


def trades() -> PublicPipeline:
    pipeline = PublicPipeline()
    from_polars(TICKS, pipeline)
    return pipeline


def as_dict(frame: Any) -> dict[str, list[object]]:
    return {name: frame[name].to_list() for name in frame.columns}


@pytest.mark.parametrize("export", EXPORTS)
def test_timestamp_price_volume_of_one_symbol_in_time_order(export: Any) -> None:
    frame = export(trades(), 1)
    assert as_dict(frame) == {"timestamp": [10, 20], "price": [15050, 15025], "volume": [200, 100]}
    assert list(frame.columns) == ["timestamp", "price", "volume"]
    expected = TICKS.filter(pl.col("symbol") == 1).sort("timestamp").select("timestamp", "price", "volume")
    assert_frame_equal(pl.DataFrame(as_dict(frame)), expected)


@pytest.mark.parametrize("export", EXPORTS)
def test_an_unknown_symbol_gives_an_empty_frame_with_its_columns(export: Any) -> None:
    frame = export(trades(), 99)
    assert as_dict(frame) == {"timestamp": [], "price": [], "volume": []}
    assert {str(dtype).lower() for dtype in frame.dtypes} == {"int64"}


@pytest.mark.parametrize("export", EXPORTS)
def test_scales_divide_and_give_floats(export: Any) -> None:
    frame = export(trades(), symbol=1, price_scale=100, volume_scale=10.0)
    assert as_dict(frame) == {"timestamp": [10, 20], "price": [150.5, 150.25], "volume": [20.0, 10.0]}
    assert as_dict(export(trades(), 1, price_scale=1))["price"] == [15050.0, 15025.0]
    for scale in (0, -1, float("nan")):
        with pytest.raises(InvalidInputError, match=r"price_scale is .* give a positive number"):
            export(trades(), 1, price_scale=scale)


@pytest.mark.parametrize("export", EXPORTS)
def test_datetimes_on_request(export: Any) -> None:
    frame = export(trades(), 1, timestamps="datetime")
    stamps = frame["timestamp"]
    assert str(stamps.dtype) in {"datetime64[ns, UTC]", "Datetime(time_unit='ns', time_zone='UTC')"}
    assert pd.DatetimeIndex(stamps.to_numpy()).as_unit("ns").asi8.tolist() == [10, 20]


@pytest.mark.parametrize("export", EXPORTS)
def test_columns_are_views_that_later_ticks_do_not_change(export: Any) -> None:
    pipeline = trades()
    frame = export(pipeline, 1)
    for name in frame.columns:
        assert np.shares_memory(frame[name].to_numpy(), pipeline.get_column(1, name))
    from_polars(TICKS, pipeline)
    assert as_dict(frame) == {"timestamp": [10, 20], "price": [15050, 15025], "volume": [200, 100]}


def test_a_pandas_frame_can_be_worked_on_and_never_writes_into_the_engine() -> None:
    pipeline = trades()
    frame = to_pandas(pipeline, 1)
    frame["price"] += 1
    copy = to_pandas(pipeline, 1).copy()
    copy.loc[0, "price"] = 7
    assert pipeline.get_column(1, "price").tolist() == [15050, 15025]
    view = to_pandas(pipeline, 1)
    with pytest.raises(ValueError, match="read-only"):
        view.loc[0, "price"] = 7


def test_a_polars_frame_never_writes_into_the_engine() -> None:
    pipeline = trades()
    frame = to_polars(pipeline, 1)
    frame[0, "price"] = 7
    assert frame["price"].to_list() == [7, 15025]
    assert pipeline.get_column(1, "price").tolist() == [15050, 15025]


@pytest.mark.parametrize("export", EXPORTS)
def test_rows_that_arrive_between_two_columns_do_not_tear_the_frame(export: Any) -> None:
    pipeline = trades()
    calls = 0

    def another_tick() -> None:
        nonlocal calls
        calls += 1
        if calls in {2, 5}:
            pipeline.ingest_batch([1], [calls], [calls], [calls])

    pipeline.after_get_column = another_tick
    frame = as_dict(export(pipeline, 1))
    assert frame["timestamp"] == [2, 5, 10, 20]
    assert frame["price"] == [*frame["volume"][:2], 15050, 15025]


@pytest.mark.parametrize("export", EXPORTS)
def test_under_writers_that_never_pause_the_rows_come_from_one_snapshot_by_sql(export: Any) -> None:
    pipeline = trades()
    pipeline.after_get_column = lambda: pipeline.ingest_batch([1], [1], [1])
    pipeline.answer = pa.table({"timestamp": [1], "price": [2], "volume": [3]})
    assert as_dict(export(pipeline, 1, price_scale=4)) == {"timestamp": [1], "price": [0.5], "volume": [3]}
    assert pipeline.statements == [('SELECT "timestamp", "price", "volume" FROM "trades" WHERE "symbol" = 1', "ns")]


TYPED = Schema(
    (
        Field("bid", ColumnType.FLOAT64),
        Field("sym", ColumnType.STRING),
        Field("at", ColumnType.TIMESTAMP_NS),
        Field('a "b"', ColumnType.STRING),
    ),
    symbol="sym",
    timestamp="at",
)


@pytest.mark.parametrize("export", EXPORTS)
def test_tables_with_nulls_or_strings_come_by_sql_in_export_order(export: Any) -> None:
    pipeline = PublicPipeline(TYPED)
    pipeline.append({"sym": ["x"], "bid": [1.5]})
    pipeline.answer = pa.table({"at": [1], "bid": [None], 'a "b"': ["s"]}).cast(
        pa.schema([("at", pa.int64()), ("bid", pa.float64()), ('a "b"', pa.string())])
    )
    frame = export(pipeline, "O'Neil", table_name="quotes", timestamps="datetime")
    assert list(frame.columns) == ["at", "bid", 'a "b"']
    statement = 'SELECT "at", "bid", "a ""b""" FROM "quotes" WHERE "sym" = \'O\'\'Neil\''
    assert pipeline.statements == [(statement, "datetime")]
    with pytest.raises(UnknownColumnError, match='no column "price"'):
        export(pipeline, "x", table_name="quotes", price_scale=100)


def test_a_price_that_is_no_number_has_no_scale() -> None:
    schema = Schema((Field("symbol", ColumnType.INT64), Field("price", ColumnType.STRING)), symbol="symbol")
    pipeline = PublicPipeline(schema)
    pipeline.answer = pa.table({"price": ["a"]})
    with pytest.raises(InvalidTypeError, match=r'Column "price" .* is STRING: leave its scale out'):
        to_pandas(pipeline, 1, price_scale=100)


@pytest.mark.parametrize(("query", "frame_type"), [(query_to_pandas, pd.DataFrame), (query_to_polars, pl.DataFrame)])
def test_queries_give_frames_or_raise(query: Any, frame_type: type) -> None:
    pipeline = PublicPipeline()
    with pytest.raises(QueryError, match="no such thing"):
        query(pipeline, "SELECT nonsense")
    pipeline.answer = pa.table({"n": [1]})
    frame = query(pipeline, "SELECT 1 AS n", timestamps="datetime")
    assert isinstance(frame, frame_type)
    assert as_dict(frame) == {"n": [1]}
    assert pipeline.statements[-1] == ("SELECT 1 AS n", "datetime")
