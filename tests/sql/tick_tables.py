"""Two tables with NULLs, ties, late rows and a symbol without quotes, and what tick words make of them in Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import numpy as np
import polars as pl

from zeptodb import Pipeline
from zeptodb.sql import QueryExecutor
from zeptodb.sql.result import QueryResult

Row = dict[str, Any]

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND

SPAN = 5
BEFORE, AFTER = 3 * SECOND, 2 * SECOND


def _nullable(rng: np.random.Generator, values: Any) -> list[Any]:
    return [None if missing else v for missing, v in zip(rng.random(len(values)) < 0.1, values.tolist(), strict=True)]


def make_ticks(rows: int = 400) -> list[Row]:
    """In the order of arrival: `id` counts them."""
    rng = np.random.default_rng(5)
    columns = {
        "symbol": rng.choice(["A", "B", "C"], rows, p=[0.6, 0.3, 0.1]).tolist(),
        "id": list(range(rows)),
        "price": _nullable(rng, 100 + rng.normal(0, 5, rows).round(2)),
        "volume": rng.integers(1, 50, rows).tolist(),
        "timestamp": (START + np.sort(rng.integers(0, rows // 2, rows)) * SECOND).tolist(),
    }
    columns["timestamp"][50], columns["timestamp"][51] = START, START + SECOND  # late
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def make_quotes(rows: int = 300) -> list[Row]:
    rng = np.random.default_rng(6)
    columns = {
        "symbol": rng.choice(["A", "B", "D"], rows).tolist(),
        "timestamp": (START + rng.integers(0, 200, rows) * SECOND).tolist(),
        "bid": _nullable(rng, 100 + rng.normal(0, 5, rows).round(2)),
        "size": rng.integers(1, 9, rows).tolist(),
        "volume": rng.integers(100, 200, rows).tolist(),
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def make_pipeline(ticks: list[Row], quotes: list[Row]) -> Pipeline:
    pipeline = Pipeline(backend="cpu")
    pipeline.execute(
        "CREATE TABLE ticks (symbol SYMBOL, id INT64, price FLOAT64, volume INT64, timestamp TIMESTAMP_NS)"
    )
    pipeline.execute(
        "CREATE TABLE quotes (symbol SYMBOL, timestamp TIMESTAMP_NS, bid FLOAT64, size INT64, volume INT64)"
    )
    for name, rows in (("ticks", ticks), ("quotes", quotes)):
        pipeline.append(name, pl.DataFrame(rows).to_arrow())
    return pipeline


def in_order(rows: list[Row]) -> list[Row]:
    """By symbol and time, ties by arrival."""
    return sorted(rows, key=lambda row: (row["symbol"], row["timestamp"]))


def by_symbol(rows: list[Row]) -> Iterator[list[Row]]:
    ordered = in_order(rows)
    for symbol in sorted({row["symbol"] for row in rows}):
        yield [row for row in ordered if row["symbol"] == symbol]


def ema(values: list[float | None], alpha: float) -> list[float | None]:
    """The recurrence; a missing value gives none and changes nothing."""
    result: list[float | None] = []
    state: float | None = None
    for value in values:
        if value is not None:
            state = value if state is None else alpha * value + (1 - alpha) * state
        result.append(None if value is None else state)
    return result


def emas(ticks: list[Row]) -> list[Row]:
    return [
        {"symbol": row["symbol"], "id": row["id"], "v": v}
        for rows in by_symbol(ticks)
        for row, v in zip(rows, ema([r["price"] for r in rows], 2 / (SPAN + 1)), strict=True)
    ]


def _stepwise(ticks: list[Row], step: Callable[[Any, Any], Any]) -> list[Row]:
    result = []
    for rows in by_symbol(ticks):
        for i, row in enumerate(rows):
            now, before = row["price"], rows[i - 1]["price"] if i else None
            value = None if now is None or before is None else step(now, before)
            result.append({"symbol": row["symbol"], "id": row["id"], "v": value})
    return result


def deltas(ticks: list[Row]) -> list[Row]:
    return _stepwise(ticks, lambda now, before: now - before)


def ratios(ticks: list[Row]) -> list[Row]:
    return _stepwise(ticks, lambda now, before: now / before)


def weighted_averages(ticks: list[Row]) -> list[Row]:
    """Over the current row and the four before."""
    result = []
    for rows in by_symbol(ticks):
        for i, row in enumerate(rows):
            frame = [r for r in rows[max(0, i - 4) : i + 1] if r["price"] is not None]
            weight = sum(r["volume"] for r in frame)
            value = math.fsum(r["price"] * r["volume"] for r in frame) / weight if weight else None
            result.append({"symbol": row["symbol"], "id": row["id"], "v": value})
    return result


def right_times(ticks: list[Row], quotes: list[Row]) -> list[Row]:
    """AJ0: the time of the last quote at or before the tick."""
    result = []
    for row in ticks:
        times = [q["timestamp"] for q in quotes if q["symbol"] == row["symbol"] and q["timestamp"] <= row["timestamp"]]
        result.append({"symbol": row["symbol"], "id": row["id"], "v": max(times, default=None)})
    return result


def window_of(row: Row, quotes: list[Row]) -> list[Row]:
    low, high = row["timestamp"] - BEFORE, row["timestamp"] + AFTER
    return in_order([q for q in quotes if q["symbol"] == row["symbol"] and low <= q["timestamp"] <= high])


WINDOW_AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "wj_avg": lambda v: math.fsum(x for x in v if x is not None) / n if (n := sum(x is not None for x in v)) else None,
    "wj_sum": lambda v: math.fsum(x for x in v if x is not None) if any(x is not None for x in v) else None,
    "wj_min": lambda v: min((x for x in v if x is not None), default=None),
    "wj_max": lambda v: max((x for x in v if x is not None), default=None),
    "wj_count": lambda v: sum(x is not None for x in v),
    "wj_first": lambda v: v[0] if v else None,
    "wj_last": lambda v: v[-1] if v else None,
}


def window_joined(ticks: list[Row], quotes: list[Row], function: str) -> list[Row]:
    aggregate = WINDOW_AGGREGATES[function]
    return [
        {"symbol": row["symbol"], "id": row["id"], "v": aggregate([q["bid"] for q in window_of(row, quotes)])}
        for row in ticks
    ]


def united(ticks: list[Row], quotes: list[Row]) -> list[Row]:
    return [{"symbol": r["symbol"], "id": r.get("id"), "v": r.get("bid")} for r in (*ticks, *quotes)]


def added(ticks: list[Row], quotes: list[Row]) -> list[Row]:
    """PLUS: the volumes of all quotes of the symbol on top."""
    return [
        {
            "symbol": row["symbol"],
            "id": row["id"],
            "v": row["volume"] + sum(q["volume"] for q in quotes if q["symbol"] == row["symbol"]),
        }
        for row in ticks
    ]


def oracle(expected: list[Row]) -> duckdb.DuckDBPyConnection:
    """A DuckDB in which the table `expected` holds these rows."""
    connection = duckdb.connect(config={"threads": 1})
    connection.register("expected", pl.DataFrame(expected, infer_schema_length=None).to_arrow())
    return connection


def answer(executor: QueryExecutor | Pipeline, text: str, params: Any = None) -> QueryResult:
    result = executor.execute(text, params)
    assert result.ok(), result.error
    return result


def as_set(rows: list[Any]) -> list[tuple[Any, ...]]:
    """Rows in a fixed order, floats rounded, so that two orders of the same rows are equal."""
    rounded = [tuple(float(f"{v:.9g}") if isinstance(v, float) else v for v in row) for row in (tuple(r) for r in rows)]
    return sorted(rounded, key=lambda row: tuple((v is None, str(type(v)), v if v is not None else 0) for v in row))
