"""Small arrays on their way to the device, packed into one copy, and results on their way back, likewise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.driver import DeviceArray, DeviceMemory, Driver, address_of

Int64Array = npt.NDArray[np.int64]
_INT64 = np.dtype(np.int64)
_ALIGNMENT = 64


def aligned(size_bytes: int) -> int:
    """The size rounded up, so that the next array begins at a boundary."""
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


def allocate(driver: Driver, count: int, dtype: npt.DTypeLike = np.int64) -> DeviceArray:
    """A new device array, contents undefined; one without elements has an address, too."""
    kind = np.dtype(dtype)
    memory = driver.allocate(max(1, count * kind.itemsize))
    return DeviceArray(memory, memory.address, count, kind)


def upload(driver: Driver, *arrays: Int64Array) -> tuple[DeviceArray, ...]:
    """Copies of int64 arrays, all in one piece of device memory and by one copy."""
    return upload_described(driver, arrays)[1:]


def upload_described(driver: Driver, arrays: Sequence[Int64Array], *first: int) -> tuple[DeviceArray, ...]:
    """As `upload`, and before the copies an array of the words `first` and the addresses of the copies."""
    described = len(first) + len(arrays)
    places = np.cumsum([aligned(8 * described), *(aligned(array.nbytes) for array in arrays)]).tolist()
    packed = np.zeros(places[-1] // 8 + 1, dtype=np.int64)
    memory = driver.allocate(packed.nbytes)
    packed[:described] = [*first, *(memory.address + place for place in places[:-1])]
    for array, place in zip(arrays, places, strict=False):
        packed[place // 8 : place // 8 + array.size] = array.ravel()
    driver.to_device(memory.address, address_of(packed), packed.nbytes)
    driver.synchronize()  # `packed` goes
    sizes = [described, *(array.size for array in arrays)]
    starts = [0, *places[:-1]]
    return tuple(
        DeviceArray(memory, memory.address + start, size, _INT64) for start, size in zip(starts, sizes, strict=True)
    )


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
        self._host = np.empty(max(1, self._size), dtype=np.uint8)
        if self._size:
            self.driver.to_host(address_of(self._host), self._memory.address, self._size)
        self.driver.synchronize()

    def host(self, number: int) -> npt.NDArray[np.generic]:
        """The array on the host: a view of the one copy."""
        assert self._host is not None
        offset, count, kind = self._specifications[number]
        return self._host[offset : offset + count * kind.itemsize].view(kind)


def read_word(driver: Driver, array: DeviceArray, place: int) -> int:
    """One element of an int64 array, once everything asked for so far is done."""
    found = np.empty(1, dtype=np.int64)
    driver.to_host(address_of(found), array.part(place, place + 1).address, found.nbytes)
    driver.synchronize()
    return int(found[0])


def read_words(driver: Driver, array: DeviceArray) -> Int64Array:
    """A copy of an int64 array, once everything asked for so far is done."""
    found = np.empty(len(array), dtype=np.int64)
    if len(array):
        driver.to_host(address_of(found), array.address, found.nbytes)
    driver.synchronize()
    return found
