"""The conformance suite with the host's backend and the device's: what passed, failed and was skipped, per backend."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

from bench.gpu.record import Record

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("cuda", "cpu")
SUITES = ("tests/conformance", "tests/backends/test_summaries.py")
NEEDED = ("pytest", "hypothesis", "pytest_timeout")
_MOST_FAILURES = 20
_SPARE_SECONDS, _LEAST_SECONDS = 5, 10
_NO_TESTS = 5
"""pytest's exit status when none was selected."""


@dataclass(slots=True)
class Tally:
    """Tests of one backend."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def measure(record: Record, *, tests: Sequence[str] = SUITES) -> None:
    """Run the suite and write an entry per backend; the device's backend first, in case time runs out."""
    missing = [module for module in NEEDED if find_spec(module) is None]
    if missing:
        record.skipped("the conformance suite", f"not installed: {', '.join(missing)}")
        return
    for backend in BACKENDS:
        if record.has_time(f"conformance on {backend}", _LEAST_SECONDS):
            _run(record, backend, tests)


def _run(record: Record, backend: str, tests: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Other versions of packages than ours warn of other things; warnings fail tests in `make test`.
        command = [
            sys.executable, "-m", "pytest", "-q", *tests, "-k", backend, f"--junitxml={report}", "-p",
            "no:cacheprovider", "-o", "minversion=7", "-o", "filterwarnings=default",
        ]  # fmt: skip
        seconds = max(1.0, record.seconds_left - _SPARE_SECONDS)
        try:
            ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            record.skipped(f"conformance on {backend}", f"the suite did not end within {seconds:.0f} s")
            return
        if ran.returncode == _NO_TESTS:
            record.skipped(f"conformance on {backend}", "no test has this backend")
            return
        if ran.returncode not in (0, 1) or not report.exists():  # 1: tests fail
            raise RuntimeError(f"pytest ended with {ran.returncode}:\n{(ran.stdout + ran.stderr)[-2000:]}")
        tallies = tally(ET.parse(report).getroot().iter("testcase"))
    for name, found in sorted(tallies.items()):
        record.found(
            "conformance", backend=name, passed=found.passed, failed=len(found.failed),
            skipped=sum(found.skipped.values()), failures=found.failed[:_MOST_FAILURES],
        )  # fmt: skip
        for reason, count in found.skipped.items():
            record.skipped(f"{count} conformance tests on {name}", reason)


def tally(cases: Iterable[ET.Element]) -> dict[str, Tally]:
    """Count test cases of a JUnit report by the backend that stands in their names; "other" for none."""
    tallies: dict[str, Tally] = {}
    for case in cases:
        name = case.get("name", "")
        found = tallies.setdefault(backend_of(name), Tally())
        skipped = case.find("skipped")
        failure = case.find("failure") if case.find("failure") is not None else case.find("error")
        if failure is not None:
            found.failed.append(f"{name}: {(failure.get('message') or '')[:300]}")
        elif skipped is not None:
            found.skipped[skipped.get("message") or "no reason given"] += 1
        else:
            found.passed += 1
    return tallies


def backend_of(name: str) -> str:
    """The backend in a test's name: `test_x[cpu-single-3]` is of cpu-single."""
    parameters = name.partition("[")[2].rstrip("]")
    for backend in ("cpu-single", "cpu", "cuda"):
        if re.search(rf"(^|-){backend}(-|$)", parameters):
            return backend
    return "other"
