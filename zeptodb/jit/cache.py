"""Where the object code of kernels is kept (see `zeptodb.jit`): one file per kernel, written in one step."""

from __future__ import annotations

import os
import platform
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec, source_hash
from pathlib import Path

import llvmlite
import numpy as np

from zeptodb.jit.machine import processor

try:
    import fcntl
except ImportError:  # no such locks on this system: at worst two processes compile the same kernel
    fcntl = None  # type: ignore[assignment]

_PACKAGE = Path(__file__).resolve().parent.parent
WITHOUT_KERNELS = frozenset({"__pycache__", "demo", "server", "sql"})
"""Folders of which no file names `zeptodb.jit`: more than half of all."""

_SUFFIX = ".kernel"
_CHECKSUM_BYTES = 4
_LENGTH_BYTES = 8


@cache
def source_digest() -> str:
    """Digest of every kernel source of the package and of what else decides what kernels compile to."""
    versions = (sys.version, _numba_version(), llvmlite.__version__, np.__version__, platform.machine())
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    return f"{_digest_of_sources()}-{_short_digest((versions, processor(), settings))}"


def _digest_of_sources() -> str:
    """Digest of every file of the package that names `zeptodb.jit`.

    To read all files takes longer than to load all kernels. So it is kept beside these, with the state of the files:
    whatever changes one moves its time of change, which programs cannot set back.
    """
    files = sorted(_files_in(_PACKAGE))
    state = _short_digest([(path, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for path, s in files])
    notes = [root / "kernels" / f"sources-{_short_digest(str(_PACKAGE))}" for root in cache_roots()]
    for note in notes:
        with suppress(OSError, ValueError):
            known, digest = note.read_text("utf-8").split()
            if known == state:
                return digest
    digest = _read_and_digest([path for path, _ in files])
    for note in notes:
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            _replace(note, f"{state} {digest}".encode())
            break
    return digest


def _files_in(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path and state of every Python file below a folder that may hold kernels."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry.path, entry.stat()
            elif entry.name not in WITHOUT_KERNELS and entry.is_dir():
                yield from _files_in(Path(entry.path))


def _read_and_digest(paths: list[str]) -> str:
    import hashlib  # loads OpenSSL

    digest = hashlib.sha256()
    for path in paths:
        source = Path(path).read_bytes()
        if b"zeptodb.jit" in source:
            digest.update(str(Path(path).relative_to(_PACKAGE)).encode())
            digest.update(source)
    return digest.hexdigest()[:20]


def modules_with_kernels() -> list[str]:
    """The modules of the package that define kernels; importing them puts every kernel on the list."""
    found = []
    for path, _ in sorted(_files_in(_PACKAGE)):
        if b"\n@kernel" in Path(path).read_bytes():
            found.append(".".join(Path(path).relative_to(_PACKAGE.parent).with_suffix("").parts))
    return found


def _short_digest(value: object) -> str:
    """64 bits, by what Python keeps of sources itself, since `hashlib` takes longer to import than kernels to load."""
    return source_hash(repr(value).encode()).hex()


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
    folder = cache_directory()
    if folder is None:
        return
    rest = b"".join(len(code).to_bytes(_LENGTH_BYTES, "little") + code for code in objects)
    with suppress(OSError):  # a full disk, say: it is compiled again by the next process
        _replace(folder / (name + _SUFFIX), _checksum(rest) + rest)


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step."""
    import tempfile

    descriptor, written = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(written).replace(path)
    except BaseException:
        Path(written).unlink()
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
