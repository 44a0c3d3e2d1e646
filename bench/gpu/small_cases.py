"""`python -m bench.gpu.small_cases`: every operation over few rows, compared with the host's; for compute-sanitizer."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.gpu.answers import require_equal
from bench.gpu.engines import Engines, real_engines
from bench.gpu.rows import quotes, trades
from bench.gpu.work import OPERATIONS, Market

SHAPES = ((1, 1), (3, 50), (40, 4_000), (3, 150_000))
"""(symbols, rows): one row; short segments; a segment per thread; several tiles and pieces per segment."""


def run(engines: Engines, *, shapes: Sequence[tuple[int, int]] = SHAPES) -> int:
    """How many answers agreed; raises AnswersDifferError for one that does not, RuntimeError when the host ran it."""
    agreed = 0
    for symbols, rows in shapes:
        market = Market(*(make(engines.device.memory, rows, symbols=symbols) for make in (trades, quotes)))
        for operation in OPERATIONS:
            answer = operation.run(engines.device, market)
            require_equal(operation.run(engines.host, market), answer, who=f"{operation.name}, {symbols} x {rows}")
            agreed += 1
    if engines.device.host_runs:
        raise RuntimeError(f"the host ran what the device should: {dict(engines.device.host_runs)}")
    return agreed


def main() -> int:
    # Without a pool, so that the tool sees where each allocation ends and what was never written.
    with real_engines(is_pooled=False) as engines:
        print(f"small cases: {run(engines)} answers agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
