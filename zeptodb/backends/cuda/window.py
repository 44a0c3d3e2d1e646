"""WindowScan on the device: find the rows, compute what functions are of, then each function range by range."""

from __future__ import annotations

import numpy as np

from zeptodb.backends.base import Vector, WindowFunction, WindowOp, WindowScan
from zeptodb.backends.cuda.arguments import Argument, argument_of
from zeptodb.backends.cuda.batch import ResultBuffer, read_words
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import Driver
from zeptodb.backends.cuda.ema import moving_averages
from zeptodb.backends.cuda.evaluate import Outputs
from zeptodb.backends.cuda.select import find_rows
from zeptodb.backends.expression import Expression
from zeptodb.backends.program import may_be_null
from zeptodb.backends.results import nullable_columns, overflow
from zeptodb.backends.windows import without_idle
from zeptodb.types import ColumnType

WINDOWS = frozenset({WindowOp.EMA})


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
    flags_place = buffer.add(1)
    written = Outputs(buffer, snapshot, plain, found.total, has_missing=False)
    results = [_Result(buffer, f, found.total, nullable) for f in outputs if isinstance(f, WindowFunction)]
    buffer.allocate()
    flags = buffer.device(flags_place)
    driver.clear(flags.address, flags.size_bytes)
    written.write(driver, columns, rows, flags)
    arguments: dict[Expression, Argument] = {}
    for result in results:
        of = result.function.argument
        if of not in arguments:
            arguments[of] = argument_of(driver, columns, scan, of, rows, bounds, flags)
        result.compute(driver, arguments[of])
    buffer.fetch()
    if buffer.host(flags_place)[0]:
        raise overflow()
    values, windows = iter(written.vectors()), iter(results)
    return tuple(next(windows).vector() if isinstance(o, WindowFunction) else next(values) for o in outputs)


class _Result:
    """One function's column in a result buffer."""

    def __init__(self, buffer: ResultBuffer, function: WindowFunction, total: int, nullable: frozenset[int]) -> None:
        self.function = function
        self._buffer = buffer
        self._values = buffer.add(total, np.float64)
        self._validity = buffer.add(total, np.bool_) if may_be_null(function.argument, nullable) else None

    def compute(self, driver: Driver, argument: Argument) -> None:
        validity = None if self._validity is None else self._buffer.device(self._validity)
        moving_averages(driver, argument, self.function.alpha, self._buffer.device(self._values), validity)

    def vector(self) -> Vector:
        validity = None if self._validity is None else self._buffer.host(self._validity).view(np.bool_)
        kept = None if validity is None or validity.all() else validity
        return Vector(self._buffer.host(self._values), kept, ColumnType.FLOAT64)
