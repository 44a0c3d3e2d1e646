"""StreamingSession: batches go through, bad rows are skipped, raised or warned about, and everything is counted."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from zepto_py import StreamingSession, StreamingStats
from zeptodb import InvalidInputError, InvalidTypeError, LossyConversionError, Pipeline, UnknownColumnError

CLOSING = re.compile(r"^Ingested 1,000 rows in \d+\.\d\ds \([\d,]+ rows/sec\)$")


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(backend="cpu")


def ticks(rows: int = 1_000) -> dict[str, Any]:
    numbers = np.arange(rows)
    return {"symbol": numbers % 3, "price": 100 + numbers, "volume": 1 + numbers, "timestamp": numbers}


def feed(session: StreamingSession, library: str, columns: dict[str, Any], **options: Any) -> int:
    if library == "pandas":
        return session.ingest_pandas(pd.DataFrame(columns), **options)
    if library == "polars":
        return session.ingest_polars(pl.DataFrame(columns, strict=False), **options)
    if library == "arrow":
        return session.ingest_arrow(pa.table(columns), **options)
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return session.ingest_iter(rows, **options)


LIBRARIES = ["pandas", "polars", "arrow", "iter"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_clean_data_goes_through_in_batches(pipeline: Pipeline, library: str) -> None:
    session = StreamingSession(pipeline, batch_size=300)
    assert feed(session, library, ticks()) == 1_000
    stats = session.stats()
    assert isinstance(stats, StreamingStats)
    assert (stats.rows_ingested, stats.rows_skipped, stats.batches) == (1_000, 0, 4)
    assert stats.elapsed_sec > 0
    assert stats.throughput == pytest.approx(1_000 / stats.elapsed_sec)
    for symbol in range(3):
        assert pipeline.get_column(symbol, "price").tolist() == list(range(100 + symbol, 1_100, 3))


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_scales_and_tables_are_those_of_every_ingest_path(pipeline: Pipeline, library: str) -> None:
    pipeline.execute("CREATE TABLE ticks (symbol SYMBOL, price INT64, volume INT64, timestamp TIMESTAMP_NS)")
    columns = {"s": ["a", "b"], "p": [1.25, 2.5], "v": [0.5, 1.0], "t": [7, 8]}
    names = {"symbol_col": "s", "price_col": "p", "volume_col": "v", "timestamp_col": "t", "table_name": "ticks"}
    session = StreamingSession(pipeline)
    assert feed(session, library, columns, price_scale=100, volume_scale=10, **names) == 2
    assert [pipeline.get_column("a", name, "ticks").tolist() for name in ("price", "volume", "timestamp")] == [
        [125],
        [5],
        [7],
    ]
    with pytest.raises((UnknownColumnError, InvalidInputError), match=r'no column "x"|key "x" is missing'):
        feed(StreamingSession(pipeline, error_mode="raise"), library, columns, **(names | {"timestamp_col": "x"}))


BAD: dict[str, Any] = {
    "symbol": [1, 1, 1, 1, 1, 1],
    "price": [1.0, None, 1.5, float("nan"), float("inf"), 2.0],
    "volume": [1, 2, 3, 4, 5, 6],
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_skip_leaves_out_the_bad_rows_only(pipeline: Pipeline, library: str, batch_size: int) -> None:
    session = StreamingSession(pipeline, batch_size=batch_size, error_mode="skip")
    assert feed(session, library, BAD) == 2
    assert pipeline.get_column(1, "volume").tolist() == [1, 6]
    stats = session.stats()
    assert (stats.rows_ingested, stats.rows_skipped) == (2, 4)
    assert feed(session, library, {"symbol": [1], "price": [5], "volume": [7]}) == 1
    assert session.stats().rows_ingested == 3


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_raise_names_the_row_and_keeps_those_before_it(pipeline: Pipeline, library: str, batch_size: int) -> None:
    session = StreamingSession(pipeline, batch_size=batch_size, error_mode="raise")
    later = {name: values[2:] for name, values in BAD.items()}
    with pytest.raises(InvalidInputError, match=r'^Row 1: Column "price" of table "trades": the value is missing'):
        feed(session, library, BAD)
    with pytest.raises(LossyConversionError, match=r"^Row 0: .*1.5 x 1 is not a whole number. price_scale=10 would"):
        feed(session, library, later)
    assert pipeline.get_column(1, "volume").tolist() == [1]
    assert session.stats().rows_ingested == 1
    assert session.stats().rows_skipped == 0


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("batch_size", [2, 50])
def test_warn_writes_a_line_per_bad_row(
    pipeline: Pipeline, library: str, batch_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    session = StreamingSession(pipeline, batch_size=batch_size, error_mode="warn")
    assert feed(session, library, BAD) == 2
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [f"row {row} left out" for row in (1, 2, 3, 4)]
    assert "the value is missing" in lines[0]
    assert "1.5 x 1 is not a whole number" in lines[1]
    assert session.stats().rows_skipped == 4


def test_many_bad_rows_of_a_batch_are_counted_not_listed(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"symbol": 1, "price": np.full(1_000, 1.5), "volume": 1})
    session = StreamingSession(pipeline, error_mode="warn")
    assert session.ingest_pandas(frame) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 101
    assert lines[-1] == "StreamingSession: 900 more rows left out, the last one is row 999."
    assert session.stats().rows_skipped == 1_000


def test_every_kind_of_bad_row_in_dicts(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    good = {"symbol": 1, "price": 1, "volume": 1}
    rows: list[Any] = [
        good,
        {"symbol": 1, "volume": 1},
        {"symbol": 1, "price": None, "volume": 1},
        {"symbol": 1, "price": "1", "volume": 1},
        {"symbol": 1, "price": 2**63, "volume": 1},
        {"symbol": 1, "price": 1, "volume": float("nan")},
        {"symbol": "A", "price": 1, "volume": 1},
        {"symbol": 1, "price": True, "volume": 1},
        {"symbol": 1, "price": 1, "volume": 1, "timestamp": None},
        [1, 1, 1],
        None,
        good | {"timestamp": 5},
        good | {"more": "than needed"},
    ]
    for batch_size in (1, 3, 100):
        made = Pipeline(backend="cpu")
        session = StreamingSession(made, batch_size=batch_size, error_mode="warn")
        assert session.ingest_iter(iter(rows)) == 3
        text = capsys.readouterr().err
        for row, words in [
            (1, 'The key "price" is missing. Known: symbol, volume.'),
            (2, 'Column "price" of table "trades": the value is missing (NULL)'),
            (3, "INT64 and was given string values"),
            (4, "9223372036854775808 is out of int64"),
            (5, "nan has no integer value"),
            (6, "has integer symbols and was given strings; give integers"),
            (7, "INT64 and was given bool values"),
            (8, '"timestamp" of table "trades": the value is missing'),
            (9, "[1, 1, 1] is of type list; give dicts with the keys symbol, price, volume"),
            (10, "None is of type NoneType; give dicts"),
        ]:
            assert re.search(rf"^StreamingSession: row {row} left out: .*{re.escape(words)}", text, re.MULTILINE), text
        assert made.count(1) == 3
        assert 5 in made.get_column(1, "timestamp")


def test_what_is_no_matter_of_rows_raises_in_every_mode(pipeline: Pipeline) -> None:
    for mode in ("skip", "warn", "raise"):
        session = StreamingSession(pipeline, error_mode=mode)  # type: ignore[arg-type]
        with pytest.raises(InvalidTypeError, match=r"given string values"):
            session.ingest_polars(pl.DataFrame({"symbol": [1], "price": ["1"], "volume": [1]}))
        with pytest.raises(UnknownColumnError, match=r'no column "volume"'):
            session.ingest_arrow(pa.table({"symbol": [1], "price": [1]}))
        with pytest.raises(InvalidTypeError, match=r"Expected a pandas.DataFrame"):
            session.ingest_pandas({"symbol": [1]})  # type: ignore[arg-type]
    assert pipeline.count(1) == 0


def test_settings_that_make_no_sense(pipeline: Pipeline) -> None:
    for batch_size in (0, -1, 1.5, True, "many"):
        with pytest.raises(InvalidInputError, match=r"batch_size is .*; give a positive number of rows"):
            StreamingSession(pipeline, batch_size=batch_size)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r'error_mode is .ignore.; allowed: "skip", "raise" or "warn"'):
        StreamingSession(pipeline, error_mode="ignore")  # type: ignore[arg-type]
    for rows in (5, "rows", {"symbol": 1, "price": 1, "volume": 1}):
        with pytest.raises(InvalidTypeError, match=r"rows is of type .*; give an iterable of dicts"):
            StreamingSession(pipeline).ingest_iter(rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("library", LIBRARIES)
def test_progress_ends_with_the_line_of_the_reference(
    pipeline: Pipeline, library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    session = StreamingSession(pipeline, batch_size=250)
    options = {"total": 1_000} if library == "iter" else {}
    feed(session, library, ticks(), show_progress=True, **options)
    output = capsys.readouterr()
    assert CLOSING.match(output.out.strip()), output.out
    assert output.out.count("\n") == 1
    assert "100%" in output.err
    assert "1.00k/1.00k" in output.err
    feed(session, library, ticks())
    assert capsys.readouterr() == ("", "")


def test_the_closing_line_counts_what_was_left_out(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    StreamingSession(pipeline, error_mode="warn").ingest_pandas(pd.DataFrame(BAD), show_progress=True)
    output = capsys.readouterr()
    assert re.match(r"^Ingested 2 rows in .*; left out 4 bad rows$", output.out.strip())
    assert "row 4 left out" in output.err


def test_an_iterator_is_read_as_it_is_stored(pipeline: Pipeline) -> None:
    seen: list[int] = []

    def rows() -> Iterator[dict[str, int]]:
        for number in range(40):
            seen.append(pipeline.count(1))
            yield {"symbol": 1, "price": number, "volume": 1}

    assert StreamingSession(pipeline, batch_size=10).ingest_iter(rows()) == 40
    assert seen == [10 * (number // 10) for number in range(40)]


def test_an_index_level_can_be_the_timestamp(pipeline: Pipeline) -> None:
    index = pd.DatetimeIndex(["1970-01-01 00:00:01", None, "1970-01-01 00:00:03"], name="timestamp")
    frame = pd.DataFrame({"symbol": 1, "price": [1, 2, 3], "volume": 1}, index=index)
    assert StreamingSession(pipeline, batch_size=2).ingest_pandas(frame) == 2
    assert pipeline.get_column(1, "timestamp").tolist() == [10**9, 3 * 10**9]


def test_sessions_in_threads_share_a_pipeline(pipeline: Pipeline) -> None:
    sessions = [StreamingSession(pipeline, batch_size=100) for _ in range(4)]
    columns = BAD | {"price": [1, None, 3, 4, 5, 6]}
    threads = [
        threading.Thread(target=lambda s=session: [feed(s, library, columns) for library in LIBRARIES])
        for session in sessions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pipeline.count(1) == sum(session.stats().rows_ingested for session in sessions) == 4 * 4 * 5


def test_ten_thousand_rows_with_one_bad_in_three_equal_the_good_ones_of_polars(pipeline: Pipeline) -> None:
    random = np.random.default_rng(3)
    prices = random.integers(1, 10_000, 10_000) / 100
    prices[::3] = random.choice([np.nan, np.inf, 0.125, 1e300], len(prices[::3]))
    frame = pl.DataFrame(ticks(10_000)).with_columns(pl.Series("price", prices))
    session = StreamingSession(pipeline, batch_size=700)
    session.ingest_polars(frame, price_scale=100)
    whole = frame.filter(
        ((pl.col("price") * 100).round() - pl.col("price") * 100).abs() <= 1e-6, pl.col("price") < 1e12
    )
    for symbol in range(3):
        expected = whole.filter(pl.col("symbol") == symbol)
        assert pipeline.get_column(symbol, "price").tolist() == (expected["price"] * 100).round().cast(int).to_list()
        assert pipeline.get_column(symbol, "volume").tolist() == expected["volume"].to_list()
    assert session.stats().rows_skipped == 10_000 - whole.height
