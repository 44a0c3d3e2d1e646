"""A driver whose device is the emulator: device memory is host memory of its own, kernels run as fibers."""

from __future__ import annotations

import ctypes
import itertools
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from threading import Lock, RLock
from typing import NoReturn

import numpy as np

from zeptodb.backends.cuda.cost import Rates
from zeptodb.backends.cuda.driver import DeviceArray, DeviceError, OutOfDeviceMemoryError, address_of

from .build import VARIANT, build

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
        self.address = driver.library.emulator_allocate(size_bytes)

    def __del__(self) -> None:
        # It may be the garbage collector that calls, in the middle of anything.
        if getattr(self, "address", 0):
            self._driver.dropped.append(self.address)


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
    """One emulated device with `memory_limit` bytes of memory."""

    def __init__(
        self, *, number: int = 0, memory_limit: int = 8 << 30, variant: str = VARIANT, rates: Rates | None = RATES
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
        self._lock = RLock()
        self.registered: dict[int, int] = {}
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

    def _free_dropped(self) -> None:
        while self.dropped:
            address = self.dropped.popleft()
            place = bisect_right(self._begins, address) - 1
            self.used_bytes -= self._ends.pop(place) - self._begins.pop(place)
            self.library.emulator_free(ctypes.c_void_p(address))

    def register(self, address: int, size_bytes: int) -> None:
        if address in self.registered:
            raise DeviceError(f"The memory at {address:x} is registered already.")
        self.registered[address] = size_bytes

    def unregister(self, address: int) -> None:
        del self.registered[address]

    def to_device(self, target: int, source: int, size_bytes: int) -> None:
        self._check(target, size_bytes)
        self._check_host(source, size_bytes)
        self._move(target, source, size_bytes)

    def to_host(self, target: int, source: int, size_bytes: int) -> None:
        self._check(source, size_bytes)
        self._check_host(target, size_bytes)
        self._move(target, source, size_bytes)

    def on_device(self, target: int, source: int, size_bytes: int) -> None:
        self._check(target, size_bytes)
        self._check(source, size_bytes)
        self._move(target, source, size_bytes)

    def clear(self, target: int, size_bytes: int) -> None:
        self._check(target, size_bytes)
        ctypes.memset(target, 0, size_bytes)

    def launch(self, kernel: str, threads: int, arguments: Sequence[DeviceArray | int | float | None]) -> None:
        blocks = -(-threads // BLOCK_THREADS)
        self.launch_blocks(kernel, blocks, range(blocks), arguments)

    def launch_blocks(
        self, kernel: str, grid: int, blocks: range, arguments: Sequence[DeviceArray | int | float | None]
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
        pointers = address_of(words) + 8 * np.arange(len(words), dtype=np.int64)
        with self._lock, _LAUNCH:
            self.launches += 1
            extents = np.array([self._begins, self._ends], dtype=np.int64).T.reshape(-1)
            failed = self.library.emulator_launch(
                number, grid, blocks.start, len(blocks), BLOCK_THREADS, ctypes.c_void_p(address_of(pointers)),
                ctypes.c_void_p(address_of(extents)), len(extents) // 2, next(_SEEDS),
            )  # fmt: skip
            if failed:
                raise EmulatorError(self.library.emulator_message().decode())

    def prefix_sums(self, values: DeviceArray, sums: DeviceArray) -> None:
        found = self._view(sums)
        assert len(sums) == len(values) + 1
        found[0] = 0
        np.cumsum(self._view(values), out=found[1:])

    def sorted_order(self, keys: DeviceArray, order: DeviceArray) -> None:
        assert len(order) == len(keys)
        self._view(order)[:] = np.argsort(self._view(keys), kind="stable")

    def view(self, array: DeviceArray, owner: object) -> EmulatedView:
        self._check(array.address, array.size_bytes)
        return EmulatedView(array, owner, self.number)

    def load_all(self) -> None:
        pass

    def synchronize(self) -> None:
        pass

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

    def _view(self, array: DeviceArray) -> np.ndarray:
        assert array.dtype == np.int64
        self._check(array.address, array.size_bytes)
        if array.count == 0:
            return np.empty(0, dtype=np.int64)
        return np.ctypeslib.as_array((ctypes.c_int64 * array.count).from_address(array.address))

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
            (first, first + size) for first, size in self.registered.items() if first < end and address < first + size
        ]
        if touched and not (len(touched) == 1 and touched[0][0] <= address and end <= touched[0][1]):
            raise EmulatorError(f"{size_bytes:,} bytes of host memory at {address:x} are not page-locked in one piece")

    def _move(self, target: int, source: int, size_bytes: int) -> None:
        self.copies += 1
        ctypes.memmove(target, source, size_bytes)


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
