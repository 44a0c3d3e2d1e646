"""Sources as one text each, and the cache of what they compile to."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from zeptodb.backends.cuda.compile import CubinCache
from zeptodb.backends.cuda.sources import KernelSource, kernel_folder, kernel_sources

LAUNCHED = re.compile(r"""launch\(\s*"(\w+)\"""")


class Compiler:
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, source: KernelSource, options: tuple[str, ...]) -> bytes:
        self.asked.append(source.name)
        return f"{source.name} {options[-1]}".encode()


def cache(compiler: Compiler, folder: Path | None, architecture: str = "sm_90", version: str = "13") -> CubinCache:
    return CubinCache(compiler, architecture=architecture, compiler_version=version, folder=folder)


def copied(folder: Path) -> Path:
    copy = folder / "kernels"
    shutil.copytree(kernel_folder(), copy)
    return copy


def test_each_source_is_one_text_without_includes_of_ours():
    for source in kernel_sources():
        assert '#include "' not in source.text, source.name
        assert source.kernels, source.name


def test_every_kernel_that_the_backend_launches_is_there():
    backend = Path(kernel_folder().parent) / "zeptodb" / "backends" / "cuda"
    launched = {name for path in backend.glob("*.py") for name in LAUNCHED.findall(path.read_text(encoding="utf-8"))}
    assert launched
    assert launched <= {name for source in kernel_sources() for name in source.kernels}


def test_a_binary_is_compiled_once_and_read_by_the_next_process(tmp_path):
    compiler, source = Compiler(), kernel_sources()[0]
    binary = cache(compiler, tmp_path).binary(source)
    assert cache(compiler, tmp_path).binary(source) == binary
    assert compiler.asked == [source.name]


@pytest.mark.parametrize("change", [{"architecture": "sm_80"}, {"version": "14"}])
def test_another_architecture_or_compiler_has_binaries_of_its_own(tmp_path, change):
    compiler, source = Compiler(), kernel_sources()[0]
    cache(compiler, tmp_path).binary(source)
    cache(compiler, tmp_path, **change).binary(source)
    assert len(compiler.asked) == 2


def test_an_edited_header_compiles_what_includes_it_anew(tmp_path):
    compiler, folder = Compiler(), copied(tmp_path)
    before = kernel_sources(folder)
    for source in before:
        cache(compiler, tmp_path).binary(source)
    header = folder / "device.cuh"
    header.write_text(header.read_text(encoding="utf-8") + "// edited\n", encoding="utf-8")
    kernel_sources.cache_clear()
    for source in kernel_sources(folder):
        cache(compiler, tmp_path).binary(source)
    assert len(compiler.asked) == 2 * len(before)


def test_a_folder_that_cannot_be_written_leaves_binaries_in_memory(tmp_path):
    compiler, source = Compiler(), kernel_sources()[0]
    kept = cache(compiler, tmp_path / "missing" / "folder")
    assert kept.binary(source) == kept.binary(source)
    assert compiler.asked == [source.name]
