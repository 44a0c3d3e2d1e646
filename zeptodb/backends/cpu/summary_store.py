"""Where the summaries of one table's contents lie, and the kernel that folds them over ranges of rows."""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Aggregate, Ranges
from zeptodb.backends.cpu.columns import address_of
from zeptodb.backends.cpu.states import add_to, merge, reset
from zeptodb.backends.pieces import PIECE_ROWS, as_words
from zeptodb.backends.primitives import COUNT, FIRST, LAST, ROWS, SLOTS, Plan
from zeptodb.backends.program import Node
from zeptodb.jit import kernel, load_int64
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

_ROWS, _PREFIX_ROWS, _WORDS = 0, 1, 2
_CLOSED = np.zeros(0, dtype=np.int64)
_NOTHING = np.zeros((0, 0), dtype=np.int64)
_NO_PLACE = -1
_NOT_KNOWN = -2


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
    not known. Every change is one assignment, so that an interrupt leaves nothing half-done.
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
        prefix_rows = np.where(is_block, self._stores[plan.kept[0][0]].words[slots, _PREFIX_ROWS], 0)
        prefixes = np.zeros((plan.plan.width, missing.shape[1]), dtype=np.int64)
        for key, slot, width in plan.kept:
            store = self._stores[key].words
            prefix_rows[store[slots, _PREFIX_ROWS] != prefix_rows] = 0
            prefixes[slot : slot + width] = store[slots, _WORDS + width :].T
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
        return _fold(
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
                store = self._stores[key] = _Store(np.zeros((self._layout.slots, _WORDS + 2 * width), dtype=np.int64))
            store.used = self._uses
            stores.append(store)
            rows.append((key[0], slot, width, address_of(store.words), 8 * (_WORDS + 2 * width)))
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
            more = np.flatnonzero(store[slots, _ROWS] < rows)
            chosen = blocks[more]
            filled = np.empty((len(more), _WORDS + 2 * width), dtype=np.int64)
            filled[:, _ROWS] = rows[more]
            filled[:, _PREFIX_ROWS] = computed.prefix_rows[chosen]
            filled[:, _WORDS : _WORDS + width] = computed.wholes[slot : slot + width, chosen].T
            filled[:, _WORDS + width :] = computed.prefixes[slot : slot + width, chosen].T
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
            for column in (_ROWS, _PREFIX_ROWS):
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
    _fold(
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
    _fold(_CLOSED, _CLOSED, _CLOSED, _CLOSED, _CLOSED, _CLOSED, _NOTHING, _NOTHING, _NOTHING, _NOTHING)


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
        found = _fold(
            ranges.segments, ranges.starts, ranges.ends, lengths, layout.first_slots, layout.capacities, table,
            _NOTHING, missing, words,
        )  # fmt: skip
        if found == _NO_PLACE:
            return None
        if found <= missing.shape[1]:
            return missing[:, :found] if found == 0 else np.ascontiguousarray(missing[:, :found])
        missing = np.empty((4, found), dtype=np.int64)


@kernel
def _fold(
    segments: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    lengths: Int64Array,
    first_slots: Int64Array,
    capacities: Int64Array,
    table: Int64Array,
    given: Int64Array,
    missing: Int64Array,
    words: Int64Array,
) -> int:
    """Fold partial results of the pieces of each range, in order, into `words[slot, range]`.

    Ranges are cut as `cut` does it. With `lengths` empty no block is looked up. Without `given` pieces that are not
    known are listed in `missing` (as far as they fit) and counted; with it they are `missing`, their words given.
    Returns how many pieces are not known, or _NO_PLACE, or _NOT_KNOWN when a piece is neither known nor given.
    """
    stride, given_stride = 8 * words.shape[1], 8 * given.shape[1]
    found, is_open, is_given = 0, lengths.shape[0] > 0, given.shape[0] > 0
    for i in range(segments.shape[0]):
        segment, row, end = segments[i], starts[i], ends[i]
        state = words.ctypes.data + 8 * i
        for k in range(table.shape[0]):
            reset(table[k, 0], state + stride * table[k, 1], stride, 1)
        is_short = end - row <= PIECE_ROWS
        while row < end:
            stop = end if is_short else min(end, (row // PIECE_ROWS + 1) * PIECE_ROWS)
            slot = -1
            if is_open and row % PIECE_ROWS == 0 and (stop - row == PIECE_ROWS or stop == lengths[segment]):
                block = row // PIECE_ROWS
                if segment >= capacities.shape[0] or block >= capacities[segment]:
                    return _NO_PLACE
                slot = first_slots[segment] + block
            is_known = slot >= 0
            if is_given and found < missing.shape[1]:
                is_known = is_known and not (missing[0, found] == segment and missing[1, found] == row)
            elif is_given and not is_known:
                return _NOT_KNOWN
            if is_known:
                for k in range(table.shape[0]):
                    is_known = is_known and load_int64(table[k, 3] + slot * table[k, 4]) == stop - row
                if is_given and not is_known:
                    return _NOT_KNOWN
            if is_known or is_given:
                for k in range(table.shape[0]):
                    source = table[k, 3] + slot * table[k, 4] + 8 * _WORDS
                    source_stride = 8
                    if not is_known:
                        source = given.ctypes.data + given_stride * table[k, 1] + 8 * found
                        source_stride = given_stride
                    target = state + stride * table[k, 1]
                    if table[k, 0] == COUNT:
                        add_to(target, load_int64(source))
                    elif load_int64(source + 2 * source_stride) > 0:
                        merge(table[k, 0], target, stride, source, source_stride)
            if not is_known:
                if not is_given and found < missing.shape[1]:
                    missing[0, found], missing[1, found] = segment, row
                    missing[2, found], missing[3, found] = stop, slot
                found += 1
            row = stop
    return 0 if is_given else found
