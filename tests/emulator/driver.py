"""A driver whose device is the emulator: device memory is host memory of its own, kernels run as fibers.

What is asked for is done as late as it may be, or in some other order that the streams allow (`streams.py`).
"""

from __future__ import annotations

import ctypes
import itertools
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock, RLock
from typing import NoReturn

import numpy as np

from zeptodb.backends.cuda.cost import Rates
from zeptodb.backends.cuda.driver import DeviceArray, DeviceError, OutOfDeviceMemoryError, Stream, address_of
from zeptodb.backends.cuda.host_blocks import HostBlocks

from .build import VARIANT, build
from .streams import EmulatedEvent, Streams

BLOCK_THREADS = 64
RATES = Rates(host_bytes=30e9, device_bytes=4e12, pinned_bytes=50e9, pageable_bytes=5e9, launch_seconds=10e-6)
"""What emulated devices say of themselves, so that nothing depends on the time that anything takes."""
_LAUNCH = Lock()
_SEEDS = itertools.count(1)


class EmulatorError(AssertionError):
    """A kernel did what no kernel may do."""


class EmulatedMemory:
    """Bytes full of 0xA5; whoever reads what nobody wrote gets nonsense."""

    def __init__(self, driver: EmuDriver, size_bytes: int) -> None:
        self._driver = driver
        self.size_bytes = size_bytes
        self.address = driver.address_for(size_bytes)

    def __del__(self) -> None:
        # It may be the garbage collector that calls, in the middle of anything.
        if getattr(self, "address", 0):
            self._driver.dropped.append(self.address)


class EmulatedHostMemory:
    """Page-locked memory of the host."""

    def __init__(self, driver: EmuDriver, size_bytes: int) -> None:
        self._bytes = np.full(size_bytes, 0xA5, dtype=np.uint8)
        self._driver = driver
        self.address, self.size_bytes = address_of(self._bytes), size_bytes
        driver.host_memory[self.address] = size_bytes

    def __del__(self) -> None:
        if getattr(self, "address", 0):
            self._driver.host_memory.pop(self.address, None)


class EmulatedView:
    """What CuPy's arrays offer to other libraries; like them it refuses to turn into numpy's by itself."""

    __array_ufunc__ = None

    def __init__(self, array: DeviceArray, owner: object, number: int = 0) -> None:
        self.array, self.owner, self.number = array, owner, number
        self.dtype, self.size = array.dtype, len(array)
        self.__cuda_array_interface__ = {
            "version": 3, "shape": (len(array),), "typestr": array.dtype.str, "data": (array.address, False),
        }  # fmt: skip

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.number  # kDLCUDA

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`.")

    def get(self) -> np.ndarray:
        if self.size == 0:
            return np.empty(0, dtype=self.dtype)
        raw = (ctypes.c_char * self.array.size_bytes).from_address(self.array.address)
        return np.frombuffer(raw, dtype=self.array.dtype).copy()


class EmuDriver:
    """One emulated device with `memory_limit` bytes of memory.

    schedule: None runs everything as late as allowed, a number is the seed of another order. A copy to the device whose
    source changes before it has run is an error: on the stream of copies only when `is_strict`, as there gaps between
    rows are copied along, and others may write to these.
    """

    def __init__(
        self,
        *,
        number: int = 0,
        memory_limit: int = 8 << 30,
        variant: str = VARIANT,
        rates: Rates | None = RATES,
        schedule: int | None = None,
        is_strict: bool = False,
    ) -> None:
        self.name = "emu"
        self.rates = rates
        self.versions = "emulator"
        self.device = f"emulated GPU {number}"
        self.number = number
        self.library = _load(build(variant))
        self.dropped: deque[int] = deque()
        self._begins: list[int] = []
        self._ends: list[int] = []
        self._rooms: dict[int, int] = {}  # bytes from each address
        self._freed: dict[int, int] = {}  # the same, of what is free
        self._lock = RLock()
        self.streams = Streams(schedule)
        self.is_strict = is_strict
        self.registered: dict[int, int] = {}
        self.host_memory: dict[int, int] = {}
        self.host_blocks = HostBlocks(self.allocate_host, limit_bytes=1 << 30)
        self.used_bytes = 0
        self.memory_limit = memory_limit
        self.launches = self.copies = 0

    @property
    def memory_bytes(self) -> tuple[int, int]:
        return self.memory_limit - self.used_bytes, self.memory_limit

    def allocate(self, size_bytes: int) -> EmulatedMemory:
        if size_bytes < 1:
            raise DeviceError(f"{size_bytes} bytes were asked for; at least 1 is needed.")
        with self._lock:
            self._free_dropped()
            if self.used_bytes + size_bytes > self.memory_limit:
                raise OutOfDeviceMemoryError(f"{size_bytes:,} bytes were asked for, {self.memory_bytes[0]:,} are free.")
            memory = EmulatedMemory(self, size_bytes)
            place = bisect_right(self._begins, memory.address)
            self._begins.insert(place, memory.address)
            self._ends.insert(place, memory.address + size_bytes)
            self.used_bytes += size_bytes
            return memory

    def address_for(self, size_bytes: int) -> int:
        """As CuPy's pool: what was freed is handed out again at once, in the order of queries."""
        fitting = [(room, address) for address, room in self._freed.items() if room >= size_bytes]
        if not fitting:
            address = self.library.emulator_allocate(size_bytes)
            self._rooms[address] = size_bytes
            return address
        _, address = min(fitting)
        del self._freed[address]
        self._ask(Stream.QUERIES, lambda: ctypes.memset(address, 0xA5, size_bytes))
        return address

    def _free_dropped(self) -> None:
        while self.dropped:
            address = self.dropped.popleft()
            place = bisect_right(self._begins, address) - 1
            self.used_bytes -= self._ends.pop(place) - self._begins.pop(place)
            self._freed[address] = self._rooms[address]
        if self.streams.are_idle:
            for address in self._freed:
                del self._rooms[address]
                self.library.emulator_free(ctypes.c_void_p(address))
            self._freed.clear()

    def allocate_host(self, size_bytes: int) -> EmulatedHostMemory:
        return EmulatedHostMemory(self, size_bytes)

    def register(self, address: int, size_bytes: int) -> None:
        if address in self.registered:
            raise DeviceError(f"The memory at {address:x} is registered already.")
        self.registered[address] = size_bytes

    def unregister(self, address: int) -> None:
        with self._lock:
            self.streams.finish_all()
        del self.registered[address]

    def to_device(self, target: int, source: int, size_bytes: int, *, stream: Stream = Stream.QUERIES) -> None:
        self._check(target, size_bytes)
        self._check_host(source, size_bytes)
        is_checked = self.is_strict or stream is Stream.QUERIES
        was = _digest(source, size_bytes) if is_checked else 0

        def work() -> None:
            if is_checked and _digest(source, size_bytes) != was:
                raise EmulatorError(f"{size_bytes:,} bytes at {source:x} were changed before they had been copied")
            self.copy(target, source, size_bytes)

        self.copies += 1
        self._ask(stream, work)

    def to_host(self, target: int, source: int, size_bytes: int) -> None:
        self._check(source, size_bytes)
        self._check_host(target, size_bytes)
        self.copies += 1
        self._ask(Stream.QUERIES, lambda: self.copy(target, source, size_bytes))

    def on_device(self, target: int, source: int, size_bytes: int) -> None:
        self._check(target, size_bytes)
        self._check(source, size_bytes)
        self.copies += 1
        self._ask(Stream.QUERIES, lambda: self.copy(target, source, size_bytes))

    def copy(self, target: int, source: int, size_bytes: int) -> None:
        """Do what has been asked for."""
        ctypes.memmove(target, source, size_bytes)

    def clear(self, target: int, size_bytes: int) -> None:
        self._check(target, size_bytes)
        self._ask(Stream.QUERIES, lambda: ctypes.memset(target, 0, size_bytes))

    def launch(
        self,
        kernel: str,
        threads: int,
        arguments: Sequence[DeviceArray | int | float | None],
        *,
        stream: Stream = Stream.QUERIES,
    ) -> None:
        blocks = -(-threads // BLOCK_THREADS)
        self.launch_blocks(kernel, blocks, range(blocks), arguments, stream=stream)

    def launch_blocks(
        self,
        kernel: str,
        grid: int,
        blocks: range,
        arguments: Sequence[DeviceArray | int | float | None],
        *,
        stream: Stream = Stream.QUERIES,
    ) -> None:
        """Run some neighbouring blocks of a grid, so that one of 2^31 threads and more can be tried."""
        parameters = ctypes.c_int()
        number = self.library.emulator_find(kernel.encode(), ctypes.byref(parameters))
        if number < 0:
            raise EmulatorError(f"there is no kernel {kernel}")
        if parameters.value != len(arguments):
            raise EmulatorError(f"kernel {kernel} has {parameters.value} parameters, got {len(arguments)}")
        if not blocks:
            return
        words = np.array([self._word(kernel, argument) for argument in arguments], dtype=np.int64)
        with self._lock:
            self.launches += 1
            # What is there now: what is let go before the kernel runs is not handed out again for something else.
            extents = np.array([self._begins, self._ends], dtype=np.int64).T.reshape(-1)

            def work() -> None:
                pointers = address_of(words) + 8 * np.arange(len(words), dtype=np.int64)
                with _LAUNCH:
                    failed = self.library.emulator_launch(
                        number, grid, blocks.start, len(blocks), BLOCK_THREADS, ctypes.c_void_p(address_of(pointers)),
                        ctypes.c_void_p(address_of(extents)), len(extents) // 2, next(_SEEDS),
                    )  # fmt: skip
                    if failed:
                        raise EmulatorError(self.library.emulator_message().decode())

            self._ask(stream, work)

    def prefix_sums(self, values: DeviceArray, sums: DeviceArray) -> None:
        assert len(sums) == len(values) + 1
        read, write = self._words(values), self._words(sums)

        def work() -> None:
            write()[0] = 0
            np.cumsum(read(), out=write()[1:])

        self._ask(Stream.QUERIES, work)

    def sorted_order(self, keys: DeviceArray, order: DeviceArray) -> None:
        assert len(order) == len(keys)
        read, write = self._words(keys), self._words(order)

        def work() -> None:
            write()[:] = np.argsort(read(), kind="stable")

        self._ask(Stream.QUERIES, work)

    def view(self, array: DeviceArray, owner: object) -> EmulatedView:
        self._check(array.address, array.size_bytes)
        return EmulatedView(array, owner, self.number)

    def load_all(self) -> None:
        pass

    def record(self, stream: Stream) -> EmulatedEvent:
        with self._lock:
            return self.streams.record(stream)

    def follow(self, stream: Stream, event: EmulatedEvent) -> None:
        with self._lock:
            self.streams.follow(stream, event)

    def wait(self, event: EmulatedEvent) -> None:
        with self._lock:
            self.streams.wait(event)

    def synchronize(self) -> None:
        for stream in Stream:
            self.wait(self.record(stream))

    def _ask(self, stream: Stream, work: Callable[[], object]) -> None:
        with self._lock:
            self.streams.ask(stream, work)

    def _word(self, kernel: str, argument: DeviceArray | float | None) -> int:
        if argument is None:
            return 0
        if isinstance(argument, DeviceArray):
            self._check(argument.address, argument.size_bytes)
            return argument.address
        if type(argument) is float:
            return int(np.float64(argument).view(np.int64))
        if type(argument) is int:
            return argument
        raise EmulatorError(f"kernel {kernel} got {type(argument).__name__} as an argument")

    def _words(self, array: DeviceArray) -> Callable[[], np.ndarray]:
        """The array's words when they are needed; nothing is kept of it, as nothing is on a device."""
        assert array.dtype == np.int64
        self._check(array.address, array.size_bytes)
        address, count = array.address, len(array)
        if not count:
            return lambda: np.empty(0, dtype=np.int64)
        return lambda: np.ctypeslib.as_array((ctypes.c_int64 * count).from_address(address))

    def _check(self, address: int, size_bytes: int) -> None:
        """The range must lie in one allocation of this device."""
        with self._lock:
            place = bisect_right(self._begins, address) - 1
            is_there = place >= 0 and address + size_bytes <= self._ends[place]
        if size_bytes and not is_there:
            raise EmulatorError(f"{size_bytes:,} bytes at {address:x} are not in the memory of {self.device}")

    def _check_host(self, address: int, size_bytes: int) -> None:
        """CUDA copies host memory that is page-locked by one registration, or not at all."""
        end = address + size_bytes
        touched = [
            (first, first + size)
            for locked in (self.registered, self.host_memory)
            for first, size in list(locked.items())
            if first < end and address < first + size
        ]
        if touched and not (len(touched) == 1 and touched[0][0] <= address and end <= touched[0][1]):
            raise EmulatorError(f"{size_bytes:,} bytes of host memory at {address:x} are not page-locked in one piece")


def _digest(address: int, size_bytes: int) -> int:
    return zlib.crc32((ctypes.c_char * size_bytes).from_address(address)) if size_bytes else 0


def _load(path: object) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.emulator_allocate.restype = ctypes.c_void_p
    library.emulator_allocate.argtypes = [ctypes.c_uint64]
    library.emulator_free.argtypes = [ctypes.c_void_p]
    library.emulator_find.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    library.emulator_launch.argtypes = [
        ctypes.c_int, *4 * [ctypes.c_int64], ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64,
    ]  # fmt: skip
    library.emulator_message.restype = ctypes.c_char_p
    return library
