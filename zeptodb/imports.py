"""Imports of many modules at once, with little garbage collection."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEVER = 1_000_000


@contextmanager
def collections_kept_young() -> Iterator[None]:
    """Let the garbage collector, if it is on, look at new objects only while modules are imported, and once.

    What modules define stays; to look for garbage among it again and again takes a tenth of their time.
    """
    before = gc.get_threshold()
    gc.set_threshold(before[0], _NEVER, _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if gc.isenabled():
            _make_everything_old()


def _make_everything_old() -> None:
    """Leave what there is to the next full collection, since the next but the youngest would go through all of it.

    Freezing moves every object out of the generations, and thawing into the oldest one, without a look at any of them.
    What a program has frozen itself stays so.
    """
    if gc.get_freeze_count() == 0:
        gc.freeze()
        gc.unfreeze()
