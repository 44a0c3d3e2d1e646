"""What the CUDA backend needs of a device, and the arrays that lie there.

CuPy implements the Protocol for real devices (`cupy_driver.py`), an emulator for tests. Nothing here touches a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from zeptodb.errors import BackendUnavailableError, ZeptoError

if TYPE_CHECKING:
    from zeptodb.backends.cuda.cost import Rates
    from zeptodb.backends.cuda.host_blocks import HostBlocks

Int64Array = npt.NDArray[np.int64]


class DeviceError(ZeptoError, RuntimeError):
    """The device or its driver refused something."""


class OutOfDeviceMemoryError(DeviceError, MemoryError):
    """The device has no room for what a query needs; the caller runs it on the CPU."""


class KernelCompileError(DeviceError):
    """The compiler refused a kernel: a fault of ZeptoDB or of the compiler."""


def forked_error() -> BackendUnavailableError:
    """The error for work on a device in a forked child."""
    return BackendUnavailableError(
        "CUDA does not survive fork(): this process was forked after the device had been used. Start workers with "
        'multiprocessing.get_context("spawn"), or make a Pipeline with backend="cpu" in the child.'
    )


class Stream(Enum):
    """What the device does in order, one after the other; across streams only events order anything."""

    QUERIES = "queries"
    """Kernels, what they need besides columns, and their results."""
    COPIES = "copies"
    """Columns on their way to the image of the arenas."""


class Event(Protocol):
    """A moment of a stream: it has come when all that was asked for there before is done."""


class HostMemory(Protocol):
    """A range of page-locked host memory; it goes back when the last reference is gone.

    Attributes:
        address: of its first byte.
        size_bytes: its length.
    """

    address: int
    size_bytes: int


class DeviceMemory(Protocol):
    """A range of device memory; it goes back when the last reference is gone.

    Attributes:
        address: of its first byte, aligned to 256 bytes.
        size_bytes: its length.
    """

    address: int
    size_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class DeviceArray:
    """A one-dimensional array in device memory. It takes part in no numpy operation: copies are made by name.

    Attributes:
        memory: what keeps it; an array may be a part of it.
        address: of its first element.
        count: elements.
        dtype: of an element.
    """

    memory: DeviceMemory
    address: int
    count: int
    dtype: np.dtype[np.generic]

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements."""
        return self.count * self.dtype.itemsize

    def part(self, first: int, after: int) -> DeviceArray:
        """Elements `first` to `after` (exclusive), in the same memory."""
        if not 0 <= first <= after <= self.count:
            raise IndexError(f"elements {first} to {after} of {self.count}")
        return DeviceArray(self.memory, self.address + first * self.dtype.itemsize, after - first, self.dtype)

    def __len__(self) -> int:
        """Elements."""
        return self.count

    def __array__(self, *_: object, **__: object) -> NoReturn:
        """Refuse: an implicit copy from the device is a mistake."""
        raise TypeError("A device array does not turn into a numpy array by itself; copy it with Driver.to_host.")

    __array_ufunc__ = None
    __iter__ = None


class Driver(Protocol):
    """One device, with two streams. What is asked for returns at once, and is done in the order of its stream.

    So host memory that is copied from or to must stay as it is until the host has waited for an event behind the copy.
    Device memory belongs to the stream of queries: it may be let go as soon as everything that uses it there has been
    asked for, as what uses it next is asked for later. So the stream of copies may use it only after what queries had
    been asked for when it was allocated (`batch.allocate_for_copies`), and it must be kept until the copies are done.

    Attributes:
        host_blocks: page-locked memory for what goes to and fro besides columns.
    """

    host_blocks: HostBlocks

    @property
    def name(self) -> str:
        """Short name of the kind of device: cuda or emu."""
        ...

    @property
    def device(self) -> str:
        """The device in words: "NVIDIA H200"."""
        ...

    @property
    def number(self) -> int:
        """Which device of the machine it is, counted from 0."""
        ...

    @property
    def versions(self) -> str:
        """Versions of what the device runs on: driver, compiler; what was measured on others does not count."""
        ...

    @property
    def rates(self) -> Rates | None:
        """What the device and the CPU beside it can do, where that is known without measuring."""
        ...

    @property
    def memory_bytes(self) -> tuple[int, int]:
        """Free and total bytes of device memory."""
        ...

    def allocate(self, size_bytes: int) -> DeviceMemory:
        """At least `size_bytes` (1 or more), contents undefined; raises OutOfDeviceMemoryError."""
        ...

    def allocate_host(self, size_bytes: int) -> HostMemory:
        """Page-locked host memory, contents undefined; raises DeviceError when the system refuses."""
        ...

    def register(self, address: int, size_bytes: int) -> None:
        """Page-lock host memory, so that copies are fast and run beside other work; raises DeviceError."""
        ...

    def unregister(self, address: int) -> None:
        """Let page-locked memory go, once everything asked for so far on either stream is done."""
        ...

    def to_device(self, target: int, source: int, size_bytes: int, *, stream: Stream = Stream.QUERIES) -> None:
        """Copy host memory at address `source` to device memory at address `target`."""
        ...

    def to_host(self, target: int, source: int, size_bytes: int) -> None:
        """Copy device memory at address `source` to host memory at address `target`."""
        ...

    def on_device(self, target: int, source: int, size_bytes: int) -> None:
        """Copy within the device; the ranges do not overlap."""
        ...

    def clear(self, target: int, size_bytes: int) -> None:
        """Set device memory to zero."""
        ...

    def launch(
        self,
        kernel: str,
        threads: int,
        arguments: Sequence[DeviceArray | int | float | None],
        *,
        stream: Stream = Stream.QUERIES,
    ) -> None:
        """Run a kernel of `kernels/` with at least `threads` threads (0: do nothing); None is the address 0."""
        ...

    def prefix_sums(self, values: DeviceArray, sums: DeviceArray) -> None:
        """sums[0] = 0, sums[i + 1] = sums[i] + values[i]; int64, `sums` has one element more."""
        ...

    def sorted_order(self, keys: DeviceArray, order: DeviceArray) -> None:
        """order = the int64 places of the int64 `keys` in ascending order, equal ones in their order."""
        ...

    def view(self, array: DeviceArray, owner: object) -> object:
        """The array as the device's own array library has it, over the same memory; it keeps `owner`."""
        ...

    def load_all(self) -> None:
        """Compile or load every kernel."""
        ...

    def record(self, stream: Stream) -> Event:
        """The moment when everything asked for so far on a stream is done."""
        ...

    def follow(self, stream: Stream, event: Event) -> None:
        """Let what is asked for on `stream` from now on begin after an event of the other one; the host goes on."""
        ...

    def wait(self, event: Event) -> None:
        """Wait on the host for an event; raises DeviceError when something before it failed."""
        ...

    def synchronize(self) -> None:
        """Wait until everything asked for so far on both streams is done; raises DeviceError when something failed."""
        ...


def address_of(array: npt.NDArray[np.generic]) -> int:
    """Address of the first element of a host array."""
    address: int = array.__array_interface__["data"][0]
    return address
