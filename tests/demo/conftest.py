"""Where the real ticks are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data_directory() -> Path | None:
    """The folder of real ticks: $ZEPTODB_TEST_DATA, else ../shared/data beside the repository."""
    chosen = os.environ.get("ZEPTODB_TEST_DATA")
    folder = Path(chosen) if chosen else Path(__file__).resolve().parents[3] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture
def real_data() -> Path:
    folder = data_directory()
    if folder is None:
        pytest.skip("no real ticks: neither $ZEPTODB_TEST_DATA nor ../shared/data is there")
    return folder
