"""The table of an answer, and its rows in pieces of plain columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from zeptodb.server.formats.types import clickhouse_name, normalized

PIECE_ROWS = 65_536
"""Rows that are encoded at once, and that a Native block has."""


@dataclass(frozen=True)
class Answer:
    """A table to be written.

    Attributes:
        table: the columns, in any number of chunks; those of stored symbols and strings dictionary-coded.
        schema: the columns' plain types, as `normalized` leaves them.
        types: the same in ClickHouse's words.
        elapsed_seconds: how long the statement took.
        rows_read, bytes_read: what was read for it.
        protocol_version: of the client, for Native.
        quotes_integers: whether JSON writes 64-bit integers as strings.
        block_rows: rows of a Native block or an Arrow batch, if the client said so; else 0.
        takes_runs: whether the client takes columns of Arrow that are run-end encoded.
    """

    table: pa.Table
    schema: pa.Schema
    types: list[str]
    elapsed_seconds: float = 0.0
    rows_read: int = 0
    bytes_read: int = 0
    protocol_version: int = 0
    quotes_integers: bool = False
    block_rows: int = 0
    takes_runs: bool = False
    names: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.table.num_rows)

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of the columns in memory; of strings that lie dictionary-coded, those of codes and dictionaries."""
        return sum(
            self.rows * kind.bit_width // 8 if is_number(kind) else int(column.nbytes)
            for kind, column in zip(self.schema.types, self.table.columns, strict=True)
        )

    @cached_property
    def run_columns(self) -> frozenset[int]:
        """Indexes of the columns that go run-end encoded: those of symbols, if the client takes them so."""
        if not self.takes_runs:
            return frozenset()
        return frozenset(i for i, column in enumerate(self.table.columns) if _is_constant(column))

    def pieces(self, rows: int = PIECE_ROWS, *, most: int | None = None) -> Iterator[list[pa.Array]]:
        """The columns of so many rows at a time, each as one plain array; of the first `most` rows."""
        count = self.rows if most is None else min(most, self.rows)
        for start in range(0, count, rows):
            yield [plain(column) for column in self.table.slice(start, min(rows, count - start)).columns]


def answer_of(table: pa.Table, **facts: object) -> Answer:
    """An answer over the columns of a result."""
    columns = [column if _stays_coded(column.type) else normalized(column) for column in table.columns]
    kinds = [column.type.value_type if _is_coded(column.type) else column.type for column in columns]
    names = list(table.column_names)
    fields = [pa.field(name, column.type) for name, column in zip(names, columns, strict=True)]
    ready = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    types = [
        clickhouse_name(kind, is_nullable=column.null_count > 0) for kind, column in zip(kinds, columns, strict=True)
    ]
    schema = pa.schema([pa.field(name, kind) for name, kind in zip(names, kinds, strict=True)])
    return Answer(ready, schema, types, names=names, **facts)  # type: ignore[arg-type]


def plain(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array of its plain type."""
    if column.num_chunks == 1:
        return decoded(column.chunk(0))
    if not _is_coded(column.type):
        return column.combine_chunks()
    return pa.chunked_array([decoded(chunk) for chunk in column.chunks], column.type.value_type).combine_chunks()


def decoded(array: pa.Array) -> pa.Array:
    """The values of an array that may be dictionary-coded."""
    if not _is_coded(array.type):
        return array
    if len(array.dictionary) == 1 and not array.null_count:
        if array.type.value_type == pa.int64():  # fifteen times as fast as repeat()
            return pa.array(np.full(len(array), array.dictionary[0].as_py()))
        return pa.repeat(array.dictionary[0], len(array))
    return array.dictionary_decode()


def _is_constant(column: pa.ChunkedArray) -> bool:
    """Whether every chunk of a column is one value over and over, as those of stored symbols are."""
    return _is_coded(column.type) and all(
        len(chunk.dictionary) == 1 and not chunk.null_count for chunk in column.chunks
    )


def _is_coded(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind))


def _stays_coded(kind: pa.DataType) -> bool:
    return _is_coded(kind) and kind.value_type in (pa.int64(), pa.string())


def is_number(kind: pa.DataType) -> bool:
    """Whether values are numbers of whole bytes."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind))
