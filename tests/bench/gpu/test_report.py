"""The report: its shape, its name, its tables, and what `ci/gpu` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest

from bench.gpu import __main__ as command
from bench.gpu import link, operations, part
from bench.gpu.machine import commit_of, missing_device, versions
from bench.gpu.part import ON_DEVICE, PARTS
from bench.gpu.parts import Outcome, Part
from bench.gpu.record import read_record
from bench.gpu.report import file_name, markdown, problems, report_of, write_report

ROOT = Path(__file__).resolve().parents[3]
DATE = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
DEVICE = {"what": "device", "name": "NVIDIA H200", "driver": "580.159"}
VERSIONS = {"what": "versions", "python": "3.12.3", "numba": "0.64", "duckdb": None}


def outcome(name: str, *found: dict, status: str = "done", reason: str = "", skipped: tuple = ()) -> Outcome:
    return Outcome(name, status, reason, 1.0, list(found), list(skipped))  # type: ignore[arg-type]


def report(*outcomes: Outcome):
    return report_of([outcome("machine", DEVICE, VERSIONS), *outcomes], commit="abc", date=DATE, seconds=12.34)


def test_the_report_names_what_was_measured():
    found = report(outcome("link", skipped=({"skipped": "x", "reason": "y"},)))
    assert {name: found[name] for name in ("format", "commit", "date", "seconds", "device", "driver")} == {
        "format": 1, "commit": "abc", "date": "2026-11-25T10:30:00+00:00", "seconds": 12.3, "device": "NVIDIA H200",
        "driver": "580.159",
    }  # fmt: skip
    assert found["versions"] == {"python": "3.12.3", "numba": "0.64", "duckdb": None}
    assert [entry["name"] for entry in found["parts"]] == ["machine", "link"]
    assert found["parts"][1]["skipped"] == [{"skipped": "x", "reason": "y"}]
    assert found["problems"] == []
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("device", "name"),
    [("NVIDIA H100 80GB HBM3", "gpu-nvidia-h100-80gb-hbm3-2026-11-25.json"), (None, "gpu-unknown-2026-11-25.json")],
)
def test_the_file_is_named_by_device_and_date(device, name):
    assert file_name(report() | {"device": device}) == name


def test_a_part_that_did_not_end_well_is_a_problem():
    bad = [outcome("link", status="timed out", reason="ended after 2 s"), outcome("x", status="failed", reason="1\nz")]
    assert problems(bad) == ["link: timed out: ended after 2 s", "x: failed: 1\nz"]


def test_wrong_answers_and_errors_of_tools_are_problems():
    found = problems(
        [
            outcome("operations", {"what": "failure", "operation": "vwap", "rows": 10, "error": "differs"}),
            outcome("conformance", {"what": "conformance", "backend": "cuda", "failed": 2, "failures": ["a", "b"]}),
            outcome("sanitizer", {"what": "sanitizer", "tool": "memcheck", "errors": 1, "exit_status": 86}),
            outcome("sanitizer", {"what": "sanitizer", "tool": "racecheck", "errors": 0, "exit_status": 0}),
        ]
    )
    assert found == [
        "vwap, 10 rows: differs",
        "conformance: 2 tests fail on cuda: a",
        "memcheck: 1 errors, exit status 86",
    ]


def test_the_tables_show_what_the_parts_found(record, engines):
    operations.measure(record, engines, sizes=(60, 600), symbols=3)
    link.measure(record, engines, sizes=(4096,), slabs=1, launches=10, overlap_rows=600, overlap_bytes=4096)
    checks = (
        {"what": "conformance", "backend": "cuda", "passed": 5, "failed": 0, "skipped": 2, "failures": []},
        {"what": "sanitizer", "tool": "memcheck", "errors": 0, "exit_status": 0, "output": ""},
        {"what": "opponent", "opponent": "CuPy", "version": "14.2.0", "operation": "vwap", "rows": 600,
         "seconds": 0.002, "our_seconds": 0.001, "ratio": 2.0, "is_on_device": True},
    )  # fmt: skip
    lines = markdown(
        report(outcome("all", *read_record(record.path)[0], *checks, skipped=({"skipped": "ncu", "reason": "no"},)))
    )
    assert "NVIDIA H200, 2026-11-25, commit abc" in lines
    assert "duckdb" not in lines.splitlines()[0]
    assert "| rows | 6e1 | 6e2 |" in lines
    from_summaries = next(line for line in lines.splitlines() if "from summaries" in line)
    assert from_summaries.startswith("| vwap, sum by symbol, from summaries | - · ")
    assert "| vwap | 600 | 1.00 ms | - | 2.00 ms (2.00x) |" in lines
    assert "| page-locked to device | 4,096 |" in lines
    assert "| page-locked to device, queries beside | 131,072 |" in lines
    assert "- conformance on cuda: 5 passed, 0 failed, 2 skipped" in lines
    assert "- memcheck: 0 errors" in lines
    assert "- ncu: no" in lines
    assert "Problems" not in lines


def test_a_report_is_written_whole(tmp_path):
    path = tmp_path / "new" / "r.json"
    write_report(report(), path)
    write_report(report(outcome("link")), path)
    assert [entry["name"] for entry in json.loads(path.read_text())["parts"]] == ["machine", "link"]
    assert list(path.parent.iterdir()) == [path]


def test_the_command_writes_after_each_part_and_tells_of_problems(tmp_path, capsys):
    line = json.dumps({**DEVICE}) + "\n"
    body = f"import sys; open(sys.argv[sys.argv.index('--out') + 1], 'w').write({line!r})"
    parts = [Part("machine", 20, (sys.executable, "-c", body)), Part("link", 20, (sys.executable, "-c", "1 / 0"))]
    assert command.measure(parts[:1], out=tmp_path, commit="abc") == 0
    assert command.measure(parts, out=tmp_path, commit="abc") == 1
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("gpu-nvidia-h200-")
    found = json.loads(path.read_text())
    assert [entry["status"] for entry in found["parts"]] == ["done", "failed"]
    assert "ZeroDivisionError" in found["problems"][0]
    assert str(path) in capsys.readouterr().out


@pytest.mark.skipif(not missing_device(), reason="this machine has a CUDA device")
def test_without_a_device_nothing_is_measured(tmp_path):
    environment = {**os.environ, "OUT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "ci/gpu"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "ci/gpu: no CUDA device was found, nothing is measured: " in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_handed_the_engines(tmp_path, make_engines, monkeypatch):
    engines = make_engines(memory_limit=1 << 20)
    monkeypatch.setattr("bench.gpu.engines.real_engines", lambda: nullcontext(engines))
    out = tmp_path / "record"
    assert part.main(["operations", "--out", str(out), "--seconds", "0"]) == 0
    found, skipped = read_record(out)
    assert [entry["what"] for entry in found] == ["copy within the device"]
    assert [entry["skipped"] for entry in skipped] == [f"{rows:,} rows" for rows in operations.SIZES]


def test_every_part_is_a_module_that_measures():
    for name in PARTS:
        assert callable(import_module(f"bench.gpu.{name}").measure)


def test_all_parts_together_take_less_than_eight_minutes():
    assert sum(PARTS.values()) <= 8 * 60 - 10
    assert PARTS.keys() >= ON_DEVICE


def test_the_commit_and_the_versions_are_those_of_this_checkout(tmp_path):
    assert commit_of(tmp_path) == "unknown"
    assert versions()["numpy"]
    assert versions()["python"] == ".".join(map(str, sys.version_info[:3]))
