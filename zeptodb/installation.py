"""What is installed and what it runs on: the facts behind `zeptodb info`."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from zeptodb import __version__
from zeptodb.errors import ZeptoError
from zeptodb.record import record

PACKAGES = ("numpy", "numba", "duckdb", "polars", "pandas", "pyarrow", "sqlglot")
OPTIONAL_PACKAGES = ("plotly", "cupy-cuda12x", "cupy-cuda13x")


@record
class KernelCache:
    """The compiled kernels of this version on disk.

    Attributes:
        directory: where they are; None when no folder can be written.
        size_bytes: of all files there.
        compiled: kernels that are there.
        kernels: kernels that this version has.
    """

    directory: Path | None
    size_bytes: int
    compiled: int
    kernels: int

    @property
    def is_warm(self) -> bool:
        """Whether no kernel has to be compiled any more."""
        return self.compiled >= self.kernels


@record
class Installation:
    """Facts for a bug report; what cannot be found out is None.

    Attributes:
        versions: of Python and the packages; None for one that is not installed.
        system: operating system and processor architecture.
        processor: its name.
        cores: that this process may use.
        memory_bytes, available_memory_bytes: of the machine.
        backend: that a Pipeline would take now, or why it could not be made.
        device: what that backend runs on.
        cuda: what keeps the CUDA backend from running; empty when nothing does.
        cache: the compiled kernels on disk.
    """

    versions: dict[str, str | None]
    system: str
    processor: str
    cores: int
    memory_bytes: int | None
    available_memory_bytes: int | None
    backend: str
    device: str | None
    cuda: str
    cache: KernelCache


def find_installation() -> Installation:
    """Look at the installation; makes a Pipeline for a moment, compiles nothing and changes nothing."""
    from zeptodb.backends.cuda import missing_parts
    from zeptodb.pipeline import Pipeline

    device: str | None = None
    try:
        pipeline = Pipeline()
    except ZeptoError as error:
        backend = f"none: {error}"
    else:
        backend, device = pipeline.backend.name, pipeline.backend.device
        pipeline.stop()
    memory, available = _memory_bytes()
    return Installation(
        versions=_versions(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=processor(),
        cores=core_count(),
        memory_bytes=memory,
        available_memory_bytes=available,
        backend=backend,
        device=device,
        cuda=missing_parts(),
        cache=find_kernel_cache(),
    )


def find_kernel_cache() -> KernelCache:
    """Count the compiled kernels on disk, without loading any."""
    from zeptodb import jit

    for module in jit.modules_with_kernels():
        import_module(module)
    folder = jit.cache_directory()
    files = [] if folder is None else [path for path in folder.iterdir() if path.is_file()]
    compiled = 0 if folder is None else jit.compiled_kernels(folder)
    return KernelCache(folder, sum(path.stat().st_size for path in files), compiled, len(jit.KERNELS))


def as_json(installation: Installation) -> str:
    """The facts as a JSON object; the fields are those of Installation, and `is_warm` of its cache."""
    fields = asdict(installation)
    fields["cache"]["is_warm"] = installation.cache.is_warm
    return json.dumps(fields, indent=2, default=str)


def as_text(installation: Installation) -> str:
    """The facts for people, a line each."""
    lines = [(name, number or "not installed") for name, number in installation.versions.items()]
    backend = installation.backend if installation.device is None else f"{installation.backend} ({installation.device})"
    lines += [
        ("system", installation.system),
        ("processor", f"{installation.processor}, {installation.cores} cores for this process"),
        ("memory", _memory_in_words(installation)),
        ("backend", backend),
        ("CUDA", installation.cuda or "ready"),
        ("kernel cache", _cache_in_words(installation.cache)),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines)


def format_bytes(size: int) -> str:
    """A size with the unit that suits it.

    >>> format_bytes(1536)
    '1.5 KiB'
    """
    number = float(size)
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _memory_in_words(installation: Installation) -> str:
    total, available = installation.memory_bytes, installation.available_memory_bytes
    if total is None:
        return "unknown"
    return format_bytes(total) + ("" if available is None else f", {format_bytes(available)} available")


def _cache_in_words(cache: KernelCache) -> str:
    if cache.directory is None:
        return "none: no folder can be written, so every process compiles; name one in $ZEPTODB_CACHE_DIR"
    state = "warm" if cache.is_warm else "run `zeptodb warmup` to compile the rest"
    counts = f"{min(cache.compiled, cache.kernels)} of {cache.kernels} kernels"
    return f"{cache.directory}, {format_bytes(cache.size_bytes)}, {counts}: {state}"


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def installed_version(package: str) -> str | None:
    """Version of an installed package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"zeptodb": __version__, "python": platform.python_version()}
    return found | {package: installed_version(package) for package in (*PACKAGES, *OPTIONAL_PACKAGES)}


def _memory_bytes() -> tuple[int | None, int | None]:
    """Memory of the machine, in all and available."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kibibytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return kibibytes["MemTotal"] * 1024, kibibytes["MemAvailable"] * 1024
    except (OSError, KeyError):  # not Linux
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    except (OSError, ValueError):
        return None, None
