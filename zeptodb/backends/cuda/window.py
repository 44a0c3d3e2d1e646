"""WindowScan on the device: find the rows, compute what functions are of, then each function range by range."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Vector, WindowFunction, WindowOp, WindowScan
from zeptodb.backends.cuda.arguments import Argument, argument_of
from zeptodb.backends.cuda.batch import ResultBuffer, read_words
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.ema import moving_averages
from zeptodb.backends.cuda.evaluate import Outputs
from zeptodb.backends.cuda.rolling import Frames
from zeptodb.backends.cuda.select import find_rows
from zeptodb.backends.expression import Expression
from zeptodb.backends.program import may_be_null
from zeptodb.backends.results import nullable_columns, overflow
from zeptodb.backends.windows import SUM_INT_HIGH, recipe_of, windowed, without_idle


def window(driver: Driver, columns: DeviceColumns, operation: WindowScan) -> tuple[Vector, ...]:
    """Run a WindowScan; one Vector per output; raises CannotRunError for what the device does not run."""
    scan, snapshot = operation.scan, operation.scan.snapshot
    outputs = tuple(map(without_idle, operation.outputs))
    found = find_rows(driver, columns, scan)
    rows = found.rows(0, found.total)
    bounds = read_words(driver, found.bounds)
    plain = tuple(output for output in outputs if not isinstance(output, WindowFunction))
    nullable = nullable_columns(snapshot)
    buffer = ResultBuffer(driver)
    flags_place = buffer.add(1 + len(outputs))
    written = Outputs(buffer, snapshot, plain, found.total, has_missing=False)
    results = [_Result(buffer, f, found.total, nullable) for f in outputs if isinstance(f, WindowFunction)]
    buffer.allocate()
    flags = buffer.device(flags_place)
    driver.clear(flags.address, flags.size_bytes)
    written.write(driver, columns, rows, flags)
    arguments: dict[Expression, Argument] = {}
    for k, result in enumerate(results):
        of = result.function.argument
        if of not in arguments:
            arguments[of] = argument_of(driver, columns, scan, of, rows, bounds, flags)
        result.compute(driver, arguments[of], flags.part(k + 1, k + 2))
    buffer.fetch()
    is_set = buffer.host(flags_place)
    if is_set[0]:
        raise overflow()
    values = iter(written.vectors())
    windows = iter([result.vector(driver, is_beyond=bool(is_set[k + 1])) for k, result in enumerate(results)])
    return tuple(next(windows) if isinstance(o, WindowFunction) else next(values) for o in outputs)


class _Result:
    """One function's column in a result buffer."""

    def __init__(self, buffer: ResultBuffer, function: WindowFunction, total: int, nullable: frozenset[int]) -> None:
        self.function = function
        self._buffer, self._total = buffer, total
        self._recipe = None if function.op is WindowOp.EMA else recipe_of(function)
        self._frames: Frames | None = None
        least = 1 if self._recipe is None else self._recipe.least
        can_be_null = least > 1 or (least > 0 and may_be_null(function.argument, nullable))
        self._values = buffer.add(total)
        self._validity = buffer.add(total, np.bool_) if can_be_null else None

    def compute(self, driver: Driver, argument: Argument, flags: DeviceArray) -> None:
        """Fill the column; flags[0] becomes 1 when a sum is beyond int64."""
        values = self._buffer.device(self._values)
        validity = None if self._validity is None else self._buffer.device(self._validity)
        if self._recipe is None:
            moving_averages(driver, argument, self.function.alpha, values, validity)
            return
        self._frames = Frames(driver, argument, self._recipe, self.function.rows)
        self._frames.roll(self._recipe.operation, values, validity, flags)

    def vector(self, driver: Driver, *, is_beyond: bool) -> Vector:
        """The column, after the buffer has been fetched."""
        validity = None if self._validity is None else self._buffer.host(self._validity).view(np.bool_)
        kept = None if validity is None or validity.all() else validity
        bits = self._buffer.host(self._values).view(np.int64)
        return windowed(self.function, bits, self._highs(driver) if is_beyond else None, kept)

    def _highs(self, driver: Driver) -> npt.NDArray[np.int64]:
        """What of each sum is above 64 bits."""
        assert self._frames is not None
        buffer = ResultBuffer(driver)
        values, flags = buffer.add(self._total), buffer.add(1)
        buffer.allocate()
        self._frames.roll(SUM_INT_HIGH, buffer.device(values), None, buffer.device(flags))
        buffer.fetch()
        return buffer.host(values).view(np.int64)
