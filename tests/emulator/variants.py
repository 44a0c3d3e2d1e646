"""Runs tests, in a process of their own, over kernels compiled with a sanitizer or those of another folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
Variant = Literal["plain", "address", "thread"]
Catcher = Literal["answers", "emulator", "address", "thread", "crash", "compiler"]
LIBRARIES: dict[Variant, tuple[str, ...]] = {
    "plain": (),
    "address": ("libasan.so", "libstdc++.so"),
    "thread": ("libtsan.so",),
}
"""What the process must load first: g++'s own sanitizer; for ASan also what throws exceptions."""
OPTIONS: dict[Variant, dict[str, str]] = {
    "plain": {},
    # Python keeps much until its end, which is no leak; UBSan's reports come with the way that leads there.
    "address": {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
    # What Python and its libraries do among their threads is not the question.
    "thread": {"TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1:detect_deadlocks=0"},
}
_FINDINGS: tuple[tuple[Catcher, re.Pattern[str]], ...] = (
    ("address", re.compile(r"ERROR: AddressSanitizer|: runtime error: ")),
    ("thread", re.compile(r"WARNING: ThreadSanitizer")),
    ("emulator", re.compile(r"^E +.*EmulatorError: (?:kernel|[\d,]+ bytes)", re.MULTILINE)),
    ("compiler", re.compile(r"RefusedError")),
)
_PASSED = re.compile(r"(\d+) passed")
_FRAME_OF_PYTHON = re.compile(r"^ +#\d+ .*(?:libpython|_ctypes|libffi|Python/|Objects/|Modules/|Include/|_start)")
_MOST_LINES = 60


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it.

    Attributes:
        passed: tests that passed.
        caught_by: who has found a fault; None when nobody has.
        report: of a fault, what was said of it.
        seconds: how long it took.
    """

    passed: int
    caught_by: Catcher | None
    report: str
    seconds: float


def missing(variant: Variant) -> str:
    """Why the variant cannot be run here; empty when it can."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        return "g++ is not installed, which compiles the kernels for the emulator"
    for name in LIBRARIES[variant]:
        if not Path(library(compiler, name)).is_absolute():
            return f"{compiler} has no {name} (Debian and Ubuntu: apt install libasan8 libtsan2 of its version)"
    return ""


def library(compiler: str, name: str) -> str:
    """Where the compiler keeps one of its libraries; the mere name when it has none."""
    run = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def environment(variant: Variant, folder: Path | None = None) -> dict[str, str]:
    """The variables with which a process runs a variant of the kernels (of a folder)."""
    variables = {**os.environ, **OPTIONS[variant], "ZEPTODB_EMULATOR": variant}
    if LIBRARIES[variant]:
        compiler = shutil.which(os.environ.get("CXX", "g++")) or "g++"
        variables["LD_PRELOAD"] = " ".join(library(compiler, name) for name in LIBRARIES[variant])
    if folder is not None:
        variables["ZEPTODB_KERNELS"] = str(folder)
    return variables


def run_tests(variant: Variant, arguments: tuple[str, ...], *, folder: Path | None = None, root: Path = ROOT) -> Run:
    """Run pytest with these arguments, over the kernels of `folder` or sources of `root`; the first fault ends it."""
    began = time.monotonic()
    # A library is built before the sanitizer's own is loaded, which would look at the compiler, too.
    build = subprocess.run(
        [sys.executable, "-c", "from tests.emulator.build import build; build()"],
        cwd=root, env={**environment(variant, folder), "LD_PRELOAD": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if build.returncode:
        return Run(0, "compiler", build.stderr[-4000:], time.monotonic() - began)
    # What a sanitizer says when it ends the process must not be held back: no capture.
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-v", "-s", "-p", "no:cacheprovider", *arguments],
        cwd=root, env=environment(variant, folder), capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    return judged(run.returncode, run.stdout + run.stderr, time.monotonic() - began)


def judged(code: int, output: str, seconds: float) -> Run:
    """What pytest's exit code and output say."""
    passed = sum(int(number) for number in _PASSED.findall(output))
    if code == 0 and passed:
        return Run(passed, None, "", seconds)
    if code == 0:
        return Run(0, "answers", "no test has run:\n" + output[-2000:], seconds)
    for catcher, pattern in _FINDINGS:
        found = pattern.search(output)
        if found:
            return Run(passed, catcher, _excerpt(output, found.start()), seconds)
    return Run(passed, "crash" if code < 0 else "answers", output[-4000:], seconds)


def _excerpt(output: str, place: int) -> str:
    """The test that ran, and the report without the frames of Python."""
    tests = re.findall(r"^(tests/\S+::\S+)", output[:place], re.MULTILINE)
    report = output[output.rfind("\n", 0, place) + 1 :].splitlines()
    lines = [line for line in report if not _FRAME_OF_PYTHON.match(line)]
    return "\n".join([*tests[-1:], *lines[:_MOST_LINES]])
