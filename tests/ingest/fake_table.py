"""Tables that keep what a queue stores as tuples."""

from __future__ import annotations

from typing import Any

from zeptodb.errors import (
    InvalidTypeError,
    UnknownTableError,
)
from zeptodb.ingest.queue import TickQueue
from zeptodb.storage.batch import ColumnBatch, Strings
from zeptodb.types import TRADES, ColumnType, Field, Schema


class FakeTable:
    """Keeps rows as tuples; settles the kind of its symbols like a real table."""

    def __init__(self, schema: Schema = TRADES, name: str = "trades") -> None:
        self.name = name
        self.schema = schema
        self.rows: list[tuple[Any, ...]] = []
        self.batch_sizes: list[int] = []
        self.before_append: Any = lambda: None

    def append(self, batch: ColumnBatch) -> int:
        self.before_append()
        index = self.schema.symbol_index
        symbols = batch.columns[index]
        kind = ColumnType.STRING if isinstance(symbols, Strings) else ColumnType.INT64
        if self.schema.fields[index].type is ColumnType.SYMBOL:
            self.schema = self.settled(kind)
        if self.schema.fields[index].type is not kind:
            raise InvalidTypeError(f"symbols are {self.schema.fields[index].type.value}")
        columns = []
        for field, column in zip(self.schema.fields, batch.columns, strict=True):
            if isinstance(column, Strings):
                columns.append([None if c < 0 else column.values[c] for c in column.codes])
            elif column is None:
                columns.append(["now"] * batch.rows)
            else:
                assert column.dtype == field.type.dtype
                columns.append(column.tolist())
        self.rows.extend(zip(*columns, strict=True))
        self.batch_sizes.append(batch.rows)
        return batch.rows

    def settled(self, kind: ColumnType) -> Schema:
        fields = tuple(Field(f.name, kind) if f.name == self.schema.symbol else f for f in self.schema.fields)
        return Schema(fields, self.schema.symbol, self.schema.timestamp)


class FakeCatalog:
    def __init__(self, *tables: FakeTable) -> None:
        self.version = 1
        self.tables = {table.name: table for table in tables}

    def get(self, name: str) -> FakeTable:
        if name.lower() not in self.tables:
            raise UnknownTableError(f'There is no table "{name}".')
        return self.tables[name.lower()]


def make(schema: Schema = TRADES, **options: Any) -> tuple[TickQueue, FakeTable]:
    table = FakeTable(schema)
    return TickQueue(FakeCatalog(table), **options), table
