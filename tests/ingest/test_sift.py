"""Sifting finds exactly the rows that would be refused on their own, whatever stands around them."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.errors import InvalidInputError, InvalidTypeError, ZeptoError
from zeptodb.ingest.append import row_error, sift_trades, trades_batch
from zeptodb.storage.batch import ColumnBatch, Strings
from zeptodb.storage.table import Table
from zeptodb.types import TRADES, ColumnType, Field, Schema

INT_TRADES = Schema((Field("symbol", ColumnType.INT64, False), *TRADES.fields[1:]), "symbol", "timestamp")
TYPED = Schema(
    (
        Field("symbol", ColumnType.STRING, False),
        Field("price", ColumnType.FLOAT64),
        Field("volume", ColumnType.INT32, False),
        Field("note", ColumnType.STRING),
        Field("timestamp", ColumnType.TIMESTAMP_NS, False),
    ),
    "symbol",
    "timestamp",
)
PRICES = st.one_of(
    st.integers(-(2**64), 2**64),
    st.floats(),
    st.sampled_from([None, "x", True, b"1", 150.25, 0.29, decimal.Decimal("1.5"), decimal.Decimal("1.23"), 1 + 0j]),
    st.sampled_from([np.int32(5), np.uint64(2**64 - 1), np.float32(0.5), pd.NA, pd.NaT, dt.datetime(2020, 1, 1)]),  # noqa: DTZ001
)
SYMBOLS = st.one_of(st.integers(0, 3), st.sampled_from([None, "a", 1.0, 2**63, True]))
FAR, EARLY = dt.datetime(3000, 1, 1), dt.datetime(1960, 1, 1)  # noqa: DTZ001
MOMENTS = st.sampled_from([1, -5, 2**63, None, 1.5, FAR, EARLY, np.datetime64("NaT")])


def column(batch: ColumnBatch, index: int) -> list[Any]:
    values = batch.columns[index]
    assert values is not None
    validity = batch.validity[index]
    if isinstance(values, Strings):
        plain = [None if code < 0 else values.values[code] for code in values.codes]
    else:
        plain = values.tolist()
    return plain if validity is None else [v if ok else None for v, ok in zip(plain, validity, strict=True)]


def rows(batch: ColumnBatch) -> list[tuple[Any, ...]]:
    return list(zip(*(column(batch, i) for i in range(len(batch.columns))), strict=True))


def one_by_one(schema: Schema, *columns: list[Any], **scales: float) -> tuple[list[tuple[Any, ...]], list[int]]:
    """The slow truth: each row alone."""
    good, bad = [], []
    for row, values in enumerate(zip(*columns, strict=True)):
        try:
            good += rows(trades_batch(schema, *([value] for value in values), **scales))
        except ZeptoError:
            bad.append(row)
    return good, bad


def same(left: object, right: object) -> bool:
    return str(left) == str(right)  # NaN equals NaN, 1 does not equal 1.0


@settings(max_examples=150, deadline=None)
@example([(0, 90_071_992_547_410, 0, 1), (0, 0.0, 0, 1)], 100.0)
@example([(0, 1.797693134862316e306, 0, 1)], 100.0)
@given(st.lists(st.tuples(SYMBOLS, PRICES, PRICES, MOMENTS), max_size=12), st.sampled_from([1.0, 100.0]))
def test_lists_of_python_values(ticks: list[tuple[Any, ...]], price_scale: float) -> None:
    columns = [list(values) for values in zip(*ticks, strict=True)] or [[], [], [], []]
    for schema in (INT_TRADES, TYPED):
        sifted = sift_trades(schema, *columns, price_scale=price_scale)
        good, bad = one_by_one(schema, *columns, price_scale=price_scale)
        assert sifted.bad_rows.tolist() == bad
        assert same(rows(sifted.batch), good)
        first = sift_trades(schema, *columns, price_scale=price_scale, stop_at_first=True)
        assert same(rows(first.batch), good[: bad[0] if bad else None])
        Table("trades", schema, memory=AnonymousMemory(), arena_size=1 << 16).append(sifted.batch)
        for row in bad:
            message = str(row_error(schema, *columns, row=row, price_scale=price_scale))
            assert "row" not in message.partition(":")[0]


@settings(max_examples=80, deadline=None)
@example([1.9], np.float32, 100.0)
@given(
    st.lists(st.one_of(st.floats(), st.sampled_from([1.25, 3.0, -0.5, 1e-7])), min_size=1, max_size=20),
    st.sampled_from([np.float64, np.float32]),
    st.sampled_from([1.0, 100.0]),
)
def test_columns_of_floats_in_every_library(prices: list[float], dtype: Any, scale: float) -> None:
    with np.errstate(over="ignore"):
        array = np.array(prices).astype(dtype)
    ones = np.ones(len(array), np.int64)
    expected, bad = one_by_one(INT_TRADES, *(list(c) for c in (ones, array, ones, ones)), price_scale=scale)
    for data in (array, pd.Series(array), pl.Series(array), pa.array(array), pa.chunked_array([array[:1], array[1:]])):
        sifted = sift_trades(INT_TRADES, ones, data, ones, ones, price_scale=scale)
        assert sifted.bad_rows.tolist() == bad
        assert rows(sifted.batch) == expected


def test_missing_values_of_every_library() -> None:
    ones = np.ones(3, np.int64)
    columns: list[Any] = [
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1.0, np.nan, 3.0]),
        pd.Series([1, None, 3], dtype=object),
        pl.Series([1, None, 3]),
        pa.array([1, None, 3]),
        np.ma.masked_array([1, 2, 3], [False, True, False]),
        [1, pd.NA, 3],
    ]
    for data in columns:
        sifted = sift_trades(INT_TRADES, ones, data, ones, ones)
        assert sifted.bad_rows.tolist() == [1]
        assert column(sifted.batch, 1) == [1, 3]
        nullable = sift_trades(TYPED, ["a", "b", None], data, ones, ones)
        assert nullable.bad_rows.tolist() == [2]
        assert column(nullable.batch, 1) == [1.0, None]
        assert column(nullable.batch, 3) == [None, None]


def test_unsigned_integers_out_of_range_and_dates_out_of_range() -> None:
    ones = np.ones(4, np.int64)
    big = np.array([1, 2**63, 3, 2**64 - 1], np.uint64)
    assert sift_trades(INT_TRADES, ones, big, ones, ones).bad_rows.tolist() == [1, 3]
    days = np.array(["2020-01-01", "9999-01-01", "NaT", "2020-01-02"], "M8[D]")
    for data in (days, pl.Series(days), pa.array(days), pd.Series(days.astype("M8[s]"))):
        assert sift_trades(INT_TRADES, ones, ones, ones, data).bad_rows.tolist() == [1, 2]


def test_the_first_usable_symbol_settles_what_symbols_are() -> None:
    ones = [1] * 4
    sifted = sift_trades(TRADES, [None, "b", 7, "a"], ones, ones, ones)
    assert sifted.bad_rows.tolist() == [0, 2]
    assert column(sifted.batch, 0) == ["b", "a"]
    assert sift_trades(TRADES, [7, "b", 1.5, 8], ones, ones, ones).bad_rows.tolist() == [1, 2]
    assert "do" in str(row_error(TRADES, [7, "b", 1.5, 8], ones, ones, ones, row=1))


@pytest.mark.parametrize("prices", [np.array(["a"]), pl.Series([[1]]), pa.array([True]), pd.Series(["a"], dtype="str")])
def test_a_column_of_a_wrong_type_is_no_matter_of_rows(prices: Any) -> None:
    with pytest.raises(InvalidTypeError):
        sift_trades(INT_TRADES, [1], prices, [1], [1])


def test_columns_of_different_lengths_are_no_matter_of_rows() -> None:
    with pytest.raises(InvalidInputError, match="same number of rows"):
        sift_trades(INT_TRADES, [1, 2], [None], [1, 1], [1, 1])
