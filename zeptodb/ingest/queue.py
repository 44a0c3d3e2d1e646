"""The queue of single ticks, and the thread that drains it into tables."""

from __future__ import annotations

import logging
import queue as standard_queue
import threading
import time
import weakref
from collections import deque
from itertools import repeat, starmap
from typing import Literal, Protocol

from zeptodb.errors import PipelineStoppedError, ZeptoError
from zeptodb.forks import at_fork
from zeptodb.ingest.tick import (
    TICK_WIDTH,
    Tick,
    TickTable,
    TickTarget,
    checked_tick,
    flattened,
    groups_of,
    tick_batch,
)
from zeptodb.record import record
from zeptodb.storage.batch import Receipt

MIN_CALLER_BATCH = 4_096
"""The fixed cost of an append spread over so many ticks hardly counts, and the caller waits a few milliseconds."""

PAUSE_S = 0.001
"""How long the thread steps aside between two batches while ticks keep coming."""

_LOG = logging.getLogger("zeptodb")


class TickTables(Protocol):
    """What the queue needs of a catalog."""

    @property
    def version(self) -> int:
        """A number that changes whenever a table is created, dropped or altered."""
        ...

    def get(self, name: str) -> TickTable:
        """The table called `name`; raises UnknownTableError."""
        ...


@record
class QueueStats:
    """Counters of a queue.

    Attributes:
        ticks_ingested: ticks accepted.
        ticks_stored: ticks that are in their tables.
        ticks_dropped: ticks dropped by a full queue, and accepted ones that did not fit their table after all.
        last_ingest_latency_ns: how long the last batch took from leaving the queue until queries could see it.
    """

    ticks_ingested: int
    ticks_stored: int
    ticks_dropped: int
    last_ingest_latency_ns: int


@record
class _Attempt:
    """An append under way: its receipt, and what is in flight and settled once it has succeeded."""

    receipt: Receipt
    progress: tuple[list[object], int]


class TickQueue:
    """Single ticks on their way into their tables; any number of threads may put, drain and read at once.

    Every accepted tick is stored exactly once, those of one producer in the order in which they were put, whoever
    drains. It works with and without the thread that `start` begins: a full queue makes the caller drain a batch
    itself (or drops the tick and counts it, with overflow "drop"), and `catch_up` drains what it has to. A fork leaves
    the child a working queue without the thread; ticks that were waiting then are in both processes.

    `tables` finds tables by name (a catalog), `capacity` is how many ticks wait at most, `batch_size` how many the
    thread appends at once; callers who have to drain append at least 4,096 at once, if so many wait.
    """

    def __init__(
        self,
        tables: TickTables,
        *,
        capacity: int = 65_536,
        batch_size: int = 256,
        overflow: Literal["block", "drop"] = "block",
    ) -> None:
        self._tables = tables
        self._capacity = capacity * TICK_WIDTH
        self._batch_size = batch_size
        self._caller_batch_size = max(batch_size, MIN_CALLER_BATCH)
        self._drops_overflow = overflow == "drop"
        self._is_stopped = False
        # A tick waits in _ticks, is in flight from when it is popped until its table shows it, and then is settled.
        # The five values of each tick lie flat: no tuple per tick, which the garbage collector would look at.
        self._ticks: deque[object] = deque()
        # In flight and how many were settled before them; one tuple, so that no interrupt comes between the two.
        self._progress: tuple[list[object], int] = ([], 0)
        self._attempt: _Attempt | None = None
        self._rejected = 0
        self._overflowed = 0
        self._failure: ZeptoError | None = None
        self._last_latency_ns = 0
        self._targets: dict[str, TickTarget] = {}
        self._make_locks()
        _QUEUES.add(self)

    def _make_locks(self) -> None:
        """Fresh locks and no thread: at the beginning, and in a forked child."""
        self._thread: threading.Thread | None = None
        self._wake: standard_queue.SimpleQueue[bool] = standard_queue.SimpleQueue()
        self._is_idle = False
        self._lifecycle = threading.Lock()
        self._targets_lock = threading.Lock()
        self._count_lock = threading.Lock()
        self._drain_lock = threading.Lock()
        # Held while waiting for the drain lock, so that the thread, which passes through it, lets others go first.
        self._turnstile = threading.Lock()

    # --- producers ---------------------------------------------------------------------------------------------------

    def put(
        self, symbol: int | str, price: float, volume: float, timestamp: object = None, table: str = "trades"
    ) -> None:
        """Accept one tick; without `timestamp` (int ns since the epoch, or a datetime) it gets the time of storing.

        Price and volume must suit the table's columns: whole numbers for integers, any number for FLOAT64. Raises
        InvalidTypeError, InvalidInputError or LossyConversionError for anything else, UnknownTableError, and
        PipelineStoppedError after `stop()`. A tick for which this raises has not been accepted.
        """
        target = self._targets.get(table)
        if target is None or target.version != self._tables.version:
            target = self._find_target(table)
        if (
            type(price) is target.price_type
            and type(volume) is target.volume_type
            and type(symbol) is target.symbol_type
            and -(2**63) <= price < 2**63
            and -(2**63) <= volume < 2**63
            and (timestamp is None or (type(timestamp) is int and -(2**63) <= timestamp < 2**63))
            and (symbol.isascii() if type(symbol) is str else -(2**63) <= symbol < 2**63)  # type: ignore[operator]
        ):
            tick: Tick = (target, symbol, price, volume, timestamp)
        else:
            tick = checked_tick(target, symbol, price, volume, timestamp)
        ticks = self._ticks
        if len(ticks) >= self._capacity and not self._make_room():
            return
        ticks.extend(tick)
        if self._is_idle:
            self._is_idle = False
            self._wake.put(True)  # noqa: FBT003

    def _find_target(self, name: str) -> TickTarget:
        """The target of a table by any spelling of its name; one per table, however it is spelled."""
        with self._targets_lock:
            if self._is_stopped:
                raise PipelineStoppedError("The pipeline has been stopped; call start() before ingesting more ticks.")
            version = self._tables.version
            table = self._tables.get(name)
            target = next((known for known in self._targets.values() if known.table is table), None)
            if target is None:
                target = TickTarget(table)
            target.version = version
            self._targets[name] = target
            return target

    def _make_room(self) -> bool:
        """Whether the tick may be accepted after all: drains, unless overflowing ticks are dropped and counted."""
        if self._drops_overflow:
            with self._count_lock:
                self._overflowed += 1
            return False
        while len(self._ticks) >= self._capacity:
            with self._turnstile, self._drain_lock:
                self._drain_batch(self._caller_batch_size)
        return True

    # --- readers -----------------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Return when every tick accepted before this call is in its table; ticks put meanwhile may have to wait.

        Raises the error of ticks that turned out not to fit their table after they had been accepted (once; they count
        as dropped), and whatever keeps ticks from being stored now, such as MemoryError (they stay queued).
        """
        if self._ticks or self._progress[0] or self._failure is not None:
            self._catch_up()

    def drain(self) -> None:
        """The same as `catch_up`: works with and without the background thread."""
        self.catch_up()

    def _catch_up(self) -> None:
        tail = self.ticks_ingested
        while self._progress[1] < tail:
            with self._turnstile, self._drain_lock:
                self._drain_batch(self._caller_batch_size, tail)
        with self._count_lock:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise type(failure)(
                f"Ticks were accepted but did not fit their table, and were dropped. {failure}"
            ) from failure

    # --- draining ----------------------------------------------------------------------------------------------------

    def _drain_batch(self, limit: int, tail: int | None = None) -> None:
        """Move up to `limit` ticks into their tables, none behind the first `tail`; the caller holds the drain lock.

        What is left in flight by an error (MemoryError, KeyboardInterrupt) is stored by the next call, and only that.
        """
        self._finish_attempt()
        in_flight, settled = self._progress
        if not in_flight:
            with self._count_lock:
                wanted = limit if tail is None else min(limit, tail - settled)
                count = max(0, min(wanted, len(self._ticks) // TICK_WIDTH))
                # One call in C: no moment at which a popped tick is nowhere.
                in_flight.extend(starmap(self._ticks.popleft, repeat((), count * TICK_WIDTH)))
        if not in_flight:
            return
        began = time.perf_counter_ns()
        groups = deque(groups_of(in_flight))
        while groups:
            ticks = groups.popleft()
            receipt = Receipt()
            settled += ticks.rows
            self._attempt = _Attempt(receipt, (flattened(groups), settled))
            try:
                ticks.target.table.append(tick_batch(ticks, receipt))
            except ZeptoError as error:
                if ticks.rows > 1:  # one by one, so that a bad one costs no other
                    settled -= ticks.rows
                    groups.extendleft(reversed(list(ticks.one_by_one())))
                    continue
                self._reject(error)
            self._progress = self._attempt.progress
        self._attempt = None
        self._last_latency_ns = time.perf_counter_ns() - began

    def _finish_attempt(self) -> None:
        """Take note of ticks that were stored although the call that stored them was interrupted."""
        attempt = self._attempt
        if attempt is not None:
            if attempt.receipt.is_stored:
                self._progress = attempt.progress
            self._attempt = None

    def _reject(self, error: ZeptoError) -> None:
        with self._count_lock:
            self._rejected += 1
            self._failure = self._failure or error
        with self._targets_lock:
            self._targets = {}  # what was known about the table when the tick was accepted no longer holds

    # --- the thread --------------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether the background thread runs in this process."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Accept ticks and drain them in a background thread from now on; nothing happens when it runs already."""
        with self._lifecycle:
            self._is_stopped = False
            if self.is_running:
                return
            self._wake = standard_queue.SimpleQueue()
            arguments = (weakref.ref(self), self._wake)
            self._thread = threading.Thread(target=_drain_forever, args=arguments, name="zeptodb-drain", daemon=True)
            # The thread holds no reference while it waits: a queue that nobody uses any more ends it.
            weakref.finalize(self, self._wake.put, False)  # noqa: FBT003
            self._thread.start()

    def stop(self) -> None:
        """Refuse further ticks, end the thread, and store what is waiting; nothing accepted is lost."""
        with self._lifecycle:
            with self._targets_lock:
                self._is_stopped = True
                self._targets = {}  # so that put() has to look, and finds that it is stopped
            thread, self._thread = self._thread, None
            if thread is not None:
                self._wake.put(False)  # noqa: FBT003
                thread.join()
            self._is_idle = False
        self.catch_up()

    def _drain_in_background(self) -> None:
        """Drain until nothing is waiting, and say so, so that the next tick wakes the thread."""
        while True:
            self._is_idle = False
            while self._ticks or self._progress[0]:
                accepted = self.ticks_ingested
                with self._turnstile:
                    pass
                with self._drain_lock:
                    self._drain_batch(self._batch_size)
                if self._ticks and self.ticks_ingested > accepted:
                    # Somebody is putting at full speed. Taking turns for the interpreter lock over small batches would
                    # slow both; readers and a full queue drain in large ones.
                    time.sleep(PAUSE_S)
            self._is_idle = True
            if not self._ticks:  # a tick put before the line above has not woken anybody
                return

    # --- counters ----------------------------------------------------------------------------------------------------

    def stats(self) -> QueueStats:
        """The counters now."""
        return QueueStats(self.ticks_ingested, self.ticks_stored, self.ticks_dropped, self.last_ingest_latency_ns)

    @property
    def ticks_ingested(self) -> int:
        """Ticks accepted so far."""
        with self._count_lock:
            in_flight, settled = self._progress
            return settled + (len(in_flight) + len(self._ticks)) // TICK_WIDTH

    @property
    def ticks_stored(self) -> int:
        """Ticks that are in their tables."""
        return self._progress[1] - self._rejected

    @property
    def ticks_dropped(self) -> int:
        """Ticks dropped by a full queue, and accepted ones that did not fit their table after all."""
        return self._overflowed + self._rejected

    @property
    def last_ingest_latency_ns(self) -> int:
        """How long the last batch took from leaving the queue until queries could see it."""
        return self._last_latency_ns


def _drain_forever(reference: weakref.ref[TickQueue], wake: standard_queue.SimpleQueue[bool]) -> None:
    goes_on = True
    while goes_on:
        queue = reference()
        if queue is None:
            return
        try:
            queue._drain_in_background()
        except Exception:  # noqa: BLE001
            # The ticks stay queued: the next tick tries again, and the next query or drain() raises what is wrong.
            _LOG.warning("ZeptoDB could not store waiting ticks; they stay queued.", exc_info=True)
            queue._is_idle = True
        del queue
        goes_on = wake.get()


# --- fork --------------------------------------------------------------------------------------------------------

_QUEUES: weakref.WeakSet[TickQueue] = weakref.WeakSet()
_LOCKED_FOR_FORK: list[TickQueue] = []


def _before_fork() -> None:
    # No batch may be half-way into a table while the memory is copied.
    for queue in list(_QUEUES):
        queue._drain_lock.acquire()
        _LOCKED_FOR_FORK.append(queue)


def _after_fork_in_parent() -> None:
    while _LOCKED_FOR_FORK:
        _LOCKED_FOR_FORK.pop()._drain_lock.release()


def _after_fork_in_child() -> None:
    while _LOCKED_FOR_FORK:
        _LOCKED_FOR_FORK.pop()._make_locks()


at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
