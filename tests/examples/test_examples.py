"""Every example runs, and prints what it says that it prints."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"
TOUR = EXAMPLES / "tour.ipynb"


def real_data() -> Path:
    chosen = os.environ.get("ZEPTODB_TEST_DATA")
    folder = Path(chosen) if chosen else REPOSITORY.parent / "shared" / "data"
    if not (folder / "us_equities").is_dir():
        pytest.skip("no real ticks: neither $ZEPTODB_TEST_DATA nor ../shared/data is there")
    return folder


def output_of(script: Path, environment: dict[str, str] | None = None) -> str:
    run = subprocess.run(
        [sys.executable, "-W", "error", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env=os.environ | (environment or {}) | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    return run.stdout


def test_the_quick_start_prints_what_its_docstring_says():
    script = EXAMPLES / "quickstart.py"
    words = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    promised = textwrap.dedent(words.partition("Prints:\n\n")[2])
    assert output_of(script).rstrip() == promised.rstrip()


def test_the_real_ticks_example_runs():
    output = output_of(EXAMPLES / "real_ticks.py", {"ZEPTODB_TEST_DATA": str(real_data())})
    assert "98.4% of all trades lie inside the quote in force" in output


def executed_tour(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient")
    pytest.importorskip("ipykernel", reason="notebooks need ipykernel")
    pytest.importorskip("plotly", reason="charts need plotly")
    import nbformat

    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(folder / name.lower()))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = nbformat.read(TOUR, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=100, kernel_name="python3")
    return client.execute(cwd=str(folder))


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text_of(notebook: Any) -> str:
    streams = [output.text for output in outputs(notebook) if output.output_type == "stream"]
    results = [output.data.get("text/plain", "") for output in outputs(notebook) if "data" in output]
    return "\n".join(streams + results)


@pytest.mark.slow
def test_the_tour_runs_on_generated_ticks(tmp_path, monkeypatch):
    monkeypatch.delenv("ZEPTODB_TEST_DATA", raising=False)
    notebook = executed_tour(tmp_path, monkeypatch)
    text = text_of(notebook)
    assert "15010.0 3" in text
    assert "QueryResult(300,000 rows x 6 columns, engine='native:cpu'" in text
    displayed = [output.data for output in outputs(notebook) if "data" in output]
    charts = [data["application/vnd.plotly.v1+json"] for data in displayed if "application/vnd.plotly.v1+json" in data]
    assert [chart["data"][0]["type"] for chart in charts] == ["candlestick", "scatter", "scatter"]
    assert any("<td>300,000</td><td>20</td>" in data.get("text/html", "") for data in displayed)
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]


@pytest.mark.slow
def test_the_tour_runs_on_real_ticks(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPTODB_TEST_DATA", str(real_data()))
    assert "QueryResult(542,293 rows x 6 columns, engine='native:cpu'" in text_of(executed_tour(tmp_path, monkeypatch))


def test_the_notebook_is_kept_without_outputs_and_paths_of_a_machine():
    text = TOUR.read_text(encoding="utf-8")
    for cell in json.loads(text)["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert not re.search(r"/(home|root|Users|tmp|work|mnt)/", text)
