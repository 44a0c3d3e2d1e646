"""Page-locked blocks: results lie in them as long as somebody holds a view, and no more of them than allowed."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest

from tests.cuda.conftest import emulated
from tests.emulator.driver import EmuDriver
from zeptodb.backends.cuda.batch import SMALL_BYTES, ResultBuffer, allocate, read_words, upload
from zeptodb.backends.cuda.driver import DeviceError, Stream, address_of
from zeptodb.backends.cuda.host_blocks import LEAST_BLOCK_BYTES, HostBlocks
from zeptodb.pipeline import Pipeline

Make = Callable[..., Pipeline]
SIZE = 1 << 20


def blocks_of(driver: EmuDriver, limit_bytes: int) -> HostBlocks:
    return HostBlocks(driver.allocate_host, limit_bytes=limit_bytes)


def is_page_locked(driver: EmuDriver, array: np.ndarray) -> bool:
    address = address_of(array)
    return any(0 <= address - first < size for first, size in driver.host_memory.items())


def test_a_block_is_used_again_when_its_last_view_has_gone(driver: EmuDriver) -> None:
    blocks = blocks_of(driver, 8 * SIZE)
    first = blocks.empty(SIZE)
    address, view = address_of(first), first[5:10].view(np.uint8)
    del first
    assert address_of(blocks.empty(SIZE)) != address
    del view
    assert address in {address_of(array) for array in [blocks.empty(SIZE) for _ in range(2)]}
    assert blocks.taken_bytes == 2 * SIZE


def test_beyond_the_limit_memory_is_ordinary(driver: EmuDriver) -> None:
    blocks = blocks_of(driver, 2 * SIZE)
    held = [blocks.empty(SIZE) for _ in range(4)]
    assert [is_page_locked(driver, array) for array in held] == [True, True, False, False]
    assert blocks.taken_bytes == 2 * SIZE
    assert not is_page_locked(driver, blocks.empty(4 * SIZE))
    del held[0]
    assert is_page_locked(driver, blocks.empty(SIZE))


def test_blocks_that_wait_make_room_for_others(driver: EmuDriver) -> None:
    blocks = blocks_of(driver, 4 * SIZE)
    del (held := [blocks.empty(SIZE) for _ in range(4)])[:]
    assert is_page_locked(driver, blocks.empty(3 * SIZE))
    assert blocks.taken_bytes == 3 * SIZE
    gc.collect()
    assert sum(driver.host_memory.values()) == 3 * SIZE
    assert not held


def test_a_limit_of_nothing_page_locks_nothing(driver: EmuDriver) -> None:
    blocks = blocks_of(driver, 0)
    assert len(blocks.empty(10)) == 10
    assert not driver.host_memory


def test_a_system_that_refuses_is_not_asked_again(driver: EmuDriver) -> None:
    asked = []

    def refuse(size: int) -> None:
        asked.append(size)
        raise DeviceError("no")

    blocks = HostBlocks(refuse, limit_bytes=SIZE)  # type: ignore[arg-type]
    assert [len(blocks.empty(100)) for _ in range(3)] == [100] * 3
    assert asked == [LEAST_BLOCK_BYTES]


def test_what_is_sent_stays_until_it_has_been_copied(driver: EmuDriver) -> None:
    values = [np.arange(100) + k for k in range(20)]
    there = [upload(driver, array)[0] for array in values]
    assert driver.host_blocks.taken_bytes == 20 * LEAST_BLOCK_BYTES
    assert [read_words(driver, array).tolist() for array in there] == [array.tolist() for array in values]
    upload(driver, values[0])
    assert driver.host_blocks.taken_bytes == 21 * LEAST_BLOCK_BYTES  # one more was for what was read


def test_a_large_result_is_views_of_one_page_locked_block(driver: EmuDriver) -> None:
    buffer = ResultBuffer(driver)
    places = [buffer.add(SMALL_BYTES), buffer.add(10, np.uint8)]
    buffer.allocate()
    for place in places:
        driver.clear(buffer.device(place).address, buffer.device(place).size_bytes)
    buffer.fetch()
    assert all(is_page_locked(driver, buffer.host(place)) for place in places)
    assert not any(buffer.host(place).any() for place in places)


def test_a_small_result_keeps_no_block(driver: EmuDriver) -> None:
    array = allocate(driver, 10)
    driver.clear(array.address, array.size_bytes)
    found = read_words(driver, array)
    assert not is_page_locked(driver, found)
    assert found.tolist() == [0] * 10


@pytest.mark.parametrize("pinned_limit", [None, 0])
def test_the_columns_of_an_answer_lie_in_page_locked_memory_within_the_limit(
    driver: EmuDriver, make_pipeline: Make, pinned_limit: int | None
) -> None:
    pipeline = make_pipeline(driver, pinned_limit=pinned_limit)
    places = np.arange(20_000, dtype=np.int64)
    pipeline.ingest_batch(places % 3, places, places, places)
    columns = pipeline.execute("SELECT price + 1 AS p, volume FROM trades WHERE volume % 2 = 0").to_numpy()
    assert len(columns["p"]) == 10_000
    assert all(is_page_locked(driver, column) == (pinned_limit is None) for column in columns.values())
    assert bool(driver.host_memory) == (pinned_limit is None)


def test_an_arrow_table_keeps_its_block_and_gives_it_back(driver: EmuDriver, make_pipeline: Make) -> None:
    pipeline = make_pipeline(driver)
    places = np.arange(20_000, dtype=np.int64)
    pipeline.ingest_batch(places % 3, places, places, places)
    sql = "SELECT price + 1 AS p FROM trades WHERE volume >= 0 ORDER BY symbol"
    blocks = driver.host_blocks
    table = pipeline.execute(sql).to_arrow()
    taken, expected = blocks.taken_bytes, table.to_pydict()
    for _ in range(3):
        assert pipeline.execute(sql).to_arrow().to_pydict() == expected
    more = blocks.taken_bytes - taken
    assert 0 < more < 3 * 160_000
    assert table.to_pydict() == expected
    del table
    gc.collect()
    taken = blocks.taken_bytes
    pipeline.execute(sql)
    assert blocks.taken_bytes == taken


def test_two_threads_do_not_let_go_what_the_other_has_sent() -> None:
    driver = emulated()
    mine = driver.host_blocks.empty(800)
    mine[:] = 1
    there = driver.allocate(800)
    kept = driver.host_blocks.kept()
    event = driver.record(Stream.QUERIES)  # another thread begins to wait here
    driver.to_device(there.address, address_of(mine), 800)
    driver.host_blocks.keep(mine)
    driver.wait(event)
    del kept
    address = address_of(mine)
    del mine
    assert address_of(driver.host_blocks.empty(800)) != address
