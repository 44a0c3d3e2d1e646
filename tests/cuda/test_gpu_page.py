"""The page about devices says what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.gpu.part import PARTS
from zeptodb.sql.devices import written

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gpu.md"
TEXT = PAGE.read_text(encoding="utf-8")
MESSAGES = re.findall(
    r"^\| `(.+?)` \|", TEXT.partition("## When something goes wrong")[2].partition("## ")[0], re.MULTILINE
)
SOURCES = " ".join(
    re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))  # texts that stand on several lines
    for path in sorted((ROOT / "zeptodb" / "backends" / "cuda").glob("*.py"))
)


def test_the_table_is_what_the_backends_claim() -> None:
    assert written(TEXT) == TEXT, "run `python -m zeptodb.sql.devices docs/gpu.md`"


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_is_one_that_is_raised(message: str) -> None:
    assert message in SOURCES


def test_every_part_of_the_measurement_is_there() -> None:
    table = TEXT.partition("## Measuring")[2]
    assert re.findall(r"^\| (\w+) \|", table, re.MULTILINE)[1:] == list(PARTS)
