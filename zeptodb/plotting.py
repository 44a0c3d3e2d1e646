"""Charts of an answer's columns with plotly (the extra `plot`): candles with volumes, and lines by symbol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zeptodb.errors import BackendUnavailableError, InvalidInputError, UnknownColumnError, did_you_mean
from zeptodb.record import record

if TYPE_CHECKING:
    import plotly.graph_objects as go

ChartKind = Literal["candles", "lines"]

MOST_SYMBOLS = 12
MOST_POINTS = 1_000_000
PRICES = ("open", "high", "low", "close")
_SYMBOL_NAMES = ("symbol", "sym", "ticker")
_VOLUME_NAMES = ("volume", "vol")
_MARKED_POINTS = 200  # a line of fewer points shows each of them
_WEBGL_POINTS = 10_000  # more of them are drawn by the graphics card
_MOST_GAPS = 20_000  # more breaks of the axis would make the page slow to draw
_NANOSECONDS_PER_MILLISECOND = 1_000_000


@record
class ChartColumns:
    """Which columns a chart shows; None leaves the choice to the names and types.

    Attributes:
        x: the horizontal axis.
        y: the columns drawn as lines.
        by: one line, or one choice of candles, per value of this column.
    """

    x: str | None = None
    y: Sequence[str] | None = None
    by: str | None = None


def chart(
    table: pa.Table, kind: ChartKind | None = None, *, columns: ChartColumns | None = None, title: str | None = None
) -> go.Figure:
    """A chart of a table's columns; `kind` None means candles if open, high, low and close are there, else lines.

    x is the first column of times, else the first column that is neither the symbol nor a price; dates and times are
    UTC. Names are found in any case. Candles come with bars of a column volume (or vol), a menu of symbols, and without
    the hours in which nothing traded; lines leave gaps at NULL and NaN. At most 12 symbols are shown, those with most
    rows; the subtitle says when there are more.

    Raises BackendUnavailableError without plotly, UnknownColumnError for a column that is not there, and
    InvalidInputError for a table without rows, without anything to draw, or with over 1,000,000 points.
    """
    _require_plotly()
    if kind not in (None, "candles", "lines"):
        raise InvalidInputError(f'kind is {kind!r}; allowed: "candles", "lines", or None to choose by the columns.')
    if table.num_rows == 0:
        raise InvalidInputError("There is nothing to plot: the result has no rows.")
    chosen = columns or ChartColumns()
    names = {name.lower(): position for position, name in reversed(list(enumerate(table.column_names)))}
    if kind is None:
        kind = "candles" if chosen.y is None and all(name in names for name in PRICES) else "lines"
    layout = _candle_layout(table, names, chosen) if kind == "candles" else _line_layout(table, names, chosen)
    points = table.num_rows * len(layout.y)
    if points > MOST_POINTS:
        raise InvalidInputError(
            f"{points:,} points are more than the {MOST_POINTS:,} that a browser can draw; "
            "make bars of them (GROUP BY xbar(timestamp, INTERVAL '1 minute')) or narrow them with WHERE or LIMIT."
        )
    groups, symbols_in_all = _groups(table, layout)
    figure = (_candles if kind == "candles" else _lines)(table, layout, groups)
    note = "" if len(groups) == symbols_in_all else f"the {len(groups)} with most rows, of {symbols_in_all:,}"
    heading: dict[str, Any] = {"text": title}
    if note:
        heading["subtitle"] = {"text": note}
    figure.update_layout(title=heading, template="plotly_white")
    return figure


@record
class _Layout:
    """Positions of the columns that are drawn; `volume` and `by` may be None."""

    x: int
    y: tuple[int, ...]
    by: int | None = None
    volume: int | None = None


_Group = tuple[str, npt.NDArray[np.int64]]
"""A symbol and its rows in the order of x."""


def _require_plotly() -> None:
    try:
        import plotly.graph_objects  # noqa: F401
    except ImportError as error:
        raise BackendUnavailableError(
            'Charts need plotly, which is not installed; get it with: pip install "zeptodb[plot]"'
        ) from error


# ---- which columns -------------------------------------------------------------------------------------------------


def _candle_layout(table: pa.Table, names: dict[str, int], chosen: ChartColumns) -> _Layout:
    for name in PRICES:
        if name not in names:
            raise _no_column(name, table)
    if chosen.y is not None:
        raise InvalidInputError('y is for kind="lines"; candles draw open, high, low and close.')
    prices = tuple(names[name] for name in PRICES)
    for position in prices:
        if not _is_number(table, position):
            raise _not_a_number(table, position)
    volume = next((names[name] for name in _VOLUME_NAMES if name in names and _is_number(table, names[name])), None)
    by = _by_column(table, names, chosen)
    taken = {by, volume, *prices}
    x = _position(table, names, chosen.x) if chosen.x is not None else _first_time(table)
    if x is None:
        x = next((i for i in range(table.num_columns) if i not in taken), None)
    if x is None:
        raise InvalidInputError("Candles need a column of times beside open, high, low and close; select one, too.")
    return _Layout(x, prices, by if by != x else None, volume)


def _line_layout(table: pa.Table, names: dict[str, int], chosen: ChartColumns) -> _Layout:
    x = _position(table, names, chosen.x) if chosen.x is not None else _first_time(table)
    if x is None:
        x = 0
    by = _by_column(table, names, chosen)
    by = None if by == x else by
    if chosen.y is None:
        y = tuple(i for i in range(table.num_columns) if i not in (x, by) and _is_number(table, i))
    else:
        y = tuple(_position(table, names, name) for name in chosen.y)
    for position in y:
        if not _is_number(table, position):
            raise _not_a_number(table, position)
    if not y:
        listed = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
        raise InvalidInputError(f"There is no column of numbers to draw over {table.column_names[x]}: {listed}.")
    return _Layout(x, y, by)


def _position(table: pa.Table, names: dict[str, int], name: str) -> int:
    if name.lower() not in names:
        raise _no_column(name, table)
    return names[name.lower()]


def _by_column(table: pa.Table, names: dict[str, int], chosen: ChartColumns) -> int | None:
    """The column asked for, else the one called symbol, else the first one of strings."""
    if chosen.by is not None:
        return _position(table, names, chosen.by)
    named = next((names[name] for name in _SYMBOL_NAMES if name in names), None)
    return named if named is not None else next((i for i in range(table.num_columns) if _is_text(table, i)), None)


def _first_time(table: pa.Table) -> int | None:
    return next((i for i, field in enumerate(table.schema) if _is_time(field.type)), None)


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_text(table: pa.Table, position: int) -> bool:
    kind = table.schema.field(position).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(table: pa.Table, position: int) -> bool:
    kind = table.schema.field(position).type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _no_column(name: str, table: pa.Table) -> UnknownColumnError:
    return UnknownColumnError(f'The result has no column "{name}".{did_you_mean(name, table.column_names)}')


def _not_a_number(table: pa.Table, position: int) -> InvalidInputError:
    field = table.schema.field(position)
    return InvalidInputError(f'Column "{field.name}" is {field.type}; a chart draws columns of numbers.')


# ---- their values --------------------------------------------------------------------------------------------------


def _values(table: pa.Table, position: int) -> npt.NDArray[Any]:
    """A column as plotly takes it: float64 with NaN for NULL, datetime64[ns] without a zone, or text."""
    column = table.column(position)
    kind = column.type
    if _is_number(table, position):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
    if pa.types.is_timestamp(kind):
        return np.asarray(column.cast(pa.timestamp(kind.unit)).to_numpy())
    if pa.types.is_date(kind):
        return np.asarray(column.cast(pa.timestamp("ms")).to_numpy())
    return np.array([str(value) for value in column.to_pylist()], dtype=object)


def _groups(table: pa.Table, layout: _Layout) -> tuple[list[_Group], int]:
    """The symbols with most rows (then most volume, then first), each with its rows, and how many there are in all."""
    x = table.column(layout.x)
    ordered = _is_time(x.type) or _is_number(table, layout.x)
    order = pc.sort_indices(x).to_numpy().astype(np.int64) if ordered else np.arange(table.num_rows)
    if layout.by is None:
        return [("", order)], 1
    keys = table.column(layout.by)
    plain = keys.cast(keys.type.value_type) if pa.types.is_dictionary(keys.type) else keys
    codes = pc.dictionary_encode(plain.combine_chunks(), null_encoding="encode")
    code_of_row = codes.indices.to_numpy().astype(np.int64)
    count = len(codes.dictionary)
    rows = np.bincount(code_of_row, minlength=count)
    amounts = np.zeros(table.num_rows) if layout.volume is None else np.nan_to_num(_values(table, layout.volume))
    volume = np.bincount(code_of_row, weights=amounts, minlength=count)
    shown = np.lexsort((np.arange(count), -volume, -rows))[:MOST_SYMBOLS]
    names = codes.dictionary.to_pylist()
    return [(str(names[code]), order[code_of_row[order] == code]) for code in shown.tolist()], count


# ---- figures -------------------------------------------------------------------------------------------------------


def _lines(table: pa.Table, layout: _Layout, groups: list[_Group]) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    x = _values(table, layout.x)
    trace = go.Scattergl if len(x) > _WEBGL_POINTS else go.Scatter
    for position in layout.y:
        values, column = _values(table, position), table.column_names[position]
        for symbol, rows in groups:
            name = column if not symbol else symbol if len(layout.y) == 1 else f"{symbol} {column}"
            mode = "lines" if len(rows) > _MARKED_POINTS else "lines+markers"
            figure.add_trace(trace(x=x[rows], y=values[rows], name=name, mode=mode))
    figure.update_layout(
        showlegend=True,
        xaxis_title=_axis_title(table, layout.x),
        yaxis_title=table.column_names[layout.y[0]] if len(layout.y) == 1 else None,
    )
    return figure


def _candles(table: pa.Table, layout: _Layout, groups: list[_Group]) -> go.Figure:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    has_volume = layout.volume is not None
    heights = [0.78, 0.22] if has_volume else [1.0]
    figure = make_subplots(rows=len(heights), cols=1, shared_xaxes=True, row_heights=heights, vertical_spacing=0.03)
    x = _values(table, layout.x)
    prices = {name: _values(table, position) for name, position in zip(PRICES, layout.y, strict=True)}
    volumes = None if layout.volume is None else _values(table, layout.volume)
    for number, (symbol, rows) in enumerate(groups):
        shown = {"name": symbol or "price", "visible": number == 0}
        candles = {name: values[rows] for name, values in prices.items()}
        figure.add_trace(go.Candlestick(x=x[rows], **candles, **shown), row=1, col=1)
        if volumes is not None:
            bars = go.Bar(x=x[rows], y=volumes[rows], name="volume", visible=number == 0, marker_color="#8fa3b8")
            figure.add_trace(bars, row=2, col=1)
    figure.update_layout(showlegend=False, xaxis_rangeslider_visible=False, yaxis_title="price")
    figure.update_xaxes(title_text=_axis_title(table, layout.x), row=len(heights), col=1)
    if has_volume:
        figure.update_layout(yaxis2_title="volume")
    if len(groups) > 1:
        figure.update_layout(updatemenus=[_menu([symbol for symbol, _ in groups], traces=len(heights))])
    if _is_time(table.schema.field(layout.x).type):
        figure.update_xaxes(rangebreaks=_gaps(x[np.concatenate([rows for _, rows in groups])]))
    return figure


def _menu(symbols: list[str], *, traces: int) -> dict[str, Any]:
    """A menu that shows one symbol's traces and hides the others'."""
    buttons = [
        {
            "label": symbol,
            "method": "update",
            "args": [{"visible": [shown == i for shown in range(len(symbols)) for _ in range(traces)]}],
        }
        for i, symbol in enumerate(symbols)
    ]
    return {"buttons": buttons, "x": 1.0, "xanchor": "right", "y": 1.12, "yanchor": "top"}


def _axis_title(table: pa.Table, position: int) -> str:
    field = table.schema.field(position)
    return f"{field.name} (UTC)" if pa.types.is_timestamp(field.type) else str(field.name)


def _gaps(times: npt.NDArray[Any]) -> list[dict[str, Any]]:
    """Axis breaks for the buckets in which nothing shown traded: nights and weekends of any market.

    The width of a bucket is the greatest that divides all distances; widths of less than a millisecond get no breaks.
    """
    present = np.unique(times[~np.isnat(times)].astype("datetime64[ns]")).astype(np.int64)
    if len(present) < 2:
        return []
    width = int(np.gcd.reduce(np.diff(present)))
    buckets = (int(present[-1]) - int(present[0])) // width + 1
    if width % _NANOSECONDS_PER_MILLISECOND or not 0 < buckets - len(present) <= _MOST_GAPS:
        return []
    missing = np.setdiff1d(np.arange(buckets) * width + present[0], present)
    starts = missing.astype("datetime64[ns]").astype("datetime64[ms]")
    return [{"values": [str(start) for start in starts], "dvalue": width // _NANOSECONDS_PER_MILLISECOND}]
