"""Opponents answer the same questions with the same answers; numpy stands in for CuPy here, torch works on the CPU."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from bench.gpu.expressions import ARRAYS, TORCH, Arrays
from bench.gpu.opponents import OPPONENTS, Opponent, _one_way_each, array_queries, measure, torch_queries
from bench.gpu.work import OPERATIONS
from zeptodb.backends.cuda.driver import OutOfDeviceMemoryError

NAMES = {operation.name for operation in OPERATIONS}
NOT_WRITTEN = {
    "torch": NAMES - TORCH.keys(),
    "numpy": {"nine aggregates by symbol", "ema by symbol", "max of 1,000 rows"},
    "DuckDB": {"nine aggregates by symbol", "ema by symbol"},
    "polars": {"nine aggregates by symbol"},
}


def numpy_queries(market):
    arrays = Arrays.of(market, np.asarray, lambda n, each: np.repeat(np.arange(n), each))
    return array_queries(np, ARRAYS, arrays, lambda: None)


NUMPY = Opponent("numpy", "numpy", numpy_queries)
TORCH_ON_CPU = Opponent("torch", "torch", partial(torch_queries, device="cpu"))
PRESENT = [NUMPY, TORCH_ON_CPU, *(opponent for opponent in OPPONENTS if opponent.name in ("DuckDB", "polars"))]


@pytest.mark.parametrize("opponent", PRESENT, ids=lambda opponent: opponent.name)
def test_answers_agree_and_are_timed(opponent, record, engines, found, skipped):
    pytest.importorskip(opponent.module)
    measure(record, engines, sizes=(3_000,), symbols=3, opponents=[opponent])
    assert {e["operation"] for e in found("opponent")} == NAMES - NOT_WRITTEN[opponent.name]
    assert skipped() == {f"{opponent.name}: {name}": "nobody has written it" for name in NOT_WRITTEN[opponent.name]}
    for entry in found("opponent"):
        assert entry["ratio"] == pytest.approx(entry["seconds"] / entry["our_seconds"])
        assert entry["rows"] == 3_000


def test_expressions_are_of_operations_that_are_measured():
    assert ARRAYS.keys() <= NAMES
    assert TORCH.keys() <= NAMES


def test_who_is_not_installed_is_skipped(record, engines, found, skipped):
    absent = Opponent("Absent", "no_such_module", numpy_queries)
    measure(record, engines, sizes=(60,), symbols=3, opponents=[absent, NUMPY])
    assert skipped()["Absent"] == "no_such_module is not installed"
    assert found("opponent")


def test_wrong_answers_and_crashes_are_noted_and_not_timed(record, engines, found, skipped):
    def wrong(*_):
        return (np.array([0.5]),)

    def crash(*_):
        raise ZeroDivisionError("by nothing")

    def queries(market):
        arrays = Arrays.of(market, np.asarray, lambda n, each: np.repeat(np.arange(n), each))
        return array_queries(np, {**ARRAYS, "vwap": (wrong,), "filter + aggregate": (crash,)}, arrays, lambda: None)

    measure(record, engines, sizes=(60,), symbols=3, opponents=[Opponent("Odd", "numpy", queries)])
    assert "AnswersDifferError" in skipped()["Odd: vwap, 60 rows"]
    assert skipped()["Odd: filter + aggregate, 60 rows"] == "ZeroDivisionError: by nothing"
    assert {e["operation"] for e in found("opponent")} == NAMES - NOT_WRITTEN["numpy"] - {"vwap", "filter + aggregate"}


def test_what_the_host_ran_has_no_opponents(record, engines, found, skipped, monkeypatch):
    def refuse(*_: object) -> None:
        raise OutOfDeviceMemoryError("no room today")

    monkeypatch.setattr(engines.device, "_asof_join", refuse)
    measure(record, engines, sizes=(60,), symbols=3, opponents=[NUMPY])
    assert {e["operation"] for e in found("opponent")} == NAMES - NOT_WRITTEN["numpy"] - {"as-of join, bid out"}
    assert skipped()["opponents of as-of join, bid out, 60 rows"] == "the host ran ours: no room today"


def test_of_several_ways_the_one_that_works_counts(record, engines, found, skipped):
    def crash(*_):
        raise ZeroDivisionError("by nothing")

    def queries(market):
        arrays = Arrays.of(market, np.asarray, lambda n, each: np.repeat(np.arange(n), each))
        return array_queries(np, {"vwap": (crash, *ARRAYS["vwap"])}, arrays, lambda: None)

    measure(record, engines, sizes=(60,), symbols=3, opponents=[Opponent("Odd", "numpy", queries, is_on_device=True)])
    assert [(e["operation"], e["is_on_device"]) for e in found("opponent")] == [("vwap", True)]
    assert skipped()["Odd: vwap, 60 rows"] == "ZeroDivisionError: by nothing"


def test_an_opponent_that_cannot_load_leaves_the_others(record, engines, found, skipped):
    broken = Opponent("Broken", "numpy", _one_way_each(lambda _: 1 // 0))
    measure(record, engines, sizes=(60,), symbols=3, opponents=[broken, NUMPY])
    assert "ZeroDivisionError" in skipped()["Broken, 60 rows"]
    assert {e["opponent"] for e in found("opponent")} == {"numpy"}
