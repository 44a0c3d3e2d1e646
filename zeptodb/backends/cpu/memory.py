"""Host memory of the CPU backend: anonymous private mappings with huge-page advice."""

from __future__ import annotations

import mmap
from contextlib import suppress

import numpy as np

_HUGE_PAGE_BYTES = 2 * 1024 * 1024


class AnonymousMapping:
    """Zeroed pages that stay mapped as long as this object lives.

    Attributes:
        address: of the first byte; aligned to a page, for mappings of 2 MiB and more to a huge page.
        size_bytes: its length, as asked for.
    """

    __slots__ = ("_pages", "address", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        """Map at least `size_bytes`; raises MemoryError when the system has none."""
        slack = _HUGE_PAGE_BYTES if size_bytes >= _HUGE_PAGE_BYTES else 0
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        try:
            mapping = mmap.mmap(-1, size_bytes + slack, flags=flags)
        except (OSError, OverflowError) as error:
            raise MemoryError(
                f"Cannot map {size_bytes:,} bytes of memory ({error}); free memory or load fewer rows."
            ) from error
        if hasattr(mmap, "MADV_HUGEPAGE"):
            _advise_huge_pages(mapping)
        # The array exports the mapping's buffer: it is unmapped when the array, its only holder, is gone.
        self._pages = np.frombuffer(mapping, dtype=np.uint8)
        first = int(self._pages.ctypes.data)
        alignment = _HUGE_PAGE_BYTES if slack else 1
        self.address = (first + alignment - 1) // alignment * alignment
        self.size_bytes = size_bytes


class AnonymousMemory:
    """Hands out anonymous private mappings; pages become real when first touched."""

    __slots__ = ()

    def map(self, size_bytes: int) -> AnonymousMapping:
        """Map at least `size_bytes` of zeroed memory; raises MemoryError when the system has none."""
        return AnonymousMapping(max(size_bytes, mmap.PAGESIZE))


def _advise_huge_pages(mapping: mmap.mmap) -> None:
    # A kernel built without transparent huge pages refuses the advice; small pages do as well.
    with suppress(OSError):
        mapping.madvise(mmap.MADV_HUGEPAGE)
