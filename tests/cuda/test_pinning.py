"""Copies from page-locked memory: none reaches from one registered slab into the next, or beyond."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import zeptodb.backends.cuda.memory
from tests.emulator.driver import EmuDriver, EmulatorError
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.backends.cuda.driver import DeviceError
from zeptodb.backends.cuda.memory import PinnedMemory
from zeptodb.config import PipelineConfig
from zeptodb.pipeline import Pipeline

SLAB = 16 * 1024
ROWS = 40_000


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeptodb.backends.cuda.memory, "SLAB_BYTES", SLAB)


def filled(pipeline: Pipeline) -> Pipeline:
    prices = np.arange(ROWS) % 997 + 1
    pipeline.ingest_batch(np.ones(ROWS, np.int64), prices, prices % 31 + 1, np.arange(ROWS))
    return pipeline


@pytest.mark.parametrize("pinned_limit", [None, 0, 3 * SLAB])
def test_a_column_of_many_slabs_comes_up(
    driver: EmuDriver, make_pipeline: Callable[..., Pipeline], pinned_limit: int | None
) -> None:
    pipeline = filled(make_pipeline(driver, config=PipelineConfig(arena_size=64 * 1024), pinned_limit=pinned_limit))
    result = pipeline.execute("SELECT sum(price), sum(volume) FROM trades")
    prices = np.arange(ROWS) % 997 + 1
    assert [tuple(row) for row in result.rows] == [(prices.sum(), (prices % 31 + 1).sum())]
    assert pipeline.backend.device_runs == 1
    slabs = [size for size in driver.registered.values() if size <= SLAB]
    assert len(slabs) == (ROWS * 16 // SLAB + 1 if pinned_limit is None else pinned_limit // SLAB)
    # Beyond the limit copies go through the ring, which is page-locked itself unless nothing may be.
    assert len(driver.registered) - len(slabs) == (1 if pinned_limit else 0)


def test_ranges_are_cut_where_slabs_meet(driver: EmuDriver) -> None:
    memory = PinnedMemory(driver, AnonymousMemory(), limit_bytes=2 * SLAB)
    mapping = memory.map(4 * SLAB)
    assert memory.parts(mapping, SLAB // 2, 3 * SLAB + 1) == [
        (SLAB // 2, SLAB, True),
        (SLAB, 2 * SLAB, True),
        (2 * SLAB, 3 * SLAB, False),
        (3 * SLAB, 3 * SLAB + 1, False),
    ]


def test_a_slab_that_the_system_refuses_is_not_page_locked(driver: EmuDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = PinnedMemory(driver, AnonymousMemory())
    mapping = memory.map(2 * SLAB)
    register = driver.register

    def refuse_the_second(address: int, size_bytes: int) -> None:
        if address != mapping.address:
            raise DeviceError("no")
        register(address, size_bytes)

    monkeypatch.setattr(driver, "register", refuse_the_second)
    assert memory.parts(mapping, 0, 2 * SLAB) == [(0, SLAB, True), (SLAB, 2 * SLAB, False)]


@pytest.mark.parametrize(("first", "size"), [(SLAB - 8, 16), (2 * SLAB - 8, 16), (-8, 16), (0, 3 * SLAB)])
def test_the_emulator_refuses_what_cuda_refuses(driver: EmuDriver, first: int, size: int) -> None:
    mapping = AnonymousMemory().map(4 * SLAB)
    base = mapping.address + 8
    there = driver.allocate(4 * SLAB)
    for slab in range(2):
        driver.register(base + slab * SLAB, SLAB)
    driver.to_device(there.address, base + 8, SLAB - 8)
    driver.to_host(base + 2 * SLAB, there.address, 8)
    with pytest.raises(EmulatorError, match="page-locked"):
        driver.to_device(there.address, base + first, size)
