"""SelectScan on the CPU: find the rows, then write the outputs in parallel, each piece to its place."""

from __future__ import annotations

import mmap
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends import control, reused
from zeptodb.backends.base import Scan, SelectScan, Vector
from zeptodb.backends.cpu import evaluate as kernels
from zeptodb.backends.cpu.columns import Columns, address_of, scratch
from zeptodb.backends.cpu.expression import interpreter
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.backends.pieces import Pieces, bundle, cut
from zeptodb.backends.program import Assembler, Program, may_be_null, parametrized, shape_of
from zeptodb.backends.results import nullable_columns, overflow, result_type
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

_FIRST_PLACE = np.zeros(1, dtype=np.int64)
_NO_OUTPUTS = np.empty((0, 5), dtype=np.int64)


class Rows(NamedTuple):
    """Rows of a snapshot, piece by piece.

    Attributes:
        segments: per piece; -1: no segment, all outputs NULL.
        starts: first row, or with `listed` the first place in the list.
        counts: rows of each piece.
        positions: place of its first result.
        listed: row numbers within the segment (-1: NULL in every output), or None when rows follow one another.
    """

    segments: Int64Array
    starts: Int64Array
    counts: Int64Array
    positions: Int64Array
    listed: Int64Array | None


def select(pool: WorkerPool, operation: SelectScan) -> tuple[Vector, ...]:
    """Run a SelectScan; one Vector per output."""
    scan, limit = operation.scan, operation.limit
    columns = Columns.of(scan.snapshot)
    pieces = cut(scan.ranges.segments, scan.ranges.starts, scan.ranges.ends)
    if scan.predicate is None:
        lengths = pieces.ends - pieces.starts
        rows, total = _trim(pieces.segments, pieces.starts, lengths, None, operation.offset, limit)
    else:
        wanted = None if limit is None else operation.offset + limit
        counts, places, listed = find_rows(pool, scan, columns, pieces, wanted=wanted)
        rows, total = _trim(pieces.segments, places, counts, listed, operation.offset, limit)
    return write(pool, scan.snapshot, columns, rows, total, operation.outputs, has_missing=False)


def _trim(
    segments: Int64Array,
    starts: Int64Array,
    counts: Int64Array,
    listed: Int64Array | None,
    offset: int,
    limit: int | None,
) -> tuple[Rows, int]:
    """Leave out `offset` rows and all beyond `limit`; the rows and how many they are."""
    if len(counts) == 1:
        count = int(counts[0])
        skip = min(offset, count)
        count = count - skip if limit is None else min(count - skip, limit)
        first, only = np.array([int(starts[0]) + skip], dtype=np.int64), np.array([count], dtype=np.int64)
        return Rows(segments, first, only, _FIRST_PLACE, listed), count
    positions = np.cumsum(counts) - counts - offset
    if offset:
        skipped = np.maximum(np.minimum(-positions, counts), 0)
        positions, counts, starts = np.maximum(positions, 0), counts - skipped, starts + skipped
    if limit is not None:
        counts = np.maximum(np.minimum(limit - positions, counts), 0)
    chosen = counts > 0
    if not chosen.all():
        segments, starts, counts = segments[chosen], starts[chosen], counts[chosen]
        positions = positions[chosen]
    return Rows(segments, starts, counts, positions, listed), int(counts.sum())


@lru_cache(maxsize=512)
def _lowered(expressions: tuple[Expression, ...], symbol_column: int) -> tuple[Program, tuple[int, ...]]:
    """The program that computes `expressions`, and their registers."""
    assembler = Assembler(symbol_column=symbol_column)
    section = assembler.section(expressions)
    program, offset = assembler.finish()
    return program, tuple(r if r >= 0 else offset - 1 - r for r in section.registers)


def _lowered_predicate(predicate: Expression, symbol_column: int) -> tuple[Program, int]:
    """The program of a predicate, and the register of the result; predicates of one shape share the work."""
    shape, numbers = shape_of(predicate)
    known = _PREDICATES.get((shape, symbol_column))
    if known is None:
        if len(_PREDICATES) >= _KEPT_PREDICATES:
            _PREDICATES.clear()
        program, (register,) = _lowered((parametrized(predicate)[0],), symbol_column)
        known = _PREDICATES[shape, symbol_column] = program, register
    return known[0].with_values(numbers), known[1]


_KEPT_PREDICATES = 512
_PREDICATES: dict[tuple[tuple[object, ...], int], tuple[Program, int]] = {}


def find_rows(
    pool: WorkerPool, scan: Scan, columns: Columns, pieces: Pieces, *, wanted: int | None = None
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Rows for which the scan's predicate is true: per piece how many and where in the list they begin, and the list.

    With `wanted` the search may end when so many are found; pieces not looked at have none.
    """
    assert scan.predicate is not None
    program, register = _lowered_predicate(scan.predicate, scan.snapshot.schema.symbol_index)
    lengths = pieces.ends - pieces.starts
    places = _FIRST_PLACE if pieces.count == 1 else np.cumsum(lengths) - lengths
    control.reserve(8 * pieces.rows)
    listed = reused.empty(pieces.rows, np.int64) if wanted is None else _sparse_words(pieces.rows)
    if wanted is None or pieces.morsel_count <= 1:
        part = Rows(pieces.segments, pieces.starts, lengths, places, listed)
        _run(pool, columns, part, pieces.morsels, pieces.rows, program, _NO_OUTPUTS, kernels.FILTER, register)
        return lengths, places, listed  # the kernel has put the counts in the place of the lengths
    counts = np.zeros(pieces.count, dtype=np.int64)
    first, wave, found = 0, 1, 0
    while first < pieces.morsel_count and found < wanted:
        last = min(first + wave, pieces.morsel_count)
        low, high = int(pieces.morsels[first]), int(pieces.morsels[last])
        counts[low:high] = lengths[low:high]
        part = Rows(pieces.segments[low:high], pieces.starts[low:high], counts[low:high], places[low:high], listed)
        morsels, rows = pieces.morsels[first : last + 1] - low, int(lengths[low:high].sum())
        _run(pool, columns, part, morsels, rows, program, _NO_OUTPUTS, kernels.FILTER, register)
        found += int(counts[low:high].sum())
        first, wave = last, wave * 2
    return counts, places, listed


def _sparse_words(count: int) -> Int64Array:
    """Room for a list with gaps, of which little is used: in small pages, so that the system clears only what is."""
    if count < _SPARSE_WORDS:
        return np.empty(count, dtype=np.int64)
    room = mmap.mmap(-1, 8 * count)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            room.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(room, dtype=np.int64)


_SPARSE_WORDS = 1 << 19
"""From here on numpy would ask for huge pages."""


def write(
    pool: WorkerPool,
    snapshot: Snapshot,
    columns: Columns,
    rows: Rows,
    total: int,
    expressions: tuple[Expression, ...],
    *,
    has_missing: bool,
) -> tuple[Vector, ...]:
    """The values of `expressions` for `rows`; with `has_missing` a row may be -1 or without a segment."""
    nullable = nullable_columns(snapshot)
    symbol_column = snapshot.schema.symbol_index
    computed = tuple(e for e in expressions if not isinstance(e, ColumnRef))
    program, placed = _lowered(computed, symbol_column)
    registers = iter(placed)
    outputs: list[tuple[int, int, int, int, int]] = []
    found: list[tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_] | None, ColumnType]] = []
    for expression in expressions:
        column_type = result_type(expression)
        control.reserve(column_type.dtype.itemsize * total)
        out = reused.empty(total, column_type.dtype)
        valid = reused.empty(total, np.bool_) if has_missing or may_be_null(expression, nullable) else None
        if isinstance(expression, ColumnRef):
            kind = kernels.SYMBOL if expression.index == symbol_column else kernels.COLUMN
            what = expression.index
        else:
            kind, what = kernels.REGISTER, next(registers)
        outputs.append((kind, what, out.itemsize, address_of(out), 0 if valid is None else address_of(valid)))
        found.append((out, valid, column_type))
    table = np.array(outputs, dtype=np.int64).reshape(-1, 5)
    mode = kernels.CONSECUTIVE if rows.listed is None else kernels.LISTED
    _run(pool, columns, rows, bundle(rows.counts), total, program, table, mode, 0)
    return tuple(
        Vector(out, None if valid is None or valid.all() else valid, column_type) for out, valid, column_type in found
    )


def _run(
    pool: WorkerPool,
    columns: Columns,
    rows: Rows,
    morsels: Int64Array,
    count: int,
    program: Program,
    outputs: Int64Array,
    mode: int,
    register: int,
) -> None:
    flags = np.zeros(1, dtype=np.int64)
    words = kernels.evaluator_words(program.registers)
    address, run_section = 0 if rows.listed is None else address_of(rows.listed), interpreter()

    def work(counter: Int64Array, budget: int) -> None:
        kernels.evaluate(
            run_section, counter, budget, morsels, rows.segments, rows.starts, rows.counts, rows.positions, address,
            mode, program.code, program.lists, program.constants, program.registers, register, outputs, columns.words,
            scratch(words), flags,
        )  # fmt: skip

    pool.run(work, len(morsels) - 1, rows=count)
    if flags[0]:
        raise overflow()
