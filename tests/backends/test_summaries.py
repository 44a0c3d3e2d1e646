"""Summaries answer what a scan answers, to the bit, read only what they do not know, and stay small."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import numpy as np
import pytest

from tests.emulator.build import CannotBuildError
from tests.emulator.driver import EmuDriver
from tests.storage.build import make_table, trades_batch
from zeptodb.backends import summaries
from zeptodb.backends.base import Aggregate, AggregateOp, AggregateResult, AggregateScan, Ranges, Scan, TimeBucket
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.backends.cuda import missing_parts, open_device
from zeptodb.backends.cuda.backend import CudaBackend
from zeptodb.backends.expression import ColumnRef, Comparison, Constant, Kind
from zeptodb.backends.pieces import PIECE_ROWS
from zeptodb.backends.summary_store import FREE_BYTES, MEMORY_SHARE
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

    def __init__(self, make: Callable[[bool], CpuBackend | CudaBackend]) -> None:
        self.kept, self.plain = make(True), make(False)

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


def _cpu(is_kept: bool) -> CpuBackend:
    return CpuBackend(threads=2, row_threshold=1, summaries=is_kept)


def _emu(is_kept: bool) -> CudaBackend:
    try:
        return CudaBackend(EmuDriver(), _cpu(is_kept))
    except CannotBuildError as error:
        pytest.skip(str(error))


def _cuda(is_kept: bool) -> CudaBackend:
    return CudaBackend(open_device(), _cpu(is_kept))


BACKENDS = {"cpu": _cpu, "emu": _emu} | ({} if missing_parts() else {"cuda": _cuda})


@pytest.fixture(params=BACKENDS)
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    made = Both(BACKENDS[request.param])
    yield made
    made.kept.close()
    made.plain.close()


@pytest.mark.parametrize("seed", range(6))
def test_answers_are_the_same_to_the_bit_whatever_happens_to_the_table(both: Both, seed: int):
    rng = np.random.default_rng(seed)
    table, time = new_table(), 0
    symbols = (1, 3, 40)[seed % 3]
    steps = 5 if both.kept.name == "emu" else 14  # a thread for each of the device's threads takes its time
    for step in range(steps):
        rows = int(rng.integers(1, (150_000, 60_000, 20_000)[seed % 3]))
        late = rng.random() < 0.4
        begin = max(0, time - int(rng.integers(1, 3 * rows))) if late else time
        null_share = 0.1 if seed >= 3 and step > steps // 3 else 0.0
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


def test_zeros_keep_their_signs_however_few_rows_are_new(both: Both):
    """Few rows are taken by other threads than many, and least and greatest must not show by whom."""
    rng, extremes = (
        np.random.default_rng(1),
        tuple(Aggregate(op, (PRICE,)) for op in (AggregateOp.MIN, AggregateOp.MAX)),
    )
    for others, zero in ((5.0, 0.0), (5.0, -0.0), (-5.0, 0.0), (-5.0, -0.0)):
        table = new_table()
        for step, prices in enumerate(([others] * (2 * 1024 + 5), [zero] * 11, [-zero] * 11)):
            rows = len(prices)
            columns = list(batch(rng, rows, symbols=1, time=10_000 * step).columns)
            columns[2] = np.array(prices)
            table.append(ColumnBatch(tuple(columns), (None,) * 6, rows))
            both.scanned(table, extremes)


def test_of_long_bars_only_what_is_no_block_is_scanned(both: Both):
    table, rows = new_table(), 6 * PIECE_ROWS
    columns = list(batch(np.random.default_rng(1), rows, symbols=1, time=0).columns)
    columns[1] = np.arange(rows)
    table.append(ColumnBatch(tuple(columns), (None,) * 6, rows))
    with table.snapshot() as snapshot:
        for width, scanned in ((3 * PIECE_ROWS, 0), (2 * PIECE_ROWS + 1000, 2000 + 2 * (PIECE_ROWS - 1000))):
            bars = AggregateScan(Scan(snapshot, whole(snapshot)), EVERYTHING, True, TimeBucket(width))
            both.ask(bars)
            assert both.ask(bars) == scanned


def test_a_device_is_not_touched_for_what_is_known():
    backend = _emu(is_kept=True)
    table = Catalog(backend.memory, arena_size=1 << 20).create("t", SCHEMA)
    table.append(batch(np.random.default_rng(1), 200_000, symbols=3, time=0))
    with table.snapshot() as snapshot:
        whole_table = Scan(snapshot, whole(snapshot))
        known = [AggregateScan(whole_table, EVERYTHING, by_symbol) for by_symbol in (True, False)]
        expected = bits(backend.aggregate(known[0]))
        launches, copies = backend.driver.launches, backend.driver.copies
        assert [backend.aggregate(operation).summarized_rows for operation in known] == [200_000, 200_000]
        assert bits(backend.aggregate(known[0])) == expected
        assert (backend.driver.launches, backend.driver.copies) == (launches, copies)
    assert backend.host.summaries.memory_bytes == 0


def test_memory_stays_a_small_share_and_the_least_used_goes_first(both: Both):
    rng, table = np.random.default_rng(1), new_table()
    rows, symbols = 60_000, 6000
    table.append(batch(rng, rows, symbols=symbols, time=0))
    limit = max(FREE_BYTES, rows * 37 // MEMORY_SHARE)
    kept = both.kept.summaries
    assert kept is not None
    for aggregate in EVERYTHING:
        both.scanned(table, (aggregate,))
        assert kept.memory_bytes <= limit
    both.scanned(table, EVERYTHING)  # alone too much
    assert kept.memory_bytes <= limit


def test_summaries_go_with_the_table(both: Both):
    table = make_table()
    table.append(trades_batch([1] * 1000, range(1000), range(1000), range(1000)))
    volume = (Aggregate(AggregateOp.SUM, (ColumnRef(2, ColumnType.INT64),)),)
    both.scanned(table, volume)
    kept = both.kept.summaries
    assert kept is not None
    assert kept.memory_bytes > 0
    del table
    gc.collect()
    assert kept.memory_bytes == 0


def test_what_another_query_has_made_meanwhile_is_not_counted_twice(both: Both, monkeypatch: pytest.MonkeyPatch):
    rng, table = np.random.default_rng(1), new_table()
    table.append(batch(rng, 2 * PIECE_ROWS, symbols=1, time=0))
    both.scanned(table)
    table.append(batch(rng, 3 * PIECE_ROWS + 100, symbols=1, time=10**9))
    compute = summaries._compute

    def later(*args: Any) -> Any:
        monkeypatch.setattr(summaries, "_compute", compute)
        both.scanned(table)
        return compute(*args)

    monkeypatch.setattr(summaries, "_compute", later)
    with table.snapshot() as snapshot:
        ranges = Ranges(np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([4 * PIECE_ROWS + 50]))
        both.ask(AggregateScan(Scan(snapshot, ranges), VWAP, by_symbol=True))
    assert both.scanned(table) == 0


def test_ranges_from_the_start_of_a_segment_agree_in_any_order(both: Both):
    rng, table = np.random.default_rng(2), new_table()
    table.append(batch(rng, 5 * PIECE_ROWS + 5000, symbols=1, time=0))
    with table.snapshot() as snapshot:
        ends = [1, PIECE_ROWS, PIECE_ROWS + 1, 3 * PIECE_ROWS - 1, 4 * PIECE_ROWS, 5 * PIECE_ROWS + 5000]
        for end in rng.permutation(ends):
            for aggregates in (VWAP, EVERYTHING):
                ranges = Ranges(np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([end]))
                both.ask(AggregateScan(Scan(snapshot, ranges), aggregates, by_symbol=True))


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
