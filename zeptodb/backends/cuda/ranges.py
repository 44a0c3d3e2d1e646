"""Ranges of rows on their way to the image: in as few copies as possible, of page-locked memory or through the ring."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.driver import DeviceError, Driver, Stream
from zeptodb.backends.cuda.known import Note
from zeptodb.backends.cuda.memory import PinnedMapping, PinnedMemory
from zeptodb.backends.cuda.staging import StagingRing

Int64Array = npt.NDArray[np.int64]

_MANY_RANGES = 64
_SHORT_BYTES = 64 << 10
_NEAR_BYTES = 4 << 10


@dataclass(slots=True)
class ImageStats:
    """Counters: bytes and ranges brought up, how many of these by the scatter kernel, mirrors that had to go."""

    uploaded_bytes: int = 0
    ranges: int = 0
    evictions: int = 0
    by_kernel: int = 0


@dataclass(slots=True)
class Needed:
    """Ranges to bring up: addresses on the device and on the host, bytes, mapping of each; and what is known then.

    Attributes:
        room: bytes that may still be asked for.
        left: bytes that found no room.
    """

    room: int
    left: int = 0
    targets: list[Int64Array] = field(default_factory=list)
    sources: list[Int64Array] = field(default_factory=list)
    sizes: list[Int64Array] = field(default_factory=list)
    mappings: list[Int64Array] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def take(self, sizes: Int64Array, width: int) -> Int64Array:
        """How much there is room for of each range, in whole rows of `width` bytes."""
        before = np.cumsum(sizes) - sizes
        taken: Int64Array = np.clip(self.room - before, 0, sizes) // width * width
        self.room -= int(taken.sum())
        self.left += int((sizes - taken).sum())
        return taken


class RangeCopies:
    """Asks for copies on the stream of copies. The owner's lock guards it: what is asked for later must run later, as
    what lies between two ranges is copied along where that saves copies.
    """

    def __init__(self, driver: Driver, memory: PinnedMemory, stats: ImageStats) -> None:
        """Copies from the mappings of `memory`; `stats` counts them."""
        self._driver, self._memory, self._stats = driver, memory, stats
        self._ring = StagingRing(driver, memory)

    def ask(self, needed: Needed, mappings: list[PinnedMapping]) -> bool:
        """Ask for all copies; whether there were any. When that fails, what had been asked for is done."""
        if not needed.sizes:
            return False
        targets, sources, sizes, owners = (
            np.concatenate(parts) for parts in (needed.targets, needed.sources, needed.sizes, needed.mappings)
        )
        if not len(sizes):
            return False
        self._stats.uploaded_bytes += int(sizes.sum())
        self._stats.ranges += len(sizes)
        try:
            self._copy(targets, sources, sizes, owners, mappings)
        except BaseException:
            with suppress(DeviceError):  # the first says it
                self._driver.wait(self._driver.record(Stream.COPIES))
            raise
        return True

    def _copy(
        self,
        targets: Int64Array,
        sources: Int64Array,
        sizes: Int64Array,
        owners: Int64Array,
        mappings: list[PinnedMapping],
    ) -> None:
        if len(sizes) > _MANY_RANGES:
            order = np.argsort(sources, kind="stable")
            targets, sources, sizes, owners = targets[order], sources[order], sizes[order], owners[order]
            targets, sources, sizes, owners = _joined(targets, sources, sizes, owners)
        is_short = sizes < _SHORT_BYTES
        if int(is_short.sum()) > _MANY_RANGES:
            self._stats.by_kernel += int(is_short.sum())
            self._ring.scatter(targets[is_short], sources[is_short], sizes[is_short])
            targets, sources, sizes, owners = (a[~is_short] for a in (targets, sources, sizes, owners))
        for target, source, size, owner in zip(*(a.tolist() for a in (targets, sources, sizes, owners)), strict=True):
            mapping = mappings[owner]
            first = source - mapping.address
            for begin, end, is_pinned in self._memory.parts(mapping, first, first + size):
                there, here = target + begin - first, mapping.address + begin
                if is_pinned:
                    self._driver.to_device(there, here, end - begin, stream=Stream.COPIES)
                else:
                    self._ring.to_device(there, here, end - begin)


def _joined(
    targets: Int64Array, sources: Int64Array, sizes: Int64Array, owners: Int64Array
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """Ranges that lie near to one another in one mapping as one: what is between them is the image of what is there."""
    gaps = sources[1:] - (sources[:-1] + sizes[:-1])
    is_near = (owners[1:] == owners[:-1]) & (gaps <= np.maximum(_NEAR_BYTES, sizes[:-1] // 4))
    if not is_near.any() or int(gaps[is_near].sum()) > int(sizes.sum()):
        return targets, sources, sizes, owners
    firsts = np.flatnonzero(np.append(True, ~is_near))
    lasts = np.append(firsts[1:], len(sizes)) - 1
    return targets[firsts], sources[firsts], sources[lasts] + sizes[lasts] - sources[firsts], owners[firsts]
