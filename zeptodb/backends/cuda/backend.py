"""The CUDA backend: operators on the device, and on the CPU's backend what the device does not run."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import (
    AggregateOp,
    AggregateResult,
    AggregateScan,
    AsofJoin,
    Backend,
    Capabilities,
    Ranges,
    SelectScan,
    TopScan,
    Vector,
)
from zeptodb.backends.cuda.aggregate import aggregate
from zeptodb.backends.cuda.asof import asof_join
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import Driver, OutOfDeviceMemoryError
from zeptodb.backends.cuda.operands import CannotRunError
from zeptodb.backends.cuda.select import select
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.snapshot import Snapshot

Int64Array = npt.NDArray[np.int64]

_NUMBERS = itertools.count()


class CudaBackend:
    """Runs operators on one device; safe to use from any number of threads.

    Attributes:
        name: "cuda", or what the driver is called.
        memory: supplies the memory of arenas.
        capabilities: every operator and aggregate.
    """

    def __init__(self, driver: Driver, host: Backend) -> None:
        """`host` runs what the device does not."""
        self.driver = driver
        self.host = host
        self.name = driver.name
        self.memory: HostMemory = host.memory
        self.capabilities = Capabilities(
            frozenset(AggregateOp), frozenset({AggregateScan, SelectScan, TopScan, AsofJoin})
        )
        self._key = f"device columns {next(_NUMBERS)}"

    def __repr__(self) -> str:
        """Name and device."""
        return f"{self.name} ({self.device})"

    @property
    def device(self) -> str:
        """What it runs on, in words."""
        return self.driver.device

    def time_ranges(
        self, snapshot: Snapshot, segments: Int64Array, *, from_ns: int | None = None, to_ns: int | None = None
    ) -> Ranges:
        """The rows of `segments` with from_ns <= timestamp < to_ns (None: no bound), by binary search on the host."""
        return self.host.time_ranges(snapshot, segments, from_ns=from_ns, to_ns=to_ns)

    def aggregate(self, operation: AggregateScan) -> AggregateResult:
        """Run an AggregateScan."""
        if operation.keys:
            return self.host.aggregate(operation)
        try:
            return aggregate(self.driver, self._columns(operation.scan.snapshot), operation)
        except (CannotRunError, OutOfDeviceMemoryError):
            return self.host.aggregate(operation)

    def select(self, operation: SelectScan) -> tuple[Vector, ...]:
        """Run a SelectScan; one Vector per output."""
        try:
            return select(self.driver, self._columns(operation.scan.snapshot), operation)
        except (CannotRunError, OutOfDeviceMemoryError):
            return self.host.select(operation)

    def top(self, operation: TopScan) -> tuple[Vector, ...]:
        """Run a TopScan; one Vector per output."""
        return self.host.top(operation)

    def asof_join(self, operation: AsofJoin) -> tuple[Vector, ...]:
        """Run an AsofJoin; one Vector per left output, then per right output."""
        left, right = self._columns(operation.left.snapshot), self._columns(operation.right.snapshot)
        try:
            return asof_join(self.driver, left, right, operation)
        except (CannotRunError, OutOfDeviceMemoryError):
            return self.host.asof_join(operation)

    def configure_threads(self, threads: int | None, *, row_threshold: int | None = None) -> None:
        """Threads of what runs on the host."""
        self.host.configure_threads(threads, row_threshold=row_threshold)

    def begin_warm_up(self) -> None:
        """Start what the host compiles beside this process."""
        self.host.begin_warm_up()

    def warm_up(self) -> None:
        """Compile or load every kernel."""
        self.host.warm_up()

    def close(self) -> None:
        """Stop worker threads of the host."""
        self.host.close()

    def _columns(self, snapshot: Snapshot) -> DeviceColumns:
        found: DeviceColumns | None = snapshot.derived.get(self._key)
        if found is None:
            found = snapshot.derived[self._key] = DeviceColumns(self.driver, snapshot)
        return found
