"""Where operators run when a backend has a device beside the CPU: on which engine, and why.

A backend that chooses notes each choice for the statement that its thread runs, as `control.py` keeps that statement's
limits, so that operators need not hand it on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from zeptodb.record import record


@record
class Estimate:
    """What an operator is expected to take on one engine.

    Attributes:
        engine: name of the backend: cpu, cuda, emu.
        device: what it runs on, in words.
        seconds: until its answer is there.
        work: what takes the time, in words.
    """

    engine: str
    device: str
    seconds: float
    work: str


@record
class Placement:
    """The engine of one operator.

    Attributes:
        engine, device: as of Estimate.
        reason: why that one.
        estimates: of every engine that could run it; () when nothing was estimated.
    """

    engine: str
    device: str
    reason: str
    estimates: tuple[Estimate, ...] = ()

    def moved(self, engine: str, device: str, reason: str) -> Placement:
        """The same operator on another engine after all."""
        return replace(self, engine=engine, device=device, reason=reason)


def engine_name(backend: str, placements: Sequence[Placement]) -> str:
    """The engine of a native answer: the backend of that name, or which of its engines ran the operators."""
    names = dict.fromkeys(placement.engine for placement in placements)
    return f"native:{'+'.join(names) or backend}"


class _Local(threading.local):
    notes: list[Placement] | None = None


_local = _Local()


def note(placement: Placement) -> None:
    """Remember where an operator of the statement that this thread runs has run; without a statement do nothing."""
    notes = _local.notes
    if notes is not None:
        notes.append(placement)


def begin() -> list[Placement]:
    """A list that takes the placements of this thread from now on, in the order in which operators end."""
    notes: list[Placement] = []
    _local.notes = notes
    return notes


def current() -> list[Placement] | None:
    """The list that takes this thread's placements, to be resumed after another statement within this one."""
    return _local.notes


def resume(notes: list[Placement] | None) -> None:
    """Let this list take the placements of this thread again."""
    _local.notes = notes
