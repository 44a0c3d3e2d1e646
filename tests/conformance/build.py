"""Snapshots made of plain numpy arrays: one list of columns per segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Ranges
from zeptodb.backends.expression import ColumnRef
from zeptodb.storage.dictionary import Dictionary
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType, Field, Schema


@dataclass
class Segment:
    """One symbol's rows: per column its values (None for the symbol column) and validity (None: no NULL)."""

    symbol: int
    values: list[npt.NDArray[np.generic] | None]
    validity: list[npt.NDArray[np.bool_] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.validity:
            self.validity = [None] * len(self.values)

    @property
    def rows(self) -> int:
        return next(len(v) for v in self.values if v is not None)


@dataclass
class Table:
    """Segments of one schema and the snapshot over them."""

    schema: Schema
    segments: list[Segment]
    dictionaries: tuple[Dictionary | None, ...] = ()

    def __post_init__(self) -> None:
        count, width = len(self.segments), len(self.schema.fields)
        addresses = np.zeros((width, count), dtype=np.int64)
        validity = np.zeros((width, count), dtype=np.int64)
        for s, segment in enumerate(self.segments):
            for c, column in enumerate(self.schema.fields):
                values, valid = segment.values[c], segment.validity[c]
                if values is not None:
                    assert values.dtype == column.type.dtype, column
                    addresses[c, s] = values.ctypes.data
                if valid is not None:
                    validity[c, s] = valid.ctypes.data
        self.snapshot = Snapshot(
            name="t",
            schema=self.schema,
            symbols=np.array([s.symbol for s in self.segments], dtype=np.int64),
            lengths=np.array([s.rows for s in self.segments], dtype=np.int64),
            addresses=addresses,
            validity=validity,
            dictionaries=self.dictionaries or (None,) * width,
            version=1,
        )

    def column(self, name: str) -> ColumnRef:
        index = self.schema.index(name)
        return ColumnRef(index, self.schema.fields[index].type)

    def all_rows(self) -> Ranges:
        lengths = self.snapshot.lengths
        return Ranges(np.arange(len(lengths), dtype=np.int64), np.zeros_like(lengths), lengths.copy())


def ranges(rows: Sequence[tuple[int, int, int]]) -> Ranges:
    """Ranges from (segment, start, end) triples."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Ranges(*(np.ascontiguousarray(table[:, k]) for k in range(3)))


QUOTES_SCHEMA = Schema(
    (
        Field("symbol", ColumnType.INT64),
        Field("timestamp", ColumnType.TIMESTAMP_NS),
        Field("i64", ColumnType.INT64),
        Field("f64", ColumnType.FLOAT64),
        Field("i32", ColumnType.INT32),
        Field("f32", ColumnType.FLOAT32),
        Field("flag", ColumnType.BOOL),
        Field("text", ColumnType.STRING),
    ),
    symbol="symbol",
    timestamp="timestamp",
)
"""A schema with a column of every type."""


def random_table(
    seed: int,
    sizes: Sequence[int],
    *,
    schema: Schema = QUOTES_SCHEMA,
    null_share: float = 0.0,
    nan_share: float = 0.0,
    time_span: int = 1000,
    time_origin: int = 0,
    largest: int = 1000,
    nullable: tuple[str, ...] = (),
) -> Table:
    """Segments of the given sizes with many time ties; integers within `largest`, NaNs and NULLs as asked.

    nullable: columns that have NULLs in every segment.
    """
    rng = np.random.default_rng(seed)
    dictionary = Dictionary()
    for word in ("", "buy", "sell", "cancel"):
        dictionary.code(word)

    def values(kind: ColumnType, rows: int) -> npt.NDArray[np.generic]:
        if kind is ColumnType.TIMESTAMP_NS:
            return np.sort(rng.integers(0, time_span, rows)) + time_origin
        if kind.is_float:
            numbers = np.round(rng.normal(100.0, 50.0, rows), 2)
            numbers[rng.random(rows) < nan_share] = np.nan
            return numbers.astype(kind.dtype)
        if kind is ColumnType.BOOL:
            return rng.random(rows) < 0.5
        if kind is ColumnType.STRING:
            return rng.integers(0, 4, rows).astype(np.int32)
        bound = min(largest, int(np.iinfo(kind.dtype).max))
        return rng.integers(-bound, bound, rows, endpoint=True).astype(kind.dtype)

    segments = []
    for s, rows in enumerate(sizes):
        columns: list[npt.NDArray[np.generic] | None] = []
        validity: list[npt.NDArray[np.bool_] | None] = []
        for column in schema.fields:
            is_role = column.name in {schema.symbol, schema.timestamp}
            columns.append(None if column.name == schema.symbol else values(column.type, rows))
            has_nulls = null_share > 0 and not is_role and (rng.random() < 0.8 or column.name in nullable)
            validity.append(rng.random(rows) >= null_share if has_nulls else None)
        segments.append(Segment(1000 - 7 * s, columns, validity))
    dictionaries = tuple(dictionary if f.type is ColumnType.STRING else None for f in schema.fields)
    return Table(schema, segments, dictionaries)
