"""What the emulator does with streams and events: whoever leaves out a wait sees it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.cuda.conftest import emulated
from tests.emulator.driver import EmuDriver, EmulatorError
from zeptodb.backends.cuda.batch import allocate, read_words, wait
from zeptodb.backends.cuda.driver import DeviceArray, DeviceError, Stream, address_of

COUNT = 100
BYTES = 8 * COUNT
VALUES = np.arange(COUNT, dtype=np.int64)
GARBAGE = np.int64(np.uint64(0xA5A5A5A5A5A5A5A5))
SEEDS = range(40)


@pytest.fixture
def driver() -> EmuDriver:
    return emulated()


def brought(driver: EmuDriver, values: np.ndarray = VALUES) -> DeviceArray:
    """An array on its way, on the stream of copies."""
    memory = driver.allocate(values.nbytes)
    driver.to_device(memory.address, address_of(values), values.nbytes, stream=Stream.COPIES)
    return DeviceArray(memory, memory.address, len(values), np.dtype(np.int64))


def doubled(driver: EmuDriver, array: DeviceArray) -> DeviceArray:
    """A copy of an array, made on the stream of queries."""
    there = allocate(driver, len(array))
    driver.on_device(there.address, array.address, array.size_bytes)
    return there


def test_nothing_runs_before_somebody_waits_for_it(driver: EmuDriver) -> None:
    array = brought(driver)
    found = np.zeros(COUNT, dtype=np.int64)
    driver.to_host(address_of(found), array.address, BYTES)
    assert not found.any()
    driver.wait(driver.record(Stream.QUERIES))
    assert (found == GARBAGE).all()
    driver.wait(driver.record(Stream.COPIES))
    assert read_words(driver, array).tolist() == VALUES.tolist()


def test_what_follows_an_event_comes_after_it(driver: EmuDriver) -> None:
    array = brought(driver)
    driver.follow(Stream.QUERIES, driver.record(Stream.COPIES))
    assert read_words(driver, array).tolist() == VALUES.tolist()


def test_an_event_forces_nothing_behind_it(driver: EmuDriver) -> None:
    first = brought(driver)
    event = driver.record(Stream.COPIES)
    second = brought(driver)
    driver.wait(event)
    assert read_words(driver, first).tolist() == VALUES.tolist()
    assert read_words(driver, second).tolist() == [GARBAGE] * COUNT


def outcomes(work: Callable[[EmuDriver], DeviceArray]) -> list[list[int]]:
    """What comes of it under many schedules."""
    found = []
    for seed in SEEDS:
        driver = emulated(schedule=seed)
        found.append(read_words(driver, work(driver)).tolist())
    return found


def test_with_a_seed_a_missing_wait_shows_sometimes_and_a_right_program_never_changes() -> None:
    def right(driver: EmuDriver) -> DeviceArray:
        array = brought(driver)
        driver.follow(Stream.QUERIES, driver.record(Stream.COPIES))
        return doubled(driver, array)

    def wrong(driver: EmuDriver) -> DeviceArray:
        return doubled(driver, brought(driver))

    assert outcomes(right) == [VALUES.tolist()] * len(SEEDS)
    assert {tuple(found) for found in outcomes(wrong)} == {tuple(VALUES.tolist()), (GARBAGE,) * COUNT}


def test_with_a_seed_a_copy_over_what_is_still_read_shows_sometimes() -> None:
    later = VALUES + 1000

    def wrong(driver: EmuDriver) -> DeviceArray:
        array = brought(driver)
        driver.follow(Stream.QUERIES, driver.record(Stream.COPIES))
        found = doubled(driver, array)
        driver.to_device(array.address, address_of(later), BYTES, stream=Stream.COPIES)
        return found

    assert {tuple(found) for found in outcomes(wrong)} == {tuple(VALUES.tolist()), tuple(later.tolist())}


def test_memory_that_comes_round_is_garbage_in_the_order_of_queries(driver: EmuDriver) -> None:
    old = allocate(driver, COUNT)
    driver.to_device(old.address, address_of(VALUES), BYTES)
    kept, address = doubled(driver, old), old.address
    del old
    new = allocate(driver, COUNT)
    assert new.address == address
    assert read_words(driver, kept).tolist() == VALUES.tolist()
    assert read_words(driver, new).tolist() == [GARBAGE] * COUNT


@pytest.mark.parametrize(("stream", "is_strict"), [(Stream.QUERIES, False), (Stream.COPIES, True)])
def test_host_memory_that_changes_before_it_has_been_copied_is_an_error(stream: Stream, is_strict: bool) -> None:
    driver = emulated(is_strict=is_strict)
    values, there = VALUES.copy(), driver.allocate(BYTES)
    driver.to_device(there.address, address_of(values), BYTES, stream=stream)
    values[7] = -1
    with pytest.raises(EmulatorError, match=r"800 bytes at .* were changed before they had been copied"):
        driver.wait(driver.record(stream))


def test_letting_memory_go_waits_for_both_streams(driver: EmuDriver) -> None:
    values = np.zeros(1 << 16, dtype=np.int64)
    driver.register(address_of(values), values.nbytes)
    brought(driver)
    driver.clear(allocate(driver, COUNT).address, BYTES)
    assert not driver.streams.are_idle
    driver.unregister(address_of(values))
    assert driver.streams.are_idle


def test_what_follows_something_that_failed_has_failed(driver: EmuDriver) -> None:
    def fail() -> None:
        raise DeviceError("a copy failed")

    driver.streams.ask(Stream.COPIES, fail)
    event = driver.record(Stream.COPIES)
    driver.follow(Stream.QUERIES, event)
    for again in (lambda: wait(driver), lambda: driver.wait(event)):
        with pytest.raises(DeviceError, match="a copy failed"):
            again()
    wait(driver)
