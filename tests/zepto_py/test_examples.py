"""The streaming and Arrow scripts of the reference run and print what their docstrings say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MEASURED = re.compile(r"\d+\.\d\ds|[\d,]+ rows/sec")


@pytest.mark.parametrize("name", ["streaming", "arrow_duckdb"])
def test_the_script_prints_what_its_docstring_says_but_for_the_times(name: str) -> None:
    script = REPOSITORY / "examples" / f"{name}.py"
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    promised = textwrap.dedent(docstring.partition(":\n\n")[2])
    run = subprocess.run(
        [sys.executable, "-W", "error", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert run.returncode == 0, run.stderr
    assert MEASURED.sub("?", run.stdout).rstrip() == MEASURED.sub("?", promised).rstrip()
    if name == "streaming":
        assert len(MEASURED.findall(run.stdout)) == 5
        assert "1.00M/1.00M" in run.stderr
