"""Memory of large arrays is used again when they are gone, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

import zeptodb
from zeptodb.backends import reused
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.storage.workers import CallerAlone, Workers

ROWS = 200_000


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    reused.release()
    yield
    reused.release()


def test_memory_comes_back_when_the_last_view_has_gone() -> None:
    array = reused.empty((3, ROWS), np.int64)
    address, view = array.ctypes.data, array[1, 5:]
    del array
    assert reused.kept_bytes() == 0
    del view
    assert reused.kept_bytes() >= 3 * ROWS * 8
    assert reused.empty((3, ROWS - 1), np.int64).ctypes.data == address


@pytest.mark.parametrize(("shape", "kind"), [(ROWS, np.float64), ((2, ROWS), np.int32), (8 * ROWS, np.bool_)])
def test_arrays_are_as_those_of_numpy(shape: int | tuple[int, ...], kind: type[np.generic]) -> None:
    array, expected = reused.empty(shape, kind), np.empty(shape, kind)
    assert (array.shape, array.dtype, array.strides) == (expected.shape, expected.dtype, expected.strides)
    assert array.flags.carray


@pytest.mark.parametrize("count", [10, ROWS])
@pytest.mark.parametrize("workers", [CallerAlone(), WorkerPool(2, row_threshold=1)], ids=["alone", "two threads"])
def test_values_are_taken_from_places(count: int, workers: Workers) -> None:
    places = np.arange(count)[::-1] % 7
    columns: list[npt.NDArray[np.generic]] = [np.arange(7) * 3, np.arange(7) / 2, np.arange(7) > 2, np.arange(14)[::2]]
    for column, taken in zip(columns, reused.take(columns, places, workers), strict=True):
        assert taken.dtype == column.dtype
        np.testing.assert_array_equal(taken, column[places])


def test_small_arrays_are_left_to_the_allocator() -> None:
    array = reused.empty(1000, np.int64)
    assert array.flags.owndata
    del array
    assert reused.kept_bytes() == 0


def test_no_more_is_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reused, "KEPT_BYTES", 6 << 20)
    arrays = [reused.empty(4 << 20, np.uint8), reused.empty(3 << 20, np.uint8)]
    del arrays
    assert 3 << 20 <= reused.kept_bytes() <= 6 << 20
    assert reused.empty(7 << 20, np.uint8).flags.owndata


def test_when_memory_is_short_what_is_kept_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    reused.empty(2 << 20, np.uint8)  # gone at once
    real, refused = np.empty, []

    def refuse_once(shape: int, dtype: type[np.generic]) -> object:
        if not refused:
            refused.append(reused.kept_bytes())
            raise MemoryError
        return real(shape, dtype=dtype)

    monkeypatch.setattr(reused.np, "empty", refuse_once)
    array = reused.empty(3 << 20, np.uint8)
    assert len(array) == 3 << 20
    assert refused == [2 << 20]
    assert reused.kept_bytes() == 0


def test_an_answer_that_is_held_is_not_overwritten_by_the_next() -> None:
    with zeptodb.Pipeline() as pipeline:
        stamps = np.arange(ROWS) * 1_000_000_000
        pipeline.ingest_batch(np.zeros(ROWS, np.int64), np.arange(ROWS), np.ones(ROWS, np.int64), stamps)
        query = "SELECT xbar(timestamp, 1000000000) AS b, max(price) + {} AS h, sum(volume) FROM trades GROUP BY b"
        held = pipeline.execute(query.format(0)).to_numpy()["h"]
        for shift in (1, 2):
            pipeline.execute(query.format(shift)).raise_for_error()
        np.testing.assert_array_equal(held, np.arange(ROWS))
