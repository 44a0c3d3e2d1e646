"""The CUDA backend's place: so far it only says what is missing."""

from __future__ import annotations

from importlib.util import find_spec


def missing_parts() -> str:
    """What keeps the CUDA backend from running, and how to get what can be had. Imports nothing."""
    parts = []
    if find_spec("cupy") is None:
        parts.append("CuPy is not installed (pip install 'zeptodb[cuda13]', or 'zeptodb[cuda12]' for CUDA 12).")
    parts.append("This version of ZeptoDB has no CUDA kernels yet.")
    return " ".join(parts)
