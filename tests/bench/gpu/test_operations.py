"""Operations on an emulated device: compared, timed, and set against the floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.gpu import operations, small_cases, summaries
from bench.gpu.answers import AnswersDifferError, require_equal
from bench.gpu.clock import TO_DEVICE, TO_HOST
from bench.gpu.floors import Rates, against_floor, nominal_rate
from bench.gpu.operations import measure, measure_operation
from bench.gpu.record import Record
from bench.gpu.rows import DAY_NS, DAY_START_NS, quotes, trades
from bench.gpu.sort import NAME, require_stable_order
from bench.gpu.work import OPERATIONS, Market
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.backends.cuda.driver import OutOfDeviceMemoryError

RATES = Rates(copied=1e9, nominal=2e9)


def market_of(engines, rows: int = 600, symbols: int = 3) -> Market:
    return Market(*(make(engines.device.memory, rows, symbols=symbols) for make in (trades, quotes)))


def test_rows_are_parted_by_symbol_and_ascend_in_time():
    rows = trades(AnonymousMemory(), 1_000, symbols=4)
    stamps = rows.columns["timestamp"]
    assert (rows.count, rows.symbols, stamps.shape) == (1_000, 4, (4, 250))
    assert np.all(np.diff(stamps, axis=1) > 0)
    assert stamps.min() >= DAY_START_NS
    assert stamps.max() < DAY_START_NS + DAY_NS
    assert np.array_equal(rows.columns["price"], trades(AnonymousMemory(), 1_000, symbols=4).columns["price"])


def test_every_operation_is_measured_at_every_size(record, engines, found):
    measure(record, engines, sizes=(60, 600), symbols=3)
    assert not found("failure")
    entries = found("operation")
    names = [*(operation.name for operation in OPERATIONS), summaries.NAME, NAME]
    assert [(e["operation"], e["rows"]) for e in entries] == [(name, rows) for rows in (60, 600) for name in names]
    for entry in entries:
        assert entry["seconds"] > 0
        assert entry["device_seconds"] == pytest.approx(sum(entry["kernels"].values()))
        if entry["operation"] == summaries.NAME:
            assert entry["kernels"] == {}
            continue
        assert not {TO_DEVICE, TO_HOST} & entry["kernels"].keys()
        assert entry["share_of_floor"] == pytest.approx(entry["floor_seconds"] / entry["device_seconds"])
        assert entry["nominal_floor_seconds"] == pytest.approx(entry["row_bytes"] * entry["rows"] / 2e9)
    (copy,) = found("copy within the device")
    assert copy["bytes_per_second"] > 0
    assert copy["nominal_bytes_per_second"] == 2e9


def test_the_share_of_the_floor_is_one_at_the_floor():
    found = against_floor(row_bytes=16, rows=1_000_000_000, seconds=16.0, rates=RATES)
    assert found == {
        "bytes_per_second": 1e9, "floor_seconds": 16.0, "share_of_floor": 1.0, "nominal_floor_seconds": 8.0,
        "share_of_nominal_floor": 0.5,
    }  # fmt: skip


def test_without_a_nominal_rate_there_is_no_nominal_floor():
    found = against_floor(row_bytes=8, rows=1_000, seconds=1.0, rates=Rates(copied=1e9, nominal=None))
    assert found["nominal_floor_seconds"] is found["share_of_nominal_floor"] is None


def test_the_nominal_rate_is_two_transfers_a_clock():
    assert nominal_rate(3_201_000, 6_144) == pytest.approx(4.92e12, rel=1e-3)


def test_a_wrong_answer_is_a_failure_without_a_time(record, engines, found):
    wrong = replace(OPERATIONS[0], run=lambda backend, _: (np.array([float(backend is engines.device)]),))
    with pytest.raises(AnswersDifferError, match="device and host: column 0, row 0 is"):
        measure_operation(record, engines, wrong, market_of(engines), RATES)
    assert not found("operation")


def test_a_wrong_answer_leaves_the_other_operations(record, engines, found, monkeypatch):
    wrong = replace(OPERATIONS[0], run=lambda backend, _: (np.array([float(backend is engines.device)]),))
    monkeypatch.setattr(operations, "OPERATIONS", (wrong, OPERATIONS[1]))
    measure(record, engines, sizes=(60,), symbols=3)
    assert [e["operation"] for e in found("failure")] == [wrong.name]
    assert [e["operation"] for e in found("operation")] == [OPERATIONS[1].name, summaries.NAME, NAME]


def test_what_the_host_ran_is_no_time_of_the_device(record, engines, found, skipped, monkeypatch):
    def refuse(*_: object) -> None:
        raise OutOfDeviceMemoryError("no room today")

    monkeypatch.setattr(engines.device, "_aggregate", refuse)
    assert measure_operation(record, engines, OPERATIONS[0], market_of(engines), RATES) is None
    assert not found("operation")
    assert skipped() == {"vwap, 600 rows": "the host ran it: no room today"}


def test_summaries_that_do_not_know_everything_are_a_failure(record, engines, monkeypatch):
    market = market_of(engines)
    monkeypatch.setattr("zeptodb.backends.summary_store.FREE_BYTES", 0)
    monkeypatch.setattr("zeptodb.backends.summary_store.MEMORY_SHARE", 1 << 40)
    with pytest.raises(AnswersDifferError, match="summaries did not know everything: copy to device"):
        summaries.measure_summaries(record, engines, market)
    assert engines.device.summaries is None


def test_sizes_that_do_not_fit_are_skipped(record, make_engines, found, skipped):
    measure(record, make_engines(memory_limit=1 << 20), sizes=(60, 1_000_000), symbols=3)
    assert {e["rows"] for e in found("operation")} == {60}
    assert "GB on the device" in skipped()["1,000,000 rows"]


def test_what_there_is_no_time_for_is_skipped(tmp_path, engines, found, skipped, record):
    ticks = iter(range(1_000_000))
    slow = Record(record.path, 3.0, clock=lambda: next(ticks))  # a second per look at the clock
    measure(slow, engines, sizes=(60, 600), symbols=3)
    assert "600 rows" in " ".join(skipped())
    assert all("were left" in reason for reason in skipped().values())


def test_equal_answers_have_equal_shapes_and_near_floats():
    numbers = (np.array([1, 2]), np.array([1.0, np.nan]))
    require_equal(numbers, (np.array([1, 2], dtype=np.int32), np.array([1.0 + 1e-12, np.nan])), who="x")
    for other in (numbers[:1], (numbers[0][:1], numbers[1]), (np.array([1, 3]), numbers[1])):
        with pytest.raises(AnswersDifferError, match="x: "):
            require_equal(numbers, other, who="x")


def test_an_order_is_checked_for_keys_ties_and_places():
    keys = np.array([3, 1, 3, 2])
    require_stable_order(keys, np.array([1, 3, 0, 2]))
    for wrong in ([1, 3, 2, 0], [3, 1, 0, 2], [1, 3, 0, 0], [1, 3, 0, 4]):
        with pytest.raises(AnswersDifferError):
            require_stable_order(keys, np.array(wrong))


def test_small_cases_agree_with_the_host(engines):
    assert small_cases.run(engines, shapes=((1, 1), (3, 50), (2, 3_000))) == 3 * len(OPERATIONS)
