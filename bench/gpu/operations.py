"""Every operation over 1e6 to 1e9 rows: its answer beside the host's, its time, and its share of the floor."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from bench.gpu import summaries
from bench.gpu.answers import Columns, require_equal
from bench.gpu.clock import LINK
from bench.gpu.engines import Engines, rates_of
from bench.gpu.floors import Rates, against_floor
from bench.gpu.record import Record
from bench.gpu.rows import QUOTE_BYTES, SYMBOLS, TRADE_BYTES, quotes, trades
from bench.gpu.sort import measure_sort
from bench.gpu.summaries import measure_summaries
from bench.gpu.work import OPERATIONS, Market, Operation
from zeptodb.errors import ZeptoError

SIZES = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
SCRATCH_ROW_BYTES = 24
"""Of what an operation needs on the device besides the rows: the as-of join's matches and answer."""

_LEAST_RUNS, _MOST_RUNS, _ENOUGH_SECONDS, _LAP_RUNS = 3, 20, 0.5, 3
_GROWTH = 12
"""How much longer ten times the rows may take."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one operation.

    Attributes:
        whole: medians of a call, until its answer is on the host.
        kernels: per kernel, of the device's work on its own memory.
        link: of copies to and from the device.
        runs: calls that were timed.
    """

    whole: float
    kernels: dict[str, float]
    link: float
    runs: int

    @property
    def device(self) -> float:
        """All kernels."""
        return sum(self.kernels.values())


def measure(record: Record, engines: Engines, *, sizes: Sequence[int] = SIZES, symbols: int = SYMBOLS) -> None:
    """Write an entry per operation and size."""
    rates = rates_of(engines)
    record.found("copy within the device", bytes_per_second=rates.copied, nominal_bytes_per_second=rates.nominal)
    costs: dict[str, float] = {}
    for rows in sizes:
        needed = rows * (TRADE_BYTES + QUOTE_BYTES + SCRATCH_ROW_BYTES)
        free = engines.driver.memory_bytes[0]
        if needed > free:
            record.skipped(f"{rows:,} rows", f"they need {needed / 1e9:.0f} GB on the device, {free / 1e9:.0f} GB free")
            continue
        if not record.has_time(f"{rows:,} rows", _GROWTH * costs.get("load", 0.0)):
            continue
        start = perf_counter()
        market = Market(*(make(engines.device.memory, rows, symbols=symbols) for make in (trades, quotes)))
        costs["load"] = perf_counter() - start
        for operation in OPERATIONS:
            measure_it = partial(measure_operation, record, engines, operation, market, rates)
            _measure_in_time(record, operation.name, market, costs, measure_it)
        _measure_in_time(record, summaries.NAME, market, costs, partial(measure_summaries, record, engines, market))
        measure_sort(record, engines, market.trades, rates)


def _measure_in_time(
    record: Record, name: str, market: Market, costs: dict[str, float], measure_it: Callable[[], object]
) -> None:
    rows = market.trades.count
    if not record.has_time(f"{name}, {rows:,} rows", _GROWTH * costs.get(name, 0.0)):
        return
    start = perf_counter()
    try:
        measure_it()
    except ZeptoError as error:
        record.found("failure", operation=name, rows=rows, error=f"{type(error).__name__}: {error}")
    costs[name] = perf_counter() - start


def measure_operation(
    record: Record, engines: Engines, operation: Operation, market: Market, rates: Rates
) -> Times | None:
    """Compare with the host's answer, then time; None (and an entry that says why) when the device did not run it."""
    rows = market.trades.count
    device = engines.device
    device.host_runs.clear()
    start = perf_counter()
    answer = operation.run(device, market)
    first_seconds = perf_counter() - start
    if device.host_runs:
        record.skipped(f"{operation.name}, {rows:,} rows", f"the host ran it: {', '.join(device.host_runs)}")
        return None
    start = perf_counter()
    expected = operation.run(engines.host, market)
    host_seconds = perf_counter() - start
    require_equal(expected, answer, who=f"{operation.name}, {rows:,} rows: device and host")
    answer_bytes = _bytes_of(answer)
    del answer, expected
    times = time_operation(engines, operation, market)
    record.found(
        "operation",
        operation=operation.name,
        rows=rows,
        seconds=times.whole,
        device_seconds=times.device,
        link_seconds=times.link,
        kernels=times.kernels,
        runs=times.runs,
        first_seconds=first_seconds,
        host_seconds=host_seconds,
        answer_bytes=answer_bytes,
        row_bytes=operation.row_bytes,
        target_seconds_at_1e9_on_h200=None if operation.target_ms is None else operation.target_ms / 1e3,
        **against_floor(row_bytes=operation.row_bytes, rows=rows, seconds=times.device, rates=rates),
    )
    return times


def time_operation(engines: Engines, operation: Operation, market: Market) -> Times:
    """Calls as they are, for what a caller waits; then a few with a mark around each kernel."""
    whole: list[float] = []
    while len(whole) < _LEAST_RUNS or (sum(whole) < _ENOUGH_SECONDS and len(whole) < _MOST_RUNS):
        start = perf_counter()
        operation.run(engines.device, market)
        whole.append(perf_counter() - start)
    laps: list[dict[str, float]] = []
    for _ in range(_LAP_RUNS):
        with engines.driver.laps() as seconds:
            operation.run(engines.device, market)
        laps.append(dict(seconds))
    middle = sorted(laps, key=lambda lap: sum(lap.values()))[len(laps) // 2]
    kernels = {name: seconds for name, seconds in middle.items() if name not in LINK}
    link = sum(seconds for name, seconds in middle.items() if name in LINK)
    return Times(statistics.median(whole), kernels, link, len(whole))


def _bytes_of(answer: Columns) -> int:
    return sum(column.nbytes for column in answer)
