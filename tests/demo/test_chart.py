"""The chart is one file with the candles of the busiest symbols."""

from __future__ import annotations

import polars as pl
import pytest

pytest.importorskip("plotly", reason="charts need plotly")

from zeptodb.demo.chart import write_candles
from zeptodb.demo.jobs import BAR_WIDTH_NS
from zeptodb.plotting import MOST_SYMBOLS


def bars_of(symbols: list[object], buckets: list[int]) -> pl.DataFrame:
    rows = [
        {"symbol": s, "bar": b * BAR_WIDTH_NS, "open": 1.0, "high": 3.25, "low": 0.5, "close": 2.0, "volume": 10 + i}
        for i, s in enumerate(symbols)
        for b in buckets
    ]
    return pl.DataFrame(rows)


def test_the_page_holds_the_candles_and_needs_no_network(tmp_path):
    path = tmp_path / "chart.html"
    assert write_candles(bars_of(["A", "B"], [0, 1, 5]), path, title="Candles") == ["B", "A"]
    page = path.read_text(encoding="utf-8")
    assert '"type":"candlestick"' in page
    assert "3.25" in page
    assert "<script src=" not in page


def test_buckets_without_any_trade_are_cut_out_of_the_axis(tmp_path):
    path = tmp_path / "chart.html"
    write_candles(bars_of([1], [0, 1, 3]), path, title="Candles")
    page = path.read_text(encoding="utf-8")
    assert '"rangebreaks":[{"dvalue":300000,"values":["1970-01-01T00:10:00.000"]}]' in page


def test_only_the_busiest_symbols_are_charted(tmp_path):
    names = [f"S{i:02d}" for i in range(MOST_SYMBOLS + 5)]
    assert write_candles(bars_of(names, [0]), tmp_path / "chart.html", title="") == names[::-1][:MOST_SYMBOLS]
