"""Reading one column of any library gives the same values as the library's own conversion to Python."""

# ruff: noqa: DTZ001 - naive datetimes are part of what is tested

from __future__ import annotations

import array
import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError
from zeptodb.ingest.read import read
from zeptodb.ingest.values import Decimals, Values
from zeptodb.storage.batch import Strings

UTC = dt.UTC
LABEL = 'Column "x"'


def python_values(values: Values) -> list[object]:
    """What the values say, one Python object per row (timestamps as ns)."""
    if isinstance(values.data, Strings):
        plain: list[object] = [None if c < 0 else values.data.values[c] for c in values.data.codes.tolist()]
    elif isinstance(values.data, Decimals):
        plain = [Decimal(int(u)).scaleb(-values.data.digits) for u in values.data.unscaled.tolist()]
    else:
        plain = values.data.tolist()
    validity = values.validity
    return plain if validity is None else [p if v else None for p, v in zip(plain, validity.tolist(), strict=True)]


INTEGERS = [3, -1, 2**62, -(2**63), 2**63 - 1]
WITH_NULL = [1, None, 3]
TEXTS = ["b", "a", "", "b", "µ-AAPL.X"]
NATIVE = np.arange(10, dtype=np.int64)


@pytest.mark.parametrize(
    ("data", "kind", "expected"),
    [
        (np.array(INTEGERS), "integer", INTEGERS),
        (pa.array(INTEGERS), "integer", INTEGERS),
        (pa.chunked_array([INTEGERS[:2], [], INTEGERS[2:]]), "integer", INTEGERS),
        (pa.chunked_array([], pa.int64()), "integer", []),
        (pa.array([9, *INTEGERS, 9]).slice(1, 5), "integer", INTEGERS),
        (pl.Series(INTEGERS), "integer", INTEGERS),
        (pl.concat([pl.Series(INTEGERS[:2]), pl.Series(INTEGERS[2:])], rechunk=False), "integer", INTEGERS),
        (pl.Series(INTEGERS, dtype=pl.Int128), "integer", INTEGERS),
        (pd.Series(INTEGERS), "integer", INTEGERS),
        (pd.Index(INTEGERS), "integer", INTEGERS),
        (INTEGERS, "integer", INTEGERS),
        (tuple(INTEGERS), "integer", INTEGERS),
        (range(5, 1, -2), "integer", [5, 3]),
        (array.array("q", [1, 2]), "integer", [1, 2]),
        (memoryview(np.arange(3)), "integer", [0, 1, 2]),
        (np.array([1, 2], ">i4"), "integer", [1, 2]),
        (NATIVE[::3], "integer", [0, 3, 6, 9]),
        (NATIVE[::-1], "integer", NATIVE[::-1].tolist()),
        (np.ma.array([1, 2], mask=[False, True]), "integer", [1, None]),
        (pa.array([1, 2, 1]).dictionary_encode(), "integer", [1, 2, 1]),
        (pd.Series([7, 8, 7], dtype="category"), "integer", [7, 8, 7]),
        (pd.Series([0, 1, 0], dtype="Sparse[int]"), "integer", [0, 1, 0]),
        (pa.array(WITH_NULL), "integer", WITH_NULL),
        (pa.array([0, *WITH_NULL]).slice(1), "integer", WITH_NULL),
        (pl.Series(WITH_NULL), "integer", WITH_NULL),
        (pd.Series(WITH_NULL, dtype="Int64"), "integer", WITH_NULL),
        (pd.Series(WITH_NULL, dtype="int64[pyarrow]"), "integer", WITH_NULL),
        (pd.Series(WITH_NULL, dtype=object), "integer", WITH_NULL),
        (WITH_NULL, "integer", WITH_NULL),
        ([np.int8(1), np.uint64(2)], "integer", [1, 2]),
        (pd.Series([1.5, None]), "float", [1.5, None]),
        (pd.Series([1.5, None], dtype="Float64"), "float", [1.5, None]),
        ([1, 2.5], "float", [1.0, 2.5]),
        (pa.array(np.array([1.5], np.float16)), "float", [1.5]),
        (pl.Series([1.5], dtype=pl.Float32), "float", [1.5]),
        (np.array([True, False]), "bool", [True, False]),
        (pa.array([None, True, False]), "bool", [None, True, False]),
        (pl.Series([True, None]), "bool", [True, None]),
        (pd.Series([True, None], dtype="boolean"), "bool", [True, None]),
        (pa.array(TEXTS), "string", TEXTS),
        (pa.array(TEXTS, pa.large_string()), "string", TEXTS),
        (pa.array(TEXTS, pa.string_view()), "string", TEXTS),
        (pa.chunked_array([TEXTS[:2], TEXTS[2:]]), "string", TEXTS),
        (
            pa.chunked_array([pa.array(TEXTS[:2]).dictionary_encode(), pa.array(TEXTS[2:]).dictionary_encode()]),
            "string",
            TEXTS,
        ),
        (pa.array(["z", *TEXTS]).dictionary_encode().slice(1), "string", TEXTS),
        (pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]), "string", ["a", "a", "b"]),
        (pl.Series(TEXTS), "string", TEXTS),
        (pl.Series(TEXTS, dtype=pl.Categorical), "string", TEXTS),
        (pl.Series(["b", None], dtype=pl.Enum(["a", "b"])), "string", ["b", None]),
        (pd.Series(TEXTS), "string", TEXTS),
        (pd.Series(TEXTS, dtype=object), "string", TEXTS),
        (pd.Series(["a", None, "b"]), "string", ["a", None, "b"]),
        (pd.Series(["a", float("nan")], dtype=object), "string", ["a", None]),
        (pd.Series(["a", None, "b", "a"], dtype="category"), "string", ["a", None, "b", "a"]),
        (np.array(TEXTS), "string", TEXTS),
        (np.array(TEXTS, dtype=np.dtypes.StringDType()), "string", TEXTS),
        (np.array(TEXTS, dtype=object), "string", TEXTS),
        (TEXTS, "string", TEXTS),
        (["a", None], "string", ["a", None]),
        ([Decimal("1.50"), 3, None], "decimal", [Decimal("1.50"), Decimal(3), None]),
        (pa.array([Decimal("-1.25"), None]), "decimal", [Decimal("-1.25"), None]),
        (pa.array([Decimal(9), Decimal("-1.25")]).slice(1), "decimal", [Decimal("-1.25")]),
        (pa.array([Decimal("1.25")], pa.decimal32(5, 2)), "decimal", [Decimal("1.25")]),
        (pa.array([Decimal("1.25")], pa.decimal256(60, 30)), "decimal", [Decimal("1.25")]),
        (pa.array([Decimal("12345.25")], pa.decimal128(38, 18)), "decimal", [Decimal("12345.25")]),
        (pl.Series([Decimal("1.25")]), "decimal", [Decimal("1.25")]),
        (pd.Series([Decimal("1.25"), None]), "decimal", [Decimal("1.25"), None]),
        ([], "null", []),
        ([None, None], "null", [None, None]),
        (pa.nulls(2), "null", [None, None]),
        (pl.Series([None]), "null", [None]),
        (pd.Series([None], dtype="category"), "null", [None]),
    ],
)
def test_a_column_keeps_its_values(data: Any, kind: str, expected: list[object]) -> None:
    values = read(data, LABEL)
    assert (values.kind, python_values(values)) == (kind, expected)


@pytest.mark.parametrize(
    "data",
    [
        np.arange(4),
        np.arange(4.0),
        pa.array(np.arange(4)),
        pa.array(np.arange(8.0)).slice(3, 4),
        pl.Series(np.arange(4)),
        pd.Series(np.arange(4)),
        pd.Series(pa.array(np.arange(4)), dtype="int64[pyarrow]"),
        np.arange(4).view("M8[ns]"),
        pd.Series(np.arange(4).view("M8[ns]")),
        pa.array(np.arange(4).view("M8[ns]")),
    ],
    ids=lambda data: f"{type(data).__module__}-{getattr(data, 'dtype', getattr(data, 'type', ''))}",
)
def test_clean_numbers_are_not_copied(data: Any) -> None:
    if isinstance(data, pa.Array):
        address = data.buffers()[1].address + data.offset * 8
    else:
        address = (data.to_numpy() if hasattr(data, "to_numpy") else data).ctypes.data
    assert read(data, LABEL).array.ctypes.data == address


def test_nan_stays_nan_except_in_pandas() -> None:
    nan = float("nan")
    for data in (np.array([nan]), pa.array([nan]), pl.Series([nan]), [nan]):
        values = read(data, LABEL)
        assert values.validity is None
        assert np.isnan(values.array[0])
    assert python_values(read(pd.Series([nan]), LABEL)) == [None]


def test_what_lies_under_a_null_is_zero() -> None:
    hidden = pa.Array.from_buffers(pa.float64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([1.5, np.nan]))])
    assert read(hidden, LABEL).array.tolist() == [1.5, 0.0]


def test_foreign_dictionaries_may_hold_nulls_repeats_and_unused_entries() -> None:
    odd = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None, 4]), pa.array(["a", None, "a", "unused", "b"]))
    values = read(odd, LABEL)
    assert python_values(values) == ["a", None, "a", None, "b"]
    assert isinstance(values.data, Strings)
    assert list(values.data.values) == ["a", "b"]


def test_many_unused_categories_are_left_behind() -> None:
    values = read(pd.Series(["x3"], dtype=pd.CategoricalDtype([f"x{i}" for i in range(100)])), LABEL)
    assert isinstance(values.data, Strings)
    assert list(values.data.values) == ["x3"]


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (np.zeros((2, 3)), InvalidInputError, r'Column "x" has the shape \(2, 3\); give a 1-d array'),
        (np.array(5), InvalidInputError, r"single value \(a 0-d array\)"),
        (pd.DataFrame({"a": [1]}), InvalidInputError, r"shape \(1, 1\)"),
        ([[1], [2]], InvalidInputError, "row 0 is a list; give a 1-d column"),
        ("abc", InvalidTypeError, "is of type str; give a 1-d numpy array"),
        (5, InvalidTypeError, "is of type int"),
        (None, InvalidTypeError, "is of type NoneType"),
        ({1, 2}, InvalidTypeError, "is of type set"),
        ((x for x in [1]), InvalidTypeError, "is of type generator"),
        ([1, "a"], InvalidTypeError, "row 1: 'a' is of type str in a column that begins with int"),
        ([1, True], InvalidTypeError, "row 1: True is of type bool in a column that begins with int"),
        (pd.Series([1, None, "a"], dtype=object), InvalidTypeError, "row 2: 'a' is of type str"),
        ([float("nan"), "a"], InvalidTypeError, "row 1: 'a'"),
        ([1.5, 2**60], LossyConversionError, "row 1: the integer 1152921504606846976 stands among floats"),
        ([1, 2**63], InvalidInputError, "row 1: 9223372036854775808 is out of int64"),
        ([np.uint64(2**63)], InvalidInputError, "row 0: 9223372036854775808 is out of int64"),
        (pl.Series([2**64], dtype=pl.Int128), InvalidInputError, "is out of int64"),
        ([b"a"], InvalidTypeError, "decode it to a string first"),
        (np.array([b"a"]), InvalidTypeError, "decode bytes to strings first"),
        (pa.array([b"a"]), InvalidTypeError, "Arrow type binary.*decode it to strings first"),
        (pa.array([[1]]), InvalidTypeError, "flatten or explode it first"),
        (pa.array([{"a": 1}]), InvalidTypeError, "flatten or explode it first"),
        (pl.Series([[1]]), InvalidTypeError, "flatten or explode it first"),
        (pa.array([dt.timedelta(1)]), InvalidTypeError, "cast it to int64 nanoseconds"),
        (np.array([1], "m8[s]"), InvalidTypeError, "cast durations to int64 nanoseconds"),
        (np.array([1j]), InvalidTypeError, "the real or the imaginary part"),
        (pd.Series(pd.period_range("2024", periods=2)), InvalidTypeError, "to_timestamp"),
        (pl.Series([object()], dtype=pl.Object), InvalidTypeError, "is of type object"),
        (["\ud800"], InvalidInputError, "row 0: .* cannot be encoded as UTF-8"),
        ([Decimal("NaN")], InvalidInputError, "Decimal NaN is not a number"),
        ([object()], InvalidTypeError, "row 0: <object object"),
    ],
)
def test_what_is_not_a_column_is_refused_in_words(data: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read(data, LABEL)


# --- moments --------------------------------------------------------------------------------

MOMENT = dt.datetime(2024, 3, 31, 1, 59, 59, 123456, tzinfo=UTC)
MOMENT_NS = 1_711_850_399_123_456_000


@pytest.mark.parametrize(
    "data",
    [
        [MOMENT],
        [MOMENT.replace(tzinfo=None)],
        [MOMENT.astimezone(dt.timezone(dt.timedelta(hours=-7)))],
        [pd.Timestamp(MOMENT)],
        [np.datetime64("2024-03-31T01:59:59.123456")],
        np.array(["2024-03-31T01:59:59.123456"], "M8[us]"),
        np.array(["2024-03-31T01:59:59.123456"], ">M8[us]"),
        pd.Series([MOMENT]),
        pd.Series([MOMENT]).dt.tz_convert("Asia/Tokyo"),
        pd.Series([MOMENT], dtype=object),
        pd.DatetimeIndex([MOMENT]),
        pa.array([MOMENT]),
        pa.array([MOMENT], pa.timestamp("us", "America/New_York")),
        pl.Series([MOMENT]),
        pl.Series([MOMENT]).dt.convert_time_zone("Europe/Berlin"),
        pl.Series([MOMENT.replace(tzinfo=None)]),
    ],
)
def test_a_moment_is_the_same_nanosecond_from_every_library(data: Any) -> None:
    values = read(data, LABEL)
    assert (values.kind, values.array.tolist(), values.validity) == ("timestamp", [MOMENT_NS], None)


@pytest.mark.parametrize(
    "data",
    [
        [dt.date(1969, 12, 31), None],
        pa.array([dt.date(1969, 12, 31), None]),
        pa.array([dt.date(1969, 12, 31), None], pa.date64()),
        pl.Series([dt.date(1969, 12, 31), None]),
        pd.Series([dt.date(1969, 12, 31), None]),
        np.array(["1969-12-31", "NaT"], "M8[D]"),
        pd.Series([pd.Timestamp("1969-12-31"), pd.NaT]),
        [pd.Timestamp("1969-12-31"), pd.NaT],
    ],
)
def test_dates_before_1970_and_missing_ones(data: Any) -> None:
    assert python_values(read(data, LABEL)) == [-86_400_000_000_000, None]


@settings(deadline=None, max_examples=150)
@given(
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.sampled_from(["s", "ms", "us", "ns"]),
    st.sampled_from([None, "UTC", "America/New_York", "Asia/Kathmandu"]),
)
def test_timestamps_of_any_unit_and_zone_round_trip(ns: int, unit: str, zone: str | None) -> None:
    factor = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    units = abs(ns) // factor * (1 if ns > 0 else -1)
    whole_ns = units * factor
    numpy_moments = np.array([units], f"M8[{unit}]")
    arrow = pa.array(numpy_moments).cast(pa.timestamp(unit, zone))
    columns: list[Any] = [numpy_moments, arrow, pa.chunked_array([arrow, arrow.slice(0, 0)])]
    if unit != "s":
        columns.append(pl.Series(numpy_moments).dt.replace_time_zone("UTC").dt.convert_time_zone(zone or "UTC"))
    pandas = pd.Series(numpy_moments)
    columns.append(pandas if zone is None else pandas.dt.tz_localize("UTC").dt.tz_convert(zone))
    for column in columns:
        assert read(column, LABEL).array.tolist() == [whole_ns]


@settings(deadline=None)
@given(st.datetimes(dt.datetime(1678, 1, 1), dt.datetime(2262, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_python_datetimes_agree_with_numpy(moment: dt.datetime, minutes: int) -> None:
    expected = np.datetime64(moment, "ns").astype(np.int64).item()
    aware = moment.replace(tzinfo=UTC).astimezone(dt.timezone(dt.timedelta(minutes=minutes)))
    assert read([moment, aware], LABEL).array.tolist() == [expected, expected]


def test_coarse_and_fine_numpy_units_are_exact() -> None:
    assert read(np.array(["1972", "NaT"], "M8[Y]"), LABEL).array.tolist() == [63_072_000_000_000_000, 0]
    assert read(np.array([1], "M8[W]"), LABEL).array.tolist() == [7 * 86_400_000_000_000]
    assert read(np.array([2], "M8[15m]"), LABEL).array.tolist() == [30 * 60_000_000_000]
    assert read(np.array([3000], "M8[ps]"), LABEL).array.tolist() == [3]
    with pytest.raises(LossyConversionError, match=r"row 1: .* is not a whole number of nanoseconds"):
        read(np.array([3000, 3001], "M8[ps]"), LABEL)


@pytest.mark.parametrize(
    "data",
    [
        np.array(["2000", "2300"], "M8[s]"),
        np.array(["2000", "2300"], "M8[Y]"),
        np.array([0, 2**62], "M8[M]"),
        pa.array([dt.datetime(2000, 1, 1), dt.datetime(9999, 1, 1)]),
        pa.array([dt.date(2000, 1, 1), dt.date(1600, 1, 1)]),
        pl.Series([dt.datetime(2000, 1, 1), dt.datetime(2300, 1, 1)]),
        pd.Series([pd.Timestamp("2000"), pd.Timestamp("2300")]),
        [dt.datetime(2000, 1, 1), dt.datetime(2300, 1, 1)],
        [dt.date(2000, 1, 1), dt.date(1600, 1, 1)],
    ],
)
def test_moments_out_of_range_name_the_row_and_the_range(data: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"row 1: .* from 1677-09-21 to 2262-04-11"):
        read(data, LABEL)


@pytest.mark.parametrize("ns", [-(2**63), 2**63 - 1])
def test_the_ends_of_int64_are_ordinary_arrow_timestamps(ns: int) -> None:
    values = read(pa.array([ns]).cast(pa.timestamp("ns")), LABEL)
    assert (values.array.tolist(), values.validity) == ([ns], None)
