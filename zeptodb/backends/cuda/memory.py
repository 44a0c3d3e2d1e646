"""Host memory of the CUDA backend: the host's mappings, page-locked slab by slab when rows first go to the device."""

from __future__ import annotations

import itertools
import os
import weakref
from collections import deque
from contextlib import suppress
from threading import Lock

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.driver import DeviceError, Driver
from zeptodb.storage.memory import HostMemory, Mapping

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SLAB_BYTES = 32 << 20
"""How much is page-locked at once; a slab that no row has reached costs nothing."""

RESULT_SHARE = 8
"""Of the limit of page-locked memory so much again, divided by this, is for results and what kernels need beside."""

_MOST_PINNED_BYTES = 8 << 30
_PINNED_SHARE = 4
_SERIALS = itertools.count(1)


def default_pinned_limit() -> int:
    """A quarter of the machine's memory, at most 8 GiB."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return _MOST_PINNED_BYTES // _PINNED_SHARE
    return min(memory // _PINNED_SHARE, _MOST_PINNED_BYTES)


class PinnedMapping:
    """A mapping whose slabs can be page-locked; they are let go before the memory is.

    Attributes:
        address, size_bytes: as of every mapping.
        serial: no two mappings share it, not even at one address.
        slabs: bytes that are page-locked from each offset, 0 where the system refused.
    """

    def __init__(self, owner: PinnedMemory, inner: Mapping) -> None:
        """Take over `inner`."""
        self.address, self.size_bytes = inner.address, inner.size_bytes
        self.serial = next(_SERIALS)
        self.slabs: dict[int, int] = {}
        self._inner, self._owner = inner, owner

    def __del__(self) -> None:
        """Let the slabs go, then the memory."""
        owner = getattr(self, "_owner", None)
        if owner is not None:
            owner.forget(self.serial, self.slabs, self._inner)


class PinnedMemory:
    """Hands out the host's mappings and page-locks, up to a limit, what is copied to the device. Thread-safe.

    Attributes:
        limit_bytes: page-locked bytes at most; beyond it copies go through staging buffers, which come on top.
        pinned_bytes: page-locked now.
    """

    def __init__(self, driver: Driver, inner: HostMemory, *, limit_bytes: int | None = None) -> None:
        """Mappings come from `inner`."""
        self._driver, self._inner = driver, inner
        self.limit_bytes = default_pinned_limit() if limit_bytes is None else limit_bytes
        self.pinned_bytes = 0
        self._lock = Lock()
        self._process = os.getpid()
        self._mappings: dict[int, weakref.ref[PinnedMapping]] = {}  # by serial
        self._gone: deque[tuple[int, dict[int, int], Mapping]] = deque()

    def map(self, size_bytes: int) -> PinnedMapping:
        """Map at least `size_bytes` of zeroed memory; raises MemoryError when the system has none."""
        mapping = PinnedMapping(self, self._inner.map(size_bytes))
        if os.getpid() != self._process:  # no device will see it, and a thread of the parent may have held the lock
            return mapping
        with self._lock:
            self._clear()
            self._mappings[mapping.serial] = weakref.ref(mapping)
        return mapping

    def mappings(self) -> list[PinnedMapping]:
        """What is mapped now, by address."""
        with self._lock:
            self._clear()
            living = [reference() for reference in self._mappings.values()]
        return sorted((mapping for mapping in living if mapping is not None), key=lambda mapping: mapping.address)

    def parts(self, mapping: PinnedMapping, first: int, after: int) -> list[tuple[int, int, bool]]:
        """Bytes `first` to `after` of a mapping, cut where slabs meet: begin, end, and whether the part is page-locked.

        Slabs that are not page-locked yet are, as far as the limit allows. CUDA copies host memory that is page-locked
        by one registration or not at all, so no copy may reach from one part into the next.
        """
        with self._lock:
            self._clear()
            slabs = range(first // SLAB_BYTES * SLAB_BYTES, after, SLAB_BYTES)
            return [
                (max(first, slab), min(after, slab + SLAB_BYTES), self._pin_within_limit(mapping, slab))
                for slab in slabs
            ]

    def pin(self, mapping: PinnedMapping) -> bool:
        """Page-lock a whole mapping as one slab, beyond the limit unless that is 0; whether it is."""
        with self._lock:
            self._clear()
            return self.limit_bytes > 0 and self._pin(mapping, 0, mapping.size_bytes)

    def _pin_within_limit(self, mapping: PinnedMapping, slab: int) -> bool:
        size = min(SLAB_BYTES, mapping.size_bytes - slab)
        if slab not in mapping.slabs and self.pinned_bytes + size > self.limit_bytes:
            return False
        return self._pin(mapping, slab, size)

    def are_pinned(self, mappings: list[PinnedMapping], owners: Int64Array, addresses: Int64Array) -> BoolArray:
        """Whether the slab at each address, in the mapping at that place of the list, is page-locked."""
        found = np.zeros(len(owners), dtype=np.bool_)
        for owner in np.unique(owners).tolist():
            mapping, is_here = mappings[owner], owners == owner
            slabs = np.array([slab for slab, size in list(mapping.slabs.items()) if size], dtype=np.int64)
            offsets = (addresses[is_here] - mapping.address) // SLAB_BYTES * SLAB_BYTES
            found[is_here] = np.isin(offsets, slabs)
        return found

    def _pin(self, mapping: PinnedMapping, slab: int, size: int) -> bool:
        if slab in mapping.slabs:
            return mapping.slabs[slab] > 0
        try:
            self._driver.register(mapping.address + slab, size)
        except DeviceError:  # the system's own limit: not tried again
            mapping.slabs[slab] = 0
            return False
        mapping.slabs[slab] = size
        self.pinned_bytes += size
        return True

    def forget(self, serial: int, slabs: dict[int, int], inner: Mapping) -> None:
        """A mapping goes: at once, or, when somebody is at work here, with the next call."""
        if os.getpid() != self._process:  # nothing of it is page-locked here
            return
        self._gone.append((serial, slabs, inner))
        if self._lock.acquire(blocking=False):
            try:
                self._clear()
            finally:
                self._lock.release()

    def _clear(self) -> None:
        """Let page-locked slabs go before their memory does; under the lock."""
        while self._gone:
            serial, slabs, inner = self._gone.popleft()
            self._mappings.pop(serial, None)
            self.pinned_bytes -= sum(slabs.values())
            for slab, size in slabs.items():
                if size:
                    with suppress(DeviceError):  # there is nobody to tell
                        self._driver.unregister(inner.address + slab)
