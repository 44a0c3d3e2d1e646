"""Libraries that data may come from: looked at only when somebody else has imported them."""

from __future__ import annotations

import sys
from typing import Any


def imported(name: str) -> Any:  # noqa: ANN401 - a module
    """The module called `name` if it has been imported completely, else None: no data can be of its types then.

    Another thread may be in the middle of importing it; such a module lacks names.
    """
    module = sys.modules.get(name)
    if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False):
        return None
    return module
