"""Which engine runs an operator, decided by given rates; nothing here depends on the time that anything takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.cuda.conftest import emulated
from tests.emulator.driver import RATES
from zeptodb.backends.cuda.driver import DeviceError
from zeptodb.config import PipelineConfig
from zeptodb.pipeline import Pipeline

Make = Callable[..., Pipeline]

ROWS = 40_000
FREE = replace(RATES, host_bytes=1e8, pinned_bytes=1e15, pageable_bytes=1e15, launch_seconds=1e-9)
"""A slow CPU beside a device that costs nothing."""
COLD = replace(FREE, pinned_bytes=1e7, pageable_bytes=1e6)
"""The same at the end of a slow link."""
FILTERED = "SELECT symbol, sum(price) FROM trades WHERE volume > 10 GROUP BY symbol ORDER BY symbol"


def fill(pipeline: Pipeline, rows: int = ROWS) -> Pipeline:
    places = np.arange(rows, dtype=np.int64)
    pipeline.ingest_batch(places % 5, places % 100, places % 97, places)
    return pipeline


@pytest.fixture
def by_cost(make_pipeline: Make) -> Make:
    """Makes filled Pipelines that choose by given rates."""
    return lambda rates, **settings: fill(make_pipeline(emulated(rates=rates), policy="cost", **settings))


def engine_of(pipeline: Pipeline, sql: str = FILTERED) -> str:
    result = pipeline.execute(sql)
    assert result.ok(), result.error
    return result.engine


def why(pipeline: Pipeline, sql: str = FILTERED) -> str:
    return pipeline.execute(sql).plan.splitlines()[-1]


def test_the_lower_estimate_decides(by_cost: Make) -> None:
    assert engine_of(by_cost(FREE)) == "native:emu"
    assert engine_of(by_cost(replace(FREE, launch_seconds=1.0))) == "native:cpu"
    assert engine_of(by_cost(replace(FREE, device_bytes=1e6))) == "native:cpu"
    assert engine_of(by_cost(replace(FREE, host_bytes=1e15, pageable_bytes=1e9))) == "native:cpu"


def test_both_engines_give_the_same_answer(by_cost: Make) -> None:
    assert by_cost(FREE).execute(FILTERED).rows == by_cost(replace(FREE, launch_seconds=1.0)).execute(FILTERED).rows


def test_few_rows_stay_on_the_cpu_without_an_estimate(by_cost: Make) -> None:
    pipeline = by_cost(FREE)
    sql = "SELECT sum(price) FROM trades WHERE symbol = 1 AND volume > 10"
    assert engine_of(pipeline, sql) == "native:cpu"
    assert why(pipeline, sql) == "ran on cpu (1 thread): few rows (8,000)"
    assert pipeline.stats().operators_on_device == 0


def test_a_large_result_on_a_slow_link_is_made_where_it_is_wanted(by_cost: Make) -> None:
    rates = replace(FREE, pinned_bytes=1e8, host_bytes=1e9)
    pipeline = by_cost(rates)
    assert pipeline.get_column(1, "price", device=True).size  # makes the arena page-locked
    for column in ("price", "volume", "timestamp"):
        for symbol in range(5):
            pipeline.get_column(symbol, column, device=True)
    assert engine_of(pipeline, "SELECT price, volume FROM trades") == "native:cpu"
    assert engine_of(pipeline) == "native:emu"


def test_cold_columns_are_read_by_the_cpu_and_brought_up_when_asked_for_again(by_cost: Make) -> None:
    pipeline = by_cost(COLD)
    uploads = pipeline.backend.uploads
    first = pipeline.execute(FILTERED)
    uploads.wait()
    assert (first.engine, uploads.columns) == ("native:cpu", 0)
    assert first.plan.splitlines()[-1].endswith("so they are brought up when they are asked for again")
    second = pipeline.execute(FILTERED)
    uploads.wait()
    assert (second.engine, uploads.columns) == ("native:cpu", 2)
    assert second.plan.splitlines()[-1].endswith("so they are being brought up")
    third = pipeline.execute(FILTERED)
    assert third.engine == "native:emu"
    assert first.rows == second.rows == third.rows


def test_explain_does_not_count_as_asking(by_cost: Make) -> None:
    pipeline = by_cost(COLD)
    for _ in range(3):
        pipeline.execute(f"EXPLAIN {FILTERED}")
    pipeline.execute(FILTERED)
    pipeline.backend.uploads.wait()
    assert pipeline.backend.uploads.columns == 0


def test_rows_that_come_later_are_cold_and_few(by_cost: Make) -> None:
    pipeline = by_cost(COLD)
    for _ in range(2):
        pipeline.execute(FILTERED)
        pipeline.backend.uploads.wait()
    before = pipeline.backend.image.stats.uploaded_bytes
    pipeline.ingest_batch([1, 2], [7, 7], [50, 50], [ROWS, ROWS])
    assert engine_of(pipeline) == "native:emu"
    assert pipeline.backend.image.stats.uploaded_bytes == before + 2 * 2 * 8


def test_what_is_brought_up_belongs_to_the_table_that_is_there(by_cost: Make) -> None:
    pipeline = by_cost(COLD)
    table = pipeline.catalog.get("trades")
    with table.snapshot() as old:
        pass
    assert pipeline.execute("DELETE FROM trades WHERE volume = 3").ok()
    uploads = pipeline.backend.uploads
    uploads.ask(old, frozenset({1}))
    uploads.wait()
    assert uploads.columns == 0
    del table, old
    uploads.close()


def test_an_upload_without_room_is_given_up(by_cost: Make) -> None:
    pipeline = by_cost(COLD, config=PipelineConfig(arena_size=1 << 20))
    with pipeline.catalog.get("trades").snapshot() as snapshot:
        pipeline.backend.driver.memory_limit = 1
        pipeline.backend.uploads.ask(snapshot, frozenset({1}))
    pipeline.backend.uploads.wait()
    assert len(pipeline.backend.uploads.failures) == 1


def test_what_summaries_know_is_not_worth_the_way(by_cost: Make) -> None:
    whole = "SELECT symbol, sum(price) FROM trades GROUP BY symbol"
    rates = replace(COLD, launch_seconds=20e-6)
    pipeline = by_cost(rates)
    for _ in range(4):
        assert engine_of(pipeline, whole) == "native:cpu"
        pipeline.backend.uploads.wait()
    assert pipeline.backend.uploads.columns == 0
    assert "summaries know 100%" in pipeline.execute(f"EXPLAIN {whole}").plan


def test_rows_beyond_the_limit_of_device_memory_are_the_cpus(by_cost: Make) -> None:
    config = PipelineConfig(arena_size=1 << 20)
    pipeline = by_cost(FREE, config=config, device_memory_limit=1 << 19)
    assert engine_of(pipeline) == "native:cpu"
    assert why(pipeline) == (
        "ran on cpu (1 thread): its columns take 1,048,576 bytes of device memory, 524,288 are allowed"
    )
    assert pipeline.backend.driver.launches == 0


def test_a_forked_child_takes_the_cpu(by_cost: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = by_cost(FREE)
    assert engine_of(pipeline) == "native:emu"
    own = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: own + 1)
    assert engine_of(pipeline) == "native:cpu"
    pipeline.stop()
    monkeypatch.undo()


def test_a_device_that_fails_leaves_everything_to_the_cpu(by_cost: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = by_cost(FREE)
    expected = pipeline.execute(FILTERED)
    assert expected.engine == "native:emu"

    def fail(*_: object) -> None:
        raise DeviceError("an illegal address")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.backend.driver, "launch", fail)
        result = pipeline.execute(FILTERED)
    assert (result.engine, result.rows) == ("native:cpu", expected.rows)
    assert why(pipeline) == "ran on cpu (1 thread): the device has failed: an illegal address"
    assert explained_last(pipeline) == "runs on cpu (1 thread): the device has failed: an illegal address"


def explained_last(pipeline: Pipeline) -> str:
    return str(pipeline.execute(f"EXPLAIN {FILTERED}").rows[-1][0])


def test_the_policy_of_the_device_asks_for_no_estimate(make_pipeline: Make) -> None:
    pipeline = fill(make_pipeline(emulated(rates=replace(FREE, launch_seconds=1.0))))
    assert engine_of(pipeline) == "native:emu"
    assert engine_of(pipeline, "SELECT sum(price) FROM trades WHERE symbol = 1 AND volume > 10") == "native:emu"
    assert why(pipeline) == 'ran on emu (emulated GPU 0): backend="cuda" asks for it'


def test_direct_queries_are_placed_too(by_cost: Make) -> None:
    pipeline = fill(by_cost(FREE), 200_000)
    assert pipeline.vwap(1) > 0
    assert pipeline.stats().operators_on_device == 1
    assert pipeline.vwap(1, from_ns=0, to_ns=100) > 0
    assert pipeline.stats().operators_off_device == 1
