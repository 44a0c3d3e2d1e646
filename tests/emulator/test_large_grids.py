"""Row numbers and threads beyond 2^31 and 2^32, without the memory that so many rows would take."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda.conftest import emulated
from tests.emulator.driver import BLOCK_THREADS
from zeptodb.backends.cuda.batch import allocate, read_words, upload


@pytest.mark.parametrize("first", [2**31, 2**32])
def test_threads_beyond_32_bits_know_their_place(first: int) -> None:
    driver = emulated()
    words = np.arange(0, 3 * BLOCK_THREADS, 3)
    source, order = upload(driver, words, np.arange(BLOCK_THREADS)[::-1].copy())
    gathered = allocate(driver, BLOCK_THREADS)
    block = first // BLOCK_THREADS
    # As if the arrays had begun `first` words before: threads of one block are all that is run.
    places = [source, order.address - 8 * first, first + BLOCK_THREADS, gathered.address - 8 * first]
    driver.launch_blocks("gather_words", block + 1, range(block, block + 1), places)
    assert read_words(driver, gathered).tolist() == words[::-1].tolist()


def test_tiles_of_rows_beyond_32_bits_are_counted() -> None:
    driver = emulated()
    starts, ends = upload(driver, np.array([0, 2**31 - 1, 2**33]), np.array([2**32 + 1, 2**31 + 1, 2**33]))
    counts = allocate(driver, 3)
    driver.launch("count_tiles", 3, [starts, ends, 3, counts])
    assert read_words(driver, counts).tolist() == [2**22 + 1, 2, 0]
