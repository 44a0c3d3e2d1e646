"""Where the summaries of one table's contents lie, how long they are right, and how much memory they take."""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Aggregate, Ranges
from zeptodb.backends.pieces import PIECE_ROWS, as_words
from zeptodb.backends.primitives import FIRST, LAST, ROWS, SLOTS, Plan
from zeptodb.backends.program import Node
from zeptodb.backends.summary_fold import FOLDED, KNOWN_ROWS, NO_PLACE, PREFIX_ROWS, WORDS, fold
from zeptodb.record import record
from zeptodb.storage.snapshot import Snapshot

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Key = tuple[int, tuple[Node, ...]]
PlanKey = tuple[tuple[Aggregate, ...], frozenset[int]]

MEMORY_SHARE = 16
"""Summaries take at most this part of the bytes of a table's values ..."""
FREE_BYTES = 64 * 1024
"""... or so many bytes, if that is more."""

_CLOSED = np.zeros(0, dtype=np.int64)
_NOTHING = np.zeros((0, 0), dtype=np.int64)


@record(eq=False)
class SummarizedPlan:
    """A plan over plain columns whose partial results are kept.

    Attributes:
        plan: how to accumulate.
        kept: per primitive that is kept what it computes, its first slot and its words.
        foldable: the rows of `plan.primitives` that `combine` can fold without times.
        row_slots, first_slots, last_slots: slots that the ranges of rows alone decide.
    """

    plan: Plan
    kept: tuple[tuple[Key, int, int], ...]
    foldable: Int64Array
    row_slots: tuple[int, ...]
    first_slots: tuple[int, ...]
    last_slots: tuple[int, ...]

    @classmethod
    def of(cls, plan: Plan) -> SummarizedPlan:
        """Sort the primitives of `plan`."""
        rows = [(int(row[0]), int(row[3])) for row in plan.primitives]
        by_ranges = (ROWS, FIRST, LAST)
        kept = tuple(
            ((opcode, nodes), slot, SLOTS[opcode])
            for (opcode, slot), nodes in zip(rows, plan.operands, strict=True)
            if opcode not in by_ranges
        )
        foldable = np.ascontiguousarray(plan.primitives[plan.primitives[:, 0] < FIRST])
        slots = [tuple(slot for code, slot in rows if code == opcode) for opcode in by_ranges]
        return cls(plan, kept, foldable, *slots)


@record
class Missing:
    """Pieces of ranges whose partial results are not known.

    Attributes:
        table: [segment, first row, end, place of the block or -1] of each piece.
        prefix_rows: rows of a prefix of whole tiles that is known; 0: none.
        prefixes: [slot, piece] words of these prefixes.
    """

    table: Int64Array
    prefix_rows: Int64Array
    prefixes: Int64Array

    @property
    def count(self) -> int:
        """How many pieces."""
        return len(self.prefix_rows)


class Computed(NamedTuple):
    """Words of missing pieces, [slot, piece]: of the whole piece, and of a prefix of whole tiles."""

    wholes: Int64Array
    prefixes: Int64Array
    prefix_rows: Int64Array
    scanned_rows: int


class _Layout(NamedTuple):
    """Where the summary of a block stands: block b of segment s at first_slots[s] + b, of `capacities[s]` blocks."""

    first_slots: Int64Array
    capacities: Int64Array

    @property
    def slots(self) -> int:
        return int(self.capacities.sum())

    def grown(self, lengths: Int64Array) -> _Layout:
        """Places for segments of these lengths, with some to spare where there were too few."""
        known, count = len(self.capacities), len(lengths)
        spare = known // 2 if count > known else 0
        capacities = np.ones(max(known, count + spare), dtype=np.int64)
        capacities[:known] = self.capacities
        needed = np.ones_like(capacities)
        needed[:count] = -(-lengths // PIECE_ROWS)
        reserved = np.where(np.arange(len(capacities)) < known, capacities + capacities // 2, 1)
        capacities = np.where(needed > capacities, np.maximum(needed, reserved), capacities)
        return _Layout(np.cumsum(capacities) - capacities, capacities)


class _Store:
    """The summaries of one primitive, a row per block: see Contents; and when they were used last."""

    __slots__ = ("used", "words")

    def __init__(self, words: Int64Array) -> None:
        self.words = words
        self.used = 0


class Contents:
    """The summaries of one table's contents; everything under `lock`.

    A store has a row per block: rows summarized, rows of the prefix, words of the whole, words of the prefix. No rows:
    not known. A full block has no prefix: in its place stand the words of all blocks from the segment's start to it,
    folded in order, once a range from there has been; so a range of any length is that of its last full block and what
    follows. Every change is one assignment, so that an interrupt leaves nothing half-done.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.plans: dict[PlanKey, SummarizedPlan | None] = {}
        self.latest: tuple[PlanKey, SummarizedPlan | None] | None = None
        self._merges = 0
        self._layout = _Layout(np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._stores: dict[Key, _Store] = {}
        self._tables: dict[SummarizedPlan, tuple[Int64Array, list[_Store]]] = {}
        self._uses = 0

    def forget_plans(self) -> None:
        """Forget which plans there were; not what is known."""
        self._tables = {}
        self.plans, self.latest = {}, None

    @property
    def memory_bytes(self) -> int:
        """Bytes of all stores."""
        return sum(store.words.nbytes for store in self._stores.values())

    def fold_known(self, plan: SummarizedPlan, snapshot: Snapshot, ranges: Ranges, words: Int64Array) -> Missing | None:
        """Fill `words[slot, range]` when all summaries are known; else what is missing."""
        self._forget_moved(snapshot)
        while True:
            table = self._open(plan, snapshot)
            if table is None:
                return fold_nothing(plan, ranges, words)
            missing = _fold_or_list(table, self._layout, _lengths(snapshot), ranges, words)
            if missing is not None:
                break
            self._grow(snapshot.lengths)
        if not missing.shape[1]:
            return None
        is_block = missing[3] >= 0
        if not is_block.any():
            return _without_prefixes(plan, missing)
        slots = np.maximum(missing[3], 0)
        prefix_rows = np.where(is_block, self._stores[plan.kept[0][0]].words[slots, PREFIX_ROWS], 0)
        prefix_rows[prefix_rows == FOLDED] = 0
        prefixes = np.zeros((plan.plan.width, missing.shape[1]), dtype=np.int64)
        for key, slot, width in plan.kept:
            store = self._stores[key].words
            prefix_rows[store[slots, PREFIX_ROWS] != prefix_rows] = 0
            prefixes[slot : slot + width] = store[slots, WORDS + width :].T
        prefix_rows[prefix_rows > missing[2] - missing[1]] = 0
        return Missing(missing, prefix_rows, prefixes)

    def fold_computed(
        self,
        plan: SummarizedPlan,
        snapshot: Snapshot,
        ranges: Ranges,
        words: Int64Array,
        missing: Missing,
        computed: Computed,
    ) -> bool:
        """Keep what was computed and fill `words`; False when what was known before has gone meanwhile."""
        if snapshot.history.merges != self._merges:
            return False
        self._keep(plan, missing, computed)
        table = self._open(plan, snapshot)
        if table is None:
            return False
        return fold(
            ranges.segments, ranges.starts, ranges.ends, _lengths(snapshot), self._layout.first_slots,
            self._layout.capacities, table, computed.wholes, missing.table, words,
        ) == 0  # fmt: skip

    def _open(self, plan: SummarizedPlan, snapshot: Snapshot) -> Int64Array | None:
        """Per kept primitive: opcode, slot, words, address of its store, bytes from block to block.

        None when `snapshot` is older than what is kept, or summaries would take too much memory.
        """
        if snapshot.history.merges < self._merges:
            return None
        opened = self._tables.get(plan)
        if opened is None:
            opened = self._make_table(plan, snapshot)
        if opened is None:
            return None
        self._uses += 1
        for store in opened[1]:
            store.used = self._uses
        return opened[0]

    def _make_table(self, plan: SummarizedPlan, snapshot: Snapshot) -> tuple[Int64Array, list[_Store]] | None:
        self._uses += 1
        stores, rows = [], []
        for key, slot, width in plan.kept:
            store = self._stores.get(key)
            if store is None:
                store = self._stores[key] = _Store(np.zeros((self._layout.slots, WORDS + 2 * width), dtype=np.int64))
            store.used = self._uses
            stores.append(store)
            rows.append((key[0], slot, width, store.words.ctypes.data, 8 * (WORDS + 2 * width)))
        if not self._has_made_room(snapshot):
            return None
        opened = np.array(rows, dtype=np.int64).reshape(-1, 5), stores
        self._tables[plan] = opened
        return opened

    def _keep(self, plan: SummarizedPlan, missing: Missing, computed: Computed) -> None:
        """Keep what was computed of blocks, unless more is known by now."""
        segments, starts, ends, slots = missing.table
        blocks = np.flatnonzero(slots >= 0)
        slots = self._layout.first_slots[segments[blocks]] + starts[blocks] // PIECE_ROWS
        rows = (ends - starts)[blocks]
        for key, slot, width in plan.kept:
            kept = self._stores.get(key)
            if kept is None:
                continue
            store = kept.words
            more = np.flatnonzero(store[slots, KNOWN_ROWS] < rows)
            chosen = blocks[more]
            filled = np.empty((len(more), WORDS + 2 * width), dtype=np.int64)
            filled[:, KNOWN_ROWS] = rows[more]
            filled[:, PREFIX_ROWS] = np.where(rows[more] < PIECE_ROWS, computed.prefix_rows[chosen], 0)
            filled[:, WORDS : WORDS + width] = computed.wholes[slot : slot + width, chosen].T
            filled[:, WORDS + width :] = computed.prefixes[slot : slot + width, chosen].T
            store[slots[more]] = filled

    def _forget_moved(self, snapshot: Snapshot) -> None:
        """Forget what was made of rows that have moved since; blocks and prefixes before them stay."""
        if snapshot.history.merges <= self._merges:
            return
        segments, first_rows = snapshot.history.moved_since(self._merges)
        is_kept = segments < len(self._layout.capacities)
        segments, first_rows = segments[is_kept], first_rows[is_kept]
        firsts, capacities = self._layout.first_slots[segments], self._layout.capacities[segments]
        blocks = np.minimum(first_rows // PIECE_ROWS, capacities)
        slots, owners = stretches(firsts + blocks, capacities - blocks)
        intact = first_rows[owners] - (slots - firsts[owners]) * PIECE_ROWS
        for store in self._stores.values():
            for column in (KNOWN_ROWS, PREFIX_ROWS):
                store.words[slots[store.words[slots, column] > intact], column] = 0
        self._merges = snapshot.history.merges

    def _grow(self, lengths: Int64Array) -> None:
        old = self._layout
        new = old.grown(lengths)
        sources, owners = stretches(old.first_slots, old.capacities)
        targets = sources - old.first_slots[owners] + new.first_slots[owners]
        stores = {}
        for key, store in self._stores.items():
            stores[key] = _Store(np.zeros((new.slots, store.words.shape[1]), dtype=np.int64))
            stores[key].words[targets] = store.words
            stores[key].used = store.used
        # Never stores of one layout with places of another, whatever interrupts.
        self._tables = {}
        self._stores = {}
        self._layout = new
        self._stores = stores

    def _has_made_room(self, snapshot: Snapshot) -> bool:
        """Drop the stores that were not used for longest until the rest fits; whether those in use now fit."""
        row_bytes = sum(field.type.dtype.itemsize for field in snapshot.schema.fields)
        limit = max(FREE_BYTES, snapshot.rows * row_bytes // MEMORY_SHARE)
        used = self.memory_bytes
        if used <= limit:
            return True
        self._tables = {}
        for key, store in sorted(self._stores.items(), key=lambda item: item[1].used):
            if used <= limit:
                return True
            if store.used == self._uses:
                break
            del self._stores[key]
            used -= store.words.nbytes
        if used > limit:
            self._stores = {}
        return used <= limit


def fold_nothing(plan: SummarizedPlan, ranges: Ranges, words: Int64Array) -> Missing | None:
    """What is missing when nothing is known."""
    missing = _fold_or_list(_closed_table(plan), _NO_LAYOUT, _CLOSED, ranges, words)
    assert missing is not None
    if not missing.shape[1]:
        return None
    return _without_prefixes(plan, missing)


def _without_prefixes(plan: SummarizedPlan, missing: Int64Array) -> Missing:
    pieces = missing.shape[1]
    return Missing(missing, np.zeros(pieces, np.int64), np.zeros((plan.plan.width, pieces), np.int64))


def fold_given(plan: SummarizedPlan, ranges: Ranges, words: Int64Array, missing: Missing, computed: Computed) -> None:
    """Fill `words` when everything was missing and has been computed."""
    fold(
        ranges.segments, ranges.starts, ranges.ends, _CLOSED, _CLOSED, _CLOSED, _closed_table(plan), computed.wholes,
        missing.table, words,
    )  # fmt: skip


def stretches(firsts: Int64Array, counts: Int64Array) -> tuple[Int64Array, Int64Array]:
    """firsts[i], firsts[i] + 1, ... counts[i] of them, for every i; and each one's i."""
    owners = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    return firsts[owners] + np.arange(len(owners)) - before[owners], owners


def compile_kernels() -> None:
    """Compile or load the kernels of this file."""
    fold(_CLOSED, _CLOSED, _CLOSED, _CLOSED, _CLOSED, _CLOSED, _NOTHING, _NOTHING, _NOTHING, _NOTHING)


_NO_LAYOUT = _Layout(_CLOSED, _CLOSED)


def _closed_table(plan: SummarizedPlan) -> Int64Array:
    return np.array([(key[0], slot, width, 0, 0) for key, slot, width in plan.kept], dtype=np.int64).reshape(-1, 5)


def _lengths(snapshot: Snapshot) -> Int64Array:
    return as_words(snapshot.lengths)


def _fold_or_list(
    table: Int64Array, layout: _Layout, lengths: Int64Array, ranges: Ranges, words: Int64Array
) -> Int64Array | None:
    """Fold what is known and list what is not; None when there is no place for a block."""
    missing = np.empty((4, len(ranges.segments) + 16), dtype=np.int64)
    while True:
        found = fold(
            ranges.segments, ranges.starts, ranges.ends, lengths, layout.first_slots, layout.capacities, table,
            _NOTHING, missing, words,
        )  # fmt: skip
        if found == NO_PLACE:
            return None
        if found <= missing.shape[1]:
            return missing[:, :found] if found == 0 else np.ascontiguousarray(missing[:, :found])
        missing = np.empty((4, found), dtype=np.int64)
