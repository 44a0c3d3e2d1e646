"""Charts show the right columns, symbols and times, and say what they cannot draw."""

from __future__ import annotations

import sys
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("plotly.graph_objects", reason="charts need plotly")

import zeptodb
from zeptodb import plotting
from zeptodb.errors import BackendUnavailableError, InvalidInputError, QueryError, UnknownColumnError
from zeptodb.plotting import MOST_POINTS, MOST_SYMBOLS, ChartColumns, chart

MINUTE_NS = 60_000_000_000


def times(*minutes: int) -> pa.Array:
    return pa.array([minute * MINUTE_NS for minute in minutes], pa.timestamp("ns"))


def candles(**columns: object) -> pa.Table:
    return pa.table(
        {"bar": times(0, 1, 2), "open": [1, 2, 3], "high": [4, 5, 6], "low": [0, 1, 2], "close": [2, 3, 4]} | columns
    )


def texts(values: object) -> list[str]:
    return np.asarray(values).astype("datetime64[m]").astype(str).tolist()


def test_open_high_low_close_become_candles_and_a_volume_bars():
    figure = chart(candles(volume=[7, 8, 9]), title="Title")
    candle, bars = figure.data
    assert (candle.type, bars.type) == ("candlestick", "bar")
    assert [list(getattr(candle, name)) for name in plotting.PRICES] == [[1, 2, 3], [4, 5, 6], [0, 1, 2], [2, 3, 4]]
    assert list(bars.y) == [7, 8, 9]
    assert texts(candle.x) == ["1970-01-01T00:00", "1970-01-01T00:01", "1970-01-01T00:02"]
    assert (figure.layout.title.text, figure.layout.xaxis2.title.text) == ("Title", "bar (UTC)")


def test_without_a_volume_there_are_candles_alone_under_any_spelling():
    figure = chart(candles().rename_columns(["Bar", "Open", "HIGH", "Low", "Close"]))
    assert [trace.type for trace in figure.data] == ["candlestick"]


def test_one_symbol_is_shown_and_the_menu_holds_the_others():
    symbols = pa.array(["A", "B", "A"])
    figure = chart(candles(symbol=symbols, volume=[1, 2, 3]))
    assert [trace.name for trace in figure.data if trace.type == "candlestick"] == ["A", "B"]
    assert [trace.visible for trace in figure.data] == [True, True, False, False]
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["A", "B"]
    assert menu.buttons[1].args[0]["visible"] == [False, False, True, True]
    assert list(figure.data[0].open) == [1, 3]


def test_the_symbols_with_most_rows_are_shown_and_the_subtitle_counts_the_others():
    names = [f"S{i:02d}" for i in range(MOST_SYMBOLS + 3)] + ["S14"]
    table = pa.table({"time": times(*range(len(names))), "symbol": names, "price": [1.0] * len(names)})
    figure = chart(table)
    assert figure.data[0].name == "S14"
    assert len(figure.data) == MOST_SYMBOLS
    assert figure.layout.title.subtitle.text == "the 12 with most rows, of 15"


def test_lines_run_in_time_order_and_leave_gaps_at_null():
    figure = chart(pa.table({"price": [3.0, None, 1.0], "at": times(2, 1, 0)}))
    (line,) = figure.data
    assert texts(line.x) == ["1970-01-01T00:00", "1970-01-01T00:01", "1970-01-01T00:02"]
    assert np.array_equal(line.y, [1.0, np.nan, 3.0], equal_nan=True)
    assert line.name == figure.layout.yaxis.title.text == "price"


def test_there_is_a_line_per_symbol_and_column_of_numbers():
    table = pa.table({"at": times(0, 1), "symbol": ["A", "B"], "bid": [1, 2], "ask": [3, 4], "note": ["x", "y"]})
    assert [trace.name for trace in chart(table).data] == ["A bid", "B bid", "A ask", "B ask"]
    assert [trace.name for trace in chart(table, columns=ChartColumns(y=("ask",))).data] == ["A", "B"]
    assert [trace.name for trace in chart(table, columns=ChartColumns(by="note")).data][:2] == ["x bid", "y bid"]


def test_symbols_are_the_axis_where_there_is_no_time():
    (line,) = chart(pa.table({"symbol": ["A", "B"], "vwap": [1.5, 2.5]})).data
    assert list(line.x) == ["A", "B"]
    assert list(line.y) == [1.5, 2.5]


def test_integer_symbols_sums_past_int64_and_codes_are_drawn():
    table = pa.table(
        {
            "symbol": pa.array([2, 2, None]),
            "at": times(0, 1, 2),
            "total": pa.array([Decimal(2**70)] * 3, pa.decimal128(38, 0)),
            "venue": pa.array(["x", "y", "x"]).dictionary_encode(),
        }
    )
    assert [trace.name for trace in chart(table).data] == ["2", "None"]
    assert chart(table).data[0].y[0] == 2.0**70
    assert [trace.name for trace in chart(table, columns=ChartColumns(y=("total",), by="venue")).data] == ["x", "y"]


def test_hours_without_a_trade_are_cut_out_of_the_axis_of_candles():
    figure = chart(candles(bar=times(0, 5, 20)))
    (gap,) = figure.layout.xaxis.rangebreaks
    assert gap.dvalue == 5 * 60_000
    assert list(gap["values"]) == ["1970-01-01T00:10:00.000", "1970-01-01T00:15:00.000"]
    assert not chart(candles()).layout.xaxis.rangebreaks


@pytest.mark.parametrize(
    ("table", "options", "error", "message"),
    [
        (candles(), {"kind": "pie"}, InvalidInputError, 'kind is \'pie\'; allowed: "candles", "lines"'),
        (candles().slice(0, 0), {}, InvalidInputError, "the result has no rows"),
        (candles().drop_columns("close"), {"kind": "candles"}, UnknownColumnError, 'The result has no column "close"'),
        (candles(), {"columns": ChartColumns(x="baar")}, UnknownColumnError, 'no column "baar". Did you mean "bar"'),
        (candles(), {"columns": ChartColumns(y=("opn",))}, UnknownColumnError, 'no column "opn". Did you mean "open"'),
        (candles(), {"kind": "candles", "columns": ChartColumns(y=("open",))}, InvalidInputError, "y is for"),
        (candles(open=["a", "b", "c"]), {}, InvalidInputError, 'Column "open" is string'),
        (candles().drop_columns("bar"), {}, InvalidInputError, "Candles need a column of times"),
        (pa.table({"a": ["x"]}), {}, InvalidInputError, "There is no column of numbers to draw over a: a (string)"),
        (
            pa.table({"a": np.arange(MOST_POINTS + 1), "b": np.arange(MOST_POINTS + 1)}),
            {},
            InvalidInputError,
            "more than",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(table, options, error, message):
    with pytest.raises(error) as raised:
        chart(table, options.pop("kind", None), **options)
    assert message in str(raised.value)


def test_without_plotly_the_error_says_how_to_get_it(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(BackendUnavailableError, match=r'pip install "zeptodb\[plot\]"'):
        chart(candles())


@pytest.mark.parametrize("timestamps", ["ns", "datetime"])
@pytest.mark.parametrize("median", ["", ", median(price)"], ids=["native", "duckdb"])
def test_results_plot_their_timestamps_as_times(timestamps, median):
    pipeline = zeptodb.Pipeline(backend="cpu")
    pipeline.ingest_batch(["A", "B", "A"], [10, 20, 30], [1, 1, 1], [0, 0, MINUTE_NS])
    statement = (
        f"SELECT symbol, xbar(timestamp, {MINUTE_NS}) AS bar, last(price) AS close{median} FROM trades GROUP BY ALL"
    )
    result = pipeline.execute(statement, timestamps=timestamps)
    figure = result.plot(y="close", title="Closes")
    lines = {line.name: (texts(line.x), list(line.y)) for line in figure.data}
    assert lines == {"A": (["1970-01-01T00:00", "1970-01-01T00:01"], [10, 30]), "B": (["1970-01-01T00:00"], [20])}
    assert figure.layout.title.text == "Closes"


def test_a_statement_that_failed_raises_its_error_when_plotted():
    with pytest.raises(QueryError, match="nothing"):
        zeptodb.Pipeline(backend="cpu").execute("SELECT x FROM nothing").plot()
