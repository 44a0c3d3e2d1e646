"""The conformance suite and compute-sanitizer, as parts: what they count, and what they say when they cannot."""

from __future__ import annotations

import sys
from xml.etree import ElementTree as ET

import pytest

from bench.gpu import conformance, sanitizer
from bench.gpu.conformance import backend_of, tally

CASES = """<testsuite>
<testcase name="test_a[cpu-3]"/>
<testcase name="test_a[cpu-single-3]"/>
<testcase name="test_a[cuda-True-3]"><failure message="assert 1 == 2">long</failure></testcase>
<testcase name="test_b[cuda]"><error message="at setup"/></testcase>
<testcase name="test_c[cuda]"><skipped message="could not import 'duckdb'"/></testcase>
<testcase name="test_d[cuda]"><skipped message="could not import 'duckdb'"/></testcase>
<testcase name="test_e"/>
</testsuite>"""


def test_cases_are_counted_by_backend():
    found = tally(ET.fromstring(CASES).iter("testcase"))
    assert {name: (t.passed, len(t.failed), dict(t.skipped)) for name, t in found.items()} == {
        "cpu": (1, 0, {}),
        "cpu-single": (1, 0, {}),
        "cuda": (0, 2, {"could not import 'duckdb'": 2}),
        "other": (1, 0, {}),
    }
    assert found["cuda"].failed[0] == "test_a[cuda-True-3]: assert 1 == 2"


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("test_x[cpu]", "cpu"), ("test_x[cpu-single]", "cpu-single"), ("test_x[True-cuda-7]", "cuda"),
        ("test_x[case0-cpu-single]", "cpu-single"), ("test_cuda", "other"), ("test_x[barracuda]", "other"),
    ],
)  # fmt: skip
def test_the_backend_stands_in_the_name(name, backend):
    assert backend_of(name) == backend


@pytest.fixture
def only_cpu(monkeypatch):
    monkeypatch.setattr(conformance, "BACKENDS", ("cpu",))


def test_the_suite_runs_without_the_emulator(record, found, skipped, only_cpu):
    conformance.measure(record, tests=["tests/conformance/test_time_ranges.py"])
    counts = {entry["backend"]: entry for entry in found("conformance")}
    assert counts.keys() == {"cpu", "cpu-single"}
    assert counts["cpu"]["passed"] > 0
    assert counts["cpu"]["failures"] == []
    assert not skipped()


def test_a_suite_without_tests_of_a_backend_says_so(record, found, skipped, monkeypatch):
    monkeypatch.setattr(conformance, "BACKENDS", ("no_such_backend",))
    conformance.measure(record, tests=["tests/conformance/test_time_ranges.py"])
    assert skipped() == {"conformance on no_such_backend": "no test has this backend"}


def test_a_suite_that_does_not_end_in_time_is_skipped(record, found, skipped, only_cpu, monkeypatch):
    monkeypatch.setattr(conformance, "_SPARE_SECONDS", record.seconds)
    conformance.measure(record)
    assert skipped() == {"conformance on cpu": "the suite did not end within 1 s"}
    assert not found("conformance")


def test_a_suite_that_cannot_begin_fails_the_part(record, only_cpu):
    with pytest.raises(RuntimeError, match="pytest ended with 4"):
        conformance.measure(record, tests=["tests/no_such_folder"])


def test_what_the_suite_needs_is_named(record, skipped, monkeypatch):
    monkeypatch.setattr(conformance, "NEEDED", ("pytest", "no_such_module"))
    conformance.measure(record)
    assert skipped() == {"the conformance suite": "not installed: no_such_module"}


def stand_in(*lines: str, status: int = 0) -> tuple[str, ...]:
    """A compute-sanitizer that prints these lines after its own arguments."""
    return (sys.executable, "-c", f"import sys; print(sys.argv); print({chr(10).join(lines)!r}); sys.exit({status})")


def test_a_clean_run_of_each_tool(record, found):
    sanitizer.measure(record, command=stand_in("========= ERROR SUMMARY: 0 errors"), cases=("cases",))
    assert [(e["tool"], e["errors"], e["output"]) for e in found("sanitizer")] == [
        ("memcheck", 0, ""), ("racecheck", 0, ""), ("initcheck", 0, ""),
    ]  # fmt: skip


def test_errors_come_with_what_was_printed(record, found):
    lines = ("Invalid __global__ read of size 8", "========= ERROR SUMMARY: 3 errors")
    sanitizer.measure(record, command=stand_in(*lines, status=86), cases=())
    assert all(e["errors"] == 3 and "Invalid __global__ read" in e["output"] for e in found("sanitizer"))


def test_hazards_count_as_errors():
    assert sanitizer.errors_in("========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)") == 2
    assert sanitizer.errors_in("nothing of the kind") is None


def test_a_tool_that_does_not_work_here_is_skipped_with_its_words(record, found, skipped):
    sanitizer.measure(record, command=stand_in("Target application terminated", status=1), cases=())
    assert not found("sanitizer")
    assert "exit status 1" in skipped()["memcheck"]
    assert "Target application terminated" in skipped()["memcheck"]


def test_a_tool_that_hangs_is_skipped(record, skipped):
    record.seconds = 3.0
    sanitizer.measure(record, command=(sys.executable, "-c", "import time; time.sleep(60)"), cases=())
    assert all("did not end within" in reason for reason in skipped().values())
    assert skipped().keys() == set(sanitizer.TOOLS)


def test_without_the_tool_the_part_says_so(record, skipped, monkeypatch):
    monkeypatch.setattr(sanitizer.shutil, "which", lambda _: None)
    sanitizer.measure(record)
    assert skipped() == {"compute-sanitizer": "not on the PATH"}
