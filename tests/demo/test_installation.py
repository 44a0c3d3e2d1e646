"""`zeptodb info` tells what is there, and `zeptodb warmup` leaves nothing to compile."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zeptodb
from zeptodb import cli, installation, jit
from zeptodb.installation import Installation, KernelCache, as_text, find_installation, format_bytes


def facts(**changes: object) -> Installation:
    cache = KernelCache(Path("kernels"), 1_500_000, 3, 21)
    known = {
        "versions": {"zeptodb": "0.1.0", "plotly": None},
        "system": "System",
        "processor": "Processor",
        "cores": 2,
        "memory_bytes": 16 * 2**30,
        "available_memory_bytes": None,
        "backend": "cpu",
        "device": "2 threads",
        "cuda": "",
        "cache": cache,
    }
    return Installation(**(known | changes))


def test_info_names_versions_backend_memory_cache_and_what_cuda_lacks(capsys):
    assert cli.main(["info"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["python"].endswith(platform.python_version())
    assert lines["numpy"].endswith(np.__version__)
    for package in ("zeptodb", "numba", "duckdb", "polars", "pandas", "pyarrow"):
        assert package in lines
    assert "cores for this process" in lines["processor"]
    assert "GiB" in lines["memory"]
    assert "kernels" in lines["kernel"]
    assert {"backend", "CUDA"} <= lines.keys()


def test_info_as_json_holds_the_same_facts(capsys):
    assert cli.main(["info", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["versions"]["zeptodb"] == zeptodb.__version__
    assert told["versions"]["python"] == platform.python_version()
    assert told["cores"] == installation.core_count()
    assert 0 < told["available_memory_bytes"] <= told["memory_bytes"] or sys.platform != "linux"
    assert told["cache"]["directory"] == str(jit.cache_directory())
    assert isinstance(told["cache"]["is_warm"], bool)
    assert told["cache"]["kernels"] == len(jit.KERNELS)


def test_a_backend_that_cannot_be_had_is_part_of_the_answer(monkeypatch):
    monkeypatch.setenv("ZEPTODB_BACKEND", "nonsense")
    found = find_installation()
    assert found.backend.startswith("none: backend is 'nonsense'")
    assert found.device is None
    assert "backend       none: backend is 'nonsense'" in as_text(found)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "plotly        not installed"),
        ({}, "backend       cpu (2 threads)"),
        ({}, "CUDA          ready"),
        ({}, "memory        16.0 GiB"),
        ({"memory_bytes": None}, "memory        unknown"),
        ({}, "kernel cache  kernels, 1.4 MiB, 3 of 21 kernels: run `zeptodb warmup` to compile the rest"),
        ({"cache": KernelCache(Path("kernels"), 10, 21, 21)}, "kernel cache  kernels, 10 B, 21 of 21 kernels: warm"),
        ({"cache": KernelCache(None, 0, 0, 21)}, "kernel cache  none: no folder can be written"),
    ],
)
def test_each_fact_is_a_line(changes, line):
    assert any(told.startswith(line) for told in as_text(facts(**changes)).splitlines())


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (5 * 2**40, "5120.0 GiB")]
)
def test_sizes_have_a_fitting_unit(size, text):
    assert format_bytes(size) == text


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_warmup_compiles_once_and_leaves_nothing_to_compile(tmp_path):
    first, again = (run("warmup", "--backend", "cpu", cache=tmp_path) for _ in range(2))
    assert first.returncode == again.returncode == 0
    assert "First run of this version on this machine: compiling" in first.stdout
    assert "kernels compiled in" in first.stdout
    assert "kernels loaded from the cache in" in again.stdout
    assert str(tmp_path) in again.stdout
    told = json.loads(run("info", "--json", cache=tmp_path).stdout)["cache"]
    assert told["is_warm"]
    assert told["compiled"] == told["kernels"] > 0
    assert told["size_bytes"] > 100_000


def test_warmup_that_can_keep_nothing_fails(capsys, monkeypatch):
    monkeypatch.setattr(jit, "cache_directory", lambda: None)
    monkeypatch.setattr(zeptodb.Pipeline, "warm_up", lambda pipeline: None)
    assert cli.main(["warmup", "--backend", "cpu"]) == 1
    printed = capsys.readouterr()
    assert "for this run only, as no folder can be written" in printed.out
    assert "name one in $ZEPTODB_CACHE_DIR" in printed.err


def run(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    root = Path(zeptodb.__file__).resolve().parents[1]
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "zeptodb.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ZEPTODB_CACHE_DIR": str(cache), "PYTHONPATH": str(root)},
    )
