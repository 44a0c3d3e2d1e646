"""What a running statement may still do: until when it may run, whether it was cancelled, how much it may hold.

The statement's control belongs to the thread that runs it; long work asks for it between its steps, so that neither
operators nor kernels have to hand it on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zeptodb.errors import MemoryLimitError, QueryCancelledError, QueryTimeoutError, ZeptoError

_INTERRUPT_AGAIN_SECONDS = 0.05


class Control:
    """The limits of one statement; `cancel` may be called from any thread, all else from the statement's own.

    Attributes:
        began: when it began, in seconds of `time.monotonic()`.
        timeout: seconds that the statement may run; None: any time.
        memory_limit: bytes that its native operators may take for rows; None: no limit.
    """

    # Of the class until something happens: most statements are over before anything does.
    timeout: float | None = None
    _deadline: float | None = None
    _error: ZeptoError | None = None
    _condition: threading.Condition | None = None
    _interrupt: Callable[[], None] | None = None
    _reserved = 0

    def __init__(self, timeout: float | None = None, memory_limit: int | None = None) -> None:
        self.began = time.monotonic()
        self.memory_limit = memory_limit
        if timeout is not None:
            self.timeout = timeout
            self._deadline = self.began + timeout

    def cancel(self) -> None:
        """End the statement with QueryCancelledError at its next check, and interrupt what is interruptible."""
        self._stop(QueryCancelledError("The statement was cancelled."))

    def check(self) -> None:
        """Raise QueryCancelledError or QueryTimeoutError if the statement has to end."""
        if self._error is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self._error = self._timed_out()
        if self._error is not None:
            raise self._error

    def reserve(self, size: int) -> None:
        """Count `size` bytes of rows; raise MemoryLimitError when that makes more than the limit."""
        self._reserved += size
        if self.memory_limit is not None and self._reserved > self.memory_limit:
            raise MemoryLimitError(
                f"The statement needs {self._reserved:,} bytes for its rows, more than the memory_limit of "
                f"{self.memory_limit:,} bytes; ask for fewer rows or columns, or raise memory_limit."
            )

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call `interrupt` when the statement has to end while the block runs, again and again until it is left.

        What the block raises after that is replaced by the error that ended the statement.
        """
        self.check()
        self._condition = condition = threading.Condition()
        self._interrupt = interrupt
        timer = None
        if self._deadline is not None:
            seconds = min(max(0.0, self._deadline - time.monotonic()), threading.TIMEOUT_MAX)
            timer = threading.Timer(seconds, self._stop, [self._timed_out()])
            timer.daemon = True
            timer.start()
        try:
            self.check()  # it may have been cancelled before there was anything to interrupt
            yield
        except Exception as error:
            if self._error is not None and error is not self._error:
                raise self._error from error
            raise
        finally:
            if timer is not None:
                timer.cancel()
            with condition:
                self._interrupt = None
                condition.notify_all()

    def _timed_out(self) -> QueryTimeoutError:
        return QueryTimeoutError(f"The statement ran longer than its timeout of {self.timeout:g} s.")

    def _stop(self, error: ZeptoError) -> None:
        if self._error is None:
            self._error = error
        if self._interrupt is not None:
            threading.Thread(target=self._keep_interrupting, name="zeptodb-stop", daemon=True).start()

    def _keep_interrupting(self) -> None:
        """An interrupt that arrives before there is anything to interrupt is lost, so one is not enough."""
        condition = self._condition
        if condition is None:
            return
        with condition:
            while self._interrupt is not None:
                self._interrupt()
                condition.wait(_INTERRUPT_AGAIN_SECONDS)


class _Local(threading.local):
    control: Control | None = None


_local = _Local()


def current() -> Control | None:
    """The control of the statement that this thread runs."""
    return _local.control


def enter(control: Control | None) -> Control | None:
    """Make `control` that of this thread; the one before, to be entered again at the end."""
    before = _local.control
    _local.control = control
    return before


def check() -> None:
    """Raise if the statement that this thread runs has to end."""
    control = _local.control
    if control is not None:
        control.check()


def reserve(size: int) -> None:
    """Count bytes of rows of the statement that this thread runs; raises MemoryLimitError."""
    control = _local.control
    if control is not None:
        control.reserve(size)
