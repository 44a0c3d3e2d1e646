"""Figures for Prometheus: requests, rows, times, and what the Pipeline counts."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from zeptodb.pipeline import Pipeline

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The figures of one server."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "zeptodb_requests_total", "Requests answered", ["route", "method", "status"], registry=self.registry
        )
        self.errors = Counter(
            "zeptodb_errors_total", "Requests that ended in an error", ["name"], registry=self.registry
        )
        self.seconds = Histogram(
            "zeptodb_request_seconds",
            "Time until the answer began",
            ["route"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.rows_read = Counter("zeptodb_rows_read_total", "Rows that statements read", registry=self.registry)
        self.rows_written = Counter("zeptodb_rows_written_total", "Rows stored over HTTP", registry=self.registry)
        self.body_bytes = Counter("zeptodb_body_bytes_total", "Bytes of request bodies", registry=self.registry)
        self.running = Gauge("zeptodb_statements_running", "Statements that run", registry=self.registry)
        self.waiting = Gauge("zeptodb_statements_waiting", "Statements that wait for a place", registry=self.registry)
        self.registry.register(_PipelineFigures(pipeline))

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


class _PipelineFigures(Collector):
    """What the Pipeline counts, read when it is asked for."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def collect(self) -> Iterable[Metric]:
        """The counters of `Pipeline.stats()`, and rows and bytes of each table."""
        stats = self._pipeline.stats()
        for name in ("ticks_ingested", "ticks_stored", "ticks_dropped", "queries_executed", "total_rows_scanned"):
            yield CounterMetricFamily(f"zeptodb_{name}", f"Pipeline: {name}", value=getattr(stats, name))
        rows = GaugeMetricFamily("zeptodb_table_rows", "Rows of a table", labels=["table"])
        size = GaugeMetricFamily("zeptodb_table_bytes", "Address space of a table", labels=["table"])
        for table in self._pipeline.catalog.tables():
            rows.add_metric([table.name], table.row_count)
            size.add_metric([table.name], table.mapped_bytes)
        yield rows
        yield size
