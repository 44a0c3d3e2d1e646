"""Every example of the SQL page runs on the engine that the page names, and its table is the planner's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from zeptodb.pipeline import Pipeline
from zeptodb.sql.surface import written

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```sql\n-- (\S+)\n(.*?)```", TEXT, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ENGINES = {"native": "native:cpu", "native+duckdb": "native:cpu+duckdb"}
"""Engines that are called otherwise on the page."""


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with Pipeline(backend="cpu") as made:
        yield made


@pytest.mark.parametrize(("engine", "sql"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs_on_the_engine_that_the_page_names(pipeline: Pipeline, engine: str, sql: str) -> None:
    result = pipeline.execute(sql)
    assert result.ok(), result.error
    assert result.engine == ENGINES.get(engine, engine), result.plan
    is_answer = engine != "storage" or sql.startswith(("SHOW", "DESCRIBE"))
    assert len(result) > 0 or not is_answer


def test_the_python_examples_run(pipeline: Pipeline) -> None:
    for code in PYTHON:
        exec(code, {"pipeline": pipeline})


def test_the_table_is_what_the_planner_has() -> None:
    assert written(TEXT) == TEXT, "run `python -m zeptodb.sql.surface docs/sql.md`"
