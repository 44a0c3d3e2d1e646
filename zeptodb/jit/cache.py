"""Where the object code of kernels is kept (see `zeptodb.jit`): one file per kernel, written in one step."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import llvmlite
import numpy as np

from zeptodb.jit.machine import processor

try:
    import fcntl
except ImportError:  # no such locks on this system: at worst two processes compile the same kernel
    fcntl = None  # type: ignore[assignment]

_PACKAGE = Path(__file__).resolve().parent.parent
_SUFFIX = ".kernel"
_CHECKSUM_BYTES = 4
_LENGTH_BYTES = 8


@cache
def source_digest() -> str:
    """Digest of every kernel source of the package and of what else decides what kernels compile to."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        source = path.read_bytes()
        if b"zeptodb.jit" in source:
            digest.update(str(path.relative_to(_PACKAGE)).encode())
            digest.update(source)
    versions = (sys.version, _numba_version(), llvmlite.__version__, np.__version__, platform.machine())
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    digest.update(repr((versions, processor(), settings)).encode())
    return digest.hexdigest()[:20]


def _numba_version() -> bytes:
    """What numba's own file says of its version, without importing numba; nothing where there is none."""
    spec = find_spec("numba")
    if spec is None or spec.origin is None:
        return b""
    try:
        return (Path(spec.origin).parent / "_version.py").read_bytes()
    except OSError:
        from importlib.metadata import version  # takes ten times as long

        return version("numba").encode()


@cache
def cache_directory() -> Path | None:
    """The folder of compiled kernels, made if need be; None when none can be written."""
    import tempfile  # takes longer than loading a kernel

    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


@cache
def _folders() -> tuple[Path, ...]:
    """Folders that may hold compiled kernels, the first one first."""
    return tuple(root / "kernels" / source_digest() for root in cache_roots())


def cache_roots() -> list[Path]:
    """Folders to try for compiled code, the first one first: $ZEPTODB_CACHE_DIR, or those of the user."""
    chosen = os.environ.get("ZEPTODB_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    roots = []
    if os.environ.get("XDG_CACHE_HOME"):
        roots.append(Path(os.environ["XDG_CACHE_HOME"]) / "zeptodb")
    try:
        home = Path.home()
    except RuntimeError:
        return roots
    roots.append(home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "zeptodb")
    return roots


def compiled_kernels(folder: Path) -> int:
    """How many kernels are in the folder."""
    return sum(path.suffix == _SUFFIX for path in folder.iterdir())


def read_objects(name: str) -> list[bytes] | None:
    """The object files of a kernel; None when they are not in the cache, or not whole."""
    for folder in _folders():
        with suppress(OSError):
            return _split((folder / (name + _SUFFIX)).read_bytes())
    return None


def _split(content: bytes) -> list[bytes] | None:
    checksum, rest = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    if checksum != _checksum(rest):
        return None
    objects, place = [], 0
    while place < len(rest):
        start = place + _LENGTH_BYTES
        place = start + int.from_bytes(rest[place:start], "little")
        objects.append(rest[start:place])
    return objects


def write_objects(name: str, objects: list[bytes]) -> None:
    """Keep the object files of a kernel, if there is a folder that takes them."""
    import tempfile

    folder = cache_directory()
    if folder is None:
        return
    rest = b"".join(len(code).to_bytes(_LENGTH_BYTES, "little") + code for code in objects)
    with suppress(OSError):  # a full disk, say: it is compiled again by the next process
        descriptor, path = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_checksum(rest) + rest)
            Path(path).replace(folder / (name + _SUFFIX))
        except BaseException:
            Path(path).unlink()
            raise


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """While one process compiles a kernel, others wait here for what it puts into the cache."""
    folder = cache_directory()
    if folder is None or fcntl is None:
        yield
        return
    with (folder / f"{name}.lock").open("wb") as lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
