"""What a part finds, written line by line as it is found, so that a part that ends badly loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any


@dataclass(slots=True)
class Record:
    """The file of one part.

    Attributes:
        path: where the lines go.
        seconds: how long the part may take.
    """

    path: Path
    seconds: float
    clock: Callable[[], float] = monotonic
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        self._start = self.clock()
        self.path.write_text("", encoding="utf-8")

    @property
    def seconds_left(self) -> float:
        """Until the part is ended."""
        return self.seconds - (self.clock() - self._start)

    def found(self, what: str, **values: Any) -> None:
        """Something measured."""
        self._write({"what": what, **values})

    def skipped(self, what: str, reason: str) -> None:
        """Something left out, and why."""
        self._write({"skipped": what, "reason": reason})

    def has_time(self, what: str, seconds: float) -> bool:
        """Whether `seconds` are left for `what`; if not, that is noted as the reason why it is left out."""
        if seconds <= self.seconds_left:
            return True
        self.skipped(what, f"would take about {seconds:.0f} s, {max(0.0, self.seconds_left):.0f} s were left")
        return False

    def _write(self, entry: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def read_record(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was found and what was skipped; a last line that was not finished is left out."""
    found, skipped = [], []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    for line in lines:
        entry = json.loads(line)
        (found if "what" in entry else skipped).append(entry)
    return found, skipped
