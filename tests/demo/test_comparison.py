"""Answers are compared strictly, and times are taken in turns."""

from __future__ import annotations

from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest

from zeptodb.demo.comparison import (
    AnswersDifferError,
    Contender,
    fastest,
    first_answers,
    require_equal,
    time_in_turns,
)
from zeptodb.errors import InvalidInputError


def compare(left: pa.Table, right: pa.Table, keys=("k",)) -> None:
    require_equal({"one": left, "other": right}, keys=keys, work="test")


def test_order_of_rows_and_width_of_integers_do_not_matter():
    left = pa.table({"k": [1, 2], "n": pa.array([10, 20], pa.int64())})
    right = pa.table({"k": [2, 1], "n": pa.array([20, 10], pa.uint32())})
    compare(left, right)


def test_sums_as_decimals_equal_integers():
    big = 2**62
    compare(
        pa.table({"k": [1], "n": pa.array([big], pa.int64())}),
        pa.table({"k": [1], "n": pa.array([Decimal(big)], pa.decimal128(38, 0))}),
    )


def test_integers_past_a_double_are_told_apart():
    with pytest.raises(AnswersDifferError, match="column n"):
        compare(pa.table({"k": [1], "n": [2**53]}), pa.table({"k": [1], "n": [2**53 + 1]}))


@pytest.mark.parametrize("value", [1.0, 1e300, -5e-9, float("inf")])
def test_floats_within_the_tolerance_are_equal(value):
    compare(pa.table({"k": [1], "x": [value]}), pa.table({"k": [1], "x": [value * (1 + 5e-10)]}))


def test_floats_past_the_tolerance_differ():
    with pytest.raises(AnswersDifferError, match=r"test: one and other differ in column x, first at k=2: 5\.0"):
        compare(pa.table({"k": [1, 2], "x": [1.0, 5.0]}), pa.table({"k": [1, 2], "x": [1.0, 5.00001]}))


def test_nan_equals_nan_but_not_null():
    nan = float("nan")
    compare(pa.table({"k": [1], "x": [nan]}), pa.table({"k": [1], "x": [nan]}))
    with pytest.raises(AnswersDifferError):
        compare(pa.table({"k": [1], "x": [nan]}), pa.table({"k": [1], "x": pa.array([None], pa.float64())}))


def test_the_row_that_differs_is_named_also_behind_nulls():
    left = pa.table({"k": [1, 2, 3], "x": [None, None, 3.0]})
    right = pa.table({"k": [1, 2, 3], "x": [None, None, 4.0]})
    with pytest.raises(AnswersDifferError, match="k=3"):
        compare(left, right)


@pytest.mark.parametrize(
    "right",
    [
        pa.table({"k": [1], "m": [1]}),
        pa.table({"k": [1, 2], "n": [1, 1]}),
        pa.table({"k": [1], "n": [1.0]}),
        pa.table({"k": [1], "n": ["1"]}),
    ],
    ids=["name", "rows", "float for integer", "text for integer"],
)
def test_other_names_counts_and_kinds_differ(right):
    with pytest.raises(AnswersDifferError):
        compare(pa.table({"k": [1], "n": [1]}), right)


def test_strings_are_equal_however_they_are_stored():
    compare(
        pa.table({"k": pa.array(["a", "b"]).dictionary_encode()}),
        pa.table({"k": pa.array(["b", "a"], pa.large_string())}),
    )


def test_empty_answers_are_equal():
    compare(pa.table({"k": pa.array([], pa.int64())}), pa.table({"k": pa.array([], pa.int64())}))


def test_unequal_contenders_are_refused_before_any_timing():
    calls = []

    def contender(name: str, value: int) -> Contender:
        def call():
            calls.append(name)
            return pl.DataFrame({"n": [value]})

        return Contender(name, call)

    with pytest.raises(AnswersDifferError, match="ours and theirs"):
        first_answers([contender("ours", 1), contender("theirs", 2)], keys=[], work="counting")
    assert calls == ["ours", "theirs"]


def test_contenders_take_turns_and_prepare_runs_before_each_call():
    log = []
    contenders = [
        Contender(name, lambda name=name: log.append(name), lambda name=name: log.append(f"prepare {name}"))
        for name in "ab"
    ]
    timings = time_in_turns(contenders, repeat=3)
    assert log == ["prepare a", "a", "prepare b", "b"] * 3
    assert [(t.name, len(t.samples)) for t in timings] == [("a", 3), ("b", 3)]
    assert all(t.median > 0 for t in timings)


def test_short_calls_are_repeated_within_a_sample():
    calls = []
    (timing,) = time_in_turns([Contender("quick", lambda: calls.append(1))], repeat=2)
    assert len(calls) > 2
    assert len(timing.samples) == 2


def test_the_faster_way_is_chosen():
    def slow():
        return sum(range(2_000_000))

    def quick():
        return 0

    assert fastest([slow, quick]) is quick


def test_repeat_and_contenders_must_be_there():
    with pytest.raises(InvalidInputError, match="repeat is 0"):
        time_in_turns([], repeat=0)
    with pytest.raises(InvalidInputError, match="at least one contender"):
        first_answers([], keys=[], work="nothing")
