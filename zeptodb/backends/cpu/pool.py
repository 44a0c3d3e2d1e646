"""Worker threads of the CPU kernels.

A kernel takes the address of a counter and claims numbered work items ("morsels") from it until none is left, so that
threads share work without coming back to Python. The calling thread takes part, in slices, between which it can be
interrupted and looks whether its statement was cancelled or has run too long; helpers run to the end of the counter. A
caller waits for those helpers only that have begun on its job.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from zeptodb.backends import control

_CALLER_BUDGET = 32
_ALL = 2**62
ROW_THRESHOLD = 100_000
"""Work over fewer rows than this runs in the caller's thread alone."""


Work = Callable[[npt.NDArray[np.int64], int], None]


def _lead(work: Work, counter: npt.NDArray[np.int64], count: int) -> None:
    """Work in slices, between which the calling thread can be interrupted, until no morsel is left.

    Before each one its statement may turn out to have been cancelled, or to have run too long.
    """
    limits = control.current()
    while counter[0] < count:
        if limits is not None:
            limits.check()
        work(counter, _CALLER_BUDGET)


def _work_alone(work: Work, count: int) -> None:
    """As `_lead`, where nobody else takes morsels."""
    limits, counter = control.current(), np.zeros(1, dtype=np.int64)
    for _ in range(0, count, _CALLER_BUDGET):
        if limits is not None:
            limits.check()
        work(counter, _CALLER_BUDGET)


class Job:
    """Morsels 0 to `count` - 1 of one call and the kernel that works on them.

    Attributes:
        counter: the next morsel to claim, in an array so that kernels can claim by address.
        work: called with how many morsels to take at most; the kernel claims them from `counter`.
    """

    __slots__ = ("_active", "_idle", "_is_open", "_lock", "count", "counter", "error", "work")

    def __init__(self, work: Work, count: int) -> None:
        self.work = work
        self.count = count
        self.counter = np.zeros(1, dtype=np.int64)
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._active = 0
        self._is_open = True

    def cancel(self) -> None:
        """Hand out no more morsels."""
        self.counter[0] = _ALL

    def help(self) -> None:
        """Work on the job from a helper thread, if it is still open."""
        with self._lock:
            if not self._is_open:
                return
            self._active += 1
        try:
            self.work(self.counter, _ALL)
        except BaseException as error:  # noqa: BLE001 - the top of a thread; the caller raises it
            self.error = error
            self.cancel()
        finally:
            with self._lock:
                self._active -= 1
                self._idle.notify_all()

    def lead(self) -> None:
        """Work on the job from the calling thread until no morsel is left."""
        _lead(self.work, self.counter, self.count)

    def close(self) -> None:
        """Let no further helper begin and wait for those at work; an interrupt while waiting is raised afterwards."""
        interrupt: BaseException | None = None
        while True:
            try:
                with self._lock:
                    self._is_open = False
                    while self._active:
                        self._idle.wait()
            except KeyboardInterrupt as error:
                self.cancel()
                interrupt = error
            else:
                break
        if interrupt is not None:
            raise interrupt


class WorkerPool:
    """Threads that help callers with large work; started when first needed, again after a fork or `configure`."""

    def __init__(self, threads: int | None = None, *, row_threshold: int = ROW_THRESHOLD) -> None:
        """At most `threads` at work on one job, the caller included; None: one per core that this process may use."""
        self.threads = available_cores() if threads is None else threads
        self.row_threshold = row_threshold
        self._process = 0
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._workers: list[threading.Thread] = []
        self._is_closed = False
        self._forget()

    def configure(self, threads: int | None) -> None:
        """Use at most `threads` from now on; jobs under way finish with the threads they have."""
        self.close()
        self.threads = available_cores() if threads is None else threads
        self._forget()

    def run(self, work: Work, count: int, *, rows: int) -> None:
        """Call `work(counter, budget)` in one or more threads until all `count` morsels are done.

        A KeyboardInterrupt in the calling thread, or a statement that has to end, ends the handing out of morsels,
        waits for those under way and is raised; so is an error of a helper.
        """
        helpers = 0 if rows < self.row_threshold else min(self.threads, count) - 1
        if helpers <= 0:
            _work_alone(work, count)
            return
        job = Job(work, count)
        if self._process != os.getpid():
            self._forget()
        try:
            self._ask_for_help(job, helpers)
            job.lead()
        except BaseException:
            job.cancel()
            raise
        finally:
            job.close()
        if job.error is not None:
            raise job.error

    def close(self) -> None:
        """Stop the threads; `run` then works in the caller's thread only."""
        if self._process != os.getpid():
            self._forget()
        with self._lock:
            self._is_closed = True
            for _ in self._workers:
                self._jobs.put(None)
            workers = self._workers
            self._workers = []
        for worker in workers:
            worker.join()

    def _forget(self) -> None:
        """Begin anew without threads: the first time, and in the child of a fork, where none has survived."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._jobs = SimpleQueue()
        self._workers = []
        self._is_closed = False

    def _ask_for_help(self, job: Job, helpers: int) -> None:
        if len(self._workers) < self.threads - 1:
            self._start()
        for _ in range(min(helpers, len(self._workers))):
            self._jobs.put(job)

    def _start(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            while len(self._workers) < self.threads - 1:
                name = f"zeptodb-cpu-{len(self._workers) + 1}"
                worker = threading.Thread(target=_serve, args=(self._jobs,), name=name, daemon=True)
                worker.start()
                self._workers.append(worker)


def available_cores() -> int:
    """Cores that this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    affinity: Callable[[int], Any] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _serve(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job.help()
        del job  # the arrays of a finished query must not wait for the next one
