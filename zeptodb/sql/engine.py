"""What SQL needs from a Pipeline; a Protocol, because the facade lies a layer above."""

from __future__ import annotations

from typing import Protocol

from zeptodb.backends.base import Backend
from zeptodb.config import PipelineConfig
from zeptodb.storage.catalog import Catalog


class Engine(Protocol):
    """The parts of a Pipeline that statements run on.

    Attributes:
        catalog: the tables.
        backend: runs native plans.
        config: settings, of which DuckDB's memory limit counts here.
    """

    @property
    def catalog(self) -> Catalog:
        """The tables."""
        ...

    @property
    def backend(self) -> Backend:
        """The device that runs native plans."""
        ...

    @property
    def config(self) -> PipelineConfig:
        """The settings of the pipeline."""
        ...

    def catch_up(self) -> None:
        """Append the ticks queued so far, so that a statement sees what was ingested before it began."""
        ...

    def record_query(self, rows_scanned: int) -> None:
        """Count a finished query in the statistics."""
        ...
