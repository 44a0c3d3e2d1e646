"""When a block that segments no longer use may be used again: once no query and no view can reach it."""

from __future__ import annotations

import weakref
from collections import deque
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.storage.blocks import BlockAllocator
from zeptodb.storage.memory import Mapping

Int64Array = npt.NDArray[np.int64]


class BlockOwner:
    """Stands at the end of the base chain of every view of one block and keeps its memory.

    Its read-only `__array_interface__` is what makes the views impossible to make writable.
    """

    __slots__ = ("__array_interface__", "__weakref__", "address", "exported_rows", "mapping")

    def __init__(self, address: int, rows: int, dtype: np.dtype[np.generic], mapping: Mapping) -> None:
        self.address = address
        self.exported_rows = 0
        self.mapping = mapping
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": (rows,),
            "typestr": dtype.str,
            "data": (address, True),
        }


class Pin:
    """Keeps every block that was in use when it was taken; released once, or when it is dropped.

    It keeps the holder of the blocks too, which a table drops when its whole contents are replaced.
    """

    __slots__ = ("_holder", "_pins")

    def __init__(self, pins: dict[int, int], holder: object) -> None:
        self._pins = pins
        self._holder: object = holder

    def release(self) -> None:
        """Let the blocks go."""
        pins: dict[int, int] = getattr(self, "_pins", {})  # an interrupt may have come before it was set
        pins.pop(id(self), None)
        self._holder = None

    def __del__(self) -> None:
        """Release, for a holder that forgot to."""
        self.release()


class _Retired(NamedTuple):
    epoch: int
    addresses: Int64Array
    sizes: Int64Array


class Reclaimer:
    """Epochs of queries, owners of views, and the retired blocks that wait for both.

    A block retired in an epoch is reachable from pins of that epoch and earlier ones. `retire` and `collect` belong
    under the write lock of the owner; `pin`, its release and the end of a view may happen in any thread.
    """

    def __init__(self, allocator: BlockAllocator) -> None:
        self._allocator = allocator
        self._epoch = 0
        self._pins: dict[int, int] = {}  # identity of a pin to its epoch
        self._lock = RLock()
        self._retired: deque[_Retired] = deque()
        self._owners: weakref.WeakValueDictionary[int, BlockOwner] = weakref.WeakValueDictionary()
        self._waiting_for_views: dict[int, int] = {}
        self._ended_views: deque[int] = deque()

    def frozen(self) -> RLock:
        """The lock around pins, as a context manager; for fork()."""
        return self._lock

    @property
    def has_pins(self) -> bool:
        """Whether any query is reading."""
        return bool(self._pins)

    def pin(self, holder: object) -> Pin:
        """Keep everything that is in use now, and `holder`, to whom it belongs."""
        pin = Pin(self._pins, holder)
        with self._lock:
            self._pins[id(pin)] = self._epoch
        return pin

    def owner(self, address: int, rows: int, dtype: np.dtype[np.generic]) -> BlockOwner:
        """The owner of all views of the block at `address`, made when the first view is."""
        owner = self._owners.get(address)
        if owner is None:
            owner = BlockOwner(address, rows, dtype, self._allocator.mapping_of(address))
            self._owners[address] = owner
            weakref.finalize(owner, self._ended_views.append, address).atexit = False
        return owner

    def exported_rows(self, addresses: Int64Array) -> int:
        """The most rows of any of these blocks that a view can reach."""
        if not len(self._owners):
            return 0
        owners = (self._owners.get(int(address)) for address in addresses)
        return max((owner.exported_rows for owner in owners if owner is not None), default=0)

    def retire(self, addresses: Int64Array, sizes: Int64Array) -> None:
        """Blocks that segments no longer use."""
        if len(addresses):
            with self._lock:
                self._retired.append(_Retired(self._epoch, addresses, sizes))
                self._epoch += 1

    def collect(self) -> None:
        """Free what nobody can reach any more."""
        while self._ended_views:
            address = self._ended_views.popleft()
            if address in self._owners:
                continue
            size = self._waiting_for_views.pop(address, None)
            if size is not None:
                self._allocator.free(np.array([address]), np.array([size]))
        while self._retired:
            with self._lock:
                oldest = min(list(self._pins.values()), default=self._epoch)
                if self._retired[0].epoch >= oldest:
                    return
                batch = self._retired.popleft()
            self._free(batch)

    def _free(self, batch: _Retired) -> None:
        sizes = batch.sizes.copy()
        if len(self._owners):
            for i, address in enumerate(batch.addresses.tolist()):
                if address in self._owners:
                    self._waiting_for_views[address] = int(sizes[i])
                    sizes[i] = 0
        self._allocator.free(batch.addresses, sizes)
