"""Options of the test suite."""

from __future__ import annotations

import pytest

SUMMARIES = ("differential", "fuzz", "rounds")
"""Properties that are shown at the end of a run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many random statements and rounds are compared, and from which seed."""
    group = parser.getgroup("zeptodb")
    group.addoption("--statements", type=int, default=2_000, help="random statements compared with DuckDB (2,000)")
    group.addoption("--mutations", type=int, default=500, help="mutated statements that must not break (500)")
    group.addoption("--statement-seed", type=int, default=1, help="seed of the random statements (1)")
    group.addoption("--rounds", type=int, default=1_000, help="random rounds of ingest and queries on emu (1,000)")
    group.addoption("--round-seed", type=int, default=0, help="seed of the random rounds (0)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests recorded about random statements and rounds."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", ()):
            if name in SUMMARIES:
                terminalreporter.write_line(f"{name}: {value}")
