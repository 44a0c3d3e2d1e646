"""Parts of the measurement, each a process with a time of its own: one that crashes or hangs takes nothing with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from bench.gpu.record import read_record

ROOT = Path(__file__).resolve().parents[2]
_TAIL_CHARACTERS = 2_000

Status = Literal["done", "failed", "timed out"]


@dataclass(frozen=True, slots=True)
class Part:
    """A process that writes what it finds with a Record.

    Attributes:
        name: of the part.
        seconds: that it may take, besides what the parts before it have left of theirs.
        command: gets `--out FILE --seconds N` appended.
    """

    name: str
    seconds: float
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a part ended, and what it had found by then.

    Attributes:
        name: of the part.
        status: done; failed (it says why in `reason`); timed out.
        reason: for anything but done: the end of what the process printed.
        seconds: that it took.
        found, skipped: its entries.
    """

    name: str
    status: Status
    reason: str
    seconds: float
    found: list[dict[str, Any]]
    skipped: list[dict[str, Any]]


def part_of(name: str, seconds: float) -> Part:
    """The part that `python -m bench.gpu.part NAME` runs."""
    return Part(name, seconds, (sys.executable, "-m", "bench.gpu.part", name))


def run_parts(parts: Sequence[Part], *, after_each: Callable[[list[Outcome]], None]) -> list[Outcome]:
    """Run the parts one after the other, and call `after_each` with all outcomes so far."""
    outcomes: list[Outcome] = []
    end = monotonic()
    for part in parts:
        end += part.seconds
        outcomes.append(run_part(part, seconds=end - monotonic()))
        after_each(outcomes)
    return outcomes


def run_part(part: Part, *, seconds: float) -> Outcome:
    """Run one part and end it, with everything that it has started, after `seconds`."""
    start = monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out, printed = Path(folder) / "record", Path(folder) / "printed"
        command = [*part.command, "--out", str(out), "--seconds", f"{seconds:.0f}"]
        with printed.open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
            status, reason = _wait(process, seconds)
        if status == "failed":
            reason += "\n" + printed.read_text(encoding="utf-8", errors="replace")[-_TAIL_CHARACTERS:].strip()
        found, skipped = read_record(out)
    return Outcome(part.name, status, reason, monotonic() - start, found, skipped)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> tuple[Status, str]:
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return "timed out", f"ended after {seconds:.0f} s"
    finally:
        _end(process)
    if code == 0:
        return "done", ""
    how = f"exit status {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
    return "failed", how


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it has started: they are a group of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
