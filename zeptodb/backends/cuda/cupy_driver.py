"""A real device, reached through CuPy: the one place that imports it. Nothing here runs before a device is wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import cupy
import numpy as np

from zeptodb.backends.cuda.compile import CubinCache
from zeptodb.backends.cuda.driver import (
    DeviceArray,
    DeviceError,
    KernelCompileError,
    OutOfDeviceMemoryError,
    Stream,
    forked_error,
)
from zeptodb.backends.cuda.host_blocks import HostBlocks
from zeptodb.backends.cuda.sources import KernelSource, kernel_sources
from zeptodb.errors import BackendUnavailableError, ConfigError

BLOCK_THREADS = 128
LEAST_DRIVER = 12_000
"""The driver must know CUDA 12."""

_WARM_UP_BYTES = 1024

_runtime: Any = cupy.cuda.runtime


def find_device(number: int | None) -> int:
    """The number of the device to use; raises BackendUnavailableError or ConfigError and says what to do."""
    driver, built = int(_runtime.driverGetVersion()), int(_runtime.runtimeGetVersion())
    if driver == 0:
        raise BackendUnavailableError(
            "CuPy is installed, but there is no NVIDIA driver; install one (nvidia-smi shows it)."
        )
    if driver < LEAST_DRIVER:
        raise BackendUnavailableError(
            f"The NVIDIA driver knows CUDA {_version(driver)}; ZeptoDB needs one that knows CUDA 12 or newer."
        )
    if built // 1000 > driver // 1000:
        raise BackendUnavailableError(
            f"CuPy is built for CUDA {_version(built)}, the NVIDIA driver knows CUDA {_version(driver)}; update the "
            f"driver, or replace CuPy: pip uninstall {_package(built)}; pip install {_package(driver)}"
        )
    try:
        count = int(_runtime.getDeviceCount())
    except _runtime.CUDARuntimeError as error:
        raise BackendUnavailableError(f"There is no CUDA device that can be used ({error}); see nvidia-smi.") from error
    if count == 0:
        raise BackendUnavailableError("There is no CUDA device; see nvidia-smi and CUDA_VISIBLE_DEVICES.")
    if number is not None and number >= count:
        raise ConfigError(f"device is {number}; this machine has {count} CUDA device(s), counted from 0.")
    return 0 if number is None else number


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _package(number: int) -> str:
    return f"cupy-cuda{number // 1000}x"


def _find_compiler(architecture: int, device: str) -> str:
    """The version of NVRTC, which compiles for `architecture` (90: compute capability 9.0); or says what is missing."""
    try:
        # The library is looked for when it is first used, and CuPy's packages come without it.
        version, known = cupy.cuda.nvrtc.getVersion(), cupy.cuda.nvrtc.getSupportedArchs()
    except RuntimeError as error:
        major = int(_runtime.runtimeGetVersion()) // 1000
        package = "nvidia-cuda-nvrtc-cu12" if major == 12 else f"'nvidia-cuda-nvrtc=={major}.*'"
        raise BackendUnavailableError(
            f"NVRTC, which compiles the CUDA kernels, is missing; pip install {package}, or install the CUDA toolkit. "
            f"({error})"
        ) from error
    words = ".".join(str(part) for part in version)
    if architecture not in known:
        raise BackendUnavailableError(
            f"NVRTC {words} does not know the {device} (compute capability {architecture / 10:.1f}); it knows "
            f"{', '.join(f'{number / 10:.1f}' for number in known)}. Install a newer NVRTC or CuPy."
        )
    return words


class _Memory:
    """Memory of CuPy's pool; it goes back with the last reference."""

    __slots__ = ("_pointer", "address", "size_bytes")

    def __init__(self, pointer: Any, size_bytes: int) -> None:
        self._pointer = pointer
        self.address = int(pointer.ptr)
        self.size_bytes = size_bytes


class _HostMemory:
    """Host memory of cudaHostAlloc; it goes back with the last reference."""

    __slots__ = ("_memory", "address", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self._memory = cupy.cuda.PinnedMemory(size_bytes)
        self.address = int(self._memory.ptr)
        self.size_bytes = size_bytes


class CupyDriver:
    """One CUDA device, with streams and a memory pool of its own.

    The pool hands out again what is freed at once, whatever is still to be done with it, but only where the stream is
    current that was so when it was allocated. Here that is always the stream of queries, so that the next use comes
    after the last one there; the Driver says what that means for the stream of copies.
    """

    def __init__(self, number: int, *, is_pooled: bool = True) -> None:
        """Take device `number`, counted from 0; raises BackendUnavailableError.

        Without a pool each allocation is the device's own, so that tools like compute-sanitizer see where it ends.
        """
        self.name = "cuda"
        self.number = number
        self.rates = None  # are measured
        self._process = os.getpid()
        self._device = cupy.cuda.Device(number)
        self._pool = cupy.cuda.MemoryPool()
        self._malloc = self._pool.malloc if is_pooled else _allocate_apart
        try:
            with self._device:
                self.streams = {stream: cupy.cuda.Stream(non_blocking=True) for stream in Stream}
                properties = _runtime.getDeviceProperties(number)
        except _runtime.CUDARuntimeError as error:
            raise BackendUnavailableError(f"CUDA device {number} cannot be used ({error}); see nvidia-smi.") from error
        self.device = str(properties["name"].decode())
        architecture = 10 * int(properties["major"]) + int(properties["minor"])
        compiler = _find_compiler(architecture, self.device)
        self._cubins = CubinCache(_compile, architecture=f"sm_{architecture}", compiler_version=compiler)
        self._functions: dict[str, Any] = {}
        self._modules: list[Any] = []
        self._loading = Lock()
        self.host_blocks = HostBlocks(self.allocate_host)

    @property
    def versions(self) -> str:
        """Versions of the driver, CUDA and CuPy."""
        return f"driver {_runtime.driverGetVersion()}, CUDA {_runtime.runtimeGetVersion()}, CuPy {cupy.__version__}"

    @contextmanager
    def _active(self, stream: Stream = Stream.QUERIES) -> Iterator[Any]:
        """This device, one of its streams (CuPy's is what comes) and the pool; errors as DeviceError."""
        if os.getpid() != self._process:
            raise forked_error()
        try:
            with self._device, self.streams[stream] as active, cupy.cuda.using_allocator(self._malloc):
                yield active
        except DeviceError:
            raise
        except MemoryError as error:
            raise OutOfDeviceMemoryError(f"The device has no room: {error}") from error
        except RuntimeError as error:  # of the runtime, the driver and Thrust, which have no other base
            if "out of memory" in str(error):
                raise OutOfDeviceMemoryError(f"The device has no room: {error}") from error
            raise DeviceError(f"{self.device}: {error}") from error

    @property
    def memory_bytes(self) -> tuple[int, int]:
        """Free (what the pool holds unused included) and total bytes of device memory."""
        with self._active():
            free, total = _runtime.memGetInfo()
        return int(free) + int(self._pool.free_bytes()), int(total)

    def allocate(self, size_bytes: int) -> _Memory:
        """At least `size_bytes`, contents undefined; raises OutOfDeviceMemoryError."""
        with self._active():
            return _Memory(self._malloc(size_bytes), size_bytes)

    def allocate_host(self, size_bytes: int) -> _HostMemory:
        """Page-locked host memory, contents undefined; raises DeviceError."""
        with self._active():
            return _HostMemory(size_bytes)

    def register(self, address: int, size_bytes: int) -> None:
        """Page-lock host memory; raises DeviceError."""
        with self._active():
            _runtime.hostRegister(address, size_bytes, 0)

    def unregister(self, address: int) -> None:
        """Let page-locked memory go, once everything asked for so far is done."""
        self.synchronize()
        with self._active():
            _runtime.hostUnregister(address)

    def to_device(self, target: int, source: int, size_bytes: int, *, stream: Stream = Stream.QUERIES) -> None:
        """Copy host memory to device memory."""
        with self._active(stream) as active:
            _runtime.memcpyAsync(target, source, size_bytes, _runtime.memcpyHostToDevice, active.ptr)

    def to_host(self, target: int, source: int, size_bytes: int) -> None:
        """Copy device memory to host memory."""
        with self._active() as active:
            _runtime.memcpyAsync(target, source, size_bytes, _runtime.memcpyDeviceToHost, active.ptr)

    def on_device(self, target: int, source: int, size_bytes: int) -> None:
        """Copy within the device."""
        with self._active() as active:
            _runtime.memcpyAsync(target, source, size_bytes, _runtime.memcpyDeviceToDevice, active.ptr)

    def clear(self, target: int, size_bytes: int) -> None:
        """Set device memory to zero."""
        with self._active() as active:
            _runtime.memsetAsync(target, 0, size_bytes, active.ptr)

    def launch(
        self,
        kernel: str,
        threads: int,
        arguments: Sequence[DeviceArray | int | float | None],
        *,
        stream: Stream = Stream.QUERIES,
    ) -> None:
        """Run a kernel with at least `threads` threads (0: do nothing)."""
        if threads == 0:
            return
        with self._active(stream):
            function = self._functions.get(kernel) or self._load(kernel)
            words = tuple(_word(argument) for argument in arguments)
            function((-(-threads // BLOCK_THREADS), 1, 1), (BLOCK_THREADS, 1, 1), words)

    def prefix_sums(self, values: DeviceArray, sums: DeviceArray) -> None:
        """sums[0] = 0, sums[i + 1] = sums[i] + values[i]."""
        with self._active() as active:
            _runtime.memsetAsync(sums.address, 0, sums.dtype.itemsize, active.ptr)
            if len(values):
                cupy.cumsum(self._as_cupy(values), out=self._as_cupy(sums.part(1, len(sums))))

    def sorted_order(self, keys: DeviceArray, order: DeviceArray) -> None:
        """order = the places of the keys in ascending order, equal ones in their order."""
        with self._active() as active:
            if len(keys):
                found = cupy.argsort(self._as_cupy(keys), kind="stable")
                source, kind = int(found.data.ptr), _runtime.memcpyDeviceToDevice
                _runtime.memcpyAsync(order.address, source, order.size_bytes, kind, active.ptr)

    def view(self, array: DeviceArray, owner: object) -> object:
        """The array as CuPy has it, over the same memory; `owner` stays as long as the result does."""
        with self._active():
            return self._as_cupy(array, owner)

    def record(self, stream: Stream) -> Any:
        """The moment when everything asked for so far on a stream is done."""
        with self._active(stream) as active:
            return active.record(cupy.cuda.Event(disable_timing=True))

    def follow(self, stream: Stream, event: Any) -> None:
        """Let what is asked for on a stream from now on begin after an event."""
        with self._active(stream) as active:
            active.wait_event(event)

    def wait(self, event: Any) -> None:
        """Wait on the host for an event; raises DeviceError when something before it failed."""
        with self._active():
            event.synchronize()

    def synchronize(self) -> None:
        """Wait until everything asked for so far is done; raises DeviceError when something failed."""
        for stream in Stream:
            with self._active(stream) as active:
                active.synchronize()

    def load_all(self) -> None:
        """Compile or load every kernel, CuPy's own among them."""
        with self._active() as active:
            for source in kernel_sources():
                self._load(source.kernels[0])
            memory = _Memory(self._malloc(_WARM_UP_BYTES), _WARM_UP_BYTES)
            _runtime.memsetAsync(memory.address, 0, _WARM_UP_BYTES, active.ptr)
        words = DeviceArray(memory, memory.address, _WARM_UP_BYTES // 8, np.dtype(np.int64))
        half = len(words) // 2
        self.prefix_sums(words.part(0, half - 1), words.part(half, 2 * half))
        self.sorted_order(words.part(0, half), words.part(half, 2 * half))

    def _as_cupy(self, array: DeviceArray, owner: object = None) -> Any:
        memory = cupy.cuda.UnownedMemory(array.address, max(1, array.size_bytes), (array.memory, owner), self.number)
        return cupy.ndarray((len(array),), dtype=array.dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))

    def _load(self, kernel: str) -> Any:
        with self._loading:  # a background thread may be loading everything
            if kernel not in self._functions:
                source = next(source for source in kernel_sources() if kernel in source.kernels)
                module = cupy.cuda.function.Module()
                module.load(self._cubins.binary(source))
                self._modules.append(module)
                self._functions |= {name: module.get_function(name) for name in source.kernels}
            return self._functions[kernel]


def _allocate_apart(size_bytes: int) -> Any:
    return cupy.cuda.MemoryPointer(cupy.cuda.Memory(size_bytes), 0)


def _word(argument: DeviceArray | float | None) -> np.generic:
    """Every kernel parameter is a word of 8 bytes."""
    if isinstance(argument, DeviceArray):
        return np.int64(argument.address)
    if argument is None:
        return np.int64(0)
    return np.int64(argument) if isinstance(argument, int) else np.float64(argument)


def _compile(source: KernelSource, options: tuple[str, ...]) -> bytes:
    nvrtc: Any = cupy.cuda.nvrtc
    program = nvrtc.createProgram(source.text, f"{source.name}.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
        return bytes(nvrtc.getCUBIN(program))
    except nvrtc.NVRTCError as error:
        raise KernelCompileError(
            f'NVRTC {".".join(map(str, nvrtc.getVersion()))} cannot compile {source.name}.cu; use backend="cpu" '
            f"meanwhile, and report this with its message:\n{nvrtc.getProgramLog(program)}"
        ) from error
    finally:
        nvrtc.destroyProgram(program)
