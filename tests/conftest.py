"""Options of the test suite."""

from __future__ import annotations

import pytest

SUMMARIES = ("differential", "fuzz")
"""Properties that are shown at the end of a run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many random statements are compared, and from which seed."""
    group = parser.getgroup("zeptodb")
    group.addoption("--statements", type=int, default=2_000, help="random statements compared with DuckDB (2,000)")
    group.addoption("--mutations", type=int, default=500, help="mutated statements that must not break (500)")
    group.addoption("--statement-seed", type=int, default=1, help="seed of the random statements (1)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests recorded about random statements."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", ()):
            if name in SUMMARIES:
                terminalreporter.write_line(f"{name}: {value}")
