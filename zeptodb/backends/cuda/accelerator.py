"""The device beside the CPU as the rest of the engine sees it: where operators run, and arrays that lie there."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock, RLock

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Operation
from zeptodb.backends.cuda.batch import aligned, allocate, send, wait
from zeptodb.backends.cuda.choose import Chooser
from zeptodb.backends.cuda.driver import DeviceArray, Driver, address_of
from zeptodb.backends.cuda.image import DeviceImage
from zeptodb.backends.placement import Placement
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table


class CudaAccelerator:
    """Implements `zeptodb.backends.base.Accelerator`; thread-safe."""

    def __init__(self, driver: Driver, image: DeviceImage, lock: RLock, chooser: Chooser) -> None:
        """`lock` guards `image`."""
        self._driver, self._image, self._lock, self._chooser = driver, image, lock, chooser
        self._counting = Lock()
        self._on_device = self._on_host = 0

    @property
    def placed(self) -> tuple[int, int]:
        """How many operators have run on the device, and how many on the CPU instead."""
        return self._on_device, self._on_host

    def count(self, *, on_device: bool) -> None:
        """One operator more."""
        with self._counting:
            self._on_device += on_device
            self._on_host += not on_device

    def placement(self, operation: Operation) -> Placement:
        """Where an operator would run now, and why; runs nothing."""
        return self._chooser.estimate(operation)

    def column(self, table: Table, segment: int, column: int) -> object:
        """A stored column of one segment, in the image of the arenas; brought up if need be.

        It keeps the view of the host's rows, so that no later row takes their place, and the device memory, also when
        the image lets that go. Raises OutOfDeviceMemoryError.
        """
        while True:
            # The snapshot before the lock: whoever changes a table holds its lock while he waits for the device.
            with table.snapshot() as snapshot:
                host = table.view(segment, column)
                if not len(host):
                    return self._driver.view(allocate(self._driver, 0, host.dtype), None)
                is_same = segment < len(snapshot.lengths) and address_of(host) == snapshot.addresses[column, segment]
                if is_same and len(host) >= snapshot.lengths[segment]:
                    return self._view(snapshot, segment, column, host)

    def _view(self, snapshot: Snapshot, segment: int, column: int, host: npt.NDArray[np.generic]) -> object:
        with self._lock, self._image.query():
            found = self._image.array(snapshot, column, segment)
        if found is None:
            return self.copies((host[: int(snapshot.lengths[segment])],))[0]
        return self._driver.view(found, host)

    def copies(self, arrays: Sequence[npt.NDArray[np.generic]]) -> tuple[object, ...]:
        """Copies of one-dimensional arrays of numbers, packed into one transfer; raises OutOfDeviceMemoryError."""
        places = np.cumsum([0, *(aligned(array.nbytes) for array in arrays)]).tolist()
        there = allocate(self._driver, max(1, places[-1]), np.uint8)
        packed = self._driver.host_blocks.empty(len(there))
        for array, place in zip(arrays, places, strict=False):
            packed[place : place + array.nbytes].view(array.dtype)[:] = array
        send(self._driver, there.address, packed)
        wait(self._driver)  # whoever takes the copies may read them on another stream
        return tuple(
            self._driver.view(DeviceArray(there.memory, there.address + place, len(array), array.dtype), None)
            for array, place in zip(arrays, places, strict=False)
        )
