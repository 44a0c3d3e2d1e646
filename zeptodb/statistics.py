"""What a Pipeline counts since it was made."""

from __future__ import annotations

from threading import Lock

from zeptodb.backends.base import Backend
from zeptodb.ingest.queue import QueueStats
from zeptodb.record import record


@record
class PipelineStats:
    """Counters of a Pipeline since it was made.

    Attributes:
        ticks_ingested: rows accepted by any ingest call.
        ticks_stored: rows that tables have taken.
        ticks_dropped: rows dropped because the queue was full (only with overflow="drop").
        queries_executed: statements and direct queries.
        total_rows_scanned: rows that those had to look at.
        partitions_created: segments, one per table and symbol.
        last_ingest_latency_ns: time from a tick's arrival in the queue to its visibility, of the last batch.
        operators_on_device: operators of queries that a GPU has run.
        operators_off_device: those that the CPU has run although there is a GPU: by cost, or because that could not.
        backend_reason: why backend="auto" took what it took; empty for a backend that was asked for by name.
    """

    ticks_ingested: int
    ticks_stored: int
    ticks_dropped: int
    queries_executed: int
    total_rows_scanned: int
    partitions_created: int
    last_ingest_latency_ns: int
    operators_on_device: int = 0
    operators_off_device: int = 0
    backend_reason: str = ""


class Counters:
    """Rows of batches and queries, counted by any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._batch_rows = 0
        self._queries = 0
        self._rows_scanned = 0

    def add_batch(self, rows: int) -> None:
        """Count rows that were stored without the queue."""
        with self._lock:
            self._batch_rows += rows

    def add_query(self, rows_scanned: int) -> None:
        """Count a query that looked at so many rows."""
        with self._lock:
            self._queries += 1
            self._rows_scanned += rows_scanned

    def stats(self, queue: QueueStats, *, partitions: int, backend: Backend) -> PipelineStats:
        """The counters now, with those of the queue and the backend."""
        on_device, off_device = (0, 0) if backend.accelerator is None else backend.accelerator.placed
        with self._lock:
            return PipelineStats(
                ticks_ingested=queue.ticks_ingested + self._batch_rows,
                ticks_stored=queue.ticks_stored + self._batch_rows,
                ticks_dropped=queue.ticks_dropped,
                queries_executed=self._queries,
                total_rows_scanned=self._rows_scanned,
                partitions_created=partitions,
                last_ingest_latency_ns=queue.last_ingest_latency_ns,
                operators_on_device=on_device,
                operators_off_device=off_device,
                backend_reason=backend.reason,
            )
