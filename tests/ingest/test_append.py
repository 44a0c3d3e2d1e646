"""Columns and frames become batches of a table's schema, exactly or not at all."""

# ruff: noqa: DTZ001 - naive datetimes are part of what is tested

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError, UnknownColumnError
from zeptodb.ingest.append import frame_batch, trades_batch
from zeptodb.storage.batch import ColumnBatch, Strings
from zeptodb.types import TRADES, ColumnType, Field, Schema

TYPED = Schema(
    (
        Field("symbol", ColumnType.STRING),
        Field("bid", ColumnType.FLOAT64),
        Field("size", ColumnType.INT64),
        Field("small", ColumnType.INT32),
        Field("single", ColumnType.FLOAT32),
        Field("open", ColumnType.BOOL),
        Field("day", ColumnType.TIMESTAMP_NS),
        Field("venue", ColumnType.STRING),
        Field("timestamp", ColumnType.TIMESTAMP_NS),
    ),
    symbol="symbol",
    timestamp="timestamp",
)


def settled(kind: ColumnType) -> Schema:
    """The schema of trades after data of one kind."""
    return Schema(
        (Field("symbol", kind, is_nullable=False), *TRADES.fields[1:]), symbol="symbol", timestamp="timestamp"
    )


def prices(data: object, **options: Any) -> list[int]:
    """The price column of a batch with these prices."""
    rows = len(data)  # type: ignore[arg-type]
    column = trades_batch(TRADES, [1] * rows, data, [1] * rows, **options).columns[1]
    assert isinstance(column, np.ndarray)
    assert column.dtype == np.int64
    assert column.flags.c_contiguous
    return [int(value) for value in column]


def cell(batch: ColumnBatch, name: str, schema: Schema = TYPED) -> object:
    """The first value of a column, None for NULL."""
    index = schema.index(name)
    column, validity = batch.columns[index], batch.validity[index]
    if validity is not None and not validity[0]:
        return None
    if isinstance(column, Strings):
        return column.values[column.codes[0]]
    return None if column is None else column[0].item()


# --- floats into int64 --------------------------------------------------------------------------------


def exact_nearest(value: float, scale: float) -> int | None:
    """The rule in exact arithmetic on the float64 product: the integer, or None where it would lose something."""
    product = value * scale
    if not np.isfinite(product) or abs(product) > 2**53:
        return None
    nearest = round(Fraction(product))
    distance = abs(Fraction(product) - nearest)
    tolerance = max(Fraction(1e-6), 2 * Fraction(float(np.spacing(abs(product)))))
    tolerance = min(tolerance, Fraction(1, 4))  # where two units in the last place are half a unit, that is no rounding
    if nearest == 0:
        tolerance = Fraction(1e-9)  # a small price must not vanish
    return nearest if distance <= tolerance else None


@settings(deadline=None, max_examples=300)
@example(11258999.119140625, 1e8)  # half a unit from the next whole number, and two units in the last place
@given(
    st.one_of(
        st.floats(allow_nan=True, allow_infinity=True),
        st.floats(-1e7, 1e7),
        st.integers(-(10**12), 10**12).map(lambda cents: cents / 100),
        st.integers(-(10**6), 10**6).map(lambda n: n + 1e-6),
        st.integers(-(2**53) - 2, 2**53 + 2).map(float),
    ),
    st.sampled_from([1.0, 10.0, 100.0, 10_000.0, 1e8, 0.01, 3.0]),
)
def test_floats_are_rounded_exactly_where_the_rule_says_so(value: float, scale: float) -> None:
    expected = exact_nearest(value, scale)
    if expected is None:
        with pytest.raises(InvalidInputError, match="row 0"):
            prices(np.array([value]), price_scale=scale)
    else:
        assert prices(np.array([value]), price_scale=scale) == [expected]


@settings(deadline=None)
@given(st.integers(0, 8), st.lists(st.integers(-(10**13), 10**13), min_size=1, max_size=20))
def test_decimals_written_as_floats_come_back_as_scaled_integers(digits: int, unscaled: list[int]) -> None:
    exact = [Decimal(u).scaleb(-digits) for u in unscaled]
    floats = np.array([float(d) for d in exact])
    assert prices(floats, price_scale=10**digits) == unscaled
    assert prices(pl.Series(floats), price_scale=10**digits) == unscaled
    assert prices(pa.array(exact, pa.decimal128(38, digits)), price_scale=10**digits) == unscaled
    assert prices(exact, price_scale=10**digits) == unscaled


def test_029_times_100_is_29() -> None:
    assert int(0.29 * 100) == 28  # what truncation would give
    for data in (np.array([0.29]), [0.29], pd.Series([0.29]), pl.Series([0.29]), pa.array([0.29])):
        assert prices(data, price_scale=100) == [29]
    assert prices(np.array([150.1, 0.29], np.float32), price_scale=100) == [15010, 29]


def test_eight_decimals_at_1e8_are_fine() -> None:
    assert prices(np.array([70_000.12345678, 0.00000001]), price_scale=1e8) == [7_000_012_345_678, 1]


def test_a_lossy_float_names_row_value_and_the_scale_that_would_do() -> None:
    data = np.array([150.0, 150.25, 1.5])
    with pytest.raises(LossyConversionError) as caught:
        prices(data)
    text = str(caught.value)
    assert 'Column "price" of table "trades", row 1: 150.25 x 1 is not a whole number.' in text
    assert "price_scale=100 would hold all values" in text
    assert "CREATE TABLE ticks (symbol SYMBOL, price FLOAT64" in text
    assert prices(data, price_scale=100) == [15000, 15025, 150]


def test_the_proposed_scale_holds_the_data() -> None:
    for digits in range(1, 6):
        data = np.array([1.0, 3 + 10.0**-digits, 90_000.0])
        with pytest.raises(LossyConversionError, match=rf"price_scale=1{'0' * digits} would"):
            prices(data)
        prices(data, price_scale=10**digits)


def test_without_such_a_scale_the_table_of_floats_is_proposed() -> None:
    with pytest.raises(LossyConversionError, match=r"No power of ten up to 10\^12 .* CREATE TABLE"):
        prices(np.array([1 / 3, 2 / 3]))


def test_volumes_name_their_own_parameter() -> None:
    with pytest.raises(LossyConversionError, match=r'Column "volume".*row 0: 0.5 x 1 .*volume_scale=10 would'):
        trades_batch(TRADES, [1], [1], [0.5])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_have_no_integer_value(bad: float) -> None:
    for data in (np.array([1.0, bad]), pl.Series([1.0, bad]), pa.array([1.0, bad]), [1.0, bad]):
        with pytest.raises(
            InvalidInputError, match=r'Column "price" of table "trades", row 1: (nan|inf|-inf) has no integer'
        ):
            prices(data)


def test_floats_beyond_2_53_are_refused() -> None:
    assert prices(np.array([2.0**53])) == [2**53]
    with pytest.raises(LossyConversionError, match=r"row 0: .* beyond 2\^53"):
        prices(np.array([2.0**53 + 2]))
    with pytest.raises(LossyConversionError, match=r"beyond 2\^53"):
        prices(np.array([1e300]), price_scale=1e8)


def test_float32_is_held_to_its_own_precision() -> None:
    assert prices(np.array([20_000_000.0], np.float32)) == [20_000_000]
    assert prices(np.array([20_972.37], np.float32), price_scale=100) == [2_097_237]
    with pytest.raises(LossyConversionError, match=r"20972\.375 x 100 is not a whole number"):
        prices(np.array([20_972.375], np.float32), price_scale=100)
    with pytest.raises(LossyConversionError):
        prices(np.array([1_234_567.89], np.float32), price_scale=100)


def test_a_tiny_price_does_not_vanish() -> None:
    with pytest.raises(LossyConversionError, match="price_scale=10000000 would"):
        prices(np.array([3e-7]))


def test_integers_are_scaled_exactly_or_refused() -> None:
    assert prices([2**53 + 1, -3], price_scale=100) == [(2**53 + 1) * 100, -300]
    assert prices(np.array([4, -6]), price_scale=0.5) == [2, -3]
    with pytest.raises(LossyConversionError, match=r"row 1: 3 x 0.5 is not a whole number"):
        prices(np.array([4, 3]), price_scale=0.5)
    with pytest.raises(InvalidInputError, match=r"row 0: .* is out of int64 .* after multiplication by 100"):
        prices(np.array([2**62]), price_scale=100)


def test_the_ends_of_int64_are_ordinary() -> None:
    ends = [-(2**63), 2**63 - 1]
    for data in (
        np.array(ends),
        pa.array(ends),
        pl.Series(ends),
        pd.Series(ends),
        ends,
        np.array([0, 2**63 - 1], "u8"),
    ):
        assert prices(data) == [int(v) for v in data.to_pylist()] if isinstance(data, pa.Array) else list(data)
    with pytest.raises(InvalidInputError, match="row 1: 9223372036854775808 is out of int64"):
        prices(np.array([1, 2**63], np.uint64))


def test_exact_decimals_never_pass_through_floats() -> None:
    exact = [Decimal("90071992547409.93"), Decimal("-0.29")]
    assert prices(pa.array(exact, pa.decimal128(38, 18)), price_scale=100) == [9007199254740993, -29]
    with pytest.raises(LossyConversionError, match=r"row 0: 1.250 x 1 is not a whole number. price_scale=100 would"):
        prices(pa.array([Decimal("1.250")]))


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_scale_must_be_positive_and_finite(scale: float) -> None:
    with pytest.raises(InvalidInputError, match=r"price_scale is .* give a positive number"):
        prices([1], price_scale=scale)


@pytest.mark.parametrize("scale", ["100", None, True])
def test_a_scale_must_be_a_number(scale: Any) -> None:
    with pytest.raises(InvalidTypeError, match="price_scale is"):
        prices([1], price_scale=scale)


# --- trades --------------------------------------------------------------------------------


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


# --- frames --------------------------------------------------------------------------------

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
