"""The disk cache of kernels: never stale, never needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zeptodb import jit
from zeptodb.backends.finish import _add_halves
from zeptodb.storage.placing import rebuild_hash

PACKAGE = Path(__file__).resolve().parent.parent / "zeptodb"
CALLEE = "from zeptodb.jit import inline\n\n@inline\ndef step(x):\n    return x + {step}\n"
CALLER = """
import sys
from zeptodb.jit import kernel
from zeptodb.callee import step

@kernel
def run(x):
    return step(x)

answer = run(1)
print(answer, int(run.is_from_cache and "numba" not in sys.modules))
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
    for name in ("__init__.py", "forks.py"):
        shutil.copy(PACKAGE / name, package / name)
    shutil.copytree(PACKAGE / "jit", package / "jit", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "callee.py").write_text(CALLEE.format(step=1))
    (package / "caller.py").write_text(CALLER)


def test_an_edited_callee_in_another_file_is_compiled_anew_and_an_unchanged_one_is_not(tmp_path):
    small_package(tmp_path)
    cache = str(tmp_path / "cache")
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=cache)[0] == "2"
    answer, hits = run_caller(tmp_path, ZEPTODB_CACHE_DIR=cache)
    assert (answer, hits) == ("2", "1")  # and numba was not imported for it
    (tmp_path / "zeptodb" / "callee.py").write_text(CALLEE.format(step=10))
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=cache)[0] == "11"


def test_an_edit_that_keeps_the_size_and_the_time_of_a_file_is_seen(tmp_path):
    small_package(tmp_path)
    cache, callee = str(tmp_path / "cache"), tmp_path / "zeptodb" / "callee.py"
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=cache)[0] == "2"
    before = callee.stat()
    callee.write_text(CALLEE.format(step=2))
    os.utime(callee, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=cache)[0] == "3"


def test_a_damaged_note_about_the_sources_is_written_anew(tmp_path):
    small_package(tmp_path)
    cache = tmp_path / "cache"
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=str(cache)) == ["2", "0"]
    (note,) = cache.rglob("sources-*")
    content = note.read_bytes()
    for damaged in (b"", b"\xff one", content[:-5] + b" two three"):
        note.write_bytes(damaged)
        assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=str(cache)) == ["2", "1"]
        assert note.read_bytes() == content


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


def test_a_damaged_file_of_the_cache_is_compiled_anew(tmp_path):
    small_package(tmp_path)
    cache = tmp_path / "cache"
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=str(cache)) == ["2", "0"]
    (file,) = cache.rglob("*.kernel")
    content = file.read_bytes()
    file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=str(cache)) == ["2", "0"]
    file.write_bytes(content[:100])
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=str(cache)) == ["2", "0"]
    assert run_caller(tmp_path, ZEPTODB_CACHE_DIR=str(cache)) == ["2", "1"]


WORDS = np.zeros(2, dtype=np.int64)
READ_ONLY = np.zeros(2, dtype=np.int64)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (WORDS,) * 4,
        (WORDS, WORDS, [0, 0]),
        (WORDS, WORDS, WORDS.astype(np.int32)),
        (WORDS, WORDS, WORDS.astype(np.float64)),
        (WORDS, WORDS, WORDS.astype(">i8")),
        (WORDS, WORDS, WORDS[::-1]),
        (WORDS, WORDS, WORDS.reshape(1, 2)),
        (WORDS, WORDS, READ_ONLY),
        (WORDS, WORDS, None),
    ],
    ids=str,
)
def test_a_kernel_refuses_arguments_of_other_types(arguments):
    _add_halves(WORDS, WORDS, WORDS.copy())
    with pytest.raises(TypeError, match=r"zeptodb\.backends\.finish\._add_halves"):
        _add_halves(*arguments)


def test_a_kernel_refuses_scalars_that_are_no_numbers_and_integers_beyond_int64():
    rebuild_hash(WORDS, 0, 4, np.zeros(16, dtype=np.int32))
    for count in ("1", 1.5, None, 2**63):
        with pytest.raises(TypeError, match="count"):
            rebuild_hash(WORDS, count, 4, np.zeros(16, dtype=np.int32))


def test_a_kernel_that_allocates_is_an_error():
    @jit.kernel
    def allocate(count: int) -> int:
        return len(np.zeros(count))

    with pytest.raises(Exception, match=r"No implementation of function.*zeros"):
        allocate(3)
    jit.KERNELS.remove(allocate)


@pytest.mark.parametrize("folder", sorted(jit.cache.WITHOUT_KERNELS - {"__pycache__"}))
def test_no_kernel_hides_where_none_is_looked_for(folder):
    files = list((PACKAGE / folder).rglob("*.py"))
    assert files
    assert [file for file in files if "zeptodb.jit" in file.read_text("utf-8")] == []
