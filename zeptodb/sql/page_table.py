"""A table in a page of the manual that code makes: what stands between two marks is replaced."""

from __future__ import annotations

import sys
from pathlib import Path


def with_table(page: str, begin: str, table: str, end: str) -> str:
    """The page with `table` between the marks."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def rewrite(begin: str, table: str, end: str) -> None:
    """Replace the table in the page that the command line names."""
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8"), begin, table, end), encoding="utf-8")
