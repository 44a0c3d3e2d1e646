"""Bad input to every way in: an error that says what was given and what to do, and nothing half stored."""

# ruff: noqa: DTZ001 - naive datetimes mean UTC

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import zeptodb
from zepto_py import ArrowSession, StreamingSession, from_arrow, from_pandas, from_polars, to_pandas, to_polars
from zeptodb import (
    InvalidInputError,
    InvalidTypeError,
    LossyConversionError,
    Pipeline,
    PipelineStoppedError,
    UnknownColumnError,
    UnknownTableError,
)

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    """A pipeline that holds one tick of symbol 1, and must hold nothing else at the end of a refused call."""
    made = Pipeline(backend="cpu")
    made.ingest_batch([1], [10], [1], [1])
    yield made
    made.stop()


def by_arrays(pipeline: Pipeline, columns: dict[str, Any]) -> object:
    return pipeline.ingest_batch(
        columns["symbol"], columns["price"], columns["volume"], columns.get("timestamp"), price_scale=1
    )


def by_append(pipeline: Pipeline, columns: dict[str, Any]) -> object:
    return pipeline.append("trades", columns)


def by_pandas(pipeline: Pipeline, columns: dict[str, Any]) -> object:
    return from_pandas(pd.DataFrame(columns), pipeline)


def by_polars(pipeline: Pipeline, columns: dict[str, Any]) -> object:
    return from_polars(pl.DataFrame(columns, strict=False), pipeline)


def by_arrow(pipeline: Pipeline, columns: dict[str, Any]) -> object:
    return from_arrow(pa.table(columns), pipeline)


def by_iterator(pipeline: Pipeline, columns: dict[str, Any]) -> object:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return StreamingSession(pipeline, error_mode="raise").ingest_iter(rows)


def by_streamed_pandas(pipeline: Pipeline, columns: dict[str, Any]) -> object:
    return StreamingSession(pipeline, error_mode="raise").ingest_pandas(pd.DataFrame(columns))


Way = Callable[[Pipeline, dict[str, Any]], object]
BATCHES: list[Way] = [by_arrays, by_append, by_pandas, by_polars, by_arrow]
STREAMS: list[Way] = [by_iterator, by_streamed_pandas]


def ticks(**changed: Any) -> dict[str, Any]:
    return {"symbol": [1, 1], "price": [1, 2], "volume": [1, 1], "timestamp": [2, 3]} | changed


def refused(way: Way, pipeline: Pipeline, columns: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        way(pipeline, columns)
    expected = 2 if way in STREAMS else 1  # a stream keeps the good row before the bad one
    assert pipeline.count(1) == expected
    assert pipeline.stats().ticks_stored == expected
    assert pipeline.execute("SELECT count(*), max(price) FROM trades WHERE symbol = 1").rows == [[expected, 10]]


@pytest.mark.parametrize("way", BATCHES + STREAMS)
@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"price": [1.0, 150.25]}, LossyConversionError, "150.25 x 1 is not a whole number"),
        ({"price": [1.0, float("inf")]}, InvalidInputError, "inf has no integer value. Drop or fill such rows"),
        ({"volume": [1.0, float("-inf")]}, InvalidInputError, "-inf has no integer value. Drop or fill such rows"),
        ({"price": [1.0, float("nan")]}, InvalidInputError, "nan has no integer value.*|the value is missing .NULL"),
        ({"price": [1, None]}, InvalidInputError, "the value is missing .NULL.*drop or fill such rows"),
        ({"volume": [1, None]}, InvalidInputError, '"volume".*the value is missing'),
        ({"symbol": [1, None]}, InvalidInputError, '"symbol".*the value is missing|symbols are integers or strings'),
        ({"price": [1.0, 1e300]}, LossyConversionError, "beyond 2.53"),
        ({"timestamp": [dt.datetime(2024, 1, 1), None]}, InvalidInputError, '"timestamp".*the value is missing'),
    ],
)  # fmt: skip
def test_a_bad_value_is_named(
    pipeline: Pipeline, way: Way, changed: dict[str, Any], error: type[Exception], words: str
) -> None:
    if "symbol" in changed and way in (by_pandas, by_streamed_pandas):
        changed = {"symbol": pd.array([1, None], dtype="Int64")}
    refused(way, pipeline, ticks(**changed), error, words)


@pytest.mark.parametrize("way", [by_arrays, by_append, by_iterator])
@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"price": [1, 2**63]}, InvalidInputError, r"9223372036854775808 is out of int64 \(-9223372036854775808 to"),
        ({"price": [1, "2"]}, (InvalidTypeError), "is of type str in a column that begins with int|was given string"),
        ({"price": [1, True]}, InvalidTypeError, "is of type bool in a column|was given bool values"),
        ({"price": [1, [2]]}, (InvalidInputError), "is a list; give a 1-d column of single values"),
        ({"price": [1, 2 + 1j]}, InvalidTypeError, "of type complex; columns hold integers, floats"),
        ({"timestamp": [1, 2.5]}, InvalidTypeError, "TIMESTAMP_NS and was given float values"),
        ({"timestamp": [dt.datetime(2024, 1, 1), dt.datetime(3000, 1, 1)]}, InvalidInputError,
         "is out of range; timestamps are int64 nanoseconds, from 1677-09-21 to 2262-04-11"),
        ({"symbol": [1, "AAPL"]}, InvalidTypeError, "is of type str in a column|has integer symbols and was given str"),
        ({"symbol": [1, 1.5]}, InvalidTypeError, "symbols are integers or strings"),
    ],
)  # fmt: skip
def test_a_bad_python_value_is_named(
    pipeline: Pipeline, way: Way, changed: dict[str, Any], error: type[Exception], words: str
) -> None:
    refused(way, pipeline, ticks(**changed), error, words)


@pytest.mark.parametrize(
    ("prices", "error", "words"),
    [
        (np.array([[1, 2]]), InvalidInputError, r'"prices" has the shape \(1, 2\); give a 1-d array'),
        (np.array(1), InvalidInputError, "a single value .a 0-d array.; give a 1-d array, or .value. for one row"),
        (5, InvalidTypeError, '"prices" is of type int; give a 1-d numpy array, a list'),
        (np.array([1j, 2]), InvalidTypeError, "complex128, which cannot be stored.*take the real or the imaginary"),
        (np.array(["1", "2"]), InvalidTypeError, "INT64 and was given string values"),
        (np.array([1, 2], "m8[s]"), InvalidTypeError, "cast durations to int64 nanoseconds"),
        (np.array([1, 2**63], np.uint64), InvalidInputError, "row 1: 9223372036854775808 is out of int64"),
        (pa.array([{"a": 1}, None]), InvalidTypeError, "struct<a: int64>, which cannot be stored.*flatten"),
        ([1, 2, 3], InvalidInputError, "same number of rows, but have: symbols 2, prices 3, volumes 2"),
    ],
)
def test_a_column_that_is_none_is_refused(
    pipeline: Pipeline, prices: object, error: type[Exception], words: str
) -> None:
    for call in (pipeline.ingest_batch, pipeline.ingest_float_batch, pipeline.ingest_good_rows):
        is_row_by_row = call == pipeline.ingest_good_rows and "row 1" in words
        if not is_row_by_row:
            with pytest.raises(error, match=words):
                call([1, 1], prices, [1, 1])
    assert pipeline.count(1) == 1


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), "100", True, None])
def test_a_scale_that_makes_no_sense_names_its_parameter(pipeline: Pipeline, scale: Any) -> None:
    for parameter in ("price_scale", "volume_scale"):
        with pytest.raises((InvalidInputError, InvalidTypeError), match=f"{parameter} is .* give a positive number"):
            pipeline.ingest_batch([1], [1], [1], **{parameter: scale})
        with pytest.raises((InvalidInputError, InvalidTypeError), match=f"{parameter} is .* give a positive number"):
            pipeline.ingest_good_rows([1], [1], [1], **{parameter: scale})
    assert pipeline.count(1) == 1


@pytest.mark.parametrize("way", [by_arrays, by_pandas, by_polars, by_arrow, by_iterator])
def test_decimal_prices_round_to_what_was_meant(way: Way) -> None:
    pipeline = Pipeline(backend="cpu")
    columns = (np.array([7] * 3), np.array([0.29, 1.15, 4.35]), np.array([1] * 3), np.array([1, 2, 3]))
    pipeline.ingest_batch(*columns, price_scale=100)
    assert pipeline.get_column(7, "price").tolist() == [29, 115, 435]
    pipeline.ingest_batch([8], [12345.12345678], [1], price_scale=1e8)
    assert pipeline.get_column(8, "price").tolist() == [1234512345678]
    way(pipeline, {"symbol": [9], "price": [3.0], "volume": [2.0], "timestamp": [1]})
    assert pipeline.get_column(9, "price").tolist() == [3]


@pytest.mark.parametrize("way", BATCHES + STREAMS)
def test_the_ends_of_int64_are_ordinary_values_everywhere(way: Way) -> None:
    pipeline = Pipeline(backend="cpu")
    ends = [INT64_MIN, INT64_MAX]
    way(pipeline, {"symbol": ends, "price": ends, "volume": ends, "timestamp": ends})
    way(pipeline, {"symbol": [5, 5], "price": ends, "volume": [INT64_MAX, INT64_MAX], "timestamp": ends})
    for symbol in ends:
        assert pipeline.get_column(symbol, "price").tolist() == [symbol]
    assert pipeline.get_column(5, "timestamp").tolist() == ends
    assert pipeline.sum(5, "volume") == 2 * INT64_MAX
    assert pipeline.execute("SELECT sum(volume) FROM trades WHERE symbol = 5").rows == [[2 * INT64_MAX]]
    assert to_pandas(pipeline, 5)["price"].tolist() == ends
    assert to_polars(pipeline, 5)["price"].to_list() == ends
    session = ArrowSession(pipeline)
    assert session.to_arrow(5)["price"].to_pylist() == ends
    assert session.to_duckdb(5).execute("SELECT min(price), max(price) FROM trades").fetchall() == [tuple(ends)]


@pytest.mark.parametrize("way", [*BATCHES, *STREAMS])
def test_times_before_1970_are_kept(way: Way) -> None:
    pipeline = Pipeline(backend="cpu")
    moments = [dt.datetime(1950, 1, 1), dt.datetime(1969, 12, 31, 23, 59, 59)]
    way(pipeline, ticks(timestamp=moments))
    assert pipeline.get_column(1, "timestamp").tolist() == [-631152000_000_000_000, -1_000_000_000]


def test_datetimes_out_of_range_name_their_row(pipeline: Pipeline) -> None:
    far = np.array(["2024-01-01", "3000-01-01"], "M8[s]")
    for timestamps in (far, pd.Series(far), pl.Series(far.astype("M8[ms]")), pa.array(far)):
        with pytest.raises(
            InvalidInputError, match=r'"timestamps", row 1: .* is out of range; timestamps are int64 nano'
        ):
            pipeline.ingest_batch([1, 1], [1, 1], [1, 1], timestamps)
        done = pipeline.ingest_good_rows([2, 2], [1, 1], [1, 1], timestamps)
        assert (done.stored, done.bad_rows.tolist()) == (1, [1])
    assert pipeline.count(1) == 1


@pytest.mark.parametrize("make", [np.array, pd.Series, pl.Series, pa.array, list])
def test_nat_names_its_row(pipeline: Pipeline, make: Callable[[Any], object]) -> None:
    moments = np.array(["2024-01-01", "NaT"], "M8[ns]")
    with pytest.raises(InvalidInputError, match=r'"timestamp" of table "trades", row 1: the value is missing'):
        pipeline.ingest_batch([1, 1], [1, 1], [1, 1], make(moments))
    done = pipeline.ingest_good_rows([2, 2], [1, 1], [1, 1], make(moments))
    assert (done.stored, done.bad_rows.tolist()) == (1, [1])
    assert "the value is missing" in str(done.error_of(1))
    assert pipeline.count(1) == 1


def test_a_missing_scale_is_proposed(pipeline: Pipeline) -> None:
    for call in (pipeline.ingest_batch, pipeline.ingest_float_batch):
        with pytest.raises(
            LossyConversionError, match=r"row 1: 150.25 x 1 is not a whole number. price_scale=100 would"
        ):
            call([1, 1], [1.0, 150.25], [1, 1])
    with pytest.raises(LossyConversionError, match=r"^Row 1: Column .*: 150.25 x 1 .* price_scale=100 would hold"):
        StreamingSession(pipeline, error_mode="raise").ingest_iter(
            [{"symbol": 2, "price": price, "volume": 1} for price in (1.0, 150.25, 2.0)]
        )
    assert (pipeline.count(1), pipeline.count(2)) == (1, 1)


def test_unknown_and_doubled_names(pipeline: Pipeline) -> None:
    frame = pd.DataFrame(ticks())
    with pytest.raises(UnknownColumnError, match=r'no column "price" \(price_col\).*Did you mean "prices"'):
        from_pandas(frame.rename(columns={"price": "prices"}), pipeline)
    with pytest.raises(InvalidInputError, match=r'2 columns called "price"; rename or drop all but one'):
        from_pandas(pd.concat([frame, frame["price"]], axis=1), pipeline)
    with pytest.raises(InvalidInputError, match=r'"Price" occurs twice .besides "price".; names must differ in more'):
        pipeline.append("trades", ticks(Price=[1, 1]))
    with pytest.raises(UnknownColumnError, match=r'a column "venue", which table "trades" does not have'):
        pipeline.append("trades", ticks(venue=["a", "b"]))
    with pytest.raises(
        InvalidInputError, match=r'"volume" of table "trades" must not be NULL, and the data has no such'
    ):
        pipeline.append("trades", {"symbol": [1], "price": [1]})
    with pytest.raises(InvalidInputError, match=r"Column name 5 is not a string; rename"):
        pipeline.append("trades", {5: [1]})
    for call in (
        lambda: pipeline.ingest_batch([1], [1], [1], table_name="trade"),
        lambda: pipeline.ingest(1, 1, 1, table="trade"),
        lambda: StreamingSession(pipeline).ingest_pandas(frame, table_name="trade"),
        lambda: ArrowSession(pipeline).ingest_arrow(pa.table(ticks()), table_name="trade"),
    ):
        with pytest.raises(UnknownTableError, match=r'no table "trade". Did you mean "trades"'):
            call()
    for call in (
        lambda: pipeline.append(5, ticks()),  # type: ignore[arg-type]
        lambda: pipeline.ingest_batch([1], [1], [1], None, 5),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidTypeError, match=r"A table name must be a str, got 5"):
            call()
    assert pipeline.count(1) == 1


@pytest.mark.parametrize("way", BATCHES + STREAMS)
def test_nothing_comes_of_empty_frames(pipeline: Pipeline, way: Way) -> None:
    for empty in (ticks(symbol=[], price=[], volume=[], timestamp=[]), {"symbol": [], "price": [], "volume": []}):
        assert way(pipeline, empty) == 0
    assert pipeline.stats().ticks_ingested == 1


def test_empty_frames_make_a_table_only_when_they_have_columns(pipeline: Pipeline) -> None:
    with pytest.raises(InvalidInputError, match=r"no columns; a table needs at least one"):
        pipeline.append("quotes", pd.DataFrame())
    assert pipeline.append("quotes", pd.DataFrame({"symbol": [], "bid": []})) == 0
    assert pipeline.append("quotes", pd.DataFrame({"symbol": ["a"], "bid": [1.5]})) == 1
    assert pipeline.get_column("a", "bid", "quotes").tolist() == [1.5]


def test_after_stop_every_way_in_says_to_start(pipeline: Pipeline) -> None:
    pipeline.stop()
    calls: list[Callable[[], object]] = [lambda: pipeline.ingest(symbol=1, price=1, volume=1)]
    calls += [lambda way=way: way(pipeline, ticks()) for way in BATCHES + STREAMS]
    for call in calls:
        with pytest.raises(PipelineStoppedError, match=r"has been stopped.*call start\(\)"):
            call()
    assert pipeline.count(1) == 1
    pipeline.start()
    for call in calls:
        call()
    assert pipeline.count(1) == 2 + 2 * len(BATCHES + STREAMS)


def test_a_generator_that_raises_midway(pipeline: Pipeline) -> None:
    def feed() -> Iterator[dict[str, int]]:
        for number in range(25):
            yield {"symbol": 2, "price": number, "volume": 1}
        raise ConnectionError("feed lost")

    session = StreamingSession(pipeline, batch_size=10)
    with pytest.raises(ConnectionError, match=r"feed lost"):
        session.ingest_iter(feed())
    assert pipeline.get_column(2, "price").tolist() == list(range(25))
    stats = session.stats()
    assert (stats.rows_ingested, stats.rows_skipped, stats.batches) == (25, 0, 3)


def broken_stream() -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"symbol": [2], "price": [1], "volume": [1]})
        raise OSError("connection reset")

    schema = pa.schema([(name, pa.int64()) for name in ("symbol", "price", "volume")])
    return pa.RecordBatchReader.from_batches(schema, batches())


def test_an_arrow_stream_that_breaks(pipeline: Pipeline) -> None:
    for call in (
        lambda: from_arrow(broken_stream(), pipeline),
        lambda: ArrowSession(pipeline).ingest_arrow(broken_stream()),
        lambda: pipeline.append("trades", broken_stream()),
    ):
        with pytest.raises(
            InvalidInputError, match=r"could not be read to its end, nothing was stored: .*connection re"
        ):
            call()
    assert pipeline.count(2) == 0
    session = StreamingSession(pipeline)
    with pytest.raises(InvalidInputError, match=r"stream broke: .*connection reset.* What came before is stored"):
        session.ingest_arrow(broken_stream())
    assert pipeline.count(2) == session.stats().rows_ingested == 1


def test_single_ticks(pipeline: Pipeline) -> None:
    for values, error, words in [
        ((1, 1.5, 1), LossyConversionError, "price is 1.5, which is not a whole number; scale it first"),
        ((1, float("nan"), 1), InvalidInputError, "price is nan, which has no integer value"),
        ((1, None, 1), InvalidTypeError, r"price is missing \(None\); give an int"),
        ((1, 1, "1"), InvalidTypeError, "volume is '1' of type str; give an int"),
        ((1, 2**63, 1), InvalidInputError, "price is 9223372036854775808, which is out of int64"),
        (("a", 1, 1), InvalidTypeError, 'symbol is .a.; table "trades" has integer symbols: give an int'),
        ((1.0, 1, 1), InvalidTypeError, "symbol is 1.0 of type float; give an int or a str"),
        ((1, 1, 1, "now"), InvalidTypeError, "timestamp is 'now' of type str; give int nanoseconds"),
        ((1, 1, 1, np.datetime64("NaT")), InvalidInputError, "timestamp is missing .NaT.; leave it out"),
    ]:
        with pytest.raises(error, match=words):
            pipeline.ingest(*values)  # type: ignore[arg-type]
    pipeline.drain()
    assert pipeline.stats().ticks_ingested == pipeline.count(1) == 1


def test_the_wrong_object_in_place_of_a_frame_or_a_pipeline(pipeline: Pipeline) -> None:
    with pytest.raises(InvalidTypeError, match=r"Expected a pandas.DataFrame, got builtins.NoneType; use the from_"):
        from_pandas(None, pipeline)  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match=r"data is of type NoneType; give a pandas or polars DataFrame"):
        pipeline.append("trades", None)
    for session in (StreamingSession, ArrowSession):
        with pytest.raises(InvalidTypeError, match=r"pipeline is of type str; give a zeptodb.Pipeline"):
            session("localhost")  # type: ignore[operator]
    assert zeptodb.Pipeline(backend="cpu").count(1) == 0
