"""The demo, from files or generated ticks to tables and a chart."""

from __future__ import annotations

import re
import sys

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zeptodb import cli
from zeptodb.demo import jobs, run
from zeptodb.demo.comparison import AnswersDifferError
from zeptodb.demo.rivals import load
from zeptodb.demo.ticks import Ticks, generated

NO_QUOTES_FOR_C = {
    "trades": {
        "timestamp": [10, 10, 10, 20, 20, 30],
        "symbol": ["A", "B", "C", "A", "B", "A"],
        "price": [1.5, 9.0, 5.0, 1.6, 2.0, 1.7],
        "size": [1, 2, 3, 4, 5, 6],
    },
    "quotes": {
        "timestamp": [5, 10, 10, 20, 20],
        "symbol": ["A", "A", "B", "A", "B"],
        "bid": [9.0, 1.5, 1.0, 1.0, None],
        "ask": [9.0, 1.5, 2.0, 1.5, 3.0],
    },
}


def demo(capsys, *arguments: object) -> str:
    assert cli.main(["demo", "--repeat", "1", "--backend", "cpu", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def shares(output: str) -> dict[str, tuple[int, int]]:
    """Trades and trades inside, by symbol, as the demo printed them."""
    table = output.partition("Trades inside the quote")[2].partition("A quote of the same stamp")[0]
    found = re.findall(r"^(\S+) +([\d,]+) +([\d,]+) +[\d.]+ %$", table, re.MULTILINE)
    return {name: (int(trades.replace(",", "")), int(inside.replace(",", ""))) for name, trades, inside in found}


def write(folder, ticks) -> list[str]:
    paths = {name: folder / f"{name}.parquet" for name in ticks}
    for name, columns in ticks.items():
        pq.write_table(pa.table(columns), paths[name])
    return [f"--{name}={path}" for name, path in paths.items()]


def test_generated_ticks_are_called_so_and_every_answer_and_time_is_printed(capsys, tmp_path):
    chart = tmp_path / "candles.html"
    output = demo(capsys, "--rows", 5_000, "--symbols", 12, "--chart", chart)
    assert "The rows are generated ticks of realistic shape" in output
    for words in ("VWAP by symbol", "five-minute OHLCV bars", "as-of join, trades to quotes", "vs DuckDB", "S01"):
        assert words in output
    assert re.search(r"trades .* 5,000 +12 ", output)
    assert shares(output)["all"][0] > 4_900
    pytest.importorskip("plotly")
    assert chart.stat().st_size > 100_000


def test_the_share_counts_quotes_of_the_same_stamp_and_leaves_out_symbols_without(capsys, tmp_path):
    output = demo(capsys, *write(tmp_path, NO_QUOTES_FOR_C), "--no-chart")
    assert shares(output) == {"A": (3, 1), "B": (2, 0), "all": (5, 1)}


def test_trades_alone_give_vwap_and_bars(capsys, tmp_path):
    output = demo(capsys, *write(tmp_path, {"trades": NO_QUOTES_FOR_C["trades"]}), "--no-chart")
    assert "VWAP by symbol" in output
    assert "as-of" not in output


def test_integer_symbols_and_prices_work(capsys, tmp_path):
    columns = NO_QUOTES_FOR_C["trades"] | {"symbol": [1, 2, 3, 1, 2, 1], "price": [15, 90, 50, 16, 20, 17]}
    output = demo(capsys, *write(tmp_path, {"trades": columns}), "--no-chart")
    assert re.search(r"^1 +3 +11 +16\.4545 ", output, re.MULTILINE)


def test_without_plotly_it_says_how_to_get_it_and_goes_on(capsys, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    output = demo(capsys, "--rows", 500, "--symbols", 2, "--chart", tmp_path / "chart.html")
    assert 'pip install "zeptodb[plot]"' in output
    assert not (tmp_path / "chart.html").exists()


def test_answers_that_differ_stop_the_demo(monkeypatch):
    wrong = jobs.Job(
        title=jobs.VWAP.title,
        zeptodb=jobs.VWAP.zeptodb,
        duckdb=jobs.VWAP.duckdb.replace("sum(size) AS volume", "sum(size) + 1 AS volume"),
        polars=jobs.VWAP.polars,
        keys=jobs.VWAP.keys,
    )
    monkeypatch.setattr(run, "VWAP", wrong)
    with pytest.raises(AnswersDifferError, match="ZeptoDB and DuckDB differ in column volume"):
        run.run_demo(run.DemoOptions(ticks=generated(rows=500, symbols=3), chart=None, backend="cpu", repeat=1))


def test_duckdb_is_given_the_last_of_tied_quotes():
    quotes = pa.table({"timestamp": [1, 1, 2], "symbol": ["A"] * 3, "bid": [1.0, 2.0, 3.0], "ask": [1.0, 2.0, 3.0]})
    trades = pa.table({"timestamp": [1], "symbol": ["A"], "price": [2.0], "size": [1]})
    rivals = load(Ticks(trades, quotes, "two quotes of one stamp"))
    assert rivals.tied_quotes == 1
    assert rivals.connection.execute("SELECT bid FROM quotes ORDER BY timestamp").fetchall() == [(2.0,), (3.0,)]
    assert rivals.quotes.height == 3


def test_polars_and_duckdb_agree_on_every_job():
    rivals = load(generated(rows=3_000, symbols=5))
    for job in (jobs.VWAP, jobs.BARS, jobs.ASOF):
        duckdb, polars = (pl.DataFrame(c.call()).sort(job.keys) for c in rivals.contenders(job))
        assert duckdb.columns == polars.columns
        assert duckdb.height == polars.height > 0


@pytest.mark.slow
def test_us_equities_lie_98_4_percent_inside_the_quote(capsys, real_data):
    folder = real_data / "us_equities"
    arguments = (f"--trades={folder / 'trades.parquet'}", f"--quotes={folder / 'quotes.parquet'}", "--no-chart")
    output = demo(capsys, *arguments)
    assert shares(output) == {
        "BAC": (336_876, 335_758),
        "AIG": (120_701, 116_677),
        "IBM": (84_716, 81_421),
        "all": (542_293, 533_856),
    }
    assert re.search(r"^all .* 98\.4 %$", output, re.MULTILINE)
    assert re.search(r"^trades +2013-10-07 .* 1,684,116 +4 ", output, re.MULTILINE)


def test_binance_runs_on_its_local_clock(capsys, real_data):
    folder = real_data / "binance"
    arguments = (f"--trades={folder / 'trades.parquet'}", f"--quotes={folder / 'quotes.parquet'}", "--no-chart")
    found = shares(demo(capsys, *arguments))
    assert found["BTCUSDT.UM"] == (21_313, 11_719)
    assert found["all"] == (55_270, 31_598)
