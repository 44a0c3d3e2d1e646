"""Whether an operator runs on the device or on the CPU, decided before anything runs; what goes wrong then is not
decided here.

With `backend="cuda"` it is the device, whatever it takes. With "auto" it is what the cost model expects to be done
first: columns that are not on the device count with the time that it takes to bring them up. Where they alone speak
against the device, they are brought up in the background when they are asked for a second time.
"""

from __future__ import annotations

import os
from threading import Lock, RLock
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np

from zeptodb.backends.base import (
    Aggregate,
    AggregateResult,
    AggregateScan,
    AsofJoin,
    Backend,
    Operation,
    can_be_summarized,
)
from zeptodb.backends.cuda.calibrate import MachineRates
from zeptodb.backends.cuda.cost import Work, device_seconds, host_seconds, work_of
from zeptodb.backends.cuda.driver import Driver
from zeptodb.backends.cuda.image import Absent, DeviceImage
from zeptodb.backends.cuda.runs import why_not
from zeptodb.backends.cuda.uploads import Uploads
from zeptodb.backends.pieces import PIECE_ROWS
from zeptodb.backends.placement import Estimate, Placement
from zeptodb.storage.history import Origin

Policy = Literal["device", "cost"]
"""All that the device can run, or what is expected to be done first."""

FEW_ROWS = 16_384
"""So few rows the CPU has looked at before a device answers; nothing is estimated."""

_REMEMBERED = 256


class Chooser:
    """Decides for one backend. Thread-safe.

    Attributes:
        policy: what counts.
        rates: of the machine.
    """

    def __init__(
        self,
        driver: Driver,
        host: Backend,
        image: DeviceImage,
        lock: RLock,
        uploads: Uploads,
        *,
        policy: Policy,
        rates: MachineRates,
    ) -> None:
        """`lock` guards `image`."""
        self._driver, self._host, self._image, self._lock, self._uploads = driver, host, image, lock, uploads
        self.policy = policy
        self.rates = rates
        self._process = os.getpid()
        self._given_up = ""
        self._memory = Lock()  # of what was asked for; nobody waits for the device under it
        self._asked: WeakKeyDictionary[Origin, set[int]] = WeakKeyDictionary()  # columns that were wanted there
        self._summarized: WeakKeyDictionary[Origin, dict[tuple[Aggregate, ...], int]] = WeakKeyDictionary()

    def choose(self, operation: Operation) -> Placement:
        """Where to run an operation, and remember that it was asked for."""
        if self.policy == "device":
            return self._on_device(_FORCED)
        reason = self._without_estimate(operation)
        return self._on_host(reason) if reason else self._by_cost(operation, is_asked=True)

    def estimate(self, operation: Operation) -> Placement:
        """Where it would run, with both estimates; changes nothing and looks at every reason."""
        if os.getpid() != self._process:  # a thread of the parent may have held the locks
            return self._on_host(_FORKED)
        placement = self._by_cost(operation, is_asked=False)
        reason = why_not(operation)
        if self.policy == "device":
            reason = reason or self._too_large(self._absent(work_of(operation)))
            if not reason:
                return placement.moved(self._driver.name, self._driver.device, _FORCED)
        reason = reason or self._without_estimate(operation)
        return placement.moved(self._host.name, self._host.device, reason) if reason else placement

    def give_up(self, reason: str) -> None:
        """Run everything on the CPU from now on: the device has failed, and what failed once may not come back."""
        self._given_up = f"the device has failed: {reason}"

    def _without_estimate(self, operation: Operation) -> str:
        """Why it runs on the CPU whatever the estimates; empty for no such reason."""
        if self.policy == "device":
            return ""
        if os.getpid() != self._process:
            return _FORKED
        if self._given_up:
            return self._given_up
        rows = _rows(operation)
        return f"few rows ({rows:,})" if rows < FEW_ROWS else ""

    def note_host_answer(self, operation: AggregateScan, result: AggregateResult) -> None:
        """Remember for how many rows summaries of the host can answer the next time."""
        if not self._may_be_summarized(operation) or os.getpid() != self._process:
            return
        origin, rows = operation.scan.snapshot.history.origin, operation.scan.ranges.rows
        with self._memory:
            known = self._summarized.setdefault(origin, {})
            if len(known) >= _REMEMBERED:
                known.clear()
            # The first run has made them; a later one shows whether they have all been kept.
            known[operation.aggregates] = result.summarized_rows if operation.aggregates in known else rows

    # ---- by cost -----------------------------------------------------------------------------------------------

    def _by_cost(self, operation: Operation, *, is_asked: bool) -> Placement:
        rates, work = self.rates(), work_of(operation)
        known_share = self._known_share(operation, work.rows)
        on_host = host_seconds(work, rates, known_share=known_share)
        resident = device_seconds(work, rates)
        if is_asked and resident >= on_host:  # whatever there may be to bring up
            there, absent = resident, None
        else:
            absent = self._absent(work)
            there = device_seconds(work, rates, pinned_bytes=absent.pinned_bytes, pageable_bytes=absent.pageable_bytes)
        estimates = (self._host_estimate(work, on_host, known_share), self._device_estimate(work, there, absent))
        too_large = "" if absent is None or resident >= on_host else self._too_large(absent)
        if too_large:
            return self._on_host(too_large, estimates)
        if there < on_host:
            return self._on_device("the lower estimate", estimates)
        if resident < on_host and absent is not None and absent.is_mapped:
            return self._on_host(self._cold(work, resident, is_asked=is_asked), estimates)
        return self._on_host("the lower estimate", estimates)

    def _too_large(self, absent: Absent) -> str:
        limit = self._image.limit_bytes
        if absent.mirror_bytes <= limit:
            return ""
        return f"its columns take {absent.mirror_bytes:,} bytes of device memory, {limit:,} are allowed"

    def _cold(self, work: Work, resident: float, *, is_asked: bool) -> str:
        """The reason of a query whose columns are not on the device; brings them up when they were wanted before."""
        words = f"the lower estimate; with its columns on the device it takes {resident * 1e6:,.0f} us there"
        with self._memory:
            is_known = all(
                columns <= self._asked.get(snapshot.history.origin, set()) for snapshot, columns in work.reads
            )
            if is_asked:
                for snapshot, columns in work.reads:
                    self._asked.setdefault(snapshot.history.origin, set()).update(columns)
        if not is_known:
            return f"{words}, so they are brought up when they are asked for again"
        if is_asked:
            for snapshot, columns in work.reads:
                self._uploads.ask(snapshot, columns)
        return f"{words}, so they are being brought up"

    def _absent(self, work: Work) -> Absent:
        with self._lock:
            parts = [self._image.absent(snapshot, columns) for snapshot, columns in work.reads]
        return Absent(
            sum(part.pinned_bytes for part in parts),
            sum(part.pageable_bytes for part in parts),
            sum(part.mirror_bytes for part in parts),
            all(part.is_mapped for part in parts),
        )

    def _may_be_summarized(self, operation: Operation) -> bool:
        summarized = self._host.capabilities.summarized
        return (
            bool(summarized)
            and isinstance(operation, AggregateScan)
            and not operation.keys
            and operation.bucket is None
            and can_be_summarized(operation.aggregates, operation.scan.predicate, summarized)
        )

    def _known_share(self, operation: Operation, rows: int) -> float:
        """Of how many of the rows the host's summaries know the answer."""
        if not rows or not isinstance(operation, AggregateScan) or not self._may_be_summarized(operation):
            return 0.0
        snapshot, ranges = operation.scan.snapshot, operation.scan.ranges
        with self._memory:
            known = self._summarized.get(snapshot.history.origin, {}).get(operation.aggregates, 0)
        is_cut = int(np.count_nonzero((ranges.starts > 0) | (ranges.ends < snapshot.lengths[ranges.segments])))
        return max(0, min(rows, known) - 2 * PIECE_ROWS * is_cut) / rows  # at both ends of what is no whole segment

    # ---- answers -----------------------------------------------------------------------------------------------

    def _on_device(self, reason: str, estimates: tuple[Estimate, ...] = ()) -> Placement:
        return Placement(self._driver.name, self._driver.device, reason, estimates)

    def _on_host(self, reason: str, estimates: tuple[Estimate, ...] = ()) -> Placement:
        return Placement(self._host.name, self._host.device, reason, estimates)

    def _host_estimate(self, work: Work, seconds: float, known_share: float) -> Estimate:
        words = f"{work.read_bytes:,} bytes to read"
        if known_share:
            words += f", summaries know {known_share:.0%}"
        return Estimate(self._host.name, self._host.device, seconds, words)

    def _device_estimate(self, work: Work, seconds: float, absent: Absent | None) -> Estimate:
        words = f"{work.read_bytes:,} bytes to read"
        if absent is not None:
            words += f", {absent.pinned_bytes + absent.pageable_bytes:,} to bring up"
        words += f", {work.result_bytes:,} back"
        if self.rates.are_assumed:
            words += "; rates are assumed, warm_up() measures them"
        return Estimate(self._driver.name, self._driver.device, seconds, words)


_FORKED = "CUDA does not survive fork()"
_FORCED = 'backend="cuda" asks for it'


def _rows(operation: Operation) -> int:
    if isinstance(operation, AsofJoin):
        return operation.left.ranges.rows + operation.right.ranges.rows
    return operation.scan.ranges.rows
