"""Floats, integers and decimals become scaled integers, exactly or not at all."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.ingest.batches import prices
from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError
from zeptodb.ingest.append import trades_batch
from zeptodb.types import TRADES


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
