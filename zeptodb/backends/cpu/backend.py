"""The CPU backend: every operator, over one pool of worker threads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateResult,
    AggregateScan,
    AsofJoin,
    Capabilities,
    Ranges,
    Scan,
    SelectScan,
    TimeBucket,
    Vector,
)
from zeptodb.backends.cpu.aggregate import aggregate
from zeptodb.backends.cpu.asof import asof_join
from zeptodb.backends.cpu.columns import Columns
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.backends.cpu.pieces import PIECE_ROWS, as_words, cut
from zeptodb.backends.cpu.pool import ROW_THRESHOLD, WorkerPool
from zeptodb.backends.cpu.search import find_intervals
from zeptodb.backends.cpu.select import select
from zeptodb.backends.expression import ColumnRef, Comparison, Constant, Kind
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType, Field, Schema

Int64Array = npt.NDArray[np.int64]


class CpuBackend:
    """Runs every operator with kernels that release the GIL; safe to use from any number of threads.

    Attributes:
        name: "cpu".
        memory: supplies the memory of arenas.
        capabilities: every operator and aggregate.
    """

    def __init__(self, *, threads: int | None = None, row_threshold: int = ROW_THRESHOLD) -> None:
        """Use at most `threads` workers (None: one per core); work over fewer rows than `row_threshold` takes one."""
        self.name = "cpu"
        self.memory: HostMemory = AnonymousMemory()
        self.capabilities = Capabilities(frozenset(AggregateOp), frozenset({AggregateScan, SelectScan, AsofJoin}))
        self._pool = WorkerPool(threads, row_threshold=row_threshold)

    def __repr__(self) -> str:
        """Name and device."""
        return f"{self.name} ({self.device})"

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
        return aggregate(self._pool, operation)

    def select(self, operation: SelectScan) -> tuple[Vector, ...]:
        """Run a SelectScan; one Vector per output."""
        return select(self._pool, operation)

    def asof_join(self, operation: AsofJoin) -> tuple[Vector, ...]:
        """Run an AsofJoin; one Vector per left output, then per right output."""
        return asof_join(self._pool, operation)

    def configure_threads(self, threads: int | None, *, row_threshold: int | None = None) -> None:
        """Use at most `threads` workers from now on (None: one per core), over fewer than `row_threshold` rows one."""
        self._pool.configure(threads)
        if row_threshold is not None:
            self._pool.row_threshold = row_threshold

    def warm_up(self) -> None:
        """Compile or load every kernel, so that the first query does not wait."""
        times = np.arange(4, dtype=np.int64)
        snapshot = Snapshot(
            name="warm_up",
            schema=Schema((Field("timestamp", ColumnType.TIMESTAMP_NS),), timestamp="timestamp"),
            symbols=np.zeros(1, dtype=np.int64),
            lengths=np.array([4], dtype=np.int64),
            addresses=np.array([[times.ctypes.data]], dtype=np.int64),
            validity=np.zeros((1, 1), dtype=np.int64),
            dictionaries=(None,),
            version=0,
        )
        column = ColumnRef(0, ColumnType.TIMESTAMP_NS)
        ranges = self.time_ranges(snapshot, np.zeros(1, dtype=np.int64), from_ns=0, to_ns=4)
        scan = Scan(snapshot, ranges, Comparison(">", column, Constant(0, Kind.INT)))
        self.aggregate(AggregateScan(scan, (Aggregate(AggregateOp.FIRST, (column,)),), bucket=TimeBucket(2)))
        self.select(SelectScan(scan, (column,)))
        self.asof_join(AsofJoin(scan, Scan(snapshot, ranges), np.zeros(1, dtype=np.int64), ">=", True, (), (column,)))
        cut(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.array([PIECE_ROWS + 1], dtype=np.int64))

    def close(self) -> None:
        """Stop worker threads; the backend can still run work in the caller's thread."""
        self._pool.close()
