"""Imports of many modules at once, without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector while modules are imported, if it is on.

    What modules define stays; a collector that looks for garbage among it again and again takes a tenth of their time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            _make_everything_old()
            gc.enable()


def _make_everything_old() -> None:
    """Leave what there is to the next full collection, since the next young one would go through all of it.

    Freezing moves every object out of the generations, and thawing into the oldest one, without a look at any of them.
    What a program has frozen itself stays so.
    """
    if gc.get_freeze_count() == 0:
        gc.freeze()
        gc.unfreeze()
