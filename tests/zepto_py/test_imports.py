"""Frames of every library go into a Pipeline by the names of their columns."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import zepto_py
from tests.zepto_py.pipelines import PublicPipeline
from zepto_py import from_arrow, from_pandas, from_polars
from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError, UnknownColumnError

LIBRARIES = [(from_pandas, pd.DataFrame), (from_polars, pl.DataFrame), (from_arrow, pa.table)]
TICKS = {
    "symbol": [1, 1, 1, 2, 2],
    "price": [15000, 15010, 15020, 20000, 20010],
    "volume": [100, 150, 200, 80, 90],
    "timestamp": [10, 20, 30, 5, 6],
}


def stored(pipeline: PublicPipeline, symbol: int | str) -> list[list[int]]:
    """Prices, volumes and timestamps of a symbol."""
    return [pipeline.get_column(symbol, name).tolist() for name in ("price", "volume", "timestamp")]


@pytest.mark.parametrize(("ingest", "make"), LIBRARIES)
def test_ticks_go_in_and_their_number_comes_back(ingest: Any, make: Any) -> None:
    pipeline = PublicPipeline()
    assert ingest(make(TICKS), pipeline) == 5
    assert stored(pipeline, 1) == [[15000, 15010, 15020], [100, 150, 200], [10, 20, 30]]
    assert stored(pipeline, 2) == [[20000, 20010], [80, 90], [5, 6]]


@pytest.mark.parametrize(("ingest", "make"), LIBRARIES)
def test_columns_can_be_called_anything_and_others_are_ignored(ingest: Any, make: Any) -> None:
    pipeline = PublicPipeline()
    data = make(
        {"note": [[1]], "px": [150.25], "sym": ["a"], "qty": [0.5], "at": [dt.datetime(1970, 1, 1, tzinfo=dt.UTC)]}
    )
    ingest(
        data,
        pipeline,
        symbol_col="sym",
        price_col="px",
        volume_col="qty",
        timestamp_col="at",
        price_scale=100,
        volume_scale=10,
        table_name="trades",
    )
    assert stored(pipeline, "a") == [[15025], [5], [0]]
    assert pipeline.calls[0]["table_name"] == "trades"


@pytest.mark.parametrize(("ingest", "make"), LIBRARIES)
def test_the_references_order_of_arguments(ingest: Any, make: Any) -> None:
    pipeline = PublicPipeline()
    data = make({"s": [1], "p": [0.29], "v": [1], "t": [7]})
    ingest(data, pipeline, "s", "p", "v", "t", 100.0)
    assert stored(pipeline, 1) == [[29], [1], [7]]


@pytest.mark.parametrize(("ingest", "make"), LIBRARIES)
def test_without_timestamps_ticks_get_the_time_of_arrival(ingest: Any, make: Any) -> None:
    pipeline = PublicPipeline()
    data = {name: values for name, values in TICKS.items() if name != "timestamp"}
    before = dt.datetime.now(dt.UTC).timestamp() * 1e9
    ingest(make(data), pipeline)
    ingest(make(TICKS), pipeline, timestamp_col=None)
    assert pipeline.get_column(1, "timestamp").min() >= before - 1e6


@pytest.mark.parametrize(("ingest", "make"), LIBRARIES)
def test_a_missing_column_is_named_with_those_that_are_there(ingest: Any, make: Any) -> None:
    pipeline = PublicPipeline()
    with pytest.raises(UnknownColumnError) as caught:
        ingest(make({"symbol": [1], "prices": [1], "volume": [1]}), pipeline)
    assert str(caught.value) == (
        'The data has no column "price" (price_col). Did you mean "prices"? Known: symbol, prices, volume. '
        "Pass price_col= to name the column."
    )
    with pytest.raises(UnknownColumnError, match=r'no column "time" \(timestamp_col\)'):
        ingest(make(TICKS), pipeline, timestamp_col="time")
    assert pipeline.calls == []


@pytest.mark.parametrize(("ingest", "make"), LIBRARIES)
def test_bad_values_name_column_and_row_and_store_nothing(ingest: Any, make: Any) -> None:
    pipeline = PublicPipeline()
    with pytest.raises(LossyConversionError, match=r'"price" .*, row 1: 1.25 x 1 .* price_scale=100'):
        ingest(make({"symbol": [1, 1], "price": [1.0, 1.25], "volume": [1, 1]}), pipeline)
    with pytest.raises(InvalidInputError, match=r'"volume" .*, row 1: the value is missing'):
        ingest(make({"symbol": [1, 1], "price": [1, 1], "volume": [1, None]}), pipeline)
    assert pipeline.table.row_count == 0


@pytest.mark.parametrize(("ingest", "make"), LIBRARIES)
def test_no_rows_do_nothing(ingest: Any, make: Any) -> None:
    pipeline = PublicPipeline()
    assert ingest(make({"symbol": [], "price": [], "volume": []}), pipeline) == 0
    assert ingest(make(TICKS), pipeline) == 5


def test_clean_columns_are_handed_over_without_a_copy() -> None:
    arrays = {name: np.array(values) for name, values in TICKS.items()}
    pipeline = PublicPipeline()
    from_pandas(pd.DataFrame(arrays, copy=False), pipeline)
    from_polars(pl.DataFrame(arrays), pipeline)
    for call in pipeline.calls:
        for column, array in zip(call["columns"], arrays.values(), strict=True):
            assert np.shares_memory(column.to_numpy(), array)


def test_a_named_index_can_be_the_timestamp_and_an_unnamed_one_is_not_lost() -> None:
    index = pd.DatetimeIndex(["1970-01-01 00:00:01"], name="timestamp")
    frame = pd.DataFrame({"symbol": [1], "price": [1], "volume": [1]}, index=index)
    pipeline = PublicPipeline()
    from_pandas(frame, pipeline)
    assert stored(pipeline, 1)[2] == [10**9]
    with pytest.raises(InvalidInputError, match="DatetimeIndex without a name"):
        from_pandas(frame.rename_axis(None), pipeline)
    assert from_pandas(frame.rename_axis(None), pipeline, timestamp_col=None) == 1


def test_a_column_name_that_occurs_twice_is_refused() -> None:
    twice = pd.DataFrame([[1, 1, 1, 1]], columns=["symbol", "price", "volume", "price"])
    with pytest.raises(InvalidInputError, match='2 columns called "price"'):
        from_pandas(twice, PublicPipeline())
    with pytest.raises(InvalidInputError, match='2 columns called "price"'):
        from_arrow(pa.table([[1]] * 4, names=list(twice.columns)), PublicPipeline())


def test_anything_that_streams_arrow_will_do_for_from_arrow() -> None:
    table = pa.table(TICKS)
    sources = (table, table.to_batches()[0], table.to_reader(), pl.DataFrame(TICKS), duckdb.from_arrow(table))
    for source in sources:
        pipeline = PublicPipeline()
        assert from_arrow(source, pipeline) == 5
        assert stored(pipeline, 2)[0] == [20000, 20010]


def test_the_wrong_kind_of_frame_is_an_error_that_says_what_was_given() -> None:
    with pytest.raises(InvalidTypeError, match=r"Expected a pandas.DataFrame, got polars\..*DataFrame"):
        from_pandas(pl.DataFrame(TICKS), PublicPipeline())  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match=r"Expected a polars.DataFrame, got pandas\.DataFrame"):
        from_polars(pd.DataFrame(TICKS), PublicPipeline())  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match=r"give its \.collect\(\)"):
        from_polars(pl.LazyFrame(TICKS), PublicPipeline())  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match=r"Expected a pyarrow.Table, got builtins.dict"):
        from_arrow(TICKS, PublicPipeline())  # type: ignore[arg-type]


def test_everything_exported_is_there() -> None:
    assert sorted(zepto_py.__all__) == sorted(name for name in zepto_py.__all__ if callable(getattr(zepto_py, name)))


def test_importing_zepto_py_imports_none_of_the_libraries() -> None:
    code = "import sys, zepto_py; print(*({'pandas', 'polars', 'pyarrow', 'duckdb', 'numba'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""
