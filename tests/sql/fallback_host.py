"""A minimal engine for tests of the DuckDB fallback, and the same rows in a DuckDB of its own as the oracle."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.config import PipelineConfig
from zeptodb.ingest.append import frame_batch
from zeptodb.sql.dialect import parse
from zeptodb.sql.fallback import FallbackAnswer, run_fallback
from zeptodb.sql.result import QueryResult
from zeptodb.sql.statements import run_statement
from zeptodb.storage.catalog import Catalog
from zeptodb.types import TRADES, ColumnType, Field, Schema


class Host:
    """What statements run on, with an oracle: the same rows in a DuckDB of its own, timestamps as BIGINT."""

    def __init__(self, **config: Any) -> None:
        self.config = PipelineConfig(**config)
        self.catalog = Catalog(AnonymousMemory(), arena_size=1 << 20)
        self.backend: Any = CpuBackend(threads=1)
        self.oracle = duckdb.connect(config={"threads": 1})

    def catch_up(self) -> None:
        """Nothing is queued here."""

    def record_query(self, rows_scanned: int) -> None:
        """Nothing is counted here."""

    def create(self, name: str, schema: Schema, data: dict[str, Any]) -> None:
        """A table with these rows, here and in the oracle, there with its rows' order of arrival as `arrival`."""
        self.catalog.create(name, schema)
        self.append(name, data)
        table = pa.table({k: pa.array(v) for k, v in data.items()})
        table = table.append_column("arrival", pa.array(np.arange(table.num_rows)))
        self.oracle.register("given_rows", table)
        self.oracle.sql(f"CREATE TABLE {name} AS SELECT * FROM given_rows")

    def append(self, name: str, data: dict[str, Any]) -> None:
        table = self.catalog.get(name)
        table.append(frame_batch(table.schema, data, table=name))

    def run(self, text: str, params: Any = None, **options: Any) -> FallbackAnswer:
        """The answer of the fallback to one statement."""
        (expression,) = parse(text)
        return run_fallback(self, expression, params, text=text, **options)

    def rows(self, text: str, params: Any = None, **options: Any) -> list[list[Any]]:
        answer = self.run(text, params, **options)
        return QueryResult.from_arrow(answer.table).rows

    def oracle_rows(self, text: str) -> list[list[Any]]:
        return QueryResult.from_arrow(self.oracle.sql(text).to_arrow_table()).rows


def field(name: str, column_type: ColumnType, *, nullable: bool = True) -> Field:
    return Field(name, column_type, nullable)


QUOTES = Schema(
    (
        field("symbol", ColumnType.INT64, nullable=False),
        field("timestamp", ColumnType.TIMESTAMP_NS, nullable=False),
        field("bid", ColumnType.FLOAT64),
        field("ask", ColumnType.FLOAT64),
    ),
    symbol="symbol",
    timestamp="timestamp",
)

MIXED = Schema(
    (
        field("name", ColumnType.SYMBOL, nullable=False),
        field("timestamp", ColumnType.TIMESTAMP_NS, nullable=False),
        field("size", ColumnType.INT32),
        field("price", ColumnType.FLOAT64),
        field("ratio", ColumnType.FLOAT32),
        field("side", ColumnType.STRING),
        field("is_open", ColumnType.BOOL),
    ),
    symbol="name",
    timestamp="timestamp",
)

DAY = 86_400_000_000_000


def trades(rows: int, *, symbols: int = 3, seed: int = 1, start: int = 1_700_000_000_000_000_000) -> dict[str, Any]:
    """Ticks in the order of arrival, with equal and late timestamps."""
    rng = np.random.default_rng(seed)
    return {
        "symbol": rng.integers(1, symbols + 1, rows),
        "price": rng.integers(1_000, 2_000, rows),
        "volume": rng.integers(0, 50, rows),
        "timestamp": start + rng.integers(0, max(2, rows // 3), rows) * 10_000_000_000,
    }


def host_with_trades(rows: int = 500, **options: Any) -> Host:
    host = Host()
    host.create("trades", TRADES, trades(rows, **options))
    return host


def execute(host: Host, text: str, params: Any = None) -> QueryResult:
    """One statement of any kind, queries through the fallback."""
    (expression,) = parse(text)
    result = run_statement(host, expression, params, text=text)
    if result is None:
        answer = run_fallback(host, expression, params, text=text)
        result = QueryResult.from_arrow(answer.table, timestamp_columns=answer.timestamp_columns)
    return result
