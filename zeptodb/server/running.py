"""Statements that run now: how many may, who may list them, and how one is ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field
from threading import Event, Lock

from zeptodb.record import record
from zeptodb.server.codes import Code, failure


@record(frozen=False)
class RunningStatement:
    """One statement that was accepted and has not been answered yet.

    Attributes:
        query_id: the client's name for it, or ours.
        text: the statement, its data left out.
        user: whose key it came with.
        address: of the client.
        began: on the monotonic clock.
        is_cancelled: set when it shall end.
        end: ends what the server runs itself for it; None while it runs nothing.
    """

    query_id: str
    text: str
    user: str
    address: str
    began: float = field(default_factory=time.monotonic)
    is_cancelled: Event = field(default_factory=Event)
    end: Callable[[], None] | None = None

    @property
    def elapsed_seconds(self) -> float:
        """Since it was accepted."""
        return time.monotonic() - self.began


class RunningStatements:
    """The list of them; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: dict[str, RunningStatement] = {}

    @contextmanager
    def listed(self, entry: RunningStatement) -> Iterator[None]:
        """Keep an entry in the list; raises when its query_id is in it already."""
        with self._lock:
            if entry.query_id in self._entries:
                raise failure(
                    Code.BAD_ARGUMENTS, f"A query with query_id {entry.query_id!r} runs already; use another one."
                )
            self._entries[entry.query_id] = entry
        try:
            yield
        finally:
            with self._lock:
                del self._entries[entry.query_id]

    def entries(self) -> list[RunningStatement]:
        """All, the oldest first."""
        with self._lock:
            return sorted(self._entries.values(), key=lambda entry: entry.began)

    def find(self, query_id: str) -> RunningStatement | None:
        """The one of that query_id."""
        with self._lock:
            return self._entries.get(query_id)
