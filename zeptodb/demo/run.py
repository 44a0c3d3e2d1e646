"""The demo from its first line to its last."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from zeptodb.demo import report
from zeptodb.demo.chart import write_candles
from zeptodb.demo.comparison import first_answers, time_in_turns
from zeptodb.demo.contenders import zeptodb_sql
from zeptodb.demo.jobs import ASOF, BARS, VWAP, Job
from zeptodb.demo.rivals import Rivals, load
from zeptodb.demo.ticks import Ticks
from zeptodb.demo.warm_up import warm_up
from zeptodb.errors import BackendUnavailableError
from zeptodb.pipeline import BackendName, Pipeline
from zeptodb.record import record


@record(kw_only=True)
class DemoOptions:
    """What to show.

    Attributes:
        ticks: the rows.
        chart: where the candlestick chart goes; None: no chart.
        backend: as for Pipeline.
        repeat: timed runs per engine and question.
    """

    ticks: Ticks
    chart: Path | None
    backend: BackendName | None = None
    repeat: int = 5


def run_demo(options: DemoOptions) -> None:
    """Ingest, ask the three questions of all engines, print answers and times, write the chart.

    Raises AnswersDifferError when the engines disagree, and what ingest and SQL raise.
    """
    ticks = options.ticks
    report.print_start(ticks)
    with Pipeline(backend=options.backend) as pipeline:
        print(warm_up(pipeline))
        seconds = _ingest(pipeline, ticks)
        rivals = load(ticks)
        report.print_ingest(ticks, seconds, rivals)
        jobs = (VWAP, BARS) if ticks.quotes is None else (VWAP, BARS, ASOF)
        outcomes = [_do(job, pipeline, rivals, repeat=options.repeat) for job in jobs]
        report.print_answers(outcomes)
        report.print_times(outcomes, pipeline, rivals)
    if options.chart is not None:
        _write_chart(outcomes[1], options.chart)


def _ingest(pipeline: Pipeline, ticks: Ticks) -> float:
    """Store the ticks in tables of their own types; returns seconds until all rows are visible.

    The default table holds int64 prices; float prices and sizes get a table made from the data's own schema.
    """
    pipeline.execute("DROP TABLE trades").raise_for_error()
    start = perf_counter()
    pipeline.append("trades", ticks.trades)
    if ticks.quotes is not None:
        pipeline.append("quotes", ticks.quotes)
    return perf_counter() - start


def _do(job: Job, pipeline: Pipeline, rivals: Rivals, *, repeat: int) -> report.Outcome:
    import polars as pl

    contenders = (zeptodb_sql(pipeline, job.zeptodb), *rivals.contenders(job))
    answer = pl.DataFrame(first_answers(contenders, keys=job.keys, work=job.title)).sort(job.keys)
    engine = pipeline.execute(job.zeptodb).engine
    return report.Outcome(job, answer, time_in_turns(contenders, repeat=repeat), engine)


def _write_chart(bars: report.Outcome, path: Path) -> None:
    try:
        symbols = write_candles(bars.answer, path, title="Five-minute candles")
    except BackendUnavailableError as error:
        print(f"\nNo chart: {error}")
        return
    print(f"\nCandles of {', '.join(symbols)} are in {path}; open it in a browser.")
