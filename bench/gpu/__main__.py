"""`ci/gpu`: measure everything on this machine's CUDA device in at most 8 minutes, without a network.

Exit status 0 when all went well, 1 when there are problems (they stand in the report), 2 when there is no device.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from bench.gpu.machine import ROOT, commit_of, missing_device
from bench.gpu.part import PARTS
from bench.gpu.parts import Outcome, Part, part_of, run_parts
from bench.gpu.report import file_name, markdown, report_of, write_report

RESULTS = ROOT / "bench" / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, write the report after each of them, and print the tables."""
    options = parser().parse_args(arguments)
    missing = missing_device()
    if missing:
        print(f"ci/gpu: no CUDA device was found, nothing is measured: {missing}", file=sys.stderr)
        return 2
    parts = [part_of(name, PARTS[name]) for name in PARTS if name in (options.only or PARTS)]
    return measure(parts, out=options.out, commit=options.commit or commit_of())


def measure(parts: Sequence[Part], *, out: Path, commit: str) -> int:
    """Run `parts`, with the report in the folder `out`."""
    date, start = datetime.now(tz=UTC), monotonic()
    written: list[Path] = []

    def write(outcomes: list[Outcome]) -> None:
        last = outcomes[-1]
        print(f"  {last.name}: {last.status}, {last.seconds:.0f} s", file=sys.stderr, flush=True)
        report = report_of(outcomes, commit=commit, date=date, seconds=monotonic() - start)
        path = out / file_name(report)
        write_report(report, path)
        written[:] = [path]

    outcomes = run_parts(parts, after_each=write)
    report = report_of(outcomes, commit=commit, date=date, seconds=monotonic() - start)
    print(markdown(report))
    print(f"\n{written[0] if written else 'nothing'} written, {monotonic() - start:.0f} s in all.")
    return 1 if report["problems"] else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(
        prog="ci/gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder = Path(os.environ["OUT"]) if os.environ.get("OUT") else RESULTS
    line.add_argument("--out", type=Path, default=folder, metavar="FOLDER", help=f"for the report (default: {folder})")
    line.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    line.add_argument("--commit", metavar="HASH", help="what is measured, where git cannot tell")
    return line


if __name__ == "__main__":
    sys.exit(main())
