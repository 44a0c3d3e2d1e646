"""A Pipeline reduced to the public methods that zepto_py calls, over a real table, for tests of zepto_py alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.errors import QueryError
from zeptodb.ingest.append import frame_batch, trades_batch
from zeptodb.storage.table import Table
from zeptodb.types import TRADES, Schema


class Answer:
    """An answer to a statement: a fixed table, or an error."""

    def __init__(self, table: pa.Table | None) -> None:
        self.table = table

    def raise_for_error(self) -> None:
        if self.table is None:
            raise QueryError("no such thing")

    def to_pandas(self) -> pd.DataFrame:
        assert self.table is not None
        return self.table.to_pandas()

    def to_polars(self) -> pl.DataFrame:
        assert self.table is not None
        frame = pl.from_arrow(self.table)
        assert isinstance(frame, pl.DataFrame)
        return frame


class PublicPipeline:
    """Public methods only, no SQL engine: `execute` keeps the statement and returns `answer`."""

    def __init__(self, schema: Schema = TRADES) -> None:
        self.table = Table("trades", schema, memory=AnonymousMemory(), arena_size=1 << 20)
        self.answer: pa.Table | None = None
        self.statements: list[tuple[str, str]] = []
        self.calls: list[dict[str, Any]] = []
        self.after_get_column: Any = lambda: None

    def ingest_batch(
        self,
        symbols: object,
        prices: object,
        volumes: object,
        timestamps: object = None,
        table_name: str = "trades",
        *,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
    ) -> int:
        self.calls.append({"table_name": table_name, "columns": (symbols, prices, volumes, timestamps)})
        batch = trades_batch(
            self.table.schema,
            symbols,
            prices,
            volumes,
            timestamps,
            price_scale=price_scale,
            volume_scale=volume_scale,
            table=table_name,
        )
        return self.table.append(batch)

    def append(self, data: object) -> int:
        return self.table.append(frame_batch(self.table.schema, data))

    def schema(self, table: str = "trades") -> Schema:
        return self.table.schema

    def get_column(self, symbol: int | str, name: str, table: str = "trades") -> np.ndarray:
        index = self.table.schema.index(name, table=table)
        segment = self.table.find_segment(symbol)
        self.after_get_column()
        if segment is None:
            return np.empty(0, self.table.schema.fields[index].type.dtype)
        return self.table.view(segment, index)

    def execute(self, sql: str, params: object = None, *, timestamps: str = "ns") -> Answer:
        self.statements.append((sql, timestamps))
        return Answer(self.answer)
