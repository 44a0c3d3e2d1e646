"""The statements that run at this moment: each under an id by which any thread can cancel it."""

from __future__ import annotations

import itertools
import time

from zeptodb.backends.control import Control
from zeptodb.errors import AlreadyExistsError
from zeptodb.record import record


@record
class RunningQuery:
    """A statement that ran when it was asked about.

    Attributes:
        query_id: what `cancel` takes: the caller's own, or a number as a string.
        text: the statement.
        started: when it began, in seconds since 1970 (UTC).
        elapsed: seconds since then.
    """

    query_id: str
    text: str
    started: float
    elapsed: float


class RunningQueries:
    """The statements of one executor that have begun and not ended; safe to use from any number of threads."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._entries: dict[str | int, tuple[str, Control]] = {}

    def begin(self, text: str, control: Control, query_id: str | None = None) -> str | int:
        """Show a statement among those that run; the key for `end`.

        Raises AlreadyExistsError when a statement with the id that was given runs already.
        """
        key = next(self._numbers) if query_id is None else query_id
        entry = (text, control)
        if self._entries.setdefault(key, entry) is not entry:
            raise AlreadyExistsError(f'A statement with query_id "{key}" runs already; give another one, or none.')
        return key

    def end(self, key: str | int) -> None:
        """Show it no more."""
        del self._entries[key]

    def list(self) -> tuple[RunningQuery, ...]:
        """The statements that run, in the order in which they began."""
        wall, now = time.time(), time.monotonic()
        entries = sorted(self._entries.copy().items(), key=lambda item: item[1][1].began)
        return tuple(
            RunningQuery(str(key), text, wall - (now - control.began), now - control.began)
            for key, (text, control) in entries
        )

    def cancel(self, query_id: str) -> bool:
        """Tell a statement to end; False when none of that id runs."""
        entry = self._entries.get(query_id)
        if entry is None and query_id.isdecimal():
            entry = self._entries.get(int(query_id))
        if entry is None:
            return False
        entry[1].cancel()
        return True
