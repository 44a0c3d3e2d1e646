"""The driver for real devices, over a stand-in for CuPy: what it asks for, and what it says when it cannot."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

import zeptodb.backends.cuda.compile
from tests.cuda.stand_in_cupy import (
    CUDADriverError,
    CUDARuntimeError,
    NVRTCError,
    OutOfMemoryError,
    StandInCupy,
    StandInStream,
)
from zeptodb.backends import cuda
from zeptodb.backends.cuda.driver import DeviceArray, DeviceError, KernelCompileError, OutOfDeviceMemoryError, Stream
from zeptodb.backends.cuda.sources import kernel_sources
from zeptodb.errors import BackendUnavailableError, ConfigError

MODULE = "zeptodb.backends.cuda.cupy_driver"
MISSING_LIBRARY = 'Failure finding "libnvrtc.so.13"'


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInCupy]:
    stand_in = StandInCupy()
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.setattr(zeptodb.backends.cuda.compile, "cubin_folder", lambda: None)
    yield stand_in
    sys.modules.pop(MODULE, None)  # it has imported the stand-in


def module() -> ModuleType:
    return importlib.import_module(MODULE)


def words(count: int, address: int = 1 << 20) -> DeviceArray:
    return DeviceArray(object(), address, count, np.dtype(np.int64))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words_in_it"),
    [
        ({"driver_version": 0}, "no NVIDIA driver"),
        ({"driver_version": 11_080}, "knows CUDA 11.8"),
        ({"driver_version": 12_080}, "pip uninstall cupy-cuda13x; pip install cupy-cuda12x"),
        ({"devices": 0}, "CUDA_VISIBLE_DEVICES"),
        ({"architectures": (75, 80)}, "does not know the NVIDIA H200"),
        ({"fails": {"getDeviceCount": CUDARuntimeError("cudaErrorNoDevice: none")}}, "cudaErrorNoDevice"),
        ({"fails": {"getDeviceProperties": CUDARuntimeError("cudaErrorDevicesUnavailable: busy")}}, "busy"),
        ({"fails": {"getVersion": RuntimeError(MISSING_LIBRARY)}}, "pip install 'nvidia-cuda-nvrtc==13"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(cupy, change, words_in_it):
    vars(cupy).update(change)
    with pytest.raises(BackendUnavailableError) as caught:
        cuda.open_device()
    assert words_in_it in str(caught.value)
    assert cuda.missing_parts() == str(caught.value)


def test_a_device_that_is_not_there_is_refused(cupy):
    with pytest.raises(ConfigError, match="device is 3; this machine has 1"):
        module().find_device(3)


def test_a_driver_of_a_newer_minor_version_of_cuda_is_not_asked_for(cupy):
    cupy.driver_version, cupy.runtime_version = 13_000, 13_020
    assert cuda.open_device().device == "NVIDIA H200"


def test_every_parameter_of_a_kernel_is_a_word_of_eight_bytes(cupy):
    cuda.open_device().launch("gather_words", 1_000, (words(3), None, -5, 2.5))
    name, kernel, grid, block, arguments = cupy.calls[-1]
    assert (name, kernel, grid, block) == ("launch", "gather_words", (8, 1, 1), (128, 1, 1))
    assert [a.dtype.itemsize for a in arguments] == [8, 8, 8, 8]
    assert [a.item() for a in arguments] == [1 << 20, 0, -5, 2.5]


def test_no_threads_launch_nothing(cupy):
    cuda.open_device().launch("gather_words", 0, ())
    assert all(call[0] != "launch" for call in cupy.calls)


def test_each_source_is_compiled_once_for_the_devices_architecture(cupy):
    driver = cuda.open_device()
    driver.load_all()
    driver.load_all()
    options = [call[2] for call in cupy.calls if call[0] == "compileProgram"]
    assert len(options) == len(kernel_sources())
    assert all("--gpu-architecture=sm_90" in given and "--device-int128" in given for given in options)
    assert sum(call[0] == "load" for call in cupy.calls) == len(kernel_sources())


def test_a_kernel_that_does_not_compile_is_named_with_the_compilers_message(cupy):
    cupy.fails["compileProgram"] = NVRTCError("NVRTC_ERROR_COMPILATION (6)")
    with pytest.raises(KernelCompileError, match=r"cannot compile group\.cu(?s:.*)the log"):
        cuda.open_device().launch("gather_words", 1, (words(1),))
    assert cupy.calls[-1][0] == "destroyProgram"


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Out of memory allocating 512 bytes"),
        CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"),
        CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        RuntimeError("radix_sort: failed on 1st step: cudaErrorMemoryAllocation: out of memory"),
        MemoryError("std::bad_alloc"),
    ],
)
def test_no_room_is_told_apart_wherever_it_shows(cupy, error):
    driver = cuda.open_device()
    cupy.fails |= dict.fromkeys(("pool", "argsort", "launch"), error)
    for work in (
        lambda: driver.allocate(512),
        lambda: driver.sorted_order(words(4), words(4)),
        lambda: driver.launch("gather_words", 1, (words(1),)),
    ):
        with pytest.raises(OutOfDeviceMemoryError, match="no room"):
            work()


def test_what_a_launch_raises_is_an_error_of_the_device(cupy):
    driver = cuda.open_device()
    cupy.fails["launch"] = CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
    with pytest.raises(DeviceError, match="NVIDIA H200: CUDA_ERROR_INVALID_VALUE"):
        driver.launch("gather_words", 1, (words(1),))


def test_memory_that_the_system_does_not_lock_is_an_error_of_the_device(cupy):
    cupy.fails["hostRegister"] = CUDARuntimeError("cudaErrorHostMemoryAlreadyRegistered: already")
    with pytest.raises(DeviceError, match="already"):
        cuda.open_device().register(4096, 4096)


def test_sums_begin_with_a_zero_and_the_order_is_copied_out(cupy):
    driver = cuda.open_device()
    driver.prefix_sums(words(4, 4096), words(5, 8192))
    driver.sorted_order(words(4, 4096), words(4, 8192))
    names = [call[0] for call in cupy.calls[-4:]]
    assert names == ["memsetAsync", "cumsum", "argsort", "memcpyAsync"]
    assert cupy.calls[-4][1:] == (8192, 0, 8, 77)
    assert cupy.calls[-3][-1][-1] == 8200
    assert cupy.calls[-1][1:] == (8192, 4096, 32, 3, 77)


def test_without_a_pool_each_allocation_is_the_devices_own(cupy):
    driver = module().CupyDriver(0, is_pooled=False)
    driver.allocate(100)
    assert cupy.calls[-1] == ("apart", 100)


QUERIES, COPIES = 77, 78


def test_columns_come_up_on_a_stream_of_their_own(cupy):
    driver = cuda.open_device()
    driver.to_device(1, 2, 3)
    driver.to_device(4, 5, 6, stream=Stream.COPIES)
    driver.to_host(7, 8, 9)
    assert cupy.calls[-3:] == [
        ("memcpyAsync", 1, 2, 3, 1, QUERIES), ("memcpyAsync", 4, 5, 6, 1, COPIES), ("memcpyAsync", 7, 8, 9, 2, QUERIES),
    ]  # fmt: skip


def test_a_kernel_runs_on_the_stream_that_is_named_and_memory_is_that_of_queries(cupy):
    driver = cuda.open_device()
    assert driver.allocate(100)._pointer.stream == QUERIES
    seen = []
    driver._functions["gather_words"] = lambda *_: seen.append(StandInStream.current())
    driver.launch("gather_words", 1, (words(1),))
    driver.launch("gather_words", 1, (words(1),), stream=Stream.COPIES)
    assert seen == [QUERIES, COPIES]
    assert StandInStream.current() == 0


def test_one_stream_waits_for_the_other_and_the_host_for_either(cupy):
    driver = cuda.open_device()
    del cupy.calls[:]
    event = driver.record(Stream.COPIES)
    driver.follow(Stream.QUERIES, event)
    driver.wait(event)
    assert cupy.calls == [("record", COPIES), ("wait_event", QUERIES, event), ("wait",)]
    assert event.options == {"disable_timing": True}
    driver.synchronize()
    assert cupy.calls[-2:] == [("synchronize", QUERIES), ("synchronize", COPIES)]


def test_memory_is_let_go_when_both_streams_are_done_with_it(cupy):
    driver = cuda.open_device()
    driver.unregister(4096)
    assert cupy.calls[-3:] == [("synchronize", QUERIES), ("synchronize", COPIES), ("hostUnregister", 4096)]


def test_an_event_behind_what_has_failed_is_an_error_of_the_device(cupy):
    driver = cuda.open_device()
    event = driver.record(Stream.COPIES)
    cupy.fails["wait"] = CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
    with pytest.raises(DeviceError, match="NVIDIA H200: cudaErrorIllegalAddress"):
        driver.wait(event)


def test_host_memory_is_page_locked_when_it_is_allocated(cupy):
    driver = cuda.open_device()
    memory = driver.allocate_host(1000)
    assert (memory.address, memory.size_bytes) == (1 << 20, 1000)
    assert cupy.calls[-1] == ("host", 1000)
    cupy.fails["host"] = CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
    with pytest.raises(DeviceError):
        driver.allocate_host(1000)
