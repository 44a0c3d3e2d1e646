"""Threads that take part in large work on storage: a Protocol, so that each backend can lend its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

Work = Callable[[npt.NDArray[np.int64], int], None]
"""Called with a counter from which a kernel claims numbered work items, and how many of them to take at most."""


class Workers(Protocol):
    """Runs work items in one or more threads."""

    def run(self, work: Work, count: int, *, rows: int) -> None:
        """Call `work(counter, budget)` until all `count` items are done; over few `rows` in the caller alone.

        What interrupts the caller ends the handing out of items and is raised when those under way are done.
        """
        ...


class CallerAlone:
    """No helpers."""

    def run(self, work: Work, count: int, *, rows: int) -> None:  # noqa: ARG002
        """Do everything here."""
        work(np.zeros(1, dtype=np.int64), count)
