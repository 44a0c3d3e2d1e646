"""Runs benchmarks: answers compared first, then contenders timed in turns; prints a line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zeptodb
from zeptodb.demo.comparison import Contender, Timing, first_answers, time_in_turns
from zeptodb.demo.contenders import DUCKDB, POLARS, ZEPTODB
from zeptodb.demo.text_table import format_ratio, format_seconds

HEADERS = ("work", "ran on", ZEPTODB, DUCKDB, POLARS, "vs better", "rate")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One piece of work.

    Attributes:
        name: what it does, in the words of the speed table.
        contenders: ours first; rivals may be missing.
        keys: columns that tell the rows of the answer apart.
        rows: rows per call, for the rate; 0: the rate says nothing.
        row_bytes: bytes that a row must move at least, for a rate in GB/s instead.
        ran_on: engine of ZeptoDB.
        beside: whether rivals end with the same rows by less work: their time stands beside ours without a ratio.
        calls: operations within one call, so that times are per operation.
        most_runs: how often it is timed at most; 0: as often as is asked for.
        series: names of series of the same work over more or fewer rows that it belongs to; see `spreads`.
        yardstick: other work, timed in turns with the contenders, that their times are held against.
    """

    name: str
    contenders: tuple[Contender, ...]
    keys: tuple[str, ...] = ()
    rows: int = 0
    row_bytes: int = 0
    ran_on: str = ""
    beside: bool = False
    calls: int = 1
    most_runs: int = 0
    series: tuple[str, ...] = ()
    yardstick: Contender | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A benchmark and its times, in seconds per operation."""

    benchmark: Benchmark
    timings: tuple[Timing, ...]
    yardstick: Timing | None = None

    def median(self, name: str) -> float | None:
        """Median seconds of a contender; None when it took no part."""
        return next((t.median for t in self.timings if t.name == name), None)

    @property
    def ratio(self) -> float | None:
        """How many times faster ZeptoDB is than the faster rival; None where there is none or it does other work."""
        rivals = [t.median for t in self.timings[1:]]
        return None if self.benchmark.beside or not rivals else min(rivals) / self.timings[0].median


def ran_on(pipeline: zeptodb.Pipeline, sql: str) -> str:
    """The engine that answers a statement."""
    return pipeline.execute(sql).raise_for_error().engine


def measure(benchmark: Benchmark, *, repeat: int) -> Measured:
    """Compare the answers, then time. Raises AnswersDifferError."""
    first_answers(benchmark.contenders, keys=benchmark.keys, work=benchmark.name)
    runs = min(repeat, benchmark.most_runs or repeat)
    others = () if benchmark.yardstick is None else (benchmark.yardstick,)
    timings = time_in_turns((*benchmark.contenders, *others), repeat=runs)
    per_operation = tuple(Timing(t.name, tuple(s / benchmark.calls for s in t.samples)) for t in timings)
    count = len(benchmark.contenders)
    return Measured(benchmark, per_operation[:count], per_operation[count] if others else None)


def table_rows(measured: Measured) -> list[list[str]]:
    """The cells under HEADERS, and those of the yardstick."""
    rows, yardstick = [_table_row(measured)], measured.yardstick
    if yardstick is not None:
        ratio = format_ratio(yardstick.median / measured.timings[0].median)
        rate = _rate(measured.benchmark, yardstick.median)
        rows.append([f"(yardstick: {yardstick.name})", "-", format_seconds(yardstick.median), "-", "-", ratio, rate])
    return rows


def _table_row(measured: Measured) -> list[str]:
    benchmark = measured.benchmark
    medians = [measured.timings[0].median, *(measured.median(name) for name in (DUCKDB, POLARS))]
    cells = ["-" if median is None else format_seconds(median) for median in medians]
    ratio = "-" if measured.ratio is None else format_ratio(measured.ratio)
    return [benchmark.name, benchmark.ran_on or "-", *cells, ratio, _rate(benchmark, measured.timings[0].median)]


def spreads(measured: Sequence[Measured]) -> list[str]:
    """A line for each series: how far its cost per row varies."""
    costs: dict[str, list[float]] = {}
    for m in measured:
        for name in m.benchmark.series:
            costs.setdefault(name, []).append(m.timings[0].median / m.benchmark.rows * 1e9)
    return [
        f"{name}: {min(ns):.2f} to {max(ns):.2f} ns a row, a factor of {max(ns) / min(ns):.1f}"
        for name, ns in costs.items()
    ]


def as_json(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Everything that was measured, with every sample."""
    return [
        {
            "work": m.benchmark.name,
            "ran_on": m.benchmark.ran_on,
            "rows": m.benchmark.rows,
            "other_work_beside": m.benchmark.beside,
            "ratio_to_better": m.ratio,
            "seconds": {
                t.name: {"median": t.median, "samples": list(t.samples)}
                for t in (*m.timings, *([] if m.yardstick is None else [m.yardstick]))
            },
        }
        for m in measured
    ]


def _rate(benchmark: Benchmark, seconds: float) -> str:
    if not benchmark.rows:
        return "-"
    if benchmark.row_bytes:
        return f"{benchmark.rows * benchmark.row_bytes / seconds / 1e9:.1f} GB/s"
    return f"{benchmark.rows / seconds / 1e6:,.1f} M rows/s"
