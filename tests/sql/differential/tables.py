"""Random tables with NULL, NaN, ties, late rows, emptied segments and extremes, here and in a DuckDB of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from tests.sql.fallback_host import Host, field
from zeptodb.sql import QueryExecutor
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType, Schema

START_NS = 1_700_000_000_000_000_000
MINUTE_NS = 60_000_000_000
SYMBOLS = ("IBM", "AIG", "é", "", "Zed")
EXTREMES = (INT64_MIN + 1, INT64_MAX, -(2**53) - 1, 2**53 + 1, 0, 1, -1, 7, 2**31)
STRINGS = ("B", "S", "", "it's", "Ω", "b")

TICKS = Schema(
    (
        field("symbol", ColumnType.STRING, nullable=False),
        field("timestamp", ColumnType.TIMESTAMP_NS, nullable=False),
        field("price", ColumnType.FLOAT64),
        field("size", ColumnType.INT32),
        field("big", ColumnType.INT64),
        field("ratio", ColumnType.FLOAT32),
        field("side", ColumnType.STRING),
        field("is_open", ColumnType.BOOL),
    ),
    symbol="symbol",
    timestamp="timestamp",
)
QUOTES = Schema(
    (
        field("symbol", ColumnType.STRING, nullable=False),
        field("timestamp", ColumnType.TIMESTAMP_NS, nullable=False),
        field("bid", ColumnType.FLOAT64),
        field("depth", ColumnType.INT64),
    ),
    symbol="symbol",
    timestamp="timestamp",
)
FILLS = Schema(
    (
        field("symbol", ColumnType.INT64, nullable=False),
        field("timestamp", ColumnType.TIMESTAMP_NS, nullable=False),
        field("price", ColumnType.INT64),
        field("volume", ColumnType.INT64),
    ),
    symbol="symbol",
    timestamp="timestamp",
)


def random_host(seed: int, rows: int, backend: Any) -> Host:
    """Tables ticks, quotes and fills; the rows arrive in a few batches, and some symbols lose theirs again."""
    rng = np.random.default_rng(seed)
    host = Host()
    host.backend = backend
    host.oracle.sql("SET error_on_division_by_zero = false")
    for name, schema, data in (
        ("ticks", TICKS, _ticks(rng, rows)),
        ("quotes", QUOTES, _quotes(rng, rows)),
        ("fills", FILLS, _fills(rng, rows)),
    ):
        _create(host, name, schema, data, rng)
    return host


def _create(host: Host, name: str, schema: Schema, data: dict[str, pa.Array], rng: np.random.Generator) -> None:
    host.catalog.create(name, schema)
    table = pa.table(data)
    cuts = sorted(rng.integers(0, table.num_rows + 1, 2).tolist())
    for start, end in zip([0, *cuts], [*cuts, table.num_rows], strict=True):
        if end > start:
            part = table.slice(start, end - start)
            host.append(name, {column: part[column] for column in part.column_names})
    lost = data["symbol"][0].as_py() if table.num_rows and rng.random() < 0.3 else None
    if lost is not None:
        assert QueryExecutor(host).execute(f"DELETE FROM {name} WHERE symbol = ?", [lost]).ok()
    _copy(host, name, table, lost)


def _copy(host: Host, name: str, table: pa.Table, lost: object) -> None:
    """The same rows in DuckDB; `arrival` orders rows of one time: by segment, then as they came."""
    symbols = table["symbol"].to_pylist()
    first = {symbol: i for i, symbol in reversed(list(enumerate(symbols)))}
    rank = {symbol: i for i, symbol in enumerate(sorted(first, key=lambda s: first[s]))}
    arrival = [rank[symbol] * 1_000_000 + i for i, symbol in enumerate(symbols)]
    given = table.append_column("arrival", pa.array(arrival, pa.int64()))
    keep = pa.array([symbol != lost or lost is None for symbol in symbols], pa.bool_())
    host.oracle.register("given", given.filter(keep))
    host.oracle.sql(f"CREATE TABLE {name} AS SELECT * FROM given")
    host.oracle.unregister("given")


def _times(rng: np.random.Generator, rows: int) -> pa.Array:
    """Mostly rising, with ties and late rows; now and then one from long ago."""
    times = START_NS + np.cumsum(rng.integers(0, 4, rows)) * (MINUTE_NS // 3)
    late = rng.random(rows) < 0.2
    times[late] -= rng.integers(0, 5, int(late.sum())) * MINUTE_NS
    times[rng.random(rows) < 0.02] = rng.choice([-5, 0, 1, 86_400_000_000_000])
    return pa.array(times, pa.int64())


def _some_null(rng: np.random.Generator, values: list[Any], kind: pa.DataType) -> pa.Array:
    share = rng.choice([0.0, 0.1, 0.5, 1.0], p=[0.3, 0.5, 0.15, 0.05])
    return pa.array([None if rng.random() < share else v for v in values], kind)


def _ticks(rng: np.random.Generator, rows: int) -> dict[str, pa.Array]:
    price = rng.integers(-40, 400, rows) / 8
    price[rng.random(rows) < 0.05] = np.nan
    ratio = rng.integers(-8, 40, rows) / 4
    ratio[rng.random(rows) < 0.02] = np.inf
    return {
        "symbol": pa.array(rng.choice(SYMBOLS, rows).tolist(), pa.string()),
        "timestamp": _times(rng, rows),
        "price": _some_null(rng, price.tolist(), pa.float64()),
        "size": _some_null(rng, rng.integers(-3, 9, rows).tolist(), pa.int32()),
        "big": _some_null(rng, [EXTREMES[i] for i in rng.integers(0, len(EXTREMES), rows)], pa.int64()),
        "ratio": _some_null(rng, ratio.tolist(), pa.float32()),
        "side": _some_null(rng, rng.choice(STRINGS, rows).tolist(), pa.string()),
        "is_open": _some_null(rng, rng.choice([True, False], rows).tolist(), pa.bool_()),
    }


def _quotes(rng: np.random.Generator, rows: int) -> dict[str, pa.Array]:
    return {
        "symbol": pa.array(rng.choice((*SYMBOLS[1:], "only quoted"), rows).tolist(), pa.string()),
        "timestamp": _times(rng, rows),
        "bid": _some_null(rng, (rng.integers(0, 50, rows) / 4).tolist(), pa.float64()),
        "depth": _some_null(rng, rng.integers(0, 9, rows).tolist(), pa.int64()),
    }


def _fills(rng: np.random.Generator, rows: int) -> dict[str, pa.Array]:
    return {
        "symbol": pa.array(rng.integers(-1, 4, rows).tolist(), pa.int64()),
        "timestamp": _times(rng, rows),
        "price": _some_null(rng, rng.integers(-5, 60, rows).tolist(), pa.int64()),
        "volume": _some_null(rng, rng.integers(0, 30, rows).tolist(), pa.int64()),
    }
