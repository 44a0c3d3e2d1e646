"""What a measurement ran on: the machine and the versions of what took part."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version

from zeptodb.installation import core_count, processor


def machine() -> str:
    """Cores that this process may use, processor and system in words."""
    return f"{core_count()} cores, {processor()}, {platform.system()} {platform.machine()}"


def versions(packages: Iterable[str] = ("zeptodb", "duckdb", "polars", "pyarrow", "numpy", "numba")) -> dict[str, str]:
    """Versions of Python and of the packages that take part."""
    import zeptodb

    found = {"python": platform.python_version()}
    for package in packages:
        found[package] = zeptodb.__version__ if package == "zeptodb" else version(package)
    return found
