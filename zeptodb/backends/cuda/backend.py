"""The CUDA backend: operators on the device, and on the CPU's backend what the device does not run."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from threading import Lock, RLock
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from zeptodb.backends import placement
from zeptodb.backends.base import (
    AggregateResult,
    AggregateScan,
    AsofJoin,
    Backend,
    Operation,
    Ranges,
    SelectScan,
    TopScan,
    Vector,
    WindowScan,
)
from zeptodb.backends.cuda.accelerator import CudaAccelerator
from zeptodb.backends.cuda.aggregate import aggregate
from zeptodb.backends.cuda.asof import asof_join
from zeptodb.backends.cuda.calibrate import MachineRates
from zeptodb.backends.cuda.choose import Chooser, Policy
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceError, Driver, OutOfDeviceMemoryError, forked_error
from zeptodb.backends.cuda.group import group
from zeptodb.backends.cuda.image import DeviceImage
from zeptodb.backends.cuda.memory import RESULT_SHARE, PinnedMemory
from zeptodb.backends.cuda.operands import CannotRunError
from zeptodb.backends.cuda.select import select
from zeptodb.backends.cuda.summaries import partial_results, values_at
from zeptodb.backends.cuda.uploads import Uploads
from zeptodb.backends.cuda.window import window
from zeptodb.backends.partials import Summarized
from zeptodb.backends.pieces import Pieces
from zeptodb.backends.placement import Placement
from zeptodb.backends.summaries import Summaries
from zeptodb.backends.topk import Operators, top
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.workers import Workers

Int64Array = npt.NDArray[np.int64]

Answer = TypeVar("Answer")

_NUMBERS = itertools.count()


class CudaBackend:
    """Runs operators on one device, or on the CPU's backend; safe to use from any number of threads.

    Attributes:
        name: "cuda", or what the driver is called.
        reason: why it was taken, when it was not asked for by name.
        memory: supplies the memory of arenas.
        capabilities: what the CPU's backend can run, so that nothing is left to DuckDB because of the device.
        summaries: what it keeps of tables besides their rows, made by the device; None: nothing, as the host does.
        accelerator: where operators run, and arrays on the device.
        rates: what the cost model knows of the machine.
        uploads: columns that are brought up in the background.
        host_runs: per reason, operators that belonged on the device and that the host ran after all.
    """

    def __init__(
        self,
        driver: Driver,
        host: Backend,
        *,
        policy: Policy = "device",
        reason: str = "",
        pinned_limit: int | None = None,
        device_memory_limit: int | None = None,
    ) -> None:
        """`host` runs what the device does not.

        policy: "device" runs on it whatever it can run, "cost" what is expected to be done first there.
        pinned_limit: bytes of host memory to page-lock at most (None: a quarter of the machine's, at most 8 GiB); an
            eighth of it comes on top for results.
        device_memory_limit: bytes of device memory to hold rows in (None: four fifths of what is free).
        """
        self.driver = driver
        self.host = host
        self.name = driver.name
        self.memory: PinnedMemory = PinnedMemory(driver, host.memory, limit_bytes=pinned_limit)
        driver.host_blocks.limit_bytes = self.memory.limit_bytes // RESULT_SHARE
        self.image = DeviceImage(driver, self.memory, limit_bytes=device_memory_limit)
        self.capabilities = host.capabilities
        self.summaries = Summaries() if host.capabilities.summarized else None
        self.reason = reason
        self._lock = RLock()
        self.rates = MachineRates(driver, host)
        self.uploads = Uploads(driver, self.image, self._lock)
        self._chooser = Chooser(driver, host, self.image, self._lock, self.uploads, policy=policy, rates=self.rates)
        self.accelerator = CudaAccelerator(driver, self.image, self._lock, self._chooser)
        self.host_runs: Counter[str] = Counter()
        self._counting = Lock()
        self._process = os.getpid()
        self._key = f"device columns {next(_NUMBERS)}"

    def __repr__(self) -> str:
        """Name and device, and what else may run operators."""
        words = f"{self.name} ({self.device})"
        return words if self._chooser.policy == "device" else f"{words} or {self.host!r}, by estimated cost"

    @property
    def device(self) -> str:
        """What it runs on, in words."""
        return self.driver.device

    @property
    def device_runs(self) -> int:
        """Operators that the device has run."""
        return self.accelerator.placed[0]

    @property
    def workers(self) -> Workers:
        """Threads of the host, for work on its memory."""
        return self.host.workers

    def time_ranges(
        self, snapshot: Snapshot, segments: Int64Array, *, from_ns: int | None = None, to_ns: int | None = None
    ) -> Ranges:
        """The rows of `segments` with from_ns <= timestamp < to_ns (None: no bound), by binary search on the host."""
        return self.host.time_ranges(snapshot, segments, from_ns=from_ns, to_ns=to_ns)

    def aggregate(self, operation: AggregateScan) -> AggregateResult:
        """Run an AggregateScan."""
        on_device, on_host = partial(self._summarized_aggregate, operation), partial(self._host_aggregate, operation)
        return self._run(operation, on_device, on_host)

    def _host_aggregate(self, operation: AggregateScan) -> AggregateResult:
        result = self.host.aggregate(operation)
        self._chooser.note_host_answer(operation, result)
        return result

    def _summarized_aggregate(self, operation: AggregateScan) -> AggregateResult:
        """From summaries, if they may answer; for what they do not know alone the device has to be waited for."""
        summarized = self._summarized(operation)
        if summarized is None or operation.bucket is not None:  # bars are found on the device
            return self._in_turn(lambda: self._aggregate(operation, summarized))
        return summarized.answer(operation)

    def _summarized(self, operation: AggregateScan) -> Summarized | None:
        plan = None if self.summaries is None else self.summaries.plan(operation)
        if self.summaries is None or plan is None:
            return None
        snapshot, aggregates = operation.scan.snapshot, operation.aggregates

        def scan(pieces: Pieces) -> Int64Array:
            return partial_results(self.driver, self._columns(snapshot), snapshot, aggregates, pieces)

        def accumulate(pieces: Pieces) -> Int64Array:
            return self._in_turn(lambda: scan(pieces))

        return Summarized(self.summaries, plan, accumulate, partial(values_at, self.host, snapshot))

    def _aggregate(self, operation: AggregateScan, summarized: Summarized | None = None) -> AggregateResult:
        columns = self._columns(operation.scan.snapshot)
        if operation.keys:
            return group(self.driver, columns, operation, self._aggregate)
        return aggregate(self.driver, columns, operation, summarized)

    def select(self, operation: SelectScan) -> tuple[Vector, ...]:
        """Run a SelectScan; one Vector per output."""
        return self._run_in_turn(operation, lambda: self._select(operation), lambda: self.host.select(operation))

    def _select(self, operation: SelectScan) -> tuple[Vector, ...]:
        return select(self.driver, self._columns(operation.scan.snapshot), operation)

    def top(self, operation: TopScan) -> tuple[Vector, ...]:
        """Run a TopScan; one Vector per output."""
        operators = Operators(self._aggregate, self._summarized_aggregate, self._select)
        return self._run_in_turn(operation, lambda: top(operators, operation), lambda: self.host.top(operation))

    def asof_join(self, operation: AsofJoin) -> tuple[Vector, ...]:
        """Run an AsofJoin; one Vector per left output, then per right output."""
        on_device, on_host = partial(self._asof_join, operation), partial(self.host.asof_join, operation)
        return self._run_in_turn(operation, on_device, on_host)

    def _asof_join(self, operation: AsofJoin) -> tuple[Vector, ...]:
        left, right = self._columns(operation.left.snapshot), self._columns(operation.right.snapshot)
        return asof_join(self.driver, left, right, operation)

    def window(self, operation: WindowScan) -> tuple[Vector, ...]:
        """Run a WindowScan; one Vector per output."""
        return self._run_in_turn(operation, lambda: self._window(operation), lambda: self.host.window(operation))

    def _window(self, operation: WindowScan) -> tuple[Vector, ...]:
        return window(self.driver, self._columns(operation.scan.snapshot), operation)

    def _run_in_turn(
        self, operation: Operation, on_device: Callable[[], Answer], on_host: Callable[[], Answer]
    ) -> Answer:
        return self._run(operation, lambda: self._in_turn(on_device), on_host)

    def _run(self, operation: Operation, on_device: Callable[[], Answer], on_host: Callable[[], Answer]) -> Answer:
        """The answer of where the operator belongs, or of the host where the device cannot give one after all."""
        place = self._chooser.choose(operation)
        if place.engine == self.name:
            if os.getpid() != self._process:  # before the lock, which a thread of the parent may have held
                raise forked_error()
            try:
                answer = on_device()
            except (CannotRunError, DeviceError) as error:
                if not isinstance(error, (CannotRunError, OutOfDeviceMemoryError)):
                    if self._chooser.policy == "device":
                        raise
                    self._chooser.give_up(str(error))
                place = place.moved(self.host.name, self.host.device, str(error))
                with self._counting:
                    self.host_runs[place.reason] += 1
            else:
                self._note(place)
                return answer
        self._note(place)
        return on_host()

    def _in_turn(self, run: Callable[[], Answer]) -> Answer:
        """Run alone on the device; what was brought up for others before may go."""
        with self._lock, self.image.query():
            return run()

    def _note(self, place: Placement) -> None:
        self.accelerator.count(on_device=place.engine == self.name)
        placement.note(place)

    def configure_threads(self, threads: int | None, *, row_threshold: int | None = None) -> None:
        """Threads of what runs on the host."""
        self.host.configure_threads(threads, row_threshold=row_threshold)

    def begin_warm_up(self) -> None:
        """Start what the host compiles beside this process."""
        self.host.begin_warm_up()

    def warm_up(self) -> None:
        """Compile or load every kernel, and measure the machine if nobody has."""
        self.driver.load_all()
        self.host.warm_up()
        with self._lock:  # what else the device does would count as slowness, and be remembered
            self.rates.calibrate()

    def close(self) -> None:
        """Stop worker threads of the host, and what is brought up in the background."""
        self.uploads.close()
        self.host.close()

    def _columns(self, snapshot: Snapshot) -> DeviceColumns:
        found: DeviceColumns | None = snapshot.derived.get(self._key)
        if found is None:
            found = snapshot.derived[self._key] = DeviceColumns(self.driver, self.image, snapshot)
        return found
