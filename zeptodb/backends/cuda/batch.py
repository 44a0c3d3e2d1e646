"""Small arrays on their way to the device, packed into one copy, and results on their way back, likewise.

Both ways go through page-locked memory as far as its limit allows (`host_blocks.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.driver import DeviceArray, DeviceMemory, Driver, Stream, address_of

Int64Array = npt.NDArray[np.int64]
_INT64 = np.dtype(np.int64)
_ALIGNMENT = 64

SMALL_BYTES = 32 << 10
"""Results up to this size are copied on, so that they keep no page-locked block."""


def aligned(size_bytes: int) -> int:
    """The size rounded up, so that the next array begins at a boundary."""
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


def allocate(driver: Driver, count: int, dtype: npt.DTypeLike = np.int64) -> DeviceArray:
    """A new device array, contents undefined; one without elements has an address, too."""
    kind = np.dtype(dtype)
    memory = driver.allocate(max(1, count * kind.itemsize))
    return DeviceArray(memory, memory.address, count, kind)


def allocate_for_copies(driver: Driver, size_bytes: int) -> DeviceMemory:
    """Device memory for the stream of copies, which comes after what queries still do with it; raises as `allocate`.

    It must be kept until the copies are done: then it goes back to the stream of queries.
    """
    memory = driver.allocate(size_bytes)
    driver.follow(Stream.COPIES, driver.record(Stream.QUERIES))
    return memory


def upload(driver: Driver, *arrays: Int64Array) -> tuple[DeviceArray, ...]:
    """Copies of int64 arrays, all in one piece of device memory and by one copy."""
    return upload_described(driver, arrays)[1:]


def upload_described(driver: Driver, arrays: Sequence[Int64Array], *first: int) -> tuple[DeviceArray, ...]:
    """As `upload`, and before the copies an array of the words `first` and the addresses of the copies."""
    described = len(first) + len(arrays)
    places = np.cumsum([aligned(8 * described), *(aligned(array.nbytes) for array in arrays)]).tolist()
    size_bytes = places[-1] + 8
    memory = driver.allocate(size_bytes)
    packed = driver.host_blocks.empty(size_bytes).view(np.int64)
    packed[:described] = [*first, *(memory.address + place for place in places[:-1])]
    for array, place in zip(arrays, places, strict=False):
        packed[place // 8 : place // 8 + array.size] = array.ravel()
    send(driver, memory.address, packed.view(np.uint8))
    sizes = [described, *(array.size for array in arrays)]
    starts = [0, *places[:-1]]
    return tuple(
        DeviceArray(memory, memory.address + start, size, _INT64) for start, size in zip(starts, sizes, strict=True)
    )


def send(driver: Driver, target: int, packed: npt.NDArray[np.uint8]) -> None:
    """Ask for the copy of an array to the device; it must not be written any more, and is kept until that is done."""
    driver.to_device(target, address_of(packed), packed.nbytes)
    driver.host_blocks.keep(packed)


def wait(driver: Driver) -> None:
    """Wait until everything asked for so far on the stream of queries is done; raises DeviceError."""
    kept = driver.host_blocks.kept()  # before the event: what another thread keeps after this may come behind it
    driver.wait(driver.record(Stream.QUERIES))
    kept.clear()


@dataclass(slots=True)
class ResultBuffer:
    """Arrays of one result, side by side on the device, fetched by one copy.

    Ask for all arrays with `add`, then `allocate`, then run kernels on `device(k)`, then `fetch` and read `host(k)`.
    """

    driver: Driver
    _specifications: list[tuple[int, int, np.dtype[np.generic]]] = field(default_factory=list)
    _size: int = 0
    _memory: DeviceMemory | None = None
    _host: npt.NDArray[np.uint8] | None = None

    def add(self, count: int, dtype: npt.DTypeLike = np.int64) -> int:
        """Room for an array; its number."""
        kind = np.dtype(dtype)
        self._specifications.append((self._size, count, kind))
        self._size += aligned(count * kind.itemsize)
        return len(self._specifications) - 1

    def allocate(self) -> None:
        """Take the device memory."""
        self._memory = self.driver.allocate(max(1, self._size))

    def device(self, number: int) -> DeviceArray:
        """The array on the device."""
        assert self._memory is not None
        offset, count, kind = self._specifications[number]
        return DeviceArray(self._memory, self._memory.address + offset, count, kind)

    def fetch(self) -> None:
        """Copy everything to the host and wait for it."""
        assert self._memory is not None
        self._host = _fetched(self.driver, self._memory.address, self._size)

    def host(self, number: int) -> npt.NDArray[np.generic]:
        """The array on the host: a view of the one copy."""
        assert self._host is not None
        offset, count, kind = self._specifications[number]
        return self._host[offset : offset + count * kind.itemsize].view(kind)


def read_word(driver: Driver, array: DeviceArray, place: int) -> int:
    """One element of an int64 array, once everything asked for so far is done."""
    return int(read_words(driver, array.part(place, place + 1))[0])


def read_words(driver: Driver, array: DeviceArray) -> Int64Array:
    """A copy of an int64 array, once everything asked for so far is done."""
    return _fetched(driver, array.address, array.size_bytes).view(np.int64)


def _fetched(driver: Driver, source: int, size_bytes: int) -> npt.NDArray[np.uint8]:
    """A copy of device memory, once everything asked for so far is done."""
    if size_bytes == 0:
        wait(driver)
        return np.empty(0, dtype=np.uint8)
    found = driver.host_blocks.empty(size_bytes)
    driver.to_host(address_of(found), source, size_bytes)
    wait(driver)
    return found.copy() if size_bytes <= SMALL_BYTES else found
