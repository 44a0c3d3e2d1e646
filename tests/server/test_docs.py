"""The Python blocks of docs/server.md run, in order, against one server."""

from __future__ import annotations

import re
from pathlib import Path

from zeptodb.server.serve import BackgroundServer

PAGE = Path(__file__).parents[2] / "docs" / "server.md"


def test_snippets_run(server: BackgroundServer) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), {"port": server.port})


def test_the_page_names_every_format_and_route(server: BackgroundServer) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for route in server._server.config.app.routes:  # type: ignore[union-attr]
        path = route.path.replace("/{query_id}", "")
        assert f"`{path}`" in text or f" {path}" in text, path
