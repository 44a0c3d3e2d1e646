"""How a statement runs, in words, and where its operators do: as they have run, or found out without running them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import (
    Accelerator,
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
from zeptodb.backends.placement import Placement, engine_name
from zeptodb.sql import native
from zeptodb.sql.engine import Engine
from zeptodb.sql.explain import fallback_plan, native_plan
from zeptodb.sql.plan import Plan, Planned
from zeptodb.sql.scans import StalePlanError
from zeptodb.storage.catalog import Catalog
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table

Int64Array = npt.NDArray[np.int64]


def describe(
    engine: Engine,
    planned: Planned,
    text: str,
    ran: Sequence[Placement] | None = None,
    summarized_rows: int | None = None,
) -> str:
    """How a statement runs (with `ran`: has run), or why not natively.

    ran: where its operators have run; None: it has not run. summarized_rows: for how many rows summaries have answered.
    """
    backend = engine.backend
    if planned.plan is None:
        leaves = () if planned.duckdb is None else planned.duckdb.leaves
        where = [placement_of(leaf.plan, engine) for leaf in leaves] if ran is None else ran
        name = engine_name(backend.name, [place for place in where if place is not None])
        places = [in_words(place, has_run=ran is not None) for place in where]
        return fallback_plan(planned.reasons, text, planned.duckdb, name, places if len(places) == len(leaves) else ())
    place = placement_of(planned.plan, engine) if ran is None else next(iter(ran[-1:]), None)
    return native_plan(
        planned.plan,
        engine_name(backend.name, () if place is None else (place,)),
        summarized=backend.capabilities.summarized,
        summarized_rows=summarized_rows,
        place=in_words(place, has_run=ran is not None),
    )


def placement_of(plan: Plan, engine: Engine) -> Placement | None:
    """Where the operator of a plan would run now; None on a backend without a device, and where it would not run."""
    accelerator = engine.backend.accelerator
    if accelerator is None:
        return None
    try:
        native.run(plan, _PlacingEngine(engine, accelerator), Table.snapshot)  # no view computes itself anew for it
    except _PlacedError as placed:
        return placed.placement
    except (StalePlanError, *native.NOT_NATIVE_AFTER_ALL):
        return None
    raise AssertionError("a native plan without an operator")


def in_words(placement: Placement | None, *, has_run: bool) -> list[str]:
    """Both estimates and where it runs, a line each; nothing without a device."""
    if placement is None:
        return []
    lines = [
        f"estimate of {estimate.engine} ({estimate.device}): {estimate.seconds * 1e6:,.0f} us, {estimate.work}"
        for estimate in placement.estimates
    ]
    return [*lines, f"{'ran' if has_run else 'runs'} on {placement.engine} ({placement.device}): {placement.reason}"]


class _PlacedError(Exception):
    """Ends a plan at its operator."""

    def __init__(self, placement: Placement) -> None:
        super().__init__(placement.reason)
        self.placement = placement


class _PlacingEngine:
    """An engine whose operators say where they would run."""

    def __init__(self, engine: Engine, accelerator: Accelerator) -> None:
        self.catalog: Catalog = engine.catalog
        self.backend = _PlacingBackend(engine.backend, accelerator)


class _PlacingBackend:
    def __init__(self, backend: Backend, accelerator: Accelerator) -> None:
        self.capabilities, self.workers = backend.capabilities, backend.workers
        self._backend, self._accelerator = backend, accelerator

    def time_ranges(
        self, snapshot: Snapshot, segments: Int64Array, *, from_ns: int | None = None, to_ns: int | None = None
    ) -> Ranges:
        """The rows of a range of time, which the operator needs."""
        return self._backend.time_ranges(snapshot, segments, from_ns=from_ns, to_ns=to_ns)

    def aggregate(self, operation: AggregateScan) -> AggregateResult:
        """Say where it would run."""
        raise self._placed(operation)

    def select(self, operation: SelectScan) -> tuple[Vector, ...]:
        """Say where it would run."""
        raise self._placed(operation)

    def top(self, operation: TopScan) -> tuple[Vector, ...]:
        """Say where it would run."""
        raise self._placed(operation)

    def asof_join(self, operation: AsofJoin) -> tuple[Vector, ...]:
        """Say where it would run."""
        raise self._placed(operation)

    def window(self, operation: WindowScan) -> tuple[Vector, ...]:
        """Say where it would run."""
        raise self._placed(operation)

    def _placed(self, operation: Operation) -> _PlacedError:
        return _PlacedError(self._accelerator.placement(operation))
