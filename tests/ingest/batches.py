"""A schema of every type, and what batches of ingested columns hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from zeptodb.ingest.append import trades_batch
from zeptodb.storage.batch import ColumnBatch, Strings
from zeptodb.types import TRADES, ColumnType, Field, Schema

TYPED = Schema(
    (
        Field("symbol", ColumnType.STRING),
        Field("bid", ColumnType.FLOAT64),
        Field("size", ColumnType.INT64),
        Field("small", ColumnType.INT32),
        Field("single", ColumnType.FLOAT32),
        Field("open", ColumnType.BOOL),
        Field("day", ColumnType.TIMESTAMP_NS),
        Field("venue", ColumnType.STRING),
        Field("timestamp", ColumnType.TIMESTAMP_NS),
    ),
    symbol="symbol",
    timestamp="timestamp",
)


def settled(kind: ColumnType) -> Schema:
    """The schema of trades after data of one kind."""
    return Schema(
        (Field("symbol", kind, is_nullable=False), *TRADES.fields[1:]), symbol="symbol", timestamp="timestamp"
    )


def prices(data: object, **options: Any) -> list[int]:
    """The price column of a batch with these prices."""
    rows = len(data)  # type: ignore[arg-type]
    column = trades_batch(TRADES, [1] * rows, data, [1] * rows, **options).columns[1]
    assert isinstance(column, np.ndarray)
    assert column.dtype == np.int64
    assert column.flags.c_contiguous
    return [int(value) for value in column]


def cell(batch: ColumnBatch, name: str, schema: Schema = TYPED) -> object:
    """The first value of a column, None for NULL."""
    index = schema.index(name)
    column, validity = batch.columns[index], batch.validity[index]
    if validity is not None and not validity[0]:
        return None
    if isinstance(column, Strings):
        return column.values[column.codes[0]]
    return None if column is None else column[0].item()
