"""`python -m bench`: ZeptoDB beside DuckDB and polars, one table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from time import perf_counter

import polars as pl

import zeptodb
from bench.data import Trades
from bench.harness import HEADERS, Measured, as_json, measure, spreads, table_rows
from zeptodb.demo import environment
from zeptodb.demo.text_table import format_table
from zeptodb.errors import ZeptoError

OPERATIONS = (
    "vwap",
    "bars",
    "time_range",
    "filter",
    "group",
    "topk",
    "asof",
    "window",
    "repeat",
    "fallback",
    "composition",
    "startup",
    "ingest",
    "direct",
    "summaries",
)
LONG = ("growth",)
"""Takes a minute or two and up to 5 GiB; runs only when asked for."""
ONLY = f"{', '.join(OPERATIONS)}; not among them unless named: {', '.join(LONG)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns 1 when answers differ or a statement fails."""
    options = parser().parse_args(arguments)
    trades = Trades(options.rows, options.symbols)
    header = describe(trades, repeat=options.repeat)
    print("\n".join(header), flush=True)
    start = perf_counter()
    measured: list[Measured] = []
    try:
        for name in options.only or OPERATIONS:
            for benchmark in import_module(f"bench.{name}").benchmarks(trades):
                measured.append(measure(benchmark, repeat=options.repeat))
                print(f"  {benchmark.name}: done", file=sys.stderr, flush=True)
    except ZeptoError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print("\n" + format_table(HEADERS, [row for m in measured for row in table_rows(m)], text_columns=2))
    print("".join(f"\n{line}" for line in spreads(measured)))
    print(f"\n{perf_counter() - start:.0f} s in all.")
    if options.json is not None:
        report = {"date": datetime.now(tz=UTC).isoformat(timespec="seconds"), "header": header}
        options.json.write_text(json.dumps({**report, "benchmarks": as_json(measured)}, indent=2), encoding="utf-8")
    return 0


def describe(trades: Trades, *, repeat: int) -> list[str]:
    """What is measured, on what."""
    with zeptodb.Pipeline() as pipeline:
        pipeline.warm_up()
        device = pipeline.backend.device
    threads = trades.connection.execute("SELECT current_setting('threads')").fetchall()
    rows = f"{trades.rows:,} rows x {trades.symbols:,} symbols of int64 ticks"
    polars = f"polars {pl.thread_pool_size()} threads, by the faster of its engines"
    return [
        f"{environment.machine()}; {datetime.now(tz=UTC):%Y-%m-%d}",
        ", ".join(f"{name} {number}" for name, number in environment.versions().items()),
        f"{rows}; median of {repeat} runs in turns, answers compared first.",
        f"ZeptoDB {device}; DuckDB {threads[0][0]} threads; {polars}.",
    ]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    line.add_argument("--rows", type=count, default=10_000_000, metavar="N", help="trades (default 10,000,000)")
    line.add_argument("--symbols", type=count, default=1_000, metavar="N", help="symbols (default 1,000)")
    line.add_argument("--only", nargs="+", choices=OPERATIONS + LONG, metavar="NAME", help=ONLY)
    line.add_argument("--repeat", type=count, default=7, metavar="N", help="timed runs of each (default 7)")
    line.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    return line


def count(text: str) -> int:
    """A whole number of at least 1, with _ or , between digits if one likes."""
    value = int(text.replace("_", "").replace(",", ""))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
