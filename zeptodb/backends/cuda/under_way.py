"""Copies to the image that have been asked for, until they are known to be done."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from zeptodb.backends.cuda.driver import DeviceError, DeviceMemory, Driver, Event, Stream
from zeptodb.backends.cuda.known import Contents
from zeptodb.backends.cuda.memory import PinnedMapping


@dataclass(slots=True, eq=False)
class Copies:
    """Some rows of one column on their way.

    Attributes:
        contents, column: what they belong to.
        event: they are done.
        keeps: the memory that they read and write, which must stay until then, also where the image lets it go.
        left_bytes: of the column, which have not been asked for yet.
        is_followed: whether what is asked for on the stream of queries from now on comes after them.
    """

    contents: Contents
    column: int
    event: Event
    keeps: tuple[list[PinnedMapping], list[DeviceMemory]]
    left_bytes: int
    is_followed: bool = False

    def let_go(self) -> None:
        """They are done: whoever still holds this keeps no memory."""
        for kept in self.keeps:
            kept.clear()


@dataclass(slots=True)
class UnderWay:
    """All of them. The owner's lock guards it."""

    driver: Driver
    _copies: list[Copies] = field(default_factory=list)

    def add(self, copies: Copies) -> None:
        """They have been asked for."""
        self._copies.append(copies)

    def of(self, contents: Contents, column: int) -> list[Copies]:
        """Those of one column."""
        return [copies for copies in self._copies if copies.contents is contents and copies.column == column]

    def into(self, memory: DeviceMemory) -> list[Copies]:
        """Those that write to one mirror."""
        return [copies for copies in self._copies if any(kept is memory for kept in copies.keeps[1])]

    def follow(self, contents: Contents, column: int) -> None:
        """Let what is asked for on the stream of queries from now on come after those of a column."""
        for copies in self.of(contents, column):
            if not copies.is_followed:
                self.driver.follow(Stream.QUERIES, copies.event)
                copies.is_followed = True

    def finish(self, finished: Collection[Copies]) -> None:
        """Wait on the host until these are done; raises DeviceError when one has failed, and all are done then."""
        try:
            for copies in finished:
                self.driver.wait(copies.event)
        except DeviceError:
            for copies in self._copies:
                with suppress(DeviceError):  # the first says it
                    self.driver.wait(copies.event)
                copies.let_go()
            self._copies.clear()
            raise
        for copies in finished:
            copies.let_go()
        self._copies = [copies for copies in self._copies if copies not in finished]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._copies)
