"""Raises KeyboardInterrupt at a chosen line of the engine, as Ctrl-C might."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import zeptodb

ENGINE = Path(zeptodb.__file__).parent
WATCHED = tuple(str(ENGINE / name) for name in ("storage", "ingest/queue.py", "pipeline.py"))


class Interrupter:
    """Counts the lines of the watched files that a call runs, and interrupts it before line number `at`."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.lines = 0

    def run(self, call: Callable[[], object]) -> bool:
        """Run the call; returns whether it was interrupted."""
        previous = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(previous)
        return False

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        caller = frame.f_back.f_code.co_name if frame.f_back is not None else ""
        if not code.co_filename.startswith(WATCHED) or "__del__" in (code.co_name, caller):
            return None  # Python swallows what is raised while an object goes
        return self._on_line

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        # Python looks for signals after calls and at jumps back, never between the body of a `with` and its end.
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(
            "with "
        ):
            self.lines += 1
            if self.lines == self.at:
                raise KeyboardInterrupt
        return self._on_line
