"""compute-sanitizer over small cases: memory errors, races, and reads of what nobody wrote."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.gpu.record import Record

ROOT = Path(__file__).resolve().parents[2]
TOOLS: dict[str, tuple[str, ...]] = {
    "memcheck": (),
    "racecheck": (),
    # Gaps between the arrays of an answer come to the host unwritten, and nobody reads them.
    "initcheck": ("--check-api-memory-access", "no"),
}
OPTIONS = ("--error-exitcode", "86", "--print-limit", "20", "--report-api-errors", "no", "--target-processes",
           "application-only")  # fmt: skip
CASES = (sys.executable, "-m", "bench.gpu.small_cases")
_SUMMARY = re.compile(r"(?:ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard)")
_TAIL_CHARACTERS = 3_000


def measure(record: Record, *, command: Sequence[str] | None = None, cases: Sequence[str] = CASES) -> None:
    """Write an entry per tool: errors found, and the end of what it printed if there were any.

    `command` is compute-sanitizer (None: the one on the PATH).
    """
    if command is None:
        found = shutil.which("compute-sanitizer")
        if found is None:
            record.skipped("compute-sanitizer", "not on the PATH")
            return
        command = (found,)
    tools = list(TOOLS.items())
    for place, (tool, more) in enumerate(tools):
        share = record.seconds_left / (len(tools) - place)
        try:
            ran = subprocess.run(
                [*command, "--tool", tool, *OPTIONS, *more, *cases], cwd=ROOT, capture_output=True, text=True,
                timeout=max(1.0, share - 1), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            record.skipped(tool, f"did not end within {share:.0f} s")
            continue
        printed = ran.stdout + ran.stderr
        errors = errors_in(printed)
        if errors is None:
            record.skipped(tool, f"gave no summary, exit status {ran.returncode}:\n{printed[-_TAIL_CHARACTERS:]}")
            continue
        is_clean = errors == 0 and ran.returncode == 0
        record.found(
            "sanitizer", tool=tool, errors=errors, exit_status=ran.returncode,
            output="" if is_clean else printed[-_TAIL_CHARACTERS:],
        )  # fmt: skip


def errors_in(printed: str) -> int | None:
    """How many errors or hazards the summary names; None where there is no summary."""
    counts = [int(a or b) for a, b in _SUMMARY.findall(printed)]
    return counts[-1] if counts else None
