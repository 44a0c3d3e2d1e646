"""Rows in any order: sorted by slot and time, merged with what is there, by one thread or several."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.build import Truth, make_table, read_column, trades_batch
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.storage.ordering import FEW_ROWS, order_rows
from zeptodb.storage.table import Table
from zeptodb.storage.workers import CallerAlone
from zeptodb.types import TRADES

LOW, HIGH = -(2**63), 2**63 - 1
times_of_any_span = st.one_of(
    st.integers(-3, 3), st.integers(0, 2**20), st.sampled_from([LOW, LOW + 1, -1, 0, HIGH - 1, HIGH])
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), times_of_any_span), max_size=4 * FEW_ROWS), st.booleans())
def test_order_is_that_of_a_stable_sort_by_slot_and_time(rows, is_one_slot):
    slots = np.array([0 if is_one_slot else slot for slot, _ in rows], dtype=np.int32)
    times = np.array([time for _, time in rows], dtype=np.int64)
    marked = np.where(times % 2 == 0, slots, ~slots).astype(np.int32)  # late rows are marked by the complement
    order, starts, keys = order_rows(marked, times, 4, CallerAlone())
    assert order.tolist() == np.lexsort((times, slots)).tolist()
    assert starts.tolist() == [0, *np.cumsum(np.bincount(slots, minlength=4)).tolist()]
    assert keys.tolist() == times[order].tolist()


def arranged(kind: str, rng: np.random.Generator, rows: int) -> np.ndarray:
    times = np.sort(rng.integers(0, rows, rows))
    if kind == "newest first":
        return times[::-1].copy()
    if kind == "the second day first":
        return np.concatenate([times[rows // 2 :], times[: rows // 2]])
    return rng.permutation(times)


@pytest.mark.parametrize("kind", ["newest first", "the second day first", "in no order"])
@pytest.mark.parametrize("is_empty", [True, False])
def test_a_bulk_load_in_any_order_is_stored_in_time_order_by_any_number_of_threads(kind, is_empty):
    rng = np.random.default_rng(7)
    rows = 150_000
    batch = (rng.integers(0, 40, rows), np.arange(rows), rng.integers(0, 9, rows), arranged(kind, rng, rows))
    pool = WorkerPool(2)
    tables = [make_table(), Table("trades", TRADES, memory=AnonymousMemory(), arena_size=1 << 20, workers=pool)]
    truth = Truth()
    first = (range(0, 80, 2), range(40), range(40), rng.integers(0, rows, 40))
    if not is_empty:
        truth.append(*first)
    truth.append(*batch)
    for table in tables:
        if not is_empty:
            table.append(trades_batch(*first))
        table.append(trades_batch(*batch))
        truth.check(table)
    pool.close()


def test_an_unordered_batch_moves_nothing_that_is_being_read_and_comes_in_with_the_next_read():
    table, truth = make_table(), Truth()
    first = ([1, 1, 2], [1, 2, 3], [1] * 3, [10, 30, 20])
    second = ([1, 2, 1, 3, 3], [4, 5, 6, 7, 8], [1] * 5, [20, 10, 5, 9, 1])
    table.append(trades_batch(*first))
    held = table.snapshot()
    view = table.view(0, 1)
    table.append(trades_batch(*second))
    assert table.row_count == 8
    for rows in (first, second):
        truth.append(*rows)
    truth.check(table)
    assert view.tolist() == read_column(held, 0, 1).tolist() == [1, 2]
    third = ([1, 2], [9, 9], [1, 1], [0, 0])
    table.append(trades_batch(*third))
    truth.append(*third)
    truth.check(table)


def test_new_symbols_of_an_unordered_batch_are_there_while_somebody_reads():
    table = make_table()
    table.append(trades_batch([1], [1], [1], [10]))
    with table.snapshot():
        table.append(trades_batch([2] * 9, range(9), [1] * 9, range(9, 0, -1)))
        assert not table.contents.has_late_rows
    assert table.view(1, 1).tolist() == list(range(8, -1, -1))
