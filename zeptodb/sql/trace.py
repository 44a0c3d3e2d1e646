"""What each operator of a statement took, for EXPLAIN ANALYZE; nothing is measured unless asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import field
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from zeptodb.backends import placement
from zeptodb.backends.base import (
    AggregateResult,
    AggregateScan,
    AsofJoin,
    Backend,
    Capabilities,
    Ranges,
    SelectScan,
    TopScan,
    Vector,
    WindowScan,
)
from zeptodb.record import record
from zeptodb.storage.catalog import Catalog
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.workers import Workers

Answer = TypeVar("Answer")
Int64Array = npt.NDArray[np.int64]


@record
class Step:
    """One operator that has run: on which engine, how many rows it left, and for how long (others within left out)."""

    operator: str
    engine: str
    rows: int
    microseconds: float


@record(frozen=False)
class Trace:
    """The operators of one statement, in the order in which they ended."""

    steps: list[Step] = field(default_factory=list)

    def run(
        self,
        operator: str,
        engine: str | Callable[[], str],
        work: Callable[[], Answer],
        rows: Callable[[Answer], int],
    ) -> Answer:
        """The result of `work`, noted as a step; what other steps within it took is left out.

        engine: its name, or what says so once it has run.
        """
        before = self.microseconds
        started = time.perf_counter_ns()
        answer = work()
        elapsed = (time.perf_counter_ns() - started) / 1_000
        name = engine if isinstance(engine, str) else engine()
        self.steps.append(Step(operator, name, rows(answer), elapsed - (self.microseconds - before)))
        return answer

    @property
    def microseconds(self) -> float:
        """All steps together."""
        return sum(step.microseconds for step in self.steps)

    def lines(self) -> list[str]:
        """One line per step."""
        return [
            f"ran {step.operator} on {step.engine}: {step.rows:,} rows, {step.microseconds:,.0f} us"
            for step in self.steps
        ]


class Operators(Protocol):
    """What native plans ask of a backend."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can run."""
        ...

    @property
    def workers(self) -> Workers:
        """Threads for what is left to do on the host."""
        ...

    def time_ranges(
        self, snapshot: Snapshot, segments: Int64Array, *, from_ns: int | None = None, to_ns: int | None = None
    ) -> Ranges:
        """The rows of a range of time."""
        ...

    def aggregate(self, operation: AggregateScan) -> AggregateResult:
        """Run an AggregateScan."""
        ...

    def select(self, operation: SelectScan) -> tuple[Vector, ...]:
        """Run a SelectScan."""
        ...

    def top(self, operation: TopScan) -> tuple[Vector, ...]:
        """Run a TopScan."""
        ...

    def asof_join(self, operation: AsofJoin) -> tuple[Vector, ...]:
        """Run an AsofJoin."""
        ...

    def window(self, operation: WindowScan) -> tuple[Vector, ...]:
        """Run a WindowScan."""
        ...


class Device(Protocol):
    """The parts of an engine that native plans run on."""

    @property
    def catalog(self) -> Catalog:
        """The tables."""
        ...

    @property
    def backend(self) -> Operators:
        """Runs the operators."""
        ...


class TracedEngine:
    """An engine whose backend notes what its operators took; native plans run on it.

    Attributes:
        catalog: of the engine itself.
        backend: with a trace.
    """

    def __init__(self, catalog: Catalog, backend: Backend, trace: Trace) -> None:
        self.catalog = catalog
        self.backend: Operators = _TracedBackend(backend, trace)


class _TracedBackend:
    """The operators of a backend; each notes its step."""

    def __init__(self, backend: Backend, trace: Trace) -> None:
        self.capabilities = backend.capabilities
        self.workers = backend.workers
        self._backend = backend
        self._trace = trace
        self._engine = f"native:{backend.name} ({backend.device})"

    def time_ranges(
        self,
        snapshot: Snapshot,
        segments: Int64Array,
        *,
        from_ns: int | None = None,
        to_ns: int | None = None,
    ) -> Ranges:
        """Find the rows of a range of time."""
        find = self._backend.time_ranges
        return self._run("binary search", lambda: find(snapshot, segments, from_ns=from_ns, to_ns=to_ns), _rows_within)

    def aggregate(self, operation: AggregateScan) -> AggregateResult:
        """Run an AggregateScan."""
        return self._run("aggregate", lambda: self._backend.aggregate(operation), _groups)

    def select(self, operation: SelectScan) -> tuple[Vector, ...]:
        """Run a SelectScan."""
        return self._run("select", lambda: self._backend.select(operation), _rows)

    def top(self, operation: TopScan) -> tuple[Vector, ...]:
        """Run a TopScan."""
        return self._run("top rows", lambda: self._backend.top(operation), _rows)

    def asof_join(self, operation: AsofJoin) -> tuple[Vector, ...]:
        """Run an AsofJoin."""
        return self._run("as-of join", lambda: self._backend.asof_join(operation), _rows)

    def window(self, operation: WindowScan) -> tuple[Vector, ...]:
        """Run a WindowScan."""
        return self._run("windows", lambda: self._backend.window(operation), _rows)

    def _run(self, operator: str, work: Callable[[], Answer], rows: Callable[[Answer], int]) -> Answer:
        before = len(placement.current() or ())

        def engine() -> str:
            places = (placement.current() or [])[before:]
            return f"native:{places[-1].engine} ({places[-1].device})" if places else self._engine

        return self._trace.run(operator, engine, work, rows)


def _rows_within(ranges: Ranges) -> int:
    return ranges.rows


def _rows(vectors: tuple[Vector, ...]) -> int:
    return len(vectors[0].values) if vectors else 0


def _groups(result: AggregateResult) -> int:
    return _rows((*result.keys, *result.columns))
