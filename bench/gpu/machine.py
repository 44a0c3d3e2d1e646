"""What a measurement ran on: the commit, the device and its driver, the packages and tools that are there."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.gpu.record import Record

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "numpy", "numba", "llvmlite", "pyarrow", "pandas", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cuda-nvrtc", "torch",
    "duckdb", "polars", "sqlglot", "pytest", "hypothesis",
)  # fmt: skip
TOOLS = ("nvcc", "compute-sanitizer", "ncu")
_ATTRIBUTES = (
    "ClockRate", "MemoryClockRate", "GlobalMemoryBusWidth", "L2CacheSize", "MultiProcessorCount",
    "CanUseHostPointerForRegisteredMem", "HostRegisterSupported", "AsyncEngineCount", "EccEnabled",
)  # fmt: skip


def missing_device(*, timeout: float = 120) -> str:
    """Why no device can be used here; empty when one can. Asked in another process, as a driver may hang."""
    question = "from zeptodb.backends.cuda import missing_parts; print(missing_parts())"
    try:
        answer = subprocess.run(
            [sys.executable, "-c", question], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the driver did not answer within {timeout:.0f} s"
    if answer.returncode:
        return f"asking for a device failed:\n{answer.stderr.strip()[-2000:]}"
    return answer.stdout.strip()


def commit_of(root: Path = ROOT) -> str:
    """The commit that is checked out, with "+" when files differ from it; "unknown" outside a repository."""
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def versions() -> dict[str, str | None]:
    """Of Python and of packages; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def measure(record: Record) -> None:
    """Write what there is, and what is missing that other parts would use."""
    record.found("host", cores=os.cpu_count(), memory_bytes=_memory_bytes(), system=platform.platform())
    record.found("versions", **versions())
    record.found("device", **device_facts())
    for tool in TOOLS:
        if shutil.which(tool) is None:
            record.skipped(tool, "not on the PATH")
    for module, use in (
        ("sqlglot", "SQL statements: operators are measured directly"),
        ("duckdb", "comparisons with DuckDB"),
        ("polars", "comparisons with polars"),
        ("torch", "comparisons with torch"),
        ("pytest", "the conformance suite"),
        ("hypothesis", "the conformance suite"),
    ):
        if find_spec(module) is None:
            record.skipped(use, f"{module} is not installed")


def device_facts() -> dict[str, Any]:
    """The device in numbers, as CUDA tells them."""
    from cupy.cuda import Device, nvrtc, runtime

    from zeptodb.backends.cuda.cupy_driver import find_device

    number = find_device(None)
    properties = runtime.getDeviceProperties(number)
    device = Device(number)
    with device:
        free, total = runtime.memGetInfo()
    attributes = device.attributes
    return {
        "name": properties["name"].decode(),
        "number": number,
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "memory_bytes": int(total),
        "free_bytes": int(free),
        "driver": _driver_version(),
        "driver_cuda": int(runtime.driverGetVersion()),
        "runtime_cuda": int(runtime.runtimeGetVersion()),
        "nvrtc": ".".join(str(part) for part in nvrtc.getVersion()),
        "attributes": {name: int(attributes[name]) for name in _ATTRIBUTES if name in attributes},
    }


def _driver_version() -> str | None:
    """The driver's own number, of which CUDA knows nothing."""
    path = Path("/proc/driver/nvidia/version")
    try:
        if path.exists():
            return path.read_text(encoding="utf-8").splitlines()[0]
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip().splitlines()[0]


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
