"""The memory behind arenas: a Protocol, so that each backend can supply its own kind."""

from __future__ import annotations

from typing import Protocol


class Mapping(Protocol):
    """A range of host memory that stays mapped as long as the object is referenced.

    Attributes:
        address: of its first byte, aligned to at least 64 bytes.
        size_bytes: its length.
    """

    address: int
    size_bytes: int


class HostMemory(Protocol):
    """Hands out host memory; implemented by each backend (anonymous pages on CPU, page-locked ones on CUDA)."""

    def map(self, size_bytes: int) -> Mapping:
        """Map at least `size_bytes` of zeroed memory; raises MemoryError when the system has none."""
        ...
