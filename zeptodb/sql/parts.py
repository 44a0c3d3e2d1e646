"""Runs a statement in parts: native leaves, then DuckDB over the rows that they left and over our tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa

from zeptodb.sql import fallback, native
from zeptodb.sql.engine import Engine
from zeptodb.sql.fallback import FallbackAnswer, Leases
from zeptodb.sql.plan import DuckdbPlan
from zeptodb.sql.result import QueryResult
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table


def run_parts(engine: Engine, plan: DuckdbPlan, parameters: Mapping[str, object], text: str) -> FallbackAnswer:
    """The answer of a prepared statement; all its parts see each table at one moment.

    Raises StaleReadError, what `native.run` raises, and the errors of queries.
    """
    leases: Leases = {}

    @contextmanager
    def pinned(table: Table) -> Iterator[Snapshot]:
        snapshot = fallback.snapshot_of(engine, table.name, leases)
        if snapshot is None:
            raise native.StalePlanError
        yield snapshot

    try:
        handed: dict[str, pa.Table] = {}
        scanned = 0
        for leaf in plan.leaves:
            answer = native.run(leaf.plan, engine, pinned)
            handed[leaf.name] = QueryResult(answer.columns).to_arrow()
            scanned += answer.rows_scanned
        answer_of_all = fallback.run_prepared(engine, plan, parameters, leases, text, handed)
        return replace(answer_of_all, rows_scanned=answer_of_all.rows_scanned + scanned)
    finally:
        fallback.close(leases)
