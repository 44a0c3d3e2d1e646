"""What a measurement ran on: the machine and the versions of what took part."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """Cores that this process may use, processor and system in words."""
    return f"{core_count()} cores, {_processor()}, {platform.system()} {platform.machine()}"


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def versions(packages: Iterable[str] = ("zeptodb", "duckdb", "polars", "pyarrow", "numpy", "numba")) -> dict[str, str]:
    """Versions of Python and of the packages that take part."""
    import zeptodb

    found = {"python": platform.python_version()}
    for package in packages:
        found[package] = zeptodb.__version__ if package == "zeptodb" else version(package)
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
