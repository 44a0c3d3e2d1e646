"""Uploads in the background while queries run and rows, late ones too, arrive, under many orders of the streams."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import numpy as np
import pytest

from tests.cuda.conftest import emulated
from tests.cuda.test_rounds import QUERIES, Rounds, assert_equal_rows, rows_of, run
from zeptodb.backends.cuda import image, ranges, staging
from zeptodb.config import PipelineConfig
from zeptodb.pipeline import Pipeline

Make = Callable[..., Pipeline]
ARENA = 64 * 1024
ROUNDS = 25
SETTINGS = ({}, {"pinned_limit": 0}, {"pinned_limit": 40 * 1024}, {"device_memory_limit": 6 * ARENA})
"""All page-locked; nothing; a part; and so little device memory that mirrors go while they are copied into."""


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "PIECE_BYTES", 3_000)
    monkeypatch.setattr(ranges, "_SHORT_BYTES", 256)  # longer ranges go one by one
    monkeypatch.setattr(staging.StagingRing.__init__, "__kwdefaults__", {"slot_bytes": 2_048})


def upload_all(pipeline: Pipeline) -> None:
    """Ask for every column of every table in the background."""
    for name in ("trades", "quotes"):
        with pipeline.catalog.get(name).snapshot() as snapshot:
            columns = frozenset(range(len(snapshot.schema.fields))) - {snapshot.schema.symbol_index}
            pipeline.backend.uploads.ask(snapshot, columns)


@pytest.mark.parametrize("seed", range(8))
def test_answers_are_the_cpus_in_any_order_of_the_streams(seed: int, make_pipeline: Make) -> None:
    """Nobody else writes here: no row may change between the asking for its copy and the copy."""
    run(seed, 40, emulated(schedule=seed, is_strict=True), make_pipeline, **SETTINGS[seed % 3])


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_the_cpus_while_columns_come_up(seed: int, make_pipeline: Make) -> None:
    driver = emulated(schedule=seed or None)
    config = PipelineConfig(arena_size=ARENA)
    with Pipeline(config, backend="cpu") as cpu:
        emu = make_pipeline(driver, config=config, **SETTINGS[seed % len(SETTINGS)])
        game = Rounds(seed, (cpu, emu))
        for _ in range(ROUNDS):
            upload_all(emu)
            game.step()
        emu.backend.uploads.wait()
        assert emu.backend.uploads.columns > 10
        for sql in QUERIES:
            assert_equal_rows(rows_of(emu, sql), rows_of(cpu, sql), sql)


@pytest.mark.parametrize("seed", range(8))
def test_several_threads_read_what_was_written_whole(seed: int, make_pipeline: Make) -> None:
    """Of each batch prices and volumes add up to nothing, and every query sees whole batches only."""
    driver = emulated(schedule=100 + seed)
    config = PipelineConfig(arena_size=ARENA)
    pipeline = make_pipeline(driver, config=config, **SETTINGS[seed % len(SETTINGS)])
    assert pipeline.execute("CREATE TABLE quotes (symbol INT64, bid INT64, timestamp TIMESTAMP_NS)").ok()
    rng = np.random.default_rng(seed)
    is_over = threading.Event()

    def write() -> None:
        for batch in range(30):
            symbols, prices = rng.integers(0, 20, 100), rng.integers(1, 1_000, 100)
            times = 100 * batch + np.sort(rng.integers(-300 if batch % 3 == 0 else 0, 100, 100))
            pipeline.ingest_batch(symbols, prices, -prices, times)
            upload_all(pipeline)

    def read() -> int:
        of_group = "symbol, count(*) AS c, sum(price) AS p, sum(volume) AS v"
        questions = cycle((
            "SELECT count(*), sum(price), sum(volume) FROM trades WHERE price > 0",
            f"SELECT sum(c), sum(p), sum(v) FROM (SELECT {of_group} FROM trades WHERE volume < 0 GROUP BY symbol)",
            "SELECT count(*), sum(p), sum(v) FROM (SELECT price AS p, volume AS v FROM trades WHERE price > 0)",
        ))  # fmt: skip
        asked = 0
        while not is_over.is_set():
            result = pipeline.execute(next(questions))
            assert result.ok(), result.error
            count, price, volume = result.rows[0]
            assert (count or 0) % 100 == 0
            assert (price or 0) + (volume or 0) == 0
            asked += 1
        return asked

    with ThreadPoolExecutor(3) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        try:
            threads.submit(write).result()
        finally:
            is_over.set()
        assert all(reader.result() > 0 for reader in readers)
    pipeline.backend.uploads.wait()
    assert pipeline.execute("SELECT count(*) FROM trades WHERE price > 0").rows == [[3_000]]
    assert pipeline.backend.accelerator.placed[0] > 0
