"""What a notebook shows of a Pipeline and of a result."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import zeptodb


def cells(markup: str) -> list[list[str]]:
    root = ET.fromstring(f"<div>{markup}</div>")
    return [[cell.text or "" for cell in row] for row in root.iter("tr")]


def test_a_pipeline_shows_its_tables_rows_symbols_and_backend():
    pipeline = zeptodb.Pipeline(backend="cpu")
    pipeline.ingest_batch([1, 1, 2], [10, 20, 30], [1, 1, 1])
    pipeline.append("<b>", {"x & y": [1.5]})
    markup = pipeline._repr_html_()
    assert cells(markup) == [
        ["table", "columns", "rows", "symbols"],
        ["trades", "symbol, price, volume, timestamp", "3", "2"],
        ["<b>", "x & y", "1", "-"],
    ]
    assert "<p>cpu (" in markup


def test_a_result_shows_its_first_and_last_rows_and_what_it_took():
    pipeline = zeptodb.Pipeline(backend="cpu")
    pipeline.ingest_batch([1] * 100, list(range(100)), [1] * 100, list(range(100)))
    result = pipeline.execute("SELECT price FROM trades")
    shown = [row[0] for row in cells(result._repr_html_())]
    assert shown == ["price", *map(str, range(10)), "…", *map(str, range(90, 100))]
    assert "100 rows, native:cpu," in result._repr_html_()


def test_a_result_that_failed_shows_its_error_as_text():
    markup = zeptodb.Pipeline(backend="cpu").execute("SELECT '<i>' FROM nothing")._repr_html_()
    assert markup.startswith("<pre>There is no table")
    assert "&lt;i&gt;" in markup
