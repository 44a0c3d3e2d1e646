"""WindowScan on the CPU: find the rows, compute what functions are of, then each function range by range."""

from __future__ import annotations

from zeptodb.backends.base import Vector, WindowFunction, WindowOp, WindowScan
from zeptodb.backends.cpu.arguments import Argument, in_place, of_vector
from zeptodb.backends.cpu.ema import moving_averages
from zeptodb.backends.cpu.frames import frame_aggregates
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.cpu.select import select_by_range
from zeptodb.backends.expression import Expression
from zeptodb.backends.windows import without_idle


def window(pool: WorkerPool, operation: WindowScan) -> tuple[Vector, ...]:
    """Run a WindowScan; one Vector per output."""
    scan = operation.scan
    outputs = tuple(map(without_idle, operation.outputs))
    arguments: dict[Expression, Argument] = {}
    wanted: dict[Expression, None] = {}
    for output in outputs:
        if not isinstance(output, WindowFunction):
            wanted[output] = None
        elif output.argument not in arguments:
            stored = in_place(scan, output.argument)
            if stored is None:
                wanted[output.argument] = None
            else:
                arguments[output.argument] = stored
    vectors, bounds = select_by_range(pool, scan, tuple(wanted))
    computed = dict(zip(wanted, vectors, strict=True))
    results = []
    for output in outputs:
        if not isinstance(output, WindowFunction):
            results.append(computed[output])
            continue
        argument = arguments.get(output.argument)
        if argument is None:
            argument = arguments[output.argument] = of_vector(computed[output.argument], bounds)
        results.append(_run(pool, output, argument))
    return tuple(results)


def _run(pool: WorkerPool, function: WindowFunction, argument: Argument) -> Vector:
    if function.op is WindowOp.EMA:
        return moving_averages(pool, argument, function.alpha)
    return frame_aggregates(pool, argument, function)
