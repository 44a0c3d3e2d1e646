"""The two engines that are compared: a device's and the host's, over the same memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.gpu.clock import Clock, EventClock, TimedDriver
from bench.gpu.floors import Rates, nominal_rate
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cuda.backend import CudaBackend
from zeptodb.backends.cuda.batch import allocate
from zeptodb.backends.cuda.driver import Driver


@dataclass(frozen=True, slots=True)
class Engines:
    """One driver, the backend on it, and the host's backend, which keeps no summaries."""

    driver: TimedDriver
    device: CudaBackend
    host: CpuBackend
    nominal_rate: float | None = None


def engines_on(driver: Driver, clock: Clock, *, nominal: float | None = None, threads: int | None = None) -> Engines:
    host = CpuBackend(threads=threads, summaries=False)
    timed = TimedDriver(driver, clock)
    return Engines(timed, CudaBackend(timed, host), host, nominal)  # type: ignore[arg-type]


@contextmanager
def real_engines(*, is_pooled: bool = True) -> Iterator[Engines]:
    """On the first CUDA device; raises BackendUnavailableError. See CupyDriver for the pool."""
    from zeptodb.backends.cuda.cupy_driver import CupyDriver, find_device

    number = find_device(None)
    driver = CupyDriver(number, is_pooled=is_pooled)
    engines = engines_on(driver, EventClock(driver.streams), nominal=_nominal_rate(number))
    try:
        yield engines
    finally:
        engines.device.close()


def _nominal_rate(number: int) -> float | None:
    from cupy.cuda import runtime

    clock, bus = (
        int(runtime.deviceGetAttribute(attribute, number))
        for attribute in (runtime.cudaDevAttrMemoryClockRate, runtime.cudaDevAttrGlobalMemoryBusWidth)
    )
    return nominal_rate(clock, bus) if clock and bus else None


def rates_of(engines: Engines, *, size_bytes: int = 4 << 30, runs: int = 5) -> Rates:
    """The rate of copies within the device (the fastest of a few), and the nominal one."""
    driver = engines.driver
    size = min(size_bytes, driver.memory_bytes[0] // 4)
    source, target = allocate(driver, size, "uint8"), allocate(driver, size, "uint8")  # type: ignore[arg-type]
    driver.clear(source.address, size)
    best = float("inf")
    for _ in range(runs):
        first = driver.clock.mark()
        driver.on_device(target.address, source.address, size)
        best = min(best, driver.clock.seconds(first, driver.clock.mark()))
    return Rates(2 * size / best, engines.nominal_rate)
