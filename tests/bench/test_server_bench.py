"""The benchmark of the server runs, on few rows."""

from __future__ import annotations

import pytest

from bench import server


def test_every_line_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--rows", "20000", "--seconds", "0.5", "--clients", "4", "--requests", "20", "--repeat", "1"]
    assert server.main(arguments) in (0, 1)  # times are not asserted
    printed = capsys.readouterr().out
    for work in ("ingest_pandas", "ingest_polars", "small query", "query_pandas", "slow client", "4 clients"):
        assert work in printed
    assert "0 errors, 0 rows lost" in printed
