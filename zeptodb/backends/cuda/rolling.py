"""Aggregates over frames on the device: states of runs of rows for long frames, then strips of rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.arguments import Argument
from zeptodb.backends.cuda.batch import allocate, upload, upload_described
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.windows import Recipe

Int64Array = npt.NDArray[np.int64]

STRIP_ROWS = 32
LEVEL_ROWS = (64, 4_096, 262_144)
"""As `kernels/rolling.cu` has them."""

_STATE_WORDS = 3


class Frames:
    """The frames of one function over one argument."""

    def __init__(self, driver: Driver, argument: Argument, recipe: Recipe, rows: int | None) -> None:
        """`rows` of a frame; None: all from the first row of a range on."""
        self._driver, self._argument, self._recipe = driver, argument, recipe
        longest = int(argument.lengths.max(initial=1))
        self._rows = max(1, longest if rows is None else min(rows, longest))
        self._strip_rows = min(self._rows, STRIP_ROWS)
        bounds = _bounds_of(argument.lengths, self._strip_rows)
        self._strips = int(bounds[-1])
        (self._strip_bounds,) = upload(driver, bounds)
        self._levels = self._sum_levels() if self._rows > STRIP_ROWS else None

    def _sum_levels(self) -> DeviceArray:
        driver, argument, recipe = self._driver, self._argument, self._recipe
        bounds = [_bounds_of(argument.lengths, rows) for rows in LEVEL_ROWS]
        self._states = [allocate(driver, _STATE_WORDS * int(b[-1])) for b in bounds]
        words, *_ = upload_described(driver, bounds, *(states.address for states in self._states))
        for level, of_level in enumerate(bounds):
            count = int(of_level[-1])
            driver.launch("sum_level", count, (argument.words, words, level, count, recipe.family, recipe.flip))
        return words

    def roll(self, operation: int, values: DeviceArray, validity: DeviceArray | None, flags: DeviceArray) -> None:
        """The bits of all results, and which are not NULL; flags[0] becomes 1 when a sum is beyond int64."""
        recipe = self._recipe
        self._driver.launch(
            "roll_frames", self._strips,
            (self._argument.words, self._levels, self._strip_bounds, self._strips, self._strip_rows, recipe.family,
             operation, recipe.flip, recipe.least, self._rows, values, validity, flags),
        )  # fmt: skip


def _bounds_of(lengths: Int64Array, rows: int) -> Int64Array:
    """Runs of so many rows before each range, one entry more than ranges."""
    return np.append(0, np.cumsum(-(-lengths // rows)))
