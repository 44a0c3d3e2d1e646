"""Columns on their way to the device in the background, one at a time, beside queries.

The lock of the image is held while a piece of a column is asked for, not while it is copied: queries over other columns
run meanwhile, and those over this one come after the copies on the device.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from threading import Condition, RLock, Thread

from zeptodb.backends.cuda.driver import DeviceError, Driver
from zeptodb.backends.cuda.image import DeviceImage
from zeptodb.backends.cuda.under_way import Copies
from zeptodb.errors import BackendUnavailableError
from zeptodb.storage.snapshot import Snapshot


class Uploads:
    """Brings up what is asked for in a thread that lives while there is something to do. Thread-safe.

    Attributes:
        columns: how many have been brought up.
        failures: the last messages of what was given up; the query that wants it says more.
    """

    def __init__(self, driver: Driver, image: DeviceImage, lock: RLock) -> None:
        """`lock` guards `image`."""
        self._driver, self._image, self._lock = driver, image, lock
        self._process = os.getpid()
        self._condition = Condition()
        self._waiting: deque[tuple[Snapshot, int]] = deque()
        self._is_working = False
        self.columns = 0
        self.failures: deque[str] = deque(maxlen=8)

    def ask(self, snapshot: Snapshot, columns: frozenset[int]) -> None:
        """Bring up columns as they are when their turn has come; the snapshot may be closed by then."""
        if self._is_forked:
            return
        origin = snapshot.history.origin
        with self._condition:
            asked = {column for other, column in self._waiting if other.history.origin is origin}
            self._waiting.extend((snapshot, column) for column in sorted(columns - asked))
            if self._is_working or not self._waiting:
                return
            Thread(target=self._work, name="zeptodb-upload", daemon=True).start()
            self._is_working = True

    def wait(self) -> None:
        """Return when there is nothing left to bring up."""
        if not self._is_forked:
            with self._condition:
                self._condition.wait_for(lambda: not self._is_working)

    def close(self) -> None:
        """Drop what has not begun, and wait for what has."""
        if not self._is_forked:
            with self._condition:
                self._waiting.clear()
            self.wait()

    @property
    def _is_forked(self) -> bool:
        """Whether the thread, if there was one, is in another process."""
        return os.getpid() != self._process

    def _work(self) -> None:
        try:
            while (asked := self._next()) is not None:
                try:
                    self._bring(*asked)
                except (DeviceError, BackendUnavailableError) as error:
                    self.failures.append(str(error))
        except BaseException:
            self._end()
            raise

    def _next(self) -> tuple[Snapshot, int] | None:
        with self._condition:
            if self._waiting:
                return self._waiting.popleft()
            self._end()
            return None

    def _end(self) -> None:
        with self._condition:
            self._is_working = False
            self._condition.notify_all()

    def _bring(self, asked: Snapshot, column: int) -> None:
        # The snapshot first: whoever changes a table holds its lock while he waits for the device.
        latest = asked.retake()
        if latest is None:
            return
        with latest:
            if latest.history.origin is not asked.history.origin or latest.schema is not asked.schema:
                return  # the table has been replaced
            self.columns += self._bring_pieces(latest, column)

    def _bring_pieces(self, snapshot: Snapshot, column: int) -> bool:
        """Ask for one piece while the one before it is copied; all is done at the end. Whether the column is there."""
        asked: deque[Copies] = deque()
        left: int | None = None
        try:
            while left is None or left > 0:
                with self._lock:
                    copies = self._image.bring_piece(snapshot, column)
                if copies is None:
                    left = 0
                    break
                asked.append(copies)
                if left is not None and copies.left_bytes >= left:
                    break  # queries have let it go meanwhile
                left = copies.left_bytes
                if len(asked) > 1:
                    self._finish(asked)
            while asked:
                self._finish(asked)
        finally:
            with self._lock:  # the rows may be moved when the snapshot is closed
                self._image.finish(asked)
        return left == 0

    def _finish(self, asked: deque[Copies]) -> None:
        """Wait for the first of the copies, without the lock."""
        with suppress(DeviceError):  # is said again under the lock
            self._driver.wait(asked[0].event)
        with self._lock:
            self._image.finish((asked[0],))
        asked.popleft()
