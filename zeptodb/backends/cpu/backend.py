"""The CPU backend: every operator, over one pool of worker threads.

Rarer operators are imported by the first statement that needs them: the first answer of a process waits for imports.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import (
    AggregateOp,
    AggregateResult,
    AggregateScan,
    AsofJoin,
    Capabilities,
    Ranges,
    SelectScan,
    TopScan,
    Vector,
    WindowOp,
    WindowScan,
)
from zeptodb.backends.cpu.aggregate import aggregate
from zeptodb.backends.cpu.columns import Columns
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.backends.cpu.pool import ROW_THRESHOLD, WorkerPool
from zeptodb.backends.cpu.search import find_intervals
from zeptodb.backends.cpu.select import select
from zeptodb.backends.pieces import as_words
from zeptodb.backends.summaries import SUMMARIZED, Summaries, compile_kernels
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.workers import Workers

Int64Array = npt.NDArray[np.int64]


class CpuBackend:
    """Runs every operator with kernels that release the GIL; safe to use from any number of threads.

    Attributes:
        name: "cpu".
        reason: why it was taken, when it was not asked for by name.
        accelerator: None.
        memory: supplies the memory of arenas.
        capabilities: every operator and aggregate.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        row_threshold: int = ROW_THRESHOLD,
        summaries: bool = True,
        reason: str = "",
    ) -> None:
        """Use at most `threads` workers (None: one per core); work over fewer rows than `row_threshold` takes one.

        summaries: keep partial results of blocks of rows and answer from them (see `summaries.py`).
        """
        self.name = "cpu"
        self.reason = reason
        self.accelerator = None
        self.memory: HostMemory = AnonymousMemory()
        self._summaries = Summaries() if summaries else None
        self.capabilities = Capabilities(
            frozenset(AggregateOp),
            frozenset({AggregateScan, SelectScan, TopScan, AsofJoin, WindowScan}),
            SUMMARIZED if summaries else frozenset(),
            frozenset(WindowOp),
        )
        self._pool = WorkerPool(threads, row_threshold=row_threshold)

    def __repr__(self) -> str:
        """Name and device."""
        return f"{self.name} ({self.device})"

    @property
    def workers(self) -> Workers:
        """The pool."""
        return self._pool

    @property
    def summaries(self) -> Summaries | None:
        """What is kept of tables besides their rows; None: nothing."""
        return self._summaries

    @property
    def device(self) -> str:
        """What it runs on, in words."""
        threads = self._pool.threads
        return f"{threads} thread{'s' if threads != 1 else ''}"

    def time_ranges(
        self, snapshot: Snapshot, segments: Int64Array, *, from_ns: int | None = None, to_ns: int | None = None
    ) -> Ranges:
        """The rows of `segments` with from_ns <= timestamp < to_ns (None: no bound), by binary search."""
        segments, lengths = as_words(segments), as_words(snapshot.lengths)
        starts = np.zeros(len(segments), dtype=np.int64)
        if from_ns is None and to_ns is None:
            return Ranges(segments, starts, lengths[segments])
        ends = np.empty(len(segments), dtype=np.int64)
        columns = Columns.of(snapshot)
        find_intervals(
            segments, lengths, columns.address_row(snapshot.schema.timestamp_index), int(from_ns is not None),
            from_ns or 0, int(to_ns is not None), to_ns or 0, starts, ends,
        )  # fmt: skip
        return Ranges(segments, starts, ends)

    def aggregate(self, operation: AggregateScan) -> AggregateResult:
        """Run an AggregateScan."""
        if operation.keys:
            from zeptodb.backends.cpu.group import group

            return group(self._pool, operation)
        return aggregate(self._pool, operation, self._summaries)

    def select(self, operation: SelectScan) -> tuple[Vector, ...]:
        """Run a SelectScan; one Vector per output."""
        return select(self._pool, operation)

    def top(self, operation: TopScan) -> tuple[Vector, ...]:
        """Run a TopScan; one Vector per output."""
        from zeptodb.backends.topk import Operators, top

        operators = Operators(
            partial(aggregate, self._pool),
            partial(aggregate, self._pool, summaries=self._summaries),
            partial(select, self._pool),
        )
        return top(operators, operation)

    def asof_join(self, operation: AsofJoin) -> tuple[Vector, ...]:
        """Run an AsofJoin; one Vector per left output, then per right output."""
        from zeptodb.backends.cpu.asof import asof_join

        return asof_join(self._pool, operation)

    def window(self, operation: WindowScan) -> tuple[Vector, ...]:
        """Run a WindowScan; one Vector per output."""
        from zeptodb.backends.cpu.window import window

        return window(self._pool, operation)

    def configure_threads(self, threads: int | None, *, row_threshold: int | None = None) -> None:
        """Use at most `threads` workers from now on (None: one per core), over fewer than `row_threshold` rows one."""
        self._pool.configure(threads)
        if row_threshold is not None:
            self._pool.row_threshold = row_threshold

    def begin_warm_up(self) -> None:
        """Let a second process compile, too, where no kernel has been compiled yet."""
        from zeptodb.backends.cpu.warm_up import start_second_process

        start_second_process()

    def warm_up(self) -> None:
        """Compile or load every kernel, so that the first query does not wait."""
        from zeptodb.backends.cpu.warm_up import warm_up

        warm_up(self)
        compile_kernels()

    def close(self) -> None:
        """Stop worker threads; the backend can still run work in the caller's thread."""
        self._pool.close()
