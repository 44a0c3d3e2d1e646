"""A batch reaches the device in a few copies, however many symbols it has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.emulator.driver import EmuDriver
from zeptodb.config import PipelineConfig
from zeptodb.pipeline import Pipeline

BULK_ROWS = 300
"""Of each symbol: so many that new rows of neighbouring symbols do not lie near to one another."""
QUESTION = "SELECT count(*) AS n, sum(price) AS p, sum(volume) AS v, max(timestamp) AS t FROM trades WHERE volume > 0"
"""Of which summaries know nothing."""


def copies_of_a_batch(symbols: int, driver: EmuDriver, make_pipeline: Callable[..., Pipeline]) -> int:
    """Copies that a question makes about a batch with a row per symbol, behind rows of each that are there."""
    pipeline = make_pipeline(driver, config=PipelineConfig(arena_size=64 << 20))
    numbers = np.tile(np.arange(symbols), BULK_ROWS)
    stamps = np.arange(len(numbers))
    pipeline.ingest_batch(numbers, numbers % 97 + 1, numbers % 13 + 1, stamps)
    assert pipeline.execute(QUESTION).ok()
    before, by_kernel = driver.copies, pipeline.backend.image.stats.by_kernel
    assert pipeline.execute(QUESTION).ok()
    at_rest = driver.copies - before
    last = np.arange(symbols)
    pipeline.ingest_batch(last, last % 89 + 1, last % 7 + 1, len(numbers) + last)
    before = driver.copies
    result = pipeline.execute(QUESTION)
    assert result.rows == [
        [
            len(numbers) + symbols, int((numbers % 97 + 1).sum() + (last % 89 + 1).sum()),
            int((numbers % 13 + 1).sum() + (last % 7 + 1).sum()), len(numbers) + symbols - 1,
        ]
    ]  # fmt: skip
    assert not pipeline.backend.host_runs
    assert pipeline.backend.image.stats.by_kernel - by_kernel == 3 * symbols
    return driver.copies - before - at_rest


def test_ten_thousand_symbols_of_three_columns_cost_as_many_copies_as_a_hundred(
    driver: EmuDriver, make_pipeline: Callable[..., Pipeline]
) -> None:
    few = copies_of_a_batch(100, driver, make_pipeline)
    many = copies_of_a_batch(10_000, driver, make_pipeline)
    assert many == few <= 9
