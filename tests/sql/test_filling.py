"""The query of CREATE TABLE AS and INSERT runs as any other query: natively where it can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zeptodb
from zeptodb.sql import fallback

BARS = (
    "SELECT symbol, xbar(timestamp, INTERVAL '1m') AS timestamp, first(price) AS o, max(price) AS h, sum(volume) AS v, "
    "vwap(price, volume) AS w FROM trades WHERE price > 110 GROUP BY 1, 2"
)
JOIN = (
    "SELECT t.symbol, t.timestamp, t.price, q.price AS quoted FROM trades t ASOF LEFT JOIN quotes q "
    "ON t.symbol = q.symbol AND t.timestamp >= q.timestamp"
)
RANKED = f"WITH bars AS ({BARS}) SELECT *, rank() OVER (PARTITION BY timestamp ORDER BY v DESC, symbol) AS r FROM bars"


@pytest.fixture
def pipeline() -> Iterator[zeptodb.Pipeline]:
    random, count = np.random.default_rng(5), 3_000
    with zeptodb.Pipeline() as pipeline:
        columns = [random.integers(1, 5, count), random.integers(100, 200, count), random.integers(1, 50, count)]
        stamps = np.sort(random.integers(0, 10**12, count))
        pipeline.ingest_batch(*columns, stamps)
        pipeline.append("quotes", {"symbol": columns[0], "price": columns[1], "timestamp": stamps + 7})
        yield pipeline


def _rows(pipeline: zeptodb.Pipeline, text: str) -> list[list[Any]]:
    return pipeline.execute(text).raise_for_error().rows


@pytest.mark.parametrize("query", [BARS, JOIN])
def test_a_native_query_fills_a_table_without_duckdb(
    pipeline: zeptodb.Pipeline, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sorted(_rows(pipeline, query), key=repr)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("DuckDB was asked")

    monkeypatch.setattr(fallback, "run_prepared", forbidden)
    assert _rows(pipeline, f"CREATE TABLE filled AS {query}") == [[len(expected)]]
    assert _rows(pipeline, f"INSERT INTO filled {query}") == [[len(expected)]]
    assert sorted(_rows(pipeline, "SELECT * FROM filled"), key=repr) == sorted(2 * expected, key=repr)


def test_leaves_of_the_query_run_natively(pipeline: zeptodb.Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _rows(pipeline, RANKED)
    handed: list[object] = []
    run_prepared = fallback.run_prepared

    def watched(*given: Any, **named: Any) -> Any:
        handed.append(given[5] if len(given) > 5 else named.get("handed"))
        return run_prepared(*given, **named)

    monkeypatch.setattr(fallback, "run_prepared", watched)
    _rows(pipeline, f"CREATE TABLE ranked AS {RANKED}")
    assert len(handed) == 1
    assert handed[0]
    assert sorted(_rows(pipeline, "SELECT * FROM ranked")) == sorted(expected)


def test_parameters_reach_the_query(pipeline: zeptodb.Pipeline) -> None:
    count = _rows(pipeline, "SELECT count(*) FROM trades WHERE price > 150")
    filled = pipeline.execute("CREATE TABLE high AS SELECT symbol, price FROM trades WHERE price > $low", {"low": 150})
    assert filled.raise_for_error().rows == count
    more = pipeline.execute("INSERT INTO high SELECT symbol, price FROM trades WHERE price > ?", [150])
    assert more.raise_for_error().rows == count


def test_one_statement_is_one_query_in_the_statistics(pipeline: zeptodb.Pipeline) -> None:
    before = pipeline.stats().queries_executed
    _rows(pipeline, f"CREATE TABLE filled AS {BARS}")
    assert pipeline.stats().queries_executed == before + 1


def test_errors_point_into_the_whole_statement(pipeline: zeptodb.Pipeline) -> None:
    result = pipeline.execute("CREATE TABLE filled AS\nSELECT prise FROM trades")
    assert result.error is not None
    assert 'Did you mean "price"' in result.error
    assert "line 2" in result.error
    assert not pipeline.execute("SELECT * FROM filled").ok()
