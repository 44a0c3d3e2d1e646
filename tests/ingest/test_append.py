"""Columns of trades become batches, exactly or not at all."""

# ruff: noqa: DTZ001 - naive datetimes are part of what is tested

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tests.ingest.batches import TYPED, cell, prices, settled
from zeptodb.errors import InvalidInputError, InvalidTypeError, UnknownColumnError
from zeptodb.ingest.append import frame_batch, trades_batch
from zeptodb.storage.batch import Strings
from zeptodb.types import TRADES, ColumnType, Field, Schema


def test_clean_int64_columns_are_not_copied() -> None:
    columns = [np.arange(5) for _ in range(4)]
    for library in (np.asarray, pa.array, pl.Series, lambda column: pd.Series(column, copy=False)):
        batch = trades_batch(TRADES, *(library(column) for column in columns))
        for given_column, stored in zip(columns, (batch.columns[i] for i in (0, 1, 2, 3)), strict=True):
            assert isinstance(stored, np.ndarray)
            assert np.shares_memory(stored, given_column)
        assert batch.validity == (None,) * 4


def test_strided_and_narrow_columns_become_contiguous_int64() -> None:
    assert prices(np.arange(10, dtype=np.int16)[::2]) == [0, 2, 4, 6, 8]
    assert prices(np.arange(4)[::-1]) == [3, 2, 1, 0]


def test_missing_timestamps_are_left_to_the_table() -> None:
    assert trades_batch(TRADES, [1], [2], [3]).columns[3] is None


def test_integer_timestamps_are_nanoseconds_and_floats_are_refused() -> None:
    batch = trades_batch(TRADES, [1], [2], [3], [-5])
    assert cell(batch, "timestamp", TRADES) == -5
    with pytest.raises(InvalidTypeError, match=r'"timestamp" .* is TIMESTAMP_NS and was given float values'):
        trades_batch(TRADES, [1], [2], [3], [1.7e18])
    with pytest.raises(InvalidTypeError, match="given string values"):
        trades_batch(TRADES, [1], [2], [3], ["2024-01-01"])


@pytest.mark.parametrize(
    "times",
    [
        pd.Series([pd.Timestamp(0), pd.NaT]),
        np.array(["1970", "NaT"], "M8[ns]"),
        pa.array([dt.datetime(1970, 1, 1), None]),
        pl.Series([0, None]),
        [0, None],
    ],
)
def test_a_missing_timestamp_among_others_is_an_error(times: Any) -> None:
    with pytest.raises(InvalidInputError, match='Column "timestamp" of table "trades", row 1: the value is missing'):
        trades_batch(TRADES, [1, 1], [2, 2], [3, 3], times)


@pytest.mark.parametrize("data", [[1, None], pd.Series([1, None]), pl.Series([1, None]), pa.array([1, None])])
def test_null_is_not_allowed_in_trades(data: Any) -> None:
    for position, name in enumerate(("symbol", "price", "volume")):
        columns: list[Any] = [[1, 1], [1, 1], [1, 1]]
        columns[position] = data
        with pytest.raises((InvalidInputError, InvalidTypeError)) as caught:
            trades_batch(TRADES, *columns)
        assert f'Column "{name}" of table "trades", row 1: the value is missing (NULL)' in str(caught.value)


def test_bools_and_strings_are_no_prices() -> None:
    with pytest.raises(
        InvalidTypeError, match=r'"price" .* is INT64 and was given bool values \(bool\); give integers'
    ):
        prices(np.array([True]))
    with pytest.raises(InvalidTypeError, match="given string values"):
        prices(["150"])
    with pytest.raises(InvalidTypeError, match="given timestamp values"):
        prices(np.array([0], "M8[ns]"))


def test_lengths_must_agree() -> None:
    with pytest.raises(
        InvalidInputError, match="same number of rows, but have: symbols 1, prices 2, volumes 1, timestamps 3"
    ):
        trades_batch(TRADES, [1], [1, 2], [1], [1, 2, 3])


def test_no_rows_do_nothing_whatever_their_type() -> None:
    assert trades_batch(TRADES, [], [], []).rows == 0
    empty = pd.DataFrame({"symbol": [], "price": [], "volume": []})
    assert frame_batch(TRADES, empty).rows == 0
    assert trades_batch(settled(ColumnType.STRING), np.zeros(0, np.int64), pl.Series([], dtype=pl.String), []).rows == 0


def test_symbols_are_integers_or_strings() -> None:
    batch = trades_batch(TRADES, ["b", "a", "b", ""], [1] * 4, [1] * 4)
    symbols = batch.columns[0]
    assert isinstance(symbols, Strings)
    assert [symbols.values[code] for code in symbols.codes] == ["b", "a", "b", ""]
    for bad in ([1.0], [True], [dt.datetime(2024, 1, 1)]):
        with pytest.raises(InvalidTypeError, match="symbols are integers or strings"):
            trades_batch(TRADES, bad, [1], [1])


def test_the_symbols_kind_must_be_that_of_the_table() -> None:
    with pytest.raises(InvalidTypeError, match="has string symbols and was given integers"):
        trades_batch(settled(ColumnType.STRING), [1], [1], [1])
    with pytest.raises(InvalidTypeError, match="has integer symbols and was given strings"):
        trades_batch(settled(ColumnType.INT64), ["a"], [1], [1])


def test_float_tables_keep_floats_and_scale_on_request() -> None:
    schema = Schema(
        (
            Field("symbol", ColumnType.SYMBOL),
            Field("price", ColumnType.FLOAT64),
            Field("volume", ColumnType.FLOAT64),
            Field("note", ColumnType.STRING),
        ),
        symbol="symbol",
    )
    batch = trades_batch(schema, [1], [150.25], [float("nan")], price_scale=2, table="t")
    assert cell(batch, "price", schema) == 300.5
    assert np.isnan(cell(batch, "volume", schema))  # type: ignore[call-overload]
    assert cell(batch, "note", schema) is None
    with pytest.raises(InvalidInputError, match='"t" has no timestamp column'):
        trades_batch(schema, [1], [1], [1], [1], table="t")


def test_a_table_without_price_is_no_table_of_trades() -> None:
    with pytest.raises(UnknownColumnError, match='Table "q" has no column "price"'):
        trades_batch(TYPED, ["a"], [1], [1], table="q")
