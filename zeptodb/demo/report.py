"""What the demo prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zeptodb.demo import environment
from zeptodb.demo.comparison import Timing
from zeptodb.demo.jobs import ASOF, BARS, VWAP, Job, share_inside
from zeptodb.demo.rivals import Rivals
from zeptodb.demo.text_table import format_ratio, format_seconds, format_table
from zeptodb.demo.ticks import Ticks
from zeptodb.pipeline import Pipeline
from zeptodb.record import record

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

SHOWN_SYMBOLS = 8
SHOWN_BARS = 5


@record
class Outcome:
    """A job's answer, its times (ZeptoDB, DuckDB, polars) and which engine of ZeptoDB ran it."""

    job: Job
    answer: pl.DataFrame
    timings: list[Timing]
    engine: str


def print_start(ticks: Ticks) -> None:
    """The machine, the versions and what the rows are."""
    print(f"ZeptoDB demo on {environment.machine()}")
    print(", ".join(f"{name} {number}" for name, number in environment.versions().items()))
    print(f"The rows are {ticks.origin}.\n")
    rows = [_description("trades", ticks.trades, ("price",))]
    if ticks.quotes is not None:
        rows.append(_description("quotes", ticks.quotes, ("bid", "ask")))
    headers = ("table", "first", "last (UTC)", "rows", "symbols", "lowest", "highest")
    print(format_table(headers, rows, text_columns=3) + "\n")


def print_ingest(ticks: Ticks, seconds: float, rivals: Rivals) -> None:
    """How fast the rows became visible."""
    rows = ticks.trades.num_rows + (0 if ticks.quotes is None else ticks.quotes.num_rows)
    print(
        f"Stored {rows:,} rows by symbol and time in {format_seconds(seconds)} "
        f"({rows / seconds / 1e6:.1f} M rows/s); DuckDB copied them into its tables in "
        f"{format_seconds(rivals.duckdb_load_seconds)} (one run each).\n"
    )


def print_answers(outcomes: Sequence[Outcome]) -> None:
    """The first rows of every answer."""
    printers = {VWAP.title: _print_vwap, BARS.title: _print_bars, ASOF.title: _print_asof}
    for outcome in outcomes:
        printers[outcome.job.title](outcome.answer)


def print_times(outcomes: Sequence[Outcome], pipeline: Pipeline, rivals: Rivals) -> None:
    """Medians, ratios and what must be known to read them."""
    rows = []
    for outcome in outcomes:
        ours, *others = (timing.median for timing in outcome.timings)
        ratios = [format_ratio(other / ours) for other in others]
        rows.append([outcome.job.title, outcome.engine, *map(format_seconds, (ours, *others)), *ratios])
    headers = ("work", "ran on", "ZeptoDB", "DuckDB", "polars", "vs DuckDB", "vs polars")
    runs = len(outcomes[0].timings[0].samples)
    print(f"Times: median of {runs} runs in turns, from the question to the answer's columns in memory")
    print(format_table(headers, rows, text_columns=2))
    print("Answers were compared before anything was timed: integers and strings equal, floats within 1e-9.")
    print(f"ZeptoDB {pipeline.backend.device}, {rivals.threads()}; each with the rows in tables of its own, in memory.")
    if rivals.tied_quotes and any(outcome.job is ASOF for outcome in outcomes):
        print(
            "DuckDB's as-of join takes any of several quotes with one stamp, so it is given the last of them only:\n"
            f"{rivals.tied_quotes:,} quotes fewer than ZeptoDB and polars read."
        )


def _description(name: str, table: pa.Table, prices: Sequence[str]) -> list[str]:
    import pyarrow.compute as pc

    stamps = table["timestamp"]
    first, last = (_time(stamps[row].as_py()) for row in (0, -1)) if len(stamps) else ("-", "-")
    extremes = [pc.min_max(table[column]).as_py() for column in prices]
    lows, highs = ([e[key] for e in extremes if e[key] is not None] for key in ("min", "max"))
    low, high = (f"{min(lows):,.2f}", f"{max(highs):,.2f}") if lows else ("-", "-")
    return [name, first, last, f"{len(table):,}", f"{pc.count_distinct(table['symbol']).as_py():,}", low, high]


def _print_vwap(answer: pl.DataFrame) -> None:
    shown = answer.sort("trades", descending=True).head(SHOWN_SYMBOLS)
    prices = ("vwap", "low", "high")
    rows = [
        [str(row["symbol"]), f"{row['trades']:,}", f"{row['volume']:,.0f}", *(_price(row[name]) for name in prices)]
        for row in shown.iter_rows(named=True)
    ]
    print(f"VWAP by symbol{_of_all(shown, answer)}")
    print(format_table(("symbol", "trades", "volume", *prices), rows) + "\n")


def _print_bars(answer: pl.DataFrame) -> None:
    import polars as pl

    busiest = answer["symbol"].mode().sort().head(1)
    bars = answer.filter(pl.col("symbol").is_in(busiest.implode()))
    prices = ("open", "high", "low", "close")
    rows = [
        [_time(row["bar"]), *(_price(row[name]) for name in prices), f"{row['volume']:,.0f}"]
        for row in bars.head(SHOWN_BARS).iter_rows(named=True)
    ]
    print(f"Five-minute bars: {answer.height:,}; the first of {', '.join(map(str, busiest))}")
    print(format_table(("bar (UTC)", *prices, "volume"), rows) + "\n")


def _print_asof(joined: pl.DataFrame) -> None:
    answer = share_inside(joined)
    shown = answer.sort("trades", descending=True).head(SHOWN_SYMBOLS)
    total = {"symbol": "all", "trades": answer["trades"].sum(), "inside": answer["inside"].sum()}
    rows = [
        [str(row["symbol"]), f"{row['trades']:,}", f"{row['inside']:,}", f"{100 * row['inside'] / row['trades']:.1f} %"]
        for row in [*shown.iter_rows(named=True), total]
        if row["trades"]
    ]
    print(f"Trades inside the quote in force at their timestamp (bid <= price <= ask){_of_all(shown, answer)}")
    print(format_table(("symbol", "trades", "inside", "share"), rows))
    print("A quote of the same stamp counts, of several the last; symbols without quotes are left out.\n")


def _of_all(shown: pl.DataFrame, answer: pl.DataFrame) -> str:
    return "" if shown.height == answer.height else f", the {shown.height} busiest of {answer.height:,} symbols"


def _price(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4f}"


def _time(nanoseconds: int) -> str:
    import numpy as np

    return str(np.datetime64(nanoseconds, "ns").astype("datetime64[s]")).replace("T", " ")
