"""A candlestick chart of bars as one HTML file that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def write_candles(bars: pl.DataFrame, path: Path, *, title: str) -> list[str]:
    """Write candles and volumes of the most traded symbols, with a menu to choose one; returns the symbols.

    bars: columns symbol, bar (int64 ns), open, high, low, close, volume. Raises BackendUnavailableError without plotly
    and OSError when the file cannot be written.
    """
    import polars as pl

    from zeptodb import plotting

    figure = plotting.chart(bars.with_columns(pl.col("bar").cast(pl.Datetime("ns"))).to_arrow(), "candles", title=title)
    figure.write_html(path, include_plotlyjs=True)
    return [trace.name for trace in figure.data if trace.type == "candlestick"]
