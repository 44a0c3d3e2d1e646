"""The kernels' sources: where they are, and each as one text, so that a compiler needs no include path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zeptodb.errors import BackendUnavailableError

_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.MULTILINE)
_ONCE = re.compile(r"^#pragma once\n", re.MULTILINE)
_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(')
_PACKAGE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class KernelSource:
    """One translation unit.

    Attributes:
        name: of its file, without the ending.
        text: the file with everything that it includes.
        kernels: names of the kernels in it.
    """

    name: str
    text: str
    kernels: tuple[str, ...]


def kernel_folder() -> Path:
    """Where the `.cu` files are: in the installed package, or, of an editable installation, in the repository."""
    for folder in (_PACKAGE / "_kernels", _PACKAGE.parent / "kernels"):
        if (folder / "device.cuh").is_file():
            return folder
    raise BackendUnavailableError(
        f"The CUDA kernels' sources are missing (looked in {_PACKAGE / '_kernels'}); install ZeptoDB again."
    )


@cache
def kernel_sources(folder: Path | None = None) -> tuple[KernelSource, ...]:
    """All translation units, by name."""
    found = folder or kernel_folder()
    sources = []
    for path in sorted(found.glob("*.cu")):
        text = flattened(path)
        sources.append(KernelSource(path.stem, text, tuple(_KERNEL.findall(text))))
    return tuple(sources)


def flattened(path: Path) -> str:
    """The text of a source file with each `#include "..."` replaced by that file, the first time it is named."""
    seen: set[str] = set()

    def expand(file: Path) -> str:
        def included(match: re.Match[str]) -> str:
            name = match.group(1)
            if name in seen:
                return ""
            seen.add(name)
            return expand(file.parent / name)

        return _INCLUDE.sub(included, _ONCE.sub("", file.read_text(encoding="utf-8")))

    return expand(path)
