"""The faults of ci/planted_bugs still have a place in their sources, and each names who has to notice."""

from __future__ import annotations

import tomllib
from typing import Any, get_args

import pytest

from tests.emulator.variants import ROOT, Catcher

FOLDERS = {"probes.cu": ROOT / "tests" / "emulator"}
BUGS = tomllib.loads((ROOT / "ci" / "planted_bugs.toml").read_text(encoding="utf-8"))["bugs"]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug["name"])
def test_the_text_of_a_fault_stands_once_in_its_source(bug: dict[str, Any]) -> None:
    source = ROOT / bug["file"] if "/" in bug["file"] else FOLDERS.get(bug["file"], ROOT / "kernels") / bug["file"]
    assert source.read_text(encoding="utf-8").count(bug["old"].removeprefix("\n")) == 1
    assert bug["new"] != bug["old"]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug["name"])
def test_a_fault_says_who_notices_it_in_which_tests(bug: dict[str, Any]) -> None:
    assert bug["caught_by"] in get_args(Catcher)
    assert (bug["caught_by"] == "compiler") == ("tests" not in bug)
    assert all((ROOT / path).is_file() for path in bug.get("tests", []) if path.startswith("tests/"))


def test_names_are_distinct() -> None:
    assert len({bug["name"] for bug in BUGS}) == len(BUGS)
