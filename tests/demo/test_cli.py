"""The console command says clearly what is wrong."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zeptodb
from zeptodb import cli
from zeptodb.demo import run
from zeptodb.demo.comparison import AnswersDifferError
from zeptodb.demo.ticks import Ticks


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"zeptodb {zeptodb.__version__}\n"


def test_no_command_and_an_unknown_one_are_usage_errors(capsys):
    for arguments in ([], ["dem"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 2
    assert "demo" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-5", "many", "1.5"])
def test_a_count_that_is_none_is_a_usage_error(capsys, value):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", f"--rows={value}"])
    assert stopped.value.code == 2
    assert "is not a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trades", "nowhere.parquet"], "There is no file nowhere.parquet"),
        (["--chart", "missing/chart.html"], "--chart: there is no folder missing"),
        (["--quotes", "quotes.parquet"], "--quotes was given without --trades"),
        (["--trades", "t.parquet", "--rows", "5"], "--rows and --symbols are for generated ticks"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, arguments, message):
    assert cli.main(["demo", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_missing_column_is_named(tmp_path, capsys):
    pq.write_table(pa.table({"timestamp": [1], "symbol": ["A"], "price": [1.0]}), tmp_path / "t.parquet")
    assert cli.main(["demo", "--trades", str(tmp_path / "t.parquet")]) == 2
    assert 'has no column "size"; needed are timestamp, symbol, price, size.' in capsys.readouterr().err


def test_answers_that_differ_are_status_1(monkeypatch, capsys):
    def differ(options):
        raise AnswersDifferError("VWAP: ZeptoDB and DuckDB differ")

    monkeypatch.setattr(run, "run_demo", differ)
    assert cli.main(["demo", "--rows", "10", "--symbols", "2"]) == 1
    assert capsys.readouterr().err == "zeptodb: VWAP: ZeptoDB and DuckDB differ\n"


def test_an_interrupt_ends_without_a_traceback(monkeypatch, capsys):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_demo", interrupt)
    assert cli.main(["demo", "--rows", "10", "--symbols", "2"]) == 130
    assert capsys.readouterr().err == "zeptodb: interrupted\n"


def test_a_backend_that_is_not_there_is_status_1(monkeypatch, capsys):
    monkeypatch.setattr("zeptodb.demo.ticks.generated", lambda **counts: tick_of_each())
    monkeypatch.setattr("zeptodb.pipeline._make_backend", unavailable)
    assert cli.main(["demo", "--backend", "cuda", "--no-chart"]) == 1
    assert capsys.readouterr().err == "zeptodb: no device\n"


def unavailable(name, config):
    raise zeptodb.BackendUnavailableError("no device")


def tick_of_each() -> Ticks:
    tick = {"timestamp": [1], "symbol": ["A"]}
    return Ticks(
        pa.table(tick | {"price": [1.0], "size": [1]}), pa.table(tick | {"bid": [1.0], "ask": [1.0]}), "two ticks"
    )
