"""Compiled kernels: made from one flat text each, and kept on disk under what they depend on.

CuPy's own cache does not look at included files, so that an edited header would leave stale kernels. The key here is a
digest of the flat text, the options, the architecture and the compiler's version. Where no folder can be written,
kernels are kept in memory for this process.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from zeptodb.backends.cuda.sources import KernelSource
from zeptodb.jit import cache_roots

OPTIONS = ("--std=c++17", "--fmad=false", "--device-int128", "--restrict")
"""For NVRTC. Without fused multiply-add, float results are those of the CPU as far as the order of additions is."""

Compiler = Callable[[KernelSource, tuple[str, ...]], bytes]
"""(source, options with the architecture) -> the binary; raises KernelCompileError."""


class CubinCache:
    """Binaries of one compiler for one architecture."""

    def __init__(
        self, compiler: Compiler, *, architecture: str, compiler_version: str, folder: Path | None = None
    ) -> None:
        """`architecture` as in "sm_90". folder: where to keep binaries; None: the user's cache folder."""
        self._compiler, self._architecture, self._version = compiler, architecture, compiler_version
        self._folder = cubin_folder() if folder is None else folder
        self._kept: dict[str, bytes] = {}

    def binary(self, source: KernelSource) -> bytes:
        """The compiled kernels of a translation unit."""
        key = self._key(source)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._read(key) or self._compile(source, key)
        return found

    def path(self, source: KernelSource) -> Path | None:
        """Where the binary is kept, whether or not it is there; None when no folder can be written."""
        return None if self._folder is None else self._folder / f"{source.name}-{self._key(source)}.cubin"

    def _key(self, source: KernelSource) -> str:
        parts = (source.text, OPTIONS, self._architecture, self._version)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]

    def _read(self, key: str) -> bytes | None:
        if self._folder is None:
            return None
        for path in self._folder.glob(f"*-{key}.cubin"):
            with suppress(OSError):
                return path.read_bytes() or None
        return None

    def _compile(self, source: KernelSource, key: str) -> bytes:
        binary = self._compiler(source, (*OPTIONS, f"--gpu-architecture={self._architecture}"))
        if self._folder is not None:
            with suppress(OSError):
                with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as scratch:
                    scratch.write(binary)
                # In one step: another process may read it at the same time.
                Path(scratch.name).replace(self._folder / f"{source.name}-{key}.cubin")
        return binary


@cache
def cubin_folder() -> Path | None:
    """The folder of binaries, made if need be; None when none can be written."""
    for root in cache_roots():
        folder = root / "cubins"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None
