"""Aggregates over frames: which states and operations make them, and their columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends import control
from zeptodb.backends.base import Vector, WindowFunction
from zeptodb.backends.cpu import rolling as kernels
from zeptodb.backends.cpu.arguments import Argument
from zeptodb.backends.cpu.columns import address_of, scratch
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.pieces import PIECE_ROWS, cut
from zeptodb.backends.windows import SUM_INT_HIGH, TILES, Recipe, recipe_of, windowed

Int64Array = npt.NDArray[np.int64]


_ONES = np.ones(kernels.TILE_ROWS, dtype=np.uint8)


def frame_aggregates(pool: WorkerPool, argument: Argument, function: WindowFunction) -> Vector:
    """An aggregate of each row's frame."""
    recipe = recipe_of(function)
    total, count = int(argument.bounds[-1]), len(argument.lengths)
    longest = int(argument.lengths.max(initial=1))
    rows = max(1, longest if function.rows is None else min(function.rows, longest))
    can_be_null = recipe.least > 1 or (argument.validity is not None and recipe.least > 0)
    control.reserve((8 + int(can_be_null)) * total)
    validity = np.empty(total, dtype=np.bool_) if can_be_null else None
    valids = np.zeros(count, dtype=np.int64) if validity is None else address_of(validity) + argument.bounds[:-1]
    work = _Work(pool, argument, recipe, rows)
    values = np.empty(total, dtype=np.int64)
    is_beyond = work.roll(recipe.operation, address_of(values) + 8 * argument.bounds[:-1], valids)
    highs = None
    if is_beyond:
        control.reserve(8 * total)
        highs = np.empty(total, dtype=np.int64)
        work.roll(SUM_INT_HIGH, address_of(highs) + 8 * argument.bounds[:-1], valids)
    return windowed(function, values, highs, None if validity is None or validity.all() else validity)


class _Work:
    """One aggregate over one argument."""

    def __init__(self, pool: WorkerPool, argument: Argument, recipe: Recipe, rows: int) -> None:
        self._pool, self._argument, self._recipe, self._rows = pool, argument, recipe, rows
        count = len(argument.lengths)
        self._pieces = cut(np.arange(count, dtype=np.int64), np.zeros(count, dtype=np.int64), argument.lengths)
        self._tiles = self._whole = np.zeros(count, dtype=np.int64)
        if rows > kernels.TILE_ROWS:
            self._kept, (tiles, whole) = zip(*map(self._room, (kernels.TILE_ROWS, PIECE_ROWS)), strict=True)
            self.roll(TILES, tiles, whole)
            self._tiles, self._whole = tiles, whole

    def _room(self, rows: int) -> tuple[Int64Array, Int64Array]:
        """Room for the states of every so many rows of each range, and its address per range."""
        counts = -(-self._argument.lengths // rows)
        states = np.empty(3 * int(counts.sum()), dtype=np.int64)
        control.reserve(states.nbytes)
        return states, address_of(states) + 24 * (np.cumsum(counts) - counts)

    def roll(self, operation: int, outs: Int64Array, valids: Int64Array) -> bool:
        """Write results, or states with TILES, to these addresses per range; whether a sum is beyond int64."""
        pieces, argument, recipe = self._pieces, self._argument, self._recipe
        calls, flags, ones = kernels.functions(), np.zeros(1, dtype=np.int64), address_of(_ONES)

        def work(counter: Int64Array, budget: int) -> None:
            kernels.roll(
                calls, counter, budget, pieces.morsels, pieces.segments, pieces.starts, pieces.ends, argument.sources,
                argument.validities, int(argument.is_int), recipe.family, operation, recipe.flip, recipe.least,
                self._rows, self._tiles, self._whole, outs, valids, ones, scratch(kernels.SCRATCH_WORDS), flags,
            )  # fmt: skip

        self._pool.run(work, pieces.morsel_count, rows=pieces.rows)
        return bool(flags[0])
