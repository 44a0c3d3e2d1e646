"""Frames of any library become batches of a table's schema, matched by name, exactly or not at all."""

# ruff: noqa: DTZ001 - naive datetimes are part of what is tested

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ingest.batches import TYPED, cell
from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError, UnknownColumnError
from zeptodb.ingest.append import frame_batch
from zeptodb.types import TRADES

ROW = {
    "symbol": "AAPL",
    "bid": 1.5,
    "size": 2**60,
    "small": -3,
    "single": 0.5,
    "open": True,
    "day": dt.date(2024, 1, 2),
    "venue": "XNAS",
    "timestamp": dt.datetime(2024, 1, 2, 3, 4, 5, 6),
}
STORED = ROW | {"day": 1_704_153_600_000_000_000, "timestamp": 1_704_164_645_000_006_000}


@pytest.mark.parametrize(
    "make",
    [
        lambda row: {name: [value] for name, value in row.items()},
        lambda row: pd.DataFrame([row]),
        lambda row: pl.DataFrame([row]),
        lambda row: pa.Table.from_pylist([row]),
        lambda row: pa.RecordBatch.from_pylist([row]),
        lambda row: pa.Table.from_pylist([row]).to_reader(),
        lambda row: duckdb.from_arrow(pa.Table.from_pylist([row])),
        lambda row: pd.DataFrame([row]).rename(columns=str.upper)[[name.upper() for name in reversed(row)]],
    ],
    ids=["dict", "pandas", "polars", "arrow", "batch", "reader", "duckdb", "other order and case"],
)
def test_a_frame_of_any_library_is_matched_by_name(make: Any) -> None:
    batch = frame_batch(TYPED, make(ROW))
    assert {name: cell(batch, name) for name in TYPED.names} == STORED


def test_columns_that_are_absent_are_null_and_the_time_is_that_of_arrival() -> None:
    batch = frame_batch(TYPED, {"symbol": ["a"]})
    assert {cell(batch, name) for name in TYPED.names[1:-1]} == {None}
    assert batch.columns[-1] is None


def test_nulls_go_into_nullable_columns() -> None:
    data: dict[str, Any] = {name: [value, None] for name, value in ROW.items()}
    data |= {"symbol": ["a", "b"], "timestamp": [1, 2], "size": [7, None]}
    nullable = TYPED.names[1:-1]
    for frame in (data, pd.DataFrame(data), pl.DataFrame(data), pa.table(data)):
        batch = frame_batch(TYPED, frame)
        for name in nullable:
            validity = batch.validity[TYPED.index(name)]
            assert validity is not None
            assert validity.tolist() == [True, False]


def test_a_column_of_nulls_fits_every_type() -> None:
    batch = frame_batch(TYPED, pl.DataFrame({"symbol": ["a"], **{name: [None] for name in TYPED.names[1:-1]}}))
    assert {cell(batch, name) for name in TYPED.names[1:-1]} == {None}


def test_an_unknown_column_is_named_with_its_neighbour() -> None:
    with pytest.raises(
        UnknownColumnError, match=r'column "bidd", which table "quotes" does not have. Did you mean "bid"'
    ):
        frame_batch(TYPED, {"symbol": ["a"], "bidd": [1.0]}, table="quotes")


def test_a_required_column_must_be_there() -> None:
    with pytest.raises(InvalidInputError, match=r'Column "volume" .* must not be NULL.*It has: symbol, price'):
        frame_batch(TRADES, {"symbol": [1], "price": [1]})
    with pytest.raises(InvalidInputError, match=r'Column "symbol" .* must not be NULL'):
        frame_batch(TYPED, {"bid": [1.0]})


def test_roles_may_be_called_differently_in_the_data() -> None:
    data = {"sym": ["a"], "bid": [1.5], "at": [7]}
    batch = frame_batch(TYPED, data, symbol_col="sym", timestamp_col="at")
    assert (cell(batch, "symbol"), cell(batch, "timestamp")) == ("a", 7)
    with pytest.raises(UnknownColumnError, match='no column "other"'):
        frame_batch(TYPED, data, symbol_col="sym", timestamp_col="other")
    with pytest.raises(InvalidInputError, match='two columns for column "symbol"'):
        frame_batch(TYPED, data | {"symbol": ["b"]}, symbol_col="sym", timestamp_col="at")


def test_a_named_pandas_index_counts_as_a_column_where_the_table_has_it() -> None:
    index = pd.DatetimeIndex(["2024-01-02"], name="timestamp")
    batch = frame_batch(TYPED, pd.DataFrame({"symbol": ["a"]}, index=index))
    assert cell(batch, "timestamp") == 1_704_153_600_000_000_000
    assert frame_batch(TYPED, pd.DataFrame({"symbol": ["a"]}, index=pd.Index([9], name="row"))).columns[-1] is None


def test_times_in_an_unnamed_index_are_not_left_behind_in_silence() -> None:
    frame = pd.DataFrame({"symbol": ["a"]}, index=pd.DatetimeIndex(["2024-01-02"]))
    with pytest.raises(
        InvalidInputError, match=r'DatetimeIndex without a name; name it with df.rename_axis\("timestamp"\)'
    ):
        frame_batch(TYPED, frame)


class BreakingStream:
    """An Arrow stream whose second batch never comes."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        schema = pa.schema([("symbol", pa.int64())])

        def batches() -> Any:
            yield pa.record_batch({"symbol": [1]})
            raise OSError("the wire is cut")

        return pa.RecordBatchReader.from_batches(schema, batches()).__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), InvalidInputError, 'Column name "a" occurs twice'),
        (pa.table([[1], [2]], names=["a", "A"]), InvalidInputError, 'Column name "A" occurs twice'),
        (pd.DataFrame([[1, 2]]), InvalidInputError, "Column name 0 is not a string"),
        ({1: [1]}, InvalidInputError, "Column name 1 is not a string"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), InvalidInputError, "several levels"),
        ({"symbol": [1], "bid": [1, 2]}, InvalidInputError, 'same number of rows, but have: "symbol" 1, "bid" 2'),
        (pl.LazyFrame({"symbol": [1]}), InvalidTypeError, r"give its .collect\(\)"),
        ([{"symbol": 1}], InvalidTypeError, "is of type list; give a pandas or polars DataFrame"),
        (None, InvalidTypeError, "is of type NoneType"),
        (BreakingStream(), InvalidInputError, "could not be read to its end, nothing was stored: .*the wire is cut"),
        ({"symbol": ["a"], "bid": [[1]]}, InvalidInputError, 'Column "bid", row 0 is a list'),
    ],
)
def test_bad_frames_are_refused_in_words(data: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        frame_batch(TYPED, data)


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("bid", 2**53 + 1, LossyConversionError, r"is beyond 2\^53, up to which float64 holds"),
        ("single", 2**24 + 1, LossyConversionError, r"is beyond 2\^24, up to which float32 holds"),
        ("single", 1e300, InvalidInputError, "is out of FLOAT32"),
        ("small", 2**31, InvalidInputError, "is out of INT32"),
        ("small", 1.5, LossyConversionError, "Multiply the column by 10"),
        ("size", 0.25, LossyConversionError, "Multiply the column by 100"),
        ("open", 1, InvalidTypeError, '"open" .* is BOOL and was given integer values'),
        ("venue", 1, InvalidTypeError, "is STRING and was given integer values"),
        ("day", "2024", InvalidTypeError, "is TIMESTAMP_NS and was given string values"),
        ("bid", Decimal("0.12345678901234567890123"), LossyConversionError, "more digits than float64 holds"),
        ("symbol", None, InvalidInputError, "the value is missing"),
    ],
)
def test_what_does_not_fit_its_column_names_the_row(name: str, value: Any, error: type[Exception], words: str) -> None:
    row = {"symbol": "a", "timestamp": 1} | {name: value}
    with pytest.raises(error, match=words):
        frame_batch(TYPED, {key: [item] for key, item in row.items()})


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**8), max_value=10**8))
def test_decimals_become_the_nearest_float(value: Decimal) -> None:
    batch = frame_batch(TYPED, {"symbol": ["a"], "bid": pa.array([value], pa.decimal128(20, 6))})
    assert cell(batch, "bid") == float(value)
