"""The schema of a table made from data: roles by name, the narrowest of our types that loses nothing."""

# ruff: noqa: DTZ001 - naive datetimes are part of what is tested

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError, UnknownColumnError
from zeptodb.ingest.append import frame_batch
from zeptodb.ingest.frame import read_frame
from zeptodb.ingest.infer import infer_schema
from zeptodb.types import ColumnType, Schema


def types_of(schema: Schema) -> dict[str, str]:
    """Name to type."""
    return {field.name: field.type.value for field in schema.fields}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (np.array([1], np.int8), "INT32"),
        (np.array([1], np.uint16), "INT32"),
        (np.array([1], np.int32), "INT32"),
        (np.array([1], np.uint32), "INT64"),
        (np.array([1], np.int64), "INT64"),
        (np.array([2**63 - 1], np.uint64), "INT64"),
        (np.array([1], np.float16), "FLOAT32"),
        (np.array([1], np.float32), "FLOAT32"),
        (np.array([1.0]), "FLOAT64"),
        (np.array([True]), "BOOL"),
        (["a"], "STRING"),
        (pd.Categorical(["a"]), "STRING"),
        (pl.Series(["a"], dtype=pl.Categorical), "STRING"),
        ([dt.date(2024, 1, 1)], "TIMESTAMP_NS"),
        (pa.array([dt.datetime(2024, 1, 1)], pa.timestamp("ms", "Asia/Tokyo")), "TIMESTAMP_NS"),
        ([Decimal("1.25")], "FLOAT64"),
        ([None], "FLOAT64"),
    ],
)
def test_types(column: Any, expected: str) -> None:
    assert types_of(infer_schema({"x": column}))["x"] == expected


@pytest.mark.parametrize("library", [dict, pd.DataFrame, pl.DataFrame, pa.table])
def test_roles_are_found_by_name_and_the_data_fits_its_own_schema(library: Any) -> None:
    data = library({"Symbol": ["a", "b"], "bid": [1.5, 2.5], "timestamp": [1, 2]})
    schema = infer_schema(data)
    assert (schema.symbol, schema.timestamp) == ("Symbol", "timestamp")
    assert types_of(schema) == {"Symbol": "STRING", "bid": "FLOAT64", "timestamp": "TIMESTAMP_NS"}
    assert [field.is_nullable for field in schema.fields] == [False, True, False]
    assert frame_batch(schema, data).rows == 2


def test_roles_can_be_named() -> None:
    data = {"sym": [1], "at": [dt.datetime(2024, 1, 1)], "px": [1.5]}
    schema = infer_schema(data, symbol_col="sym", timestamp_col="at")
    assert (schema.symbol, schema.timestamp) == ("sym", "at")
    with pytest.raises(UnknownColumnError, match=r'no column "smy".*Did you mean "sym"'):
        infer_schema(data, symbol_col="smy")


def test_the_first_column_of_datetimes_is_the_timestamp_where_none_is_called_so() -> None:
    schema = infer_schema({"a": [1], "seen": [dt.datetime(2024, 1, 1)], "sent": [dt.datetime(2024, 1, 1)]})
    assert (schema.symbol, schema.timestamp) == (None, "seen")
    assert infer_schema({"a": [1]}).timestamp is None


def test_a_named_index_plays_its_role_and_an_unnamed_one_is_not_left_behind() -> None:
    index = pd.DatetimeIndex(["2024-01-02"], name="timestamp")
    assert types_of(infer_schema(pd.DataFrame({"a": [1]}, index=index))) == {"a": "INT64", "timestamp": "TIMESTAMP_NS"}
    with pytest.raises(InvalidInputError, match="DatetimeIndex without a name"):
        infer_schema(pd.DataFrame({"a": [1]}, index=index.rename(None)))


def test_a_stream_is_read_once() -> None:
    frame = read_frame(pa.table({"symbol": [1, 2]}).to_reader())
    assert frame_batch(infer_schema(frame), frame).rows == 2


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ({"x": np.array([2**63], np.uint64)}, InvalidInputError, 'Column "x", row 0: .* is out of int64; cast'),
        ({"x": [Decimal("0.1234567890123456789")]}, LossyConversionError, 'Column "x", row 0: .* more digits than'),
        ({"x": pa.array([[1]])}, InvalidTypeError, 'Column "x" has the Arrow type list.*flatten or explode'),
        ({"x": pa.array([{"a": 1}])}, InvalidTypeError, 'Column "x" has the Arrow type struct'),
        ({"x": [b"a"]}, InvalidTypeError, 'Column "x", row 0: .* decode it to a string'),
        ({"symbol": [1.5]}, InvalidTypeError, 'Column "symbol" is to be the symbol and has float values'),
        ({"timestamp": ["2024"]}, InvalidTypeError, 'Column "timestamp" is to be the timestamp and has string values'),
        ({}, InvalidInputError, "The data has no columns"),
        (5, InvalidTypeError, "is of type int"),
    ],
)
def test_what_cannot_be_stored_is_named(data: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        infer_schema(data)


def test_one_column_cannot_play_both_roles() -> None:
    with pytest.raises(InvalidInputError, match="cannot be both"):
        infer_schema({"x": [1]}, symbol_col="x", timestamp_col="x")


def test_a_symbol_without_values_is_settled_later() -> None:
    assert infer_schema({"symbol": []}).fields[0].type is ColumnType.SYMBOL
