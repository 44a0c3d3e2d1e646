"""Summaries answer what a scan answers, to the bit, read only what they do not know, and stay small."""

from __future__ import annotations

import gc
from threading import Thread

import numpy as np
import pytest

from tests.storage.build import make_table, trades_batch
from zeptodb.backends.base import Aggregate, AggregateOp, AggregateResult, AggregateScan, Ranges, Scan, TimeBucket
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.backends.cpu.summary_store import FREE_BYTES, MEMORY_SHARE
from zeptodb.backends.expression import ColumnRef, Comparison, Constant, Kind
from zeptodb.backends.pieces import PIECE_ROWS
from zeptodb.storage.batch import ColumnBatch
from zeptodb.storage.catalog import Catalog
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.types import ColumnType, Field, Schema

SCHEMA = Schema(
    (
        Field("symbol", ColumnType.INT64),
        Field("time", ColumnType.TIMESTAMP_NS),
        Field("price", ColumnType.FLOAT64),
        Field("volume", ColumnType.INT64),
        Field("tick", ColumnType.INT32),
        Field("flag", ColumnType.BOOL),
    ),
    symbol="symbol",
    timestamp="time",
)
PRICE, VOLUME = ColumnRef(2, ColumnType.FLOAT64), ColumnRef(3, ColumnType.INT64)
TICK, FLAG, TIME = ColumnRef(4, ColumnType.INT32), ColumnRef(5, ColumnType.BOOL), ColumnRef(1, ColumnType.TIMESTAMP_NS)
OPS = (AggregateOp.COUNT, AggregateOp.SUM, AggregateOp.AVG, AggregateOp.MIN, AggregateOp.MAX)
ENDS = (AggregateOp.FIRST, AggregateOp.LAST)
EVERYTHING = (
    Aggregate(AggregateOp.COUNT_ROWS),
    *(Aggregate(op, (column,)) for op in OPS for column in (PRICE, VOLUME, TICK)),
    *(Aggregate(op, (FLAG,)) for op in (AggregateOp.COUNT, AggregateOp.SUM)),
    *(Aggregate(op, (column,)) for op in ENDS for column in (PRICE, TIME)),
    Aggregate(AggregateOp.VWAP, (PRICE, VOLUME)),
    Aggregate(AggregateOp.VWAP, (TICK, PRICE)),
)
VWAP = (Aggregate(AggregateOp.VWAP, (PRICE, VOLUME)),)


def new_table() -> Table:
    return Catalog(AnonymousMemory(), arena_size=1 << 20).create("t", SCHEMA)


def batch(rng: np.random.Generator, rows: int, *, symbols: int, time: int, null_share: float = 0.0) -> ColumnBatch:
    """Rows at `time` and later, NULLs in price and volume."""
    columns = (
        rng.integers(0, symbols, rows),
        time + np.sort(rng.integers(0, rows + 1, rows)),
        rng.normal(100.0, 30.0, rows),
        rng.integers(-(2**62), 2**62, rows),
        rng.integers(-1000, 1000, rows).astype(np.int32),
        rng.random(rows) < 0.5,
    )
    marks = [None if null_share == 0.0 else rng.random(rows) >= null_share for _ in range(2)]
    return ColumnBatch(columns, (None, None, marks[0], marks[1], None, None), rows)


def bits(result: AggregateResult) -> list[object]:
    """Everything in a result, floats as bits, values behind NULLs left out."""
    found: list[object] = [None if a is None else a.tolist() for a in (result.segments, result.buckets)]
    for vector in result.columns:
        values = vector.values.view(np.int64) if vector.values.dtype == np.float64 else vector.values
        valid = np.ones(len(values), np.bool_) if vector.validity is None else vector.validity
        found.append([vector.type, [v if ok else None for v, ok in zip(values.tolist(), valid.tolist(), strict=True)]])
    return found


def whole(snapshot: Snapshot) -> Ranges:
    lengths = snapshot.lengths
    return Ranges(np.arange(len(lengths)), np.zeros(len(lengths), np.int64), lengths.copy())


class Both:
    """A backend with and one without summaries, which must answer alike."""

    def __init__(self) -> None:
        self.kept = CpuBackend(threads=2, row_threshold=1)
        self.plain = CpuBackend(threads=2, row_threshold=1, summaries=False)

    def ask(self, operation: AggregateScan) -> int:
        """Compare the answers; how many rows were scanned with summaries."""
        found, expected = self.kept.aggregate(operation), self.plain.aggregate(operation)
        assert bits(found) == bits(expected)
        assert expected.summarized_rows == 0
        return operation.scan.ranges.rows - found.summarized_rows

    def scanned(self, table: Table, aggregates: tuple[Aggregate, ...] = VWAP, *, by_symbol: bool = True) -> int:
        """Rows scanned for the whole table."""
        with table.snapshot() as snapshot:
            return self.ask(AggregateScan(Scan(snapshot, whole(snapshot)), aggregates, by_symbol))


@pytest.fixture
def both() -> Both:
    return Both()


@pytest.mark.parametrize("seed", range(6))
def test_answers_are_the_same_to_the_bit_whatever_happens_to_the_table(both: Both, seed: int):
    rng = np.random.default_rng(seed)
    table, time = new_table(), 0
    symbols = (1, 3, 40)[seed % 3]
    for step in range(14):
        rows = int(rng.integers(1, (150_000, 60_000, 20_000)[seed % 3]))
        late = rng.random() < 0.4
        begin = max(0, time - int(rng.integers(1, 3 * rows))) if late else time
        null_share = 0.1 if seed >= 3 and step > 5 else 0.0
        table.append(batch(rng, rows, symbols=symbols, time=begin, null_share=null_share))
        time = max(time, begin + rows)
        if rng.random() < 0.1:
            table.replace(batch(rng, rows, symbols=symbols, time=0))
            time = rows
        with table.snapshot() as snapshot:
            low, high = sorted(rng.integers(0, time + 1, 2).tolist())
            chosen = rng.permutation(len(snapshot.lengths))[: rng.integers(1, 4)]
            bounds = both.kept.time_ranges(snapshot, np.arange(len(snapshot.lengths)), from_ns=low, to_ns=high)
            one = both.kept.time_ranges(snapshot, chosen[:1], from_ns=low)
            some = Ranges(chosen, np.zeros(len(chosen), np.int64), snapshot.lengths[chosen])
            for ranges in (whole(snapshot), bounds, one, some):
                scan = Scan(snapshot, ranges)
                for by_symbol in (True, False):
                    both.ask(AggregateScan(scan, EVERYTHING, by_symbol))
                    both.ask(AggregateScan(scan, EVERYTHING, by_symbol, TimeBucket(max(1, time // 2))))
    assert both.kept.summaries is not None
    assert both.kept.summaries.memory_bytes > 0


def test_the_second_time_nothing_is_scanned(both: Both):
    table = new_table()
    table.append(batch(np.random.default_rng(1), 300_000, symbols=3, time=0))
    assert both.scanned(table) == 300_000
    assert both.scanned(table) == 0
    assert both.scanned(table, by_symbol=False) == 0


def test_counts_first_and_last_scan_nothing_even_the_first_time(both: Both):
    table = new_table()
    table.append(batch(np.random.default_rng(1), 100_000, symbols=3, time=0))
    ends = tuple(Aggregate(op, (PRICE,)) for op in ENDS)
    assert both.scanned(table, (Aggregate(AggregateOp.COUNT_ROWS), *ends)) == 0


def test_aggregates_share_what_they_have_in_common(both: Both):
    table = new_table()
    table.append(batch(np.random.default_rng(1), 100_000, symbols=3, time=0))
    both.scanned(table, VWAP)
    assert both.scanned(table, (Aggregate(AggregateOp.AVG, (VOLUME,)), Aggregate(AggregateOp.SUM, (VOLUME,)))) == 0
    assert both.scanned(table, (Aggregate(AggregateOp.MAX, (VOLUME,)),)) == 100_000


def test_after_an_append_only_new_rows_and_the_last_tile_are_scanned(both: Both):
    rng, table = np.random.default_rng(1), new_table()
    table.append(batch(rng, 10 * PIECE_ROWS + 5000, symbols=1, time=0))
    both.scanned(table)
    table.append(batch(rng, 1000, symbols=1, time=10**9))
    assert 1000 <= both.scanned(table) <= 1000 + 1024
    assert both.scanned(table) == 0


def test_of_a_long_range_only_the_ends_are_scanned(both: Both):
    table = new_table()
    table.append(batch(np.random.default_rng(1), 10 * PIECE_ROWS, symbols=1, time=0))
    both.scanned(table)
    with table.snapshot() as snapshot:
        ranges = Ranges(np.zeros(1, np.int64), np.array([1000]), np.array([9 * PIECE_ROWS + 10]))
        scanned = both.ask(AggregateScan(Scan(snapshot, ranges), VWAP))
    assert scanned == PIECE_ROWS - 1000 + 10


@pytest.mark.parametrize(("start", "end"), [(10, 20), (0, 20), (20, 20), (3000, 3000)])
def test_the_first_query_may_be_one_of_a_range_within_a_block(both: Both, start: int, end: int):
    table = new_table()
    table.append(batch(np.random.default_rng(1), 3000, symbols=1, time=0))
    with table.snapshot() as snapshot:
        ranges = Ranges(np.zeros(1, np.int64), np.array([start]), np.array([end]))
        for by_symbol in (True, False):
            assert both.ask(AggregateScan(Scan(snapshot, ranges), EVERYTHING, by_symbol)) == end - start


def test_late_rows_invalidate_only_what_they_touch(both: Both):
    rng, table = np.random.default_rng(1), new_table()
    rows = 10 * PIECE_ROWS
    for symbol in (1, 2):
        columns = list(batch(rng, rows, symbols=1, time=0).columns)
        columns[0], columns[1] = np.full(rows, symbol), np.arange(rows)
        table.append(ColumnBatch(tuple(columns), (None,) * 6, rows))
    both.scanned(table)
    late = list(batch(rng, 1, symbols=1, time=0).columns)
    late[0], late[1] = np.array([2]), np.array([7 * PIECE_ROWS + 100])
    table.append(ColumnBatch(tuple(late), (None,) * 6, 1))
    assert both.scanned(table) == 3 * PIECE_ROWS + 1
    assert both.scanned(table) == 0


def test_late_rows_at_the_end_of_a_block_leave_its_prefix(both: Both):
    rng, table = np.random.default_rng(1), new_table()
    columns = list(batch(rng, 50_100, symbols=1, time=0).columns)
    columns[1] = np.arange(50_100)
    table.append(ColumnBatch(tuple(columns), (None,) * 6, 50_100))
    both.scanned(table)
    late = list(batch(rng, 1, symbols=1, time=0).columns)
    late[1] = np.array([50_000])
    table.append(ColumnBatch(tuple(late), (None,) * 6, 1))
    assert both.scanned(table) <= 1024


def test_an_older_snapshot_is_answered_from_its_own_rows(both: Both):
    rng, table = np.random.default_rng(1), new_table()
    table.append(batch(rng, 100_000, symbols=1, time=1000))
    with table.snapshot() as old:
        both.ask(AggregateScan(Scan(old, whole(old)), EVERYTHING, by_symbol=True))
        table.append(batch(rng, 1000, symbols=1, time=0))
        both.scanned(table, EVERYTHING)
        both.ask(AggregateScan(Scan(old, whole(old)), EVERYTHING, by_symbol=True))
        both.scanned(table, EVERYTHING)


def test_conditions_predicates_and_variances_are_scanned(both: Both):
    table = new_table()
    table.append(batch(np.random.default_rng(1), 10_000, symbols=1, time=0))
    above = Comparison(">", VOLUME, Constant(0, Kind.INT))
    with table.snapshot() as snapshot:
        scan = Scan(snapshot, whole(snapshot))
        for operation in (
            AggregateScan(Scan(snapshot, whole(snapshot), above), VWAP),
            AggregateScan(scan, (Aggregate(AggregateOp.SUM, (VOLUME,), above),)),
            AggregateScan(scan, (Aggregate(AggregateOp.STDDEV_POP, (PRICE,)),)),
        ):
            for _ in range(2):
                assert both.ask(operation) == 10_000


def test_nan_and_infinity_stay_where_they_are(both: Both):
    rng, table = np.random.default_rng(1), new_table()
    for time in range(0, 8 * 3000, 3000):
        columns = list(batch(rng, 3000, symbols=2, time=time).columns)
        columns[2][rng.integers(0, 3000, 3)] = rng.choice([np.nan, np.inf, -np.inf, -0.0], 3)
        table.append(ColumnBatch(tuple(columns), (None,) * 6, 3000))
        both.scanned(table, EVERYTHING)


def test_memory_stays_a_small_share_and_the_least_used_goes_first(both: Both):
    rng, table = np.random.default_rng(1), new_table()
    rows, symbols = 60_000, 6000
    table.append(batch(rng, rows, symbols=symbols, time=0))
    limit = max(FREE_BYTES, rows * 37 // MEMORY_SHARE)
    summaries = both.kept.summaries
    assert summaries is not None
    for aggregate in EVERYTHING:
        both.scanned(table, (aggregate,))
        assert summaries.memory_bytes <= limit
    both.scanned(table, EVERYTHING)  # alone too much
    assert summaries.memory_bytes <= limit


def test_summaries_go_with_the_table(both: Both):
    table = make_table()
    table.append(trades_batch([1] * 1000, range(1000), range(1000), range(1000)))
    volume = (Aggregate(AggregateOp.SUM, (ColumnRef(2, ColumnType.INT64),)),)
    both.scanned(table, volume)
    summaries = both.kept.summaries
    assert summaries is not None
    assert summaries.memory_bytes > 0
    del table
    gc.collect()
    assert summaries.memory_bytes == 0


def test_queries_of_many_threads_agree_while_rows_arrive(both: Both):
    rng, table = np.random.default_rng(1), new_table()
    table.append(batch(rng, 70_000, symbols=3, time=0))
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(25):
                both.scanned(table, EVERYTHING)
        except BaseException as error:  # noqa: BLE001 - the top of a thread
            errors.append(error)

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for step in range(40):
        table.append(batch(rng, 2000, symbols=4, time=70_000 + 1500 * step))
    for thread in threads:
        thread.join()
    assert not errors
