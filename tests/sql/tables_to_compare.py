"""Random tables with ties, late rows, NULL, NaN and extremes, in an engine and in a DuckDB of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.sql.fallback_host import Host, field
from tests.sql.statements_to_compare import MINUTE_NS, START_NS
from zeptodb.types import TRADES, ColumnType, Schema

QUOTES = Schema(
    (
        field("symbol", ColumnType.INT64, nullable=False),
        field("timestamp", ColumnType.TIMESTAMP_NS, nullable=False),
        field("bid", ColumnType.FLOAT64),
        field("ask", ColumnType.FLOAT64),
        field("depth", ColumnType.INT64),
    ),
    symbol="symbol",
    timestamp="timestamp",
)
TICKS = Schema(
    (
        field("symbol", ColumnType.STRING, nullable=False),
        field("timestamp", ColumnType.TIMESTAMP_NS, nullable=False),
        field("price", ColumnType.FLOAT64),
        field("amount", ColumnType.INT64),
        field("size", ColumnType.INT32),
        field("ratio", ColumnType.FLOAT32),
        field("side", ColumnType.STRING),
        field("is_open", ColumnType.BOOL),
    ),
    symbol="symbol",
    timestamp="timestamp",
)


def make_host(backend: Any, rows: int, seed: int) -> Host:
    """Tables trades, quotes and ticks of about `rows` rows on this backend."""
    rng = np.random.default_rng(seed)
    host = Host()
    host.backend = backend
    host.create("trades", TRADES, _trades(rng, rows))
    host.create("quotes", QUOTES, _quotes(rng, rows))
    host.create("ticks", TICKS, _ticks(rng, rows))
    host.oracle.sql("SET error_on_division_by_zero = false")
    for name in host.catalog.names():
        host.oracle.sql(f"ALTER TABLE {name} DROP COLUMN arrival")
    return host


def _times(rng: np.random.Generator, rows: int) -> np.ndarray:
    return START_NS + rng.integers(0, max(1, rows // 2), rows) * (18 * MINUTE_NS // max(1, rows // 2))


def _trades(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    return {
        "symbol": rng.integers(1, 5, rows),
        "price": rng.integers(-5, 60, rows),
        "volume": rng.integers(0, 30, rows),
        "timestamp": _times(rng, rows),
    }


def _quotes(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    import pyarrow as pa

    bid = rng.integers(0, 50, rows) / 4
    return {
        "symbol": rng.integers(2, 7, rows),
        "timestamp": _times(rng, rows),
        "bid": pa.array(_with_none(rng, bid.tolist(), 0.05), pa.float64()),
        "ask": pa.array(_with_none(rng, (bid + rng.integers(0, 8, rows) / 4).tolist(), 0.1), pa.float64()),
        "depth": pa.array(_with_none(rng, rng.integers(0, 9, rows).tolist(), 0.1), pa.int64()),
    }


def _ticks(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    import pyarrow as pa

    price = rng.integers(-40, 400, rows) / 8
    price[rng.random(rows) < 0.02] = np.nan
    ratio = rng.integers(-8, 40, rows) / 3
    size = _with_none(rng, rng.integers(0, 100, rows).tolist(), 0.1)
    return {
        "symbol": pa.array(rng.choice(["IBM", "AIG", "BAC", "é", "Zed"], rows).tolist(), pa.string()),
        "timestamp": _times(rng, rows),
        "price": pa.array(_with_none(rng, price.tolist(), 0.05), pa.float64(), from_pandas=False),
        "amount": pa.array(_with_none(rng, rng.integers(-300, 300, rows).tolist(), 0.1), pa.int64()),
        "size": pa.array(size, pa.int32()),
        "ratio": pa.array(_with_none(rng, ratio.tolist(), 0.05), pa.float32(), from_pandas=False),
        "side": pa.array(_with_none(rng, rng.choice(["B", "S", ""], rows).tolist(), 0.1), pa.string()),
        "is_open": pa.array(_with_none(rng, rng.choice([True, False], rows).tolist(), 0.1), pa.bool_()),
    }


def _with_none(rng: np.random.Generator, values: list[Any], share: float) -> list[Any]:
    return [None if missing else value for value, missing in zip(values, rng.random(len(values)) < share, strict=True)]
