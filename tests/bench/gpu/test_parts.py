"""A part that crashes or hangs is noted with what it had found, and the others run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from bench.gpu.parts import Part, run_part, run_parts
from bench.gpu.record import Record, read_record

BEGIN = """
import json, os, signal, subprocess, sys, time
out = sys.argv[sys.argv.index("--out") + 1]
seconds = float(sys.argv[sys.argv.index("--seconds") + 1])
def found(what, **values):
    open(out, "a").write(json.dumps({"what": what, **values}) + "\\n")
"""


def part(name: str, body: str, *, seconds: float = 20.0) -> Part:
    return Part(name, seconds, (sys.executable, "-c", BEGIN + body))


def run(body: str, *, seconds: float = 20.0):
    return run_part(part("p", body), seconds=seconds)


def test_what_a_part_finds_and_skips_is_read():
    outcome = run('found("a", x=1); open(out, "a").write(json.dumps({"skipped": "b", "reason": "c"}) + "\\n")')
    assert (outcome.status, outcome.reason) == ("done", "")
    assert outcome.found == [{"what": "a", "x": 1}]
    assert outcome.skipped == [{"skipped": "b", "reason": "c"}]


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ('raise ValueError("no such thing")', "ValueError: no such thing"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV"),
        ("sys.exit(3)", "exit status 3"),
    ],
)
def test_a_part_that_crashes_keeps_what_it_had_found(body, how):
    outcome = run('found("a"); open(out, "a").write("{\\"what\\": "); ' + body)
    assert outcome.status == "failed"
    assert how in outcome.reason
    assert outcome.found == [{"what": "a"}]


def test_a_part_that_hangs_is_ended_with_all_that_it_has_started(tmp_path):
    child = tmp_path / "child"
    start = monotonic()
    outcome = run(
        'found("a")\n'
        'process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])\n'
        f'open({str(child)!r}, "w").write(str(process.pid))\n'
        "time.sleep(60)",
        seconds=2.0,
    )
    assert outcome.status == "timed out"
    assert outcome.reason == "ended after 2 s"
    assert outcome.found == [{"what": "a"}]
    assert monotonic() - start < 30
    assert is_gone(int(child.read_text()))


def is_gone(process: int) -> bool:
    """Whether a killed process has ended; nobody may have waited for it yet."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        sleep(0.05)
    return not os.path.exists(f"/proc/{process}")  # noqa: PTH110 - of a process, not of a file


def test_the_others_run_and_each_step_is_told():
    steps: list[list[str]] = []
    parts = [part("first", "sys.exit(1)"), part("second", 'found("a")')]
    outcomes = run_parts(parts, after_each=lambda so_far: steps.append([o.name for o in so_far]))
    assert [(o.name, o.status) for o in outcomes] == [("first", "failed"), ("second", "done")]
    assert steps == [["first"], ["first", "second"]]


def test_a_part_may_use_the_time_that_those_before_it_have_left():
    parts = [part("first", "", seconds=10), part("second", 'found("s", seconds=seconds)', seconds=10)]
    second = run_parts(parts, after_each=lambda _: None)[1]
    assert 12 < second.found[0]["seconds"] <= 20


def test_a_record_tells_what_there_is_no_time_for(tmp_path):
    now = [0.0]
    record = Record(tmp_path / "r", 10.0, clock=lambda: now[0])
    now[0] = 7.0
    assert record.has_time("something short", 2.0)
    assert not record.has_time("something long", 5.0)
    record.found("x", y=[1])
    assert read_record(record.path) == (
        [{"what": "x", "y": [1]}],
        [{"skipped": "something long", "reason": "would take about 5 s, 3 s were left"}],
    )


def test_a_line_that_was_not_finished_is_left_out(tmp_path):
    path = tmp_path / "r"
    path.write_text(json.dumps({"what": "x"}) + "\n" + '{"what": "y"')
    assert read_record(path) == ([{"what": "x"}], [])
    assert read_record(tmp_path / "missing") == ([], [])
