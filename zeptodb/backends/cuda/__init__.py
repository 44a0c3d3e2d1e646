"""The CUDA backend: operators on a device, reached through the driver interface in `driver.py`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from zeptodb.errors import BackendUnavailableError

if TYPE_CHECKING:
    from zeptodb.backends.cuda.cupy_driver import CupyDriver


def open_device() -> CupyDriver:
    """The first CUDA device; raises BackendUnavailableError that says what is missing and how to get it.

    Imports CuPy, which takes half a second, if it is installed.
    """
    if find_spec("cupy") is None:
        raise BackendUnavailableError(
            "CuPy is not installed (pip install 'zeptodb[cuda13]', or 'zeptodb[cuda12]' for CUDA 12)."
        )
    try:
        from zeptodb.backends.cuda.cupy_driver import CupyDriver, find_device
    except ImportError as error:
        raise BackendUnavailableError(
            f"CuPy is installed, but cannot be imported ({error}); remove it and install the one for your CUDA: "
            "pip install 'zeptodb[cuda13]', or 'zeptodb[cuda12]' for CUDA 12."
        ) from error
    return CupyDriver(find_device(None))


def missing_parts() -> str:
    """What keeps the CUDA backend from running, and how to get what can be had; empty when nothing does."""
    try:
        open_device()
    except BackendUnavailableError as error:
        return str(error)
    return ""
