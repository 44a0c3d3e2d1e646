"""What is left of an aggregate when block summaries know everything, however many rows there are.

Partial results are made up, so that rows need no memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.data import Trades
from bench.harness import Benchmark
from zeptodb.backends.base import Aggregate, AggregateOp, AggregateResult, AggregateScan, Ranges, Scan, Vector
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.backends.partials import Summarized
from zeptodb.backends.pieces import Pieces
from zeptodb.backends.summaries import Summaries
from zeptodb.demo.comparison import Contender
from zeptodb.demo.contenders import ZEPTODB
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import TRADES, ColumnType

SIZES = (10**6, 10**9)
SYMBOLS = (1, 100, 10_000)


def benchmarks(trades: Trades) -> Iterator[Benchmark]:  # noqa: ARG001 - its sizes are its own
    """vwap over everything and by symbol."""
    for rows in SIZES:
        for symbols in SYMBOLS:
            for by_symbol in (False, True):
                how = "vwap by symbol" if by_symbol else "vwap"
                known = Known(rows, symbols, by_symbol=by_symbol)
                name = f"{how}, {rows:,} rows x {symbols:,} symbols, all known"
                yield Benchmark(name, (Contender(ZEPTODB, known.answer),))


class Known:
    """An operation of which summaries know everything."""

    def __init__(self, rows: int, symbols: int, *, by_symbol: bool) -> None:
        lengths, columns = np.full(symbols, rows // symbols, dtype=np.int64), len(TRADES.fields)
        snapshot = Snapshot(
            name="trades",
            schema=TRADES,
            symbols=np.arange(symbols),
            lengths=lengths,
            addresses=np.ones((columns, symbols), dtype=np.int64),
            validity=np.zeros((columns, symbols), dtype=np.int64),
            dictionaries=(None,) * columns,
            version=1,
        )
        price, volume = (
            ColumnRef(TRADES.index(name, table="trades"), ColumnType.INT64) for name in ("price", "volume")
        )
        ranges = Ranges(np.arange(symbols), np.zeros(symbols, dtype=np.int64), lengths)
        items = (Aggregate(AggregateOp.VWAP, (price, volume)),)
        self._operation = AggregateScan(Scan(snapshot, ranges), items, by_symbol)
        summaries = Summaries()
        plan = summaries.plan(self._operation)
        assert plan is not None
        self._width = plan.plan.width
        self._summarized = Summarized(summaries, plan, self._made_up, _values_at)
        self.answer()
        assert self.answer().summarized_rows == int(lengths.sum())

    def answer(self) -> AggregateResult:
        """The answer, which means nothing."""
        return self._summarized.answer(self._operation)

    def _made_up(self, pieces: Pieces) -> np.ndarray:
        return np.ones((self._width, pieces.count), dtype=np.int64)


def _values_at(segments: np.ndarray, rows: np.ndarray, expressions: tuple[Expression, ...]) -> tuple[Vector, ...]:
    raise AssertionError((segments, rows, expressions))
