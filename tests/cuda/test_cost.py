"""The bytes of operators, and the seconds that rates make of them."""

from __future__ import annotations

import numpy as np
import pytest

from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateScan,
    AsofJoin,
    Operation,
    Ranges,
    Scan,
    SelectScan,
    TimeBucket,
    TopScan,
)
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cuda import runs
from zeptodb.backends.cuda.cost import Rates, Work, device_seconds, host_seconds, is_known, work_of
from zeptodb.backends.expression import Arithmetic, ColumnRef, Comparison, Constant, Expression, Kind
from zeptodb.pipeline import Pipeline
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType

ROWS = 10_000
SECOND = 1_000_000_000
SYMBOL, PRICE, VOLUME, TIME = range(4)
RATES = Rates(
    host_bytes=1e9, device_bytes=100e9, pinned_bytes=10e9, pageable_bytes=2e9, launch_seconds=1e-3
)  # fmt: skip


@pytest.fixture
def snapshot() -> Snapshot:
    """10,000 trades of 4 symbols, one a second each."""
    pipeline = Pipeline(backend="cpu")
    places = np.arange(ROWS, dtype=np.int64)
    pipeline.ingest_batch(places % 4, places, places, places // 4 * SECOND)
    with pipeline.catalog.get("trades").snapshot() as found:
        yield found


def column(index: int) -> ColumnRef:
    return ColumnRef(index, ColumnType.TIMESTAMP_NS if index == TIME else ColumnType.INT64)


def scan(snapshot: Snapshot, predicate: Expression | None = None) -> Scan:
    segments = np.arange(len(snapshot.lengths))
    return Scan(snapshot, Ranges(segments, np.zeros_like(segments), snapshot.lengths), predicate)


def above(index: int) -> Expression:
    return Comparison(">", column(index), Constant(5, Kind.INT))


def aggregate(snapshot: Snapshot, predicate: Expression | None = None, **more: object) -> AggregateScan:
    return AggregateScan(scan(snapshot, predicate), (Aggregate(AggregateOp.SUM, (column(PRICE),)),), **more)


def test_an_aggregate_reads_its_columns_once(snapshot: Snapshot) -> None:
    work = work_of(aggregate(snapshot))
    assert (work.rows, work.read_bytes, work.computed, work.result_bytes) == (ROWS, 8 * ROWS, 0, 8)
    assert work.reads == ((snapshot, frozenset({PRICE})),)
    assert work_of(aggregate(snapshot, above(VOLUME))).read_bytes == 16 * ROWS
    assert work_of(aggregate(snapshot, above(SYMBOL))).read_bytes == 8 * ROWS  # the symbol is not stored


def test_groups_come_back(snapshot: Snapshot) -> None:
    assert work_of(aggregate(snapshot, by_symbol=True)).result_bytes == 4 * 16
    bars = work_of(aggregate(snapshot, by_symbol=True, bucket=TimeBucket(100 * SECOND)))
    assert bars.result_bytes == 4 * 25 * 24
    assert bars.read_bytes == 16 * ROWS
    assert work_of(aggregate(snapshot, bucket=TimeBucket(1))).result_bytes == 2_500 * 16


def test_what_is_computed_counts_and_what_is_compared_does_not(snapshot: Snapshot) -> None:
    product = Arithmetic("*", column(PRICE), column(VOLUME))
    operation = AggregateScan(scan(snapshot, above(PRICE)), (Aggregate(AggregateOp.SUM, (product,)),))
    assert work_of(operation).computed == 1
    assert work_of(aggregate(snapshot, Comparison(">", product, Constant(1, Kind.INT)))).computed == 1


def test_a_limit_ends_a_select_early(snapshot: Snapshot) -> None:
    outputs = (column(PRICE), column(TIME))
    assert work_of(SelectScan(scan(snapshot), outputs)).result_bytes == 16 * ROWS
    short = work_of(SelectScan(scan(snapshot), outputs, offset=5, limit=20))
    assert (short.rows, short.result_bytes) == (25, 16 * 25)


def test_the_first_rows_need_the_key_of_all_and_outputs_of_few(snapshot: Snapshot) -> None:
    operation = TopScan(
        scan(snapshot), column(PRICE), True, False, True, (column(PRICE), column(VOLUME)), limit=10, max_rows=1000
    )
    work = work_of(operation)
    assert (work.read_bytes, work.result_bytes) == (8 * ROWS, 160)
    assert work.reads == ((snapshot, frozenset({PRICE, VOLUME})),)


def test_a_join_reads_both_times(snapshot: Snapshot) -> None:
    segments = np.arange(4)
    operation = AsofJoin(scan(snapshot), scan(snapshot), segments, ">=", True, (column(PRICE),), (column(VOLUME),))
    work = work_of(operation)
    assert (work.rows, work.read_bytes, work.result_bytes) == (2 * ROWS, 24 * ROWS, 16 * ROWS)
    assert work.reads == ((snapshot, frozenset({PRICE, VOLUME, TIME})),)


def test_seconds_are_bytes_over_rates(snapshot: Snapshot) -> None:
    work = work_of(aggregate(snapshot))
    assert host_seconds(work, RATES) == pytest.approx(30e-6 + 80_008 / 1e9)
    assert host_seconds(work, RATES, known_share=1.0) == pytest.approx(30e-6 + 8 / 1e9)
    resident = 1e-3 * work.passes.launches + 80_000 * work.passes.device / 100e9 + 8 / 10e9
    assert device_seconds(work, RATES) == pytest.approx(resident)
    cold = device_seconds(work, RATES, pinned_bytes=10**9, pageable_bytes=10**9)
    assert cold == pytest.approx(resident + 0.1 + 0.5)


def test_the_model_knows_every_operator_of_the_cpu() -> None:
    operators = CpuBackend(threads=1).capabilities.operators
    assert [kind.__name__ for kind in operators if not is_known(kind)] == []
    assert runs.CHECKS.keys() == operators


def test_empty_ranges_cost_a_call(snapshot: Snapshot) -> None:
    nothing = np.zeros(0, dtype=np.int64)
    empty = Scan(snapshot, Ranges(nothing, nothing, nothing))
    operations: list[Operation] = [
        AggregateScan(empty, (Aggregate(AggregateOp.COUNT_ROWS),), by_symbol=True, bucket=TimeBucket(5)),
        SelectScan(empty, (column(PRICE),)),
        AsofJoin(empty, empty, nothing, ">=", True, (column(PRICE),), ()),
    ]
    for operation in operations:
        work: Work = work_of(operation)
        assert work.rows == work.read_bytes == 0
