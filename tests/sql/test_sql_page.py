"""Every example of the SQL page runs on the engine that the page names, and its table is the planner's."""

from __future__ import annotations

import re
from pathlib import Path

from zeptodb.pipeline import Pipeline
from zeptodb.sql.surface import written

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```sql\n-- (\S+)\n(.*?)```", TEXT, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ENGINES = {"native": "native:cpu", "native+duckdb": "native:cpu+duckdb"}
"""Engines that are called otherwise on the page."""


def test_the_examples_run_in_turn_on_the_engines_that_the_page_names() -> None:
    with Pipeline(backend="cpu") as pipeline:
        for engine, sql in EXAMPLES:
            result = pipeline.execute(sql)
            assert result.ok(), f"{sql}{result.error}"
            assert result.engine == ENGINES.get(engine, engine), f"{sql}{result.plan}"
            is_answer = engine != "storage" or sql.startswith(("SHOW", "DESCRIBE"))
            assert len(result) > 0 or not is_answer, sql
        for code in PYTHON:
            exec(code, {"pipeline": pipeline})


def test_the_table_is_what_the_planner_has() -> None:
    assert written(TEXT) == TEXT, "run `python -m zeptodb.sql.surface docs/sql.md`"
