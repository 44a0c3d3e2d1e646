"""How many statements run at once, how many wait, and which are turned away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zeptodb.server.codes import Code, failure


class Admission:
    """Lets so many in at once, so many wait, and refuses the rest; belongs to one event loop.

    Attributes:
        running: statements that are in.
        waiting: statements that wait.
    """

    def __init__(self, *, most_running: int, most_waiting: int) -> None:
        self._room = asyncio.Semaphore(most_running)
        self._most_running = most_running
        self._most_waiting = most_waiting
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Wait for a place and hold it; raises TOO_MANY_SIMULTANEOUS_QUERIES when too many wait already."""
        if self._room.locked() and self.waiting >= self._most_waiting:
            raise failure(
                Code.TOO_MANY_SIMULTANEOUS_QUERIES,
                f"{self.running} statements run and {self.waiting} wait, which is all that this server lets "
                "(max_concurrent_statements, max_waiting_statements); try again later.",
            )
        self.waiting += 1
        try:
            await self._room.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._room.release()
