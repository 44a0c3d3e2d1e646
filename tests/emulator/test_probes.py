"""What the emulator does with barriers, shared memory, fences and atomics: as a device would."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda.conftest import emulated
from tests.emulator.driver import EmuDriver, EmulatorError
from zeptodb.backends.cuda.batch import allocate, read_words, upload

BLOCK = 64
COUNT = 5 * BLOCK + 40
VALUES = np.random.default_rng(3).integers(0, BLOCK, COUNT)


@pytest.fixture
def driver() -> EmuDriver:
    return emulated()


def test_a_block_adds_up_in_shared_memory(driver: EmuDriver) -> None:
    (values,), sums, differences = upload(driver, VALUES), allocate(driver, 6), allocate(driver, 6)
    driver.launch("probe_block", COUNT, [values, COUNT, sums, differences])
    blocks = np.pad(VALUES, (0, 6 * BLOCK - COUNT)).reshape(6, BLOCK)
    assert read_words(driver, sums).tolist() == blocks.sum(axis=1).tolist()
    assert read_words(driver, differences).tolist() == blocks[:, 0].tolist()


def test_a_warp_turns_its_values_round(driver: EmuDriver) -> None:
    (values,), turned = upload(driver, VALUES), allocate(driver, COUNT)
    driver.launch("probe_warp", COUNT, [values, COUNT, turned])
    padded = np.pad(VALUES, (0, 6 * BLOCK - COUNT)).reshape(-1, 32)
    assert read_words(driver, turned).tolist() == padded[:, ::-1].reshape(-1)[:COUNT].tolist()


def test_atomics_count_in_shared_and_in_device_memory(driver: EmuDriver) -> None:
    (values,), (counts,) = upload(driver, VALUES), upload(driver, np.zeros(BLOCK, dtype=np.int64))
    driver.launch("probe_counts", COUNT, [values, COUNT, counts])
    assert read_words(driver, counts).tolist() == np.bincount(VALUES, minlength=BLOCK).tolist()


def test_the_last_block_sees_what_the_others_left_behind_a_fence(driver: EmuDriver) -> None:
    (values,), (ended,) = upload(driver, VALUES), upload(driver, np.zeros(1, dtype=np.int64))
    partials, total = allocate(driver, 6), allocate(driver, 1)
    driver.launch("probe_total", COUNT, [values, COUNT, partials, ended, total])
    assert read_words(driver, total).tolist() == [VALUES.sum()]


def test_device_memory_that_nobody_has_written_is_no_number(driver: EmuDriver) -> None:
    assert read_words(driver, allocate(driver, 1)).tolist() == [np.int64(np.uint64(0xA5A5A5A5A5A5A5A5))]


def test_a_wrong_count_of_arguments_is_refused(driver: EmuDriver) -> None:
    with pytest.raises(EmulatorError, match="probe_warp has 3 parameters, got 1"):
        driver.launch("probe_warp", BLOCK, [1])
