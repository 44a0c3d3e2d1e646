"""Options of the test suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many random statements are compared, and from which seed."""
    group = parser.getgroup("zeptodb")
    group.addoption("--statements", type=int, default=2_000, help="random statements compared with DuckDB (2,000)")
    group.addoption("--mutations", type=int, default=1_000, help="mutated statements that must not break (1,000)")
    group.addoption("--statement-seed", type=int, default=1, help="seed of the random statements (1)")
