"""Bad arguments to what reads: unknown names, symbols of the wrong kind, bounds that are no times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zepto_py import ArrowSession, to_pandas, to_polars
from zeptodb import InvalidInputError, InvalidTypeError, Pipeline, UnknownColumnError, UnknownTableError

Export = Callable[..., Any]


@pytest.fixture
def pipeline() -> Pipeline:
    made = Pipeline(backend="cpu")
    made.ingest_batch([1, 1], [10, 20], [1, 3], [5, 6])
    return made


def exports(pipeline: Pipeline) -> list[Export]:
    session = ArrowSession(pipeline)
    return [
        lambda symbol, table="trades": pipeline.get_column(symbol, "price", table),
        lambda symbol, table="trades": to_pandas(pipeline, symbol, table_name=table),
        lambda symbol, table="trades": to_polars(pipeline, symbol, table_name=table),
        lambda symbol, table="trades": session.to_arrow(symbol, table).to_pylist(),
        lambda symbol, table="trades": session.to_record_batch_reader(symbol, table).read_all().to_pylist(),
        lambda symbol, table="trades": session.to_polars_zero_copy(symbol, table),
        lambda symbol, table="trades": session.to_duckdb(symbol, table).table(table).fetchall(),
    ]


def test_unknown_names_have_a_proposal(pipeline: Pipeline) -> None:
    for export in exports(pipeline):
        with pytest.raises(UnknownTableError, match=r'no table "trade". Did you mean "trades"'):
            export(1, "trade")
    for call in (lambda: pipeline.get_column(1, "prise"), lambda: pipeline.sum(1, "prise")):
        with pytest.raises(UnknownColumnError, match=r'no column "prise". Did you mean "price"'):
            call()
    with pytest.raises(UnknownTableError):
        ArrowSession(pipeline).get_schema("trade")


def test_unknown_symbols_give_nothing(pipeline: Pipeline) -> None:
    for export in exports(pipeline):
        assert len(export(99)) == 0
    assert pipeline.count(99) == pipeline.sum(99) == 0


@pytest.mark.parametrize("symbol", ["1", 1.5, True, None, [1]])
def test_symbols_of_the_wrong_kind_are_refused(pipeline: Pipeline, symbol: Any) -> None:
    pipeline.get_column(1, "price")  # True and 1.0 equal 1: what is remembered of 1 must not answer them
    asked = [pipeline.count, pipeline.vwap, lambda s: pipeline.get_column(s, "price")]
    asked += exports(pipeline)[1:3]
    asked += [] if symbol is None else exports(pipeline)[3:]
    for ask in asked:
        with pytest.raises(InvalidTypeError, match=r'Symbols of table "trades" are integers, got'):
            ask(symbol)


@pytest.mark.parametrize(
    ("bound", "error", "words"),
    [
        ("2024-01-01", InvalidTypeError, "is '2024-01-01' of type str; give int nanoseconds since 1970"),
        (1.5, InvalidTypeError, "is 1.5 of type float; give int nanoseconds"),
        (True, InvalidTypeError, "is True of type bool"),
        (2**63, InvalidInputError, "is 9223372036854775808, which is out of int64; leave it out for no bound"),
    ],
)
def test_bounds_that_are_no_times(pipeline: Pipeline, bound: Any, error: type[Exception], words: str) -> None:
    for name in ("from_ns", "to_ns"):
        for ask in (pipeline.vwap, pipeline.count, pipeline.sum):
            with pytest.raises(error, match=f"{name} {words}"):
                ask(1, **{name: bound})
    assert pipeline.count(1, from_ns=-(2**63), to_ns=2**63 - 1) == 2


def test_names_that_are_no_strings(pipeline: Pipeline) -> None:
    for call, words in (
        (lambda: pipeline.get_column(1, 5), "A column name must be a str, got 5"),  # type: ignore[arg-type]
        (lambda: pipeline.get_column(1, "price", 5), "A table name must be a str, got 5"),  # type: ignore[arg-type]
        (lambda: pipeline.get_column(1, ["price"]), "A column name must be a str"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidTypeError, match=words):
            call()


def test_scales_and_modes_of_arrow_exports(pipeline: Pipeline) -> None:
    session = ArrowSession(pipeline)
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match=r"price_scale is .*; give a positive number such as 100"):
            session.to_arrow(1, price_scale=scale)
    with pytest.raises(InvalidInputError, match=r'timestamps is .utc.; allowed: "ns" or "datetime"'):
        session.to_arrow(1, timestamps="utc")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"batch_rows is 0; give a positive number"):
        session.to_record_batch_reader(1, batch_rows=0)
    pipeline.append("notes", {"symbol": [1], "price": ["dear"]})
    with pytest.raises(InvalidTypeError, match=r'"price" of table "notes" is STRING: leave its scale out'):
        session.to_arrow(1, "notes", price_scale=100)
