"""How long the device works: a driver that times each kernel and each copy when it is told to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Protocol

from zeptodb.backends.cuda.driver import DeviceArray, Driver, Stream


class Clock(Protocol):
    """Marks moments of a device's streams."""

    def mark(self, stream: Stream = Stream.QUERIES) -> Any:
        """The moment when everything asked for so far on a stream is done."""
        ...

    def seconds(self, first: Any, last: Any) -> float:
        """Between two moments of one stream, once both have passed."""
        ...


class HostClock:
    """Waits for the device at each mark: for devices that work while one waits for them."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def mark(self, stream: Stream = Stream.QUERIES) -> float:
        self._driver.wait(self._driver.record(stream))
        return perf_counter()

    def seconds(self, first: float, last: float) -> float:
        return last - first


class EventClock:
    """CUDA events on the driver's streams."""

    def __init__(self, streams: Mapping[Stream, Any]) -> None:
        import cupy

        self._cuda, self._streams = cupy.cuda, streams

    def mark(self, stream: Stream = Stream.QUERIES) -> Any:
        return self._streams[stream].record(self._cuda.Event())

    def seconds(self, first: Any, last: Any) -> float:
        last.synchronize()
        return float(self._cuda.get_elapsed_time(first, last)) / 1e3


class TimedDriver:
    """A driver like the one that it is made of; within `laps` it tells what the device spends its time on."""

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self.driver, self.clock = driver, clock
        self._laps: list[tuple[str, Any, Any]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    @contextmanager
    def laps(self) -> Iterator[dict[str, float]]:
        """Seconds per kernel or kind of copy; filled at the end."""
        self._laps = []
        seconds: dict[str, float] = defaultdict(float)
        try:
            yield seconds
            for name, first, last in self._laps:
                seconds[name] += self.clock.seconds(first, last)
        finally:
            self._laps = None

    def _timed(self, name: str, work: Callable[[], None], stream: Stream = Stream.QUERIES) -> None:
        if self._laps is None:
            work()
            return
        first = self.clock.mark(stream)
        work()
        self._laps.append((name, first, self.clock.mark(stream)))

    def launch(
        self,
        kernel: str,
        threads: int,
        arguments: Sequence[DeviceArray | int | float | None],
        *,
        stream: Stream = Stream.QUERIES,
    ) -> None:
        self._timed(kernel, lambda: self.driver.launch(kernel, threads, arguments, stream=stream), stream)

    def prefix_sums(self, values: DeviceArray, sums: DeviceArray) -> None:
        self._timed("prefix_sums", lambda: self.driver.prefix_sums(values, sums))

    def sorted_order(self, keys: DeviceArray, order: DeviceArray) -> None:
        self._timed("sorted_order", lambda: self.driver.sorted_order(keys, order))

    def clear(self, target: int, size_bytes: int) -> None:
        self._timed(CLEAR, lambda: self.driver.clear(target, size_bytes))

    def on_device(self, target: int, source: int, size_bytes: int) -> None:
        self._timed(ON_DEVICE, lambda: self.driver.on_device(target, source, size_bytes))

    def to_device(self, target: int, source: int, size_bytes: int, *, stream: Stream = Stream.QUERIES) -> None:
        self._timed(TO_DEVICE, lambda: self.driver.to_device(target, source, size_bytes, stream=stream), stream)

    def to_host(self, target: int, source: int, size_bytes: int) -> None:
        self._timed(TO_HOST, lambda: self.driver.to_host(target, source, size_bytes))


TO_DEVICE, TO_HOST, ON_DEVICE, CLEAR = "copy to device", "copy to host", "copy on device", "clear"
LINK = frozenset({TO_DEVICE, TO_HOST})
"""Copies over the link; everything else is work on the device's own memory."""
