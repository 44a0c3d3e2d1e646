"""Runs a statement in parts: native leaves, then DuckDB over the rows that they left and over our tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa

from zeptodb.sql import fallback, native
from zeptodb.sql.duckdb_plan import DuckdbPlan
from zeptodb.sql.engine import Engine
from zeptodb.sql.fallback import FallbackAnswer, Leases
from zeptodb.sql.plan import Plan
from zeptodb.sql.result import QueryResult
from zeptodb.sql.scanned_bytes import scanned_bytes
from zeptodb.sql.scans import StalePlanError
from zeptodb.sql.trace import Trace, TracedEngine
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table


def run_parts(
    engine: Engine, plan: DuckdbPlan, parameters: Mapping[str, object], text: str, trace: Trace | None = None
) -> FallbackAnswer:
    """The answer of a prepared statement; all its parts see each table at one moment. Each notes its step in `trace`.

    Raises StaleReadError, what `native.run` raises, and the errors of queries.
    """
    leases: Leases = {}

    @contextmanager
    def pinned(table: Table) -> Iterator[Snapshot]:
        snapshot = fallback.snapshot_of(engine, table.name, leases)
        if snapshot is None:
            raise StalePlanError
        yield snapshot

    try:
        handed: dict[str, pa.Table] = {}
        scanned = bytes_of_leaves = 0
        for leaf in plan.leaves:
            answer = run_native(leaf.plan, engine, pinned, trace)
            handed[leaf.name] = QueryResult(answer.columns).to_arrow()
            scanned += answer.rows_scanned
            bytes_of_leaves += scanned_bytes(leaf.plan, answer.rows_scanned, answer.right_rows)

        def finish() -> FallbackAnswer:
            return fallback.run_prepared(engine, plan, parameters, leases, text, handed, trace)

        answer_of_all = finish() if trace is None else trace.run("the rest", "duckdb", finish, _rows)
        return replace(
            answer_of_all,
            rows_scanned=answer_of_all.rows_scanned + scanned,
            bytes_scanned=answer_of_all.bytes_scanned + bytes_of_leaves,
        )
    finally:
        fallback.close(leases)


def run_native(
    plan: Plan, engine: Engine, open_table: native.Open = Table.snapshot, trace: Trace | None = None
) -> native.NativeAnswer:
    """The answer of a native plan; each operator notes its step in `trace`."""
    if trace is None:
        return native.run(plan, engine, open_table)
    traced = TracedEngine(engine.catalog, engine.backend, trace)
    return trace.run(
        "expressions, order and limit over its rows",
        "numpy",
        lambda: native.run(plan, traced, open_table),
        lambda answer: len(answer.columns[0][1].values),
    )


def _rows(answer: FallbackAnswer) -> int:
    return int(answer.table.num_rows)
