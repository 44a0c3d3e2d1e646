"""The CUDA backend: operators on a device, reached through the driver interface in `driver.py`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from zeptodb.errors import BackendUnavailableError

if TYPE_CHECKING:
    from zeptodb.backends.cuda.driver import Driver

DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu")
"""One of these is there where a driver is loaded: on Linux, under WSL, on Jetson boards."""


def clearly_missing() -> str:
    """What is missing for a device, as far as that shows without importing anything; empty for nothing."""
    if find_spec("cupy") is None:
        return "CuPy is not installed (pip install 'zeptodb[cuda13]', or 'zeptodb[cuda12]' for CUDA 12)."
    if sys.platform == "linux" and not any(Path(name).exists() for name in DEVICE_FILES):
        return f"No NVIDIA driver is loaded: none of {', '.join(DEVICE_FILES)} is there (see nvidia-smi)."
    return ""


def open_device(number: int | None = None) -> Driver:
    """CUDA device `number`, counted from 0; None: the first one.

    Raises BackendUnavailableError that says what is missing and how to get it, and ConfigError for a number that this
    machine does not have. Imports CuPy, which takes half a second, if it is installed.
    """
    if find_spec("cupy") is None:
        raise BackendUnavailableError(clearly_missing())
    try:
        from zeptodb.backends.cuda.cupy_driver import CupyDriver, find_device
    except ImportError as error:
        raise BackendUnavailableError(
            f"CuPy is installed, but cannot be imported ({error}); remove it and install the one for your CUDA: "
            "pip install 'zeptodb[cuda13]', or 'zeptodb[cuda12]' for CUDA 12."
        ) from error
    return CupyDriver(find_device(number))


def missing_parts() -> str:
    """What keeps the CUDA backend from running, and how to get what can be had; empty when nothing does."""
    try:
        open_device()
    except BackendUnavailableError as error:
        return str(error)
    return ""
