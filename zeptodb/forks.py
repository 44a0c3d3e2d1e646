"""What to do about locks and threads before and after `os.fork`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType

_MODULES: list[ModuleType] = []
"""Those that define what is called at a fork.

Python holds these functions to its very end, and with them the names of their modules. It empties modules before, but
only those that somebody holds; else all that can be reached from these names goes through one more collection at exit.
"""


def at_fork(
    *,
    before: Callable[[], object] | None = None,
    after_in_parent: Callable[[], object] | None = None,
    after_in_child: Callable[[], object] | None = None,
) -> None:
    """Call functions whenever the process forks; as `os.register_at_fork`, see there."""
    actions = {"before": before, "after_in_parent": after_in_parent, "after_in_child": after_in_child}
    given = {when: action for when, action in actions.items() if action is not None}
    _MODULES.extend(sys.modules[action.__module__] for action in given.values() if isinstance(action, FunctionType))
    os.register_at_fork(**given)
