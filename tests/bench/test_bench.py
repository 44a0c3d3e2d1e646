"""Every benchmark runs on few rows with equal answers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import __main__ as command
from bench.data import Trades, quotes_table, trades_table
from bench.harness import HEADERS
from zeptodb.demo import comparison


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    monkeypatch.setattr(comparison, "SHORTEST_SAMPLE_NS", 1)


def test_trades_are_unsorted_by_symbol_and_ascend_in_time():
    table = trades_table(1_000, 7)
    symbols, stamps = table["symbol"].to_numpy(), table["timestamp"].to_numpy()
    assert set(symbols) == set(range(7))
    assert np.any(np.diff(symbols) < 0)
    assert np.all(np.diff(stamps) >= 0)


def test_quotes_have_no_ties_and_a_positive_spread():
    table = quotes_table(1_000, 7)
    assert np.all(np.diff(table["timestamp"].to_numpy()) > 0)
    assert np.all(table["ask"].to_numpy() > table["bid"].to_numpy())


def test_all_engines_hold_the_same_rows():
    trades = Trades(500, 5)
    assert trades.frame.height == 500
    assert trades.connection.execute("SELECT count(*), sum(price) FROM trades").fetchone() == (
        500,
        trades.frame["price"].sum(),
    )
    assert sum(trades.pipeline.count(symbol) for symbol in range(5)) == 500


@pytest.mark.parametrize("operation", command.OPERATIONS + command.LONG)
def test_an_operation_runs_and_is_printed(operation, capsys, tmp_path, monkeypatch):
    if operation == "direct":
        monkeypatch.setattr("bench.direct.CALLS", 100)
        monkeypatch.setattr("bench.direct.END_TO_END_TICKS", 1_000)
    monkeypatch.setattr("bench.startup.IS_COLD_START_MEASURED", False)
    path = tmp_path / "bench.json"
    arguments = ["--rows=3_000", "--symbols=10", "--repeat=1", f"--json={path}", "--only", operation]
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    assert all(header in printed for header in HEADERS)
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["benchmarks"]
    assert all(median["median"] > 0 for entry in report["benchmarks"] for median in entry["seconds"].values())


def test_unknown_operations_are_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "nothing"])
    assert "invalid choice" in capsys.readouterr().err
