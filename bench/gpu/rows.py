"""The rows that operators run on: trades and quotes of one day, in the memory of a backend, parted by symbol."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Ranges
from zeptodb.backends.expression import ColumnRef
from zeptodb.storage.dictionary import Dictionary
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType, Field, Schema

Int64Array = npt.NDArray[np.int64]

DAY_START_NS = 1_717_421_400_000_000_000  # 2024-06-03 13:30 UTC
DAY_NS = 23_400_000_000_000
FIRST_PRICE, PRICES = 10_000, 5_000
VENUES = 16
SYMBOLS = 1_000
ALIGNED_ROWS = 64
"""Segments begin at multiples of so many rows, which is more than any device wants."""

TRADES = Schema(
    (
        Field("symbol", ColumnType.INT64),
        Field("timestamp", ColumnType.TIMESTAMP_NS),
        Field("price", ColumnType.INT64),
        Field("volume", ColumnType.INT64),
        Field("venue", ColumnType.STRING),
    ),
    symbol="symbol",
    timestamp="timestamp",
)
QUOTES = Schema(
    (Field("symbol", ColumnType.INT64), Field("timestamp", ColumnType.TIMESTAMP_NS), Field("bid", ColumnType.INT64)),
    symbol="symbol",
    timestamp="timestamp",
)

TRADE_BYTES, QUOTE_BYTES = 28, 16

Fill = Callable[[np.random.Generator, npt.NDArray[np.generic], Int64Array], None]
"""(random, the values to fill, the rows within the segment)"""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one schema, as many of each symbol.

    Attributes:
        snapshot: what operators take.
        columns: per stored column its values, [symbol, row]; the rows of a symbol lie side by side. They keep the
            memory: the snapshot is good for as long as they are.
    """

    snapshot: Snapshot
    columns: dict[str, npt.NDArray[np.generic]]

    def column(self, name: str) -> ColumnRef:
        index = self.snapshot.schema.index(name)
        return ColumnRef(index, self.snapshot.schema.fields[index].type)

    @property
    def count(self) -> int:
        return self.snapshot.rows

    @property
    def symbols(self) -> int:
        return len(self.snapshot.symbols)

    @property
    def ranges(self) -> Ranges:
        lengths = self.snapshot.lengths
        return Ranges(np.arange(len(lengths), dtype=np.int64), np.zeros_like(lengths), lengths.copy())


def trades(memory: HostMemory, rows: int, *, symbols: int = SYMBOLS) -> Rows:
    """About `rows` trades; int64 prices and volumes, a venue of 16."""
    return _rows(memory, TRADES, rows // symbols, symbols, seed=1)


def quotes(memory: HostMemory, rows: int, *, symbols: int = SYMBOLS) -> Rows:
    """About `rows` quotes; int64 bids."""
    return _rows(memory, QUOTES, rows // symbols, symbols, seed=2)


def _rows(memory: HostMemory, schema: Schema, each: int, symbols: int, *, seed: int) -> Rows:
    addresses = np.zeros((len(schema.fields), symbols), dtype=np.int64)
    columns: dict[str, npt.NDArray[np.generic]] = {}
    stride = -(-each // ALIGNED_ROWS) * ALIGNED_ROWS
    for index, column in enumerate(schema.fields):
        if column.name == schema.symbol:
            continue
        dtype = column.type.dtype
        mapping = memory.map(symbols * stride * dtype.itemsize)
        raw: Any = (ctypes.c_char * (symbols * stride * dtype.itemsize)).from_address(mapping.address)
        raw.mapping = mapping  # the array keeps the memory
        values = np.frombuffer(raw, dtype=dtype).reshape(symbols, stride)[:, :each]
        _fill(values, FILLS[column.name](each), seed=(seed, index))
        addresses[index] = mapping.address + stride * dtype.itemsize * np.arange(symbols)
        columns[column.name] = values
    snapshot = Snapshot(
        name="rows",
        schema=schema,
        symbols=np.arange(symbols, dtype=np.int64),
        lengths=np.full(symbols, each, dtype=np.int64),
        addresses=addresses,
        validity=np.zeros_like(addresses),
        dictionaries=tuple(_venues() if f.type is ColumnType.STRING else None for f in schema.fields),
        version=1,
    )
    return Rows(snapshot, columns)


def _venues() -> Dictionary:
    dictionary = Dictionary()
    for number in range(VENUES):
        dictionary.code(f"venue {number}")
    return dictionary


def _fill(values: npt.NDArray[np.generic], fill: Fill, *, seed: tuple[int, int]) -> None:
    """Fill segments in as many threads as there are cores."""

    def segment(number: int) -> None:
        random = np.random.Generator(np.random.SFC64([*seed, number]))
        fill(random, values[number], np.arange(values.shape[1], dtype=np.int64))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(segment, range(len(values))))


def _stamps(each: int) -> Fill:
    """Ascending stamps over the day, none twice where there is room."""
    step = DAY_NS // max(1, each)

    def fill(random: np.random.Generator, out: npt.NDArray[np.generic], rows: Int64Array) -> None:
        out[:] = DAY_START_NS + rows * step + random.integers(0, step, len(rows))

    return fill


def _integers(low: int, high: int) -> Callable[[int], Fill]:
    def fill(random: np.random.Generator, out: npt.NDArray[np.generic], rows: Int64Array) -> None:
        out[:] = random.integers(low, high, len(rows), dtype=np.int32)

    return lambda _: fill


FILLS: dict[str, Callable[[int], Fill]] = {
    "timestamp": _stamps,
    "price": _integers(FIRST_PRICE, FIRST_PRICE + PRICES),
    "bid": _integers(FIRST_PRICE, FIRST_PRICE + PRICES),
    "volume": _integers(1, 1_000),
    "venue": _integers(0, VENUES),
}
