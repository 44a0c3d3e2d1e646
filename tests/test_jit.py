"""The disk cache of kernels: never stale, never needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "zeptodb"
CALLEE = "from zeptodb.jit import inline\n\n@inline\ndef step(x):\n    return x + {step}\n"
CALLER = """
from zeptodb.jit import kernel
from zeptodb.callee import step

@kernel
def run(x):
    return step(x)

answer = run(1)
print(answer, sum(run.stats.cache_hits.values()))
"""


def start_caller(root: Path, **environment: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if k not in {"HOME", "XDG_CACHE_HOME", "ZEPTODB_CACHE_DIR"}}
    return subprocess.Popen(
        [sys.executable, "-c", "import zeptodb.caller"],
        cwd=root,
        env=clean | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    told, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return told.split()


def run_caller(root: Path, **environment: str) -> list[str]:
    return finish(start_caller(root, **environment))


def small_package(root: Path) -> None:
    package = root / "zeptodb"
    package.mkdir()
    for name in ("__init__.py", "jit.py"):
        shutil.copy(PACKAGE / name, package / name)
    (package / "callee.py").write_text(CALLEE.format(step=1))
    (package / "caller.py").write_text(CALLER)


def test_an_edited_callee_in_another_file_is_compiled_anew_and_an_unchanged_one_is_not(tmp_path):
    small_package(tmp_path)
    cache = str(tmp_path / "cache")
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=cache)[0] == "2"
    answer, hits = run_caller(tmp_path, ZEPTODB_CACHE_DIR=cache)
    assert (answer, hits) == ("2", "1")
    (tmp_path / "zeptodb" / "callee.py").write_text(CALLEE.format(step=10))
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=cache)[0] == "11"


def test_kernels_run_without_home_and_without_a_writable_cache(tmp_path):
    small_package(tmp_path)
    (tmp_path / "file").write_text("in the way")
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=str(tmp_path / "file" / "cache"))[0] == "2"
    assert run_caller(tmp_path, HOME=str(tmp_path / "file"))[0] == "2"
    assert run_caller(tmp_path)[0] == "2"


def test_of_two_processes_one_compiles_a_kernel_and_the_other_loads_it(tmp_path):
    small_package(tmp_path)
    cache = str(tmp_path / "cache")
    processes = [start_caller(tmp_path, ZEPTODB_CACHE_DIR=cache) for _ in range(2)]
    assert sorted(finish(process) for process in processes) == [["2", "0"], ["2", "1"]]
