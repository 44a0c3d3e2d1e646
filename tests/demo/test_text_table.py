"""Numbers and tables as they are printed."""

from __future__ import annotations

import pytest

from zeptodb.demo.text_table import format_ratio, format_seconds, format_table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 ns"),
        (1.5e-9, "1.50 ns"),
        (522e-9, "522 ns"),
        (9.9999e-7, "1.00 us"),
        (0.00123, "1.23 ms"),
        (0.0123, "12.3 ms"),
        (0.0999999, "100 ms"),
        (2.897, "2.90 s"),
        (1234.0, "1,234 s"),
    ],
)
def test_durations_have_three_digits_and_a_fitting_unit(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.5, "0.50x"), (9.996, "10.0x"), (72.44, "72.4x"), (1234.5, "1,234x")])
def test_ratios_have_three_digits(ratio, text):
    assert format_ratio(ratio) == text


def test_text_is_flush_left_and_numbers_flush_right():
    assert format_table(("a", "value"), [("long name", "1"), ("b", "1,000")]).splitlines() == [
        "a          value",
        "---------  -----",
        "long name      1",
        "b          1,000",
    ]
