"""A candlestick chart of bars as one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeptodb.demo.jobs import BAR_WIDTH_NS

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import polars as pl

MOST_CHARTED_SYMBOLS = 12
_MOST_GAPS = 20_000  # more of them would make the page slow to draw


def write_candles(bars: pl.DataFrame, path: Path, *, title: str) -> list[str]:
    """Write candles and volumes of the most traded symbols, with a menu to choose one; returns the symbols.

    bars: columns symbol, bar (int64 ns), open, high, low, close, volume. Raises ImportError without plotly and OSError
    when the file cannot be written.
    """
    import plotly.graph_objects as go
    import polars as pl
    from plotly.subplots import make_subplots

    busiest = bars.group_by("symbol").agg(pl.col("volume").sum(), pl.len()).sort("len", "volume", descending=True)
    symbols = busiest["symbol"].head(MOST_CHARTED_SYMBOLS).to_list()
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.78, 0.22], vertical_spacing=0.03)
    for symbol in symbols:
        rows = bars.filter(pl.col("symbol") == symbol).sort("bar")
        times = rows["bar"].cast(pl.Datetime("ns")).to_list()
        prices = {name: rows[name].to_list() for name in ("open", "high", "low", "close")}
        name, is_shown = str(symbol), symbol == symbols[0]
        figure.add_trace(go.Candlestick(x=times, name=name, visible=is_shown, **prices), row=1, col=1)
        volumes = go.Bar(x=times, y=rows["volume"].to_list(), name="volume", visible=is_shown, marker_color="#8fa3b8")
        figure.add_trace(volumes, row=2, col=1)
    _lay_out(figure, symbols, title)
    figure.update_xaxes(rangebreaks=_gaps(bars))
    figure.write_html(path, include_plotlyjs=True)
    return [str(symbol) for symbol in symbols]


def _lay_out(figure: go.Figure, symbols: Sequence[Any], title: str) -> None:
    buttons = [
        {
            "label": str(symbol),
            "method": "update",
            "args": [{"visible": [shown == symbol for shown in symbols for _ in range(2)]}],
        }
        for symbol in symbols
    ]
    figure.update_layout(
        title=title,
        template="plotly_white",
        showlegend=False,
        xaxis_rangeslider_visible=False,
        updatemenus=[{"buttons": buttons, "x": 1.0, "xanchor": "right", "y": 1.12, "yanchor": "top"}],
        yaxis_title="price",
        yaxis2_title="volume",
    )


def _gaps(bars: pl.DataFrame) -> list[dict[str, object]]:
    """Axis breaks for the buckets in which nothing traded at all: nights and weekends of any market."""
    import numpy as np

    present = bars["bar"].unique().sort().to_numpy() // BAR_WIDTH_NS
    buckets = int(present[-1] - present[0]) + 1
    if buckets - len(present) > _MOST_GAPS:
        return []
    missing = np.setdiff1d(np.arange(present[0], present[-1] + 1), present)
    if len(missing) == 0:
        return []
    starts = (missing * BAR_WIDTH_NS).astype("datetime64[ns]").astype("datetime64[ms]")
    return [{"values": [str(start) for start in starts], "dvalue": BAR_WIDTH_NS // 1_000_000}]
