"""Block summaries: partial results of blocks of rows, kept so that an aggregate over the same rows need not read them.

A block is what `cut` makes of a whole segment: PIECE_ROWS rows counted from the segment's start, the last one shorter.
Summaries are made by the first query that needs them, with the kernels and in the order of a query without summaries,
and folded as its partial results are: the answers are the same, bit for bit. The last block of a segment grows. Of it
the whole tiles are kept apart, as a prefix that is continued tile by tile, which is how a scan adds them up, too.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import AggregateOp, AggregateScan, Ranges, can_be_summarized
from zeptodb.backends.pieces import Pieces, as_words, cut
from zeptodb.backends.primitives import lower
from zeptodb.backends.program import BLOCK_ROWS as TILE_ROWS
from zeptodb.backends.results import nullable_columns
from zeptodb.backends.states import combine
from zeptodb.backends.summary_store import (
    Computed,
    Contents,
    Missing,
    SummarizedPlan,
    compile_kernels,
    fold_given,
    fold_nothing,
    stretches,
)
from zeptodb.forks import at_fork
from zeptodb.storage.history import Origin
from zeptodb.storage.snapshot import Snapshot

__all__ = ["SUMMARIZED", "Accumulate", "Summaries", "SummarizedPlan", "compile_kernels"]

Int64Array = npt.NDArray[np.int64]
Accumulate = Callable[[Pieces], Int64Array]
"""pieces -> their partial results, [slot, piece], as a scan without summaries makes them"""

SUMMARIZED = frozenset(
    {
        AggregateOp.COUNT_ROWS, AggregateOp.COUNT, AggregateOp.SUM, AggregateOp.AVG, AggregateOp.MIN, AggregateOp.MAX,
        AggregateOp.FIRST, AggregateOp.LAST, AggregateOp.VWAP,
    }
)  # fmt: skip
"""Aggregates that summaries answer. Variances are not: their partial results cannot be continued to the bit."""

_KEPT_PLANS = 256
_NO_TIMES = np.empty((0, 0), dtype=np.int64)


class Summaries:
    """The summaries of every table that a backend has seen; they go with the table's contents. Thread-safe."""

    def __init__(self) -> None:
        self._reset()
        _ALL.add(self)

    def _reset(self) -> None:
        self._lock = Lock()
        self._contents: WeakKeyDictionary[Origin, Contents] = WeakKeyDictionary()

    @property
    def memory_bytes(self) -> int:
        """Bytes that all summaries take."""
        with self._lock:
            return sum(contents.memory_bytes for contents in self._contents.values())

    def plan(self, operation: AggregateScan) -> SummarizedPlan | None:
        """The plan of an operation that summaries can answer, else None."""
        if operation.scan.predicate is not None or operation.keys:
            return None
        snapshot = operation.scan.snapshot
        contents, nullable = self._of(snapshot.history.origin), nullable_columns(snapshot)
        key = (operation.aggregates, nullable)
        latest = contents.latest
        if latest is not None and latest[0][0] is operation.aggregates and latest[0][1] == nullable:
            return latest[1]  # which spares direct queries a hash of everything
        known: SummarizedPlan | tuple[object, ...] | None = contents.plans.get(key, key)
        if not isinstance(known, tuple):
            contents.latest = key, known
            return known
        found = None
        if can_be_summarized(operation.aggregates, None, SUMMARIZED):
            found = SummarizedPlan.of(lower(operation.aggregates, None, nullable, snapshot.schema))
        with contents.lock:
            if len(contents.plans) >= _KEPT_PLANS:
                contents.forget_plans()
            contents.plans[key] = found
        return found

    def partials(
        self, plan: SummarizedPlan, snapshot: Snapshot, pieces: Pieces, accumulate: Accumulate
    ) -> tuple[Int64Array, int]:
        """Partial results, [slot, piece], of pieces of any length, and how many rows `accumulate` had to scan."""
        words = np.empty((plan.plan.width, pieces.count), dtype=np.int64)
        ranges = Ranges(pieces.segments, pieces.starts, pieces.ends)
        scanned_rows = self._fold(plan, snapshot, ranges, words, accumulate) if plan.kept else 0
        lengths = pieces.ends - pieces.starts
        for slot in plan.row_slots:
            words[slot] = lengths
        for slot in plan.first_slots:
            words[slot] = np.where(lengths > 0, pieces.starts, -1)
        for slot in plan.last_slots:
            words[slot] = np.where(lengths > 0, pieces.ends - 1, -1)
        return words, scanned_rows

    def one_range(
        self, plan: SummarizedPlan, snapshot: Snapshot, ranges: Ranges, rows: int, accumulate: Accumulate
    ) -> tuple[Int64Array, int]:
        """Words of one range of `rows` rows, by slot, and how many rows `accumulate` had to scan; not of ends."""
        words = np.empty((plan.plan.width, 1), dtype=np.int64)
        scanned_rows = self._fold(plan, snapshot, ranges, words, accumulate) if plan.kept else 0
        for slot in plan.row_slots:
            words[slot, 0] = rows
        return words.reshape(-1), scanned_rows

    def _fold(
        self, plan: SummarizedPlan, snapshot: Snapshot, ranges: Ranges, words: Int64Array, accumulate: Accumulate
    ) -> int:
        contents = self._of(snapshot.history.origin)
        ranges = Ranges(as_words(ranges.segments), as_words(ranges.starts), as_words(ranges.ends))
        with contents.lock:
            missing = contents.fold_known(plan, snapshot, ranges, words)
        if missing is None:
            return 0
        computed = _compute(plan, missing, accumulate)
        with contents.lock:
            if contents.fold_computed(plan, snapshot, ranges, words, missing, computed):
                return computed.scanned_rows
        missing = fold_nothing(plan, ranges, words)
        if missing is None:
            return 0
        computed = _compute(plan, missing, accumulate)
        fold_given(plan, ranges, words, missing, computed)
        return computed.scanned_rows

    def _of(self, origin: Origin) -> Contents:
        with self._lock:
            found = self._contents.get(origin)
            if found is None:
                found = self._contents[origin] = Contents()
            return found


_ALL: WeakSet[Summaries] = WeakSet()


def _reset_all() -> None:
    for summaries in list(_ALL):
        summaries._reset()


at_fork(after_in_child=_reset_all)  # another thread may have held a lock, half-way through a change


def _compute(plan: SummarizedPlan, missing: Missing, accumulate: Accumulate) -> Computed:
    """Accumulate missing pieces: blocks as whole tiles from their prefix on, then the tile that is not full."""
    segments, starts, ends, slots = missing.table
    known, lengths, is_block = missing.prefix_rows, ends - starts, slots >= 0
    if not is_block.any():
        found = accumulate(cut(segments, starts, ends))
        return Computed(found, found, lengths, int(lengths.sum()))
    prefix_rows = np.where(is_block, lengths // TILE_ROWS * TILE_ROWS, lengths)
    # A prefix that is known goes on tile by tile, as a scan does; an unknown one is a piece of its own.
    heads = np.where(known > 0, (prefix_rows - known) // TILE_ROWS, prefix_rows > 0)
    counts = heads + (prefix_rows < lengths)
    items, owners = stretches(np.zeros_like(counts), counts)
    is_tail = items == heads[owners]
    tile = known[owners] + items * TILE_ROWS
    firsts = np.where(is_tail, prefix_rows[owners], tile)
    lasts = np.where(known[owners] > 0, tile + TILE_ROWS, prefix_rows[owners])
    lasts = np.where(is_tail, lengths[owners], lasts)
    found = accumulate(cut(segments[owners], starts[owners] + firsts, starts[owners] + lasts))
    scanned_rows = int((lasts - firsts).sum())
    if len(owners) == missing.count and not known.any():
        return Computed(found, found, np.where(heads > 0, prefix_rows, 0), scanned_rows)
    table = np.concatenate([found, missing.prefixes], axis=1)
    places = np.cumsum(counts) - counts
    has_prefix = (known > 0).astype(np.int64)
    wholes, prefixes = (_joined(plan, table, len(owners), has_prefix, places, n) for n in (counts, heads))
    return Computed(wholes, prefixes, prefix_rows, scanned_rows)


def _joined(
    plan: SummarizedPlan,
    table: Int64Array,
    prefixes: int,
    has_prefix: Int64Array,
    firsts: Int64Array,
    counts: Int64Array,
) -> Int64Array:
    """Per piece its prefix (column prefixes + piece), if it has one, and then `counts` columns from `firsts` on."""
    items, owners = stretches(-has_prefix, counts + has_prefix)
    order = np.where(items < 0, prefixes + owners, firsts[owners] + items)
    bounds = np.append(0, np.cumsum(counts + has_prefix))
    groups = np.zeros((len(table), len(counts)), dtype=np.int64)
    combine(order, bounds, plan.foldable, _NO_TIMES, table, groups)
    return groups
