"""What a single tick may be, and what is refused before it waits."""

# ruff: noqa: DTZ001 - naive datetimes are part of what is tested

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.ingest.fake_table import FakeTable, make
from zeptodb.errors import (
    InvalidInputError,
    InvalidTypeError,
    LossyConversionError,
    UnknownColumnError,
)
from zeptodb.types import TRADES, ColumnType, Field, Schema

ENDS = (-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("price", "stored"),
    [
        (np.int64(5), 5),
        (np.uint8(5), 5),
        (5.0, 5),
        (np.float32(5), 5),
        (-0.0, 0),
        (ENDS[0], ENDS[0]),
        (ENDS[1], ENDS[1]),
        (29.000000000000004, 29),
        (2.0**53, 2**53),
    ],
)
def test_whole_numbers_of_any_type_are_accepted(price: Any, stored: int) -> None:
    queue, table = make()
    queue.put(np.int32(1), price, price, np.int64(3))
    queue.drain()
    assert table.rows == [(1, stored, stored, 3)]


@pytest.mark.parametrize(
    ("price", "error", "words"),
    [
        (True, InvalidTypeError, "price is True of type bool; give an int"),
        (np.bool_(True), InvalidTypeError, "price is .*True"),
        (None, InvalidTypeError, r"price is missing \(None\)"),
        ("150", InvalidTypeError, "price is '150' of type str"),
        (float("nan"), InvalidInputError, "price is nan, which has no integer value"),
        (float("inf"), InvalidInputError, "price is inf"),
        (150.25, LossyConversionError, r"price is 150.25, which is not a whole number; scale it"),
        (3e-7, LossyConversionError, "not a whole number"),
        (2.0**53 + 2, LossyConversionError, r"up to 2\^53"),
        (2**63, InvalidInputError, "price is 9223372036854775808, which is out of int64"),
        (-(2**63) - 1, InvalidInputError, "out of int64"),
        (np.uint64(2**63), InvalidInputError, "out of int64"),
        ([1], InvalidTypeError, "of type list"),
    ],
)
def test_other_prices_and_volumes_are_refused(price: Any, error: type[Exception], words: str) -> None:
    queue, table = make()
    with pytest.raises(error, match=words):
        queue.put(1, price, 1)
    with pytest.raises(error, match=words.replace("price", "volume")):
        queue.put(1, 1, price)
    queue.drain()
    assert table.rows == []
    assert queue.ticks_ingested == 0


@pytest.mark.parametrize("symbol", [None, 1.0, True, b"a", ("a",)])
def test_symbols_are_ints_or_strings(symbol: Any) -> None:
    queue, _ = make()
    with pytest.raises(InvalidTypeError, match=r"symbol is .* give an int or a str"):
        queue.put(symbol, 1, 1)
    queue.put("µ", 1, 1)
    with pytest.raises(InvalidInputError, match="cannot be encoded"):
        queue.put("\ud800", 1, 1)
    with pytest.raises(InvalidInputError, match=r"symbol is .* out of int64"):
        queue.put(2**63, 1, 1)


@pytest.mark.parametrize(
    ("timestamp", "ns"),
    [
        (-5, -5),
        (np.int64(5), 5),
        (dt.datetime(1970, 1, 1, 0, 0, 1), 10**9),
        (dt.datetime(1970, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), 0),
        (pd.Timestamp("1970-01-01 00:00:00.000000001"), 1),
        (np.datetime64("1970-01-02", "D"), 86_400 * 10**9),
    ],
)
def test_timestamps_are_nanoseconds_or_datetimes(timestamp: Any, ns: int) -> None:
    queue, table = make()
    queue.put(1, 1, 1, timestamp)
    queue.drain()
    assert table.rows[0][3] == ns


@pytest.mark.parametrize(
    ("timestamp", "error"),
    [
        (1.5e18, InvalidTypeError),
        (True, InvalidTypeError),
        ("2024-01-01", InvalidTypeError),
        (2**63, InvalidInputError),
        (pd.NaT, InvalidInputError),
        (np.datetime64("NaT"), InvalidInputError),
        (dt.datetime(9999, 1, 1), InvalidInputError),
    ],
)
def test_other_timestamps_are_refused(timestamp: Any, error: type[Exception]) -> None:
    queue, _ = make()
    with pytest.raises(error, match="timestamp"):
        queue.put(1, 1, 1, timestamp)


def test_the_first_symbol_settles_the_kind_before_anything_is_stored() -> None:
    queue, table = make()
    queue.put("AAPL", 1, 1)
    with pytest.raises(InvalidTypeError, match='symbol is 5; table "trades" has string symbols: give a str'):
        queue.put(5, 1, 1)
    queue.drain()
    assert table.rows == [("AAPL", 1, 1, "now")]
    other, _ = make(FakeTable().settled(ColumnType.INT64))
    with pytest.raises(InvalidTypeError, match=r"symbol is 'AAPL'; .* integer symbols: give an int"):
        other.put("AAPL", 1, 1)


FLOATS = Schema(
    (
        Field("timestamp", ColumnType.TIMESTAMP_NS),
        Field("volume", ColumnType.FLOAT32),
        Field("note", ColumnType.STRING),
        Field("price", ColumnType.FLOAT64),
        Field("sym", ColumnType.STRING),
        Field("count", ColumnType.INT32),
    ),
    symbol="sym",
    timestamp="timestamp",
)


def test_tables_of_floats_take_floats_and_other_columns_are_null() -> None:
    queue, table = make(FLOATS)
    queue.put("a", 150.25, 3)
    queue.put("a", 7, float("nan"))
    queue.drain()
    assert table.rows[0] == ("now", 3.0, None, 150.25, "a", 0)
    assert np.isnan(table.rows[1][1])
    with pytest.raises(InvalidInputError, match="out of FLOAT32"):
        queue.put("a", 1, 1e300)
    with pytest.raises(LossyConversionError, match=r"beyond 2\^53"):
        queue.put("a", 2**53 + 1, 1)


def test_tables_that_cannot_take_ticks_say_why() -> None:
    without_symbol = Schema(TRADES.fields[1:], timestamp="timestamp")
    with pytest.raises(InvalidInputError, match="has no symbol column"):
        make(without_symbol)[0].put(1, 1, 1)
    with pytest.raises(UnknownColumnError, match='no column "volume"'):
        make(Schema(TRADES.fields[:2], symbol="symbol"))[0].put(1, 1, 1)
    required = Schema((*TRADES.fields, Field("venue", ColumnType.STRING, is_nullable=False)), "symbol", "timestamp")
    with pytest.raises(InvalidInputError, match=r'"venue" .* must not be NULL'):
        make(required)[0].put(1, 1, 1)
    timeless, table = make(Schema(TRADES.fields[:3], symbol="symbol"))
    with pytest.raises(InvalidInputError, match="has no timestamp column"):
        timeless.put(1, 1, 1, 5)
    timeless.put(1, 2, 3)
    timeless.drain()
    assert table.rows == [(1, 2, 3)]
