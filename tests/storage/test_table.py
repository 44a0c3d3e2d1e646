"""Rows go in by batches and come out parted by symbol, in time order, whatever the order of arrival."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.build import Truth, make_table, read_column, read_validity, trades_batch
from zeptodb.errors import AlreadyExistsError, InvalidTypeError
from zeptodb.storage.batch import ColumnBatch, Strings
from zeptodb.storage.writer import SegmentWriter
from zeptodb.types import ColumnType, Field, Schema


def random_batch(rng, rows, symbols, *, late_share=0.0, start=0):
    times = start + np.sort(rng.integers(0, 1000, rows))
    late = rng.random(rows) < late_share
    times = np.where(late, times - rng.integers(0, 500, rows), times)
    return rng.integers(-symbols, symbols, rows), rng.integers(0, 10**6, rows), np.arange(rows), times


@pytest.mark.parametrize("late_share", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("symbols", [1, 7, 500])
def test_rows_come_out_in_stable_time_order(late_share, symbols):
    rng = np.random.default_rng(1)
    table, truth = make_table(), Truth()
    for i, rows in enumerate([1, 3, 5000, 10, 70_000, 1, 256]):
        batch = random_batch(rng, rows, symbols, late_share=late_share, start=i * 700)
        table.append(trades_batch(*batch))
        truth.append(*batch)
        if i % 2:
            truth.check(table)
    truth.check(table)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(-2, 2), st.integers(-5, 5)), min_size=0, max_size=12), min_size=1, max_size=6
    ),
    st.integers(0, 7),
)
def test_batches_and_open_readers_in_any_mix_keep_every_snapshot_unchanged(batches, hold):
    table, truth = make_table(), Truth()
    held = []
    for i, rows in enumerate(batches):
        if rows:
            symbols, times = zip(*rows, strict=True)
            table.append(trades_batch(symbols, range(len(rows)), [i] * len(rows), times))
            truth.append(symbols, range(len(rows)), [i] * len(rows), times)
        if hold >> (i % 3) & 1:
            snapshot = table.snapshot()
            held.append((snapshot, [read_column(snapshot, s, 1).tolist() for s in range(len(snapshot.symbols))]))
            for segment in range(len(snapshot.symbols)):
                view = table.view(segment, 2)
                held.append((view, view.tolist()))
    truth.check(table)
    for holder, content in held:
        if isinstance(holder, np.ndarray):
            assert holder.tolist() == content
        else:
            assert [read_column(holder, s, 1).tolist() for s in range(len(holder.symbols))] == content
            holder.close()


def test_one_late_row_moves_only_the_rows_behind_it_and_no_block():
    table = make_table(arena_size=32 << 20)
    rows = 200_000
    table.append(trades_batch(np.ones(rows), np.arange(rows), np.arange(rows), np.arange(rows)))
    table.append(trades_batch([1], [-7], [0], [rows]))
    with table.snapshot() as snapshot:
        before = snapshot.addresses.copy()
    table.append(trades_batch([1], [-1], [0], [rows - 10]))
    with table.snapshot() as snapshot:
        assert (snapshot.addresses == before).all()
        assert read_column(snapshot, 0, 1)[-13:].tolist() == [
            *range(rows - 11, rows - 9),
            -1,
            *range(rows - 9, rows),
            -7,
        ]


def test_a_view_is_read_only_for_good_and_outlives_the_table():
    table = make_table()
    table.append(trades_batch([1, 1], [10, 20], [1, 2], [5, 6]))
    view = table.view(0, 1)
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    assert view.base is not None
    assert not view.flags.owndata
    table.append(trades_batch([1] * 5000, range(5000), range(5000), range(-2500, 2500)))
    del table
    gc.collect()
    assert view.tolist() == [10, 20]


def test_blocks_are_reused_once_no_view_holds_them():
    table = make_table(arena_size=1 << 20)
    for _ in range(3):
        for i in range(200):
            table.append(trades_batch([1, 2, 3], [i] * 3, [i] * 3, [i] * 3))
    view = table.view(0, 1)
    mapped = table.mapped_bytes
    del view
    assert mapped == 1 << 20


@pytest.mark.parametrize("hold", ["snapshot", "view"])
def test_who_begins_to_read_while_a_batch_is_prepared_sees_no_row_move(monkeypatch, hold):
    table, truth, held = make_table(), Truth(), []
    for part in np.split(np.arange(300), [290]):  # which leaves room for some more
        rows = np.ones(len(part), int), part, np.zeros(len(part), int), part
        table.append(trades_batch(*rows))
        truth.append(*rows)
    prepare = SegmentWriter._merged

    def prepare_and_read(*given, **named):
        merged = prepare(*given, **named)
        if not held:
            held.append(table.snapshot() if hold == "snapshot" else table.view(0, 1))
        return merged

    monkeypatch.setattr(SegmentWriter, "_merged", prepare_and_read)
    late = np.ones(15, int), np.arange(1000, 1015), np.ones(15, int), np.full(15, 50)
    table.append(trades_batch(*late))
    truth.append(*late)
    prices = read_column(held[0], 0, 1) if hold == "snapshot" else held[0]
    assert prices.tolist() == list(range(300))
    truth.check(table)
    assert prices.tolist() == list(range(300))


def test_late_rows_beside_a_view_take_another_block_and_no_larger_one():
    table, truth = make_table(), Truth()
    first = np.ones(300, int), np.arange(300), np.zeros(300, int), np.arange(300)
    table.append(trades_batch(*first))
    truth.append(*first)
    for i in range(15):
        view = table.view(0, 1)
        before = view.tolist()
        late = np.ones(5, int), np.arange(5), np.full(5, i), np.zeros(5, int)
        table.append(trades_batch(*late))
        truth.append(*late)
        truth.check(table)
        assert view.tolist() == before
    assert table.contents.capacities[0] < 1_000


def test_strings_nulls_and_narrow_types_survive_growth_and_late_rows():
    schema = Schema(
        (
            Field("symbol", ColumnType.STRING, is_nullable=False),
            Field("x", ColumnType.FLOAT32),
            Field("flag", ColumnType.BOOL),
            Field("venue", ColumnType.STRING),
            Field("n", ColumnType.INT32),
            Field("timestamp", ColumnType.TIMESTAMP_NS, is_nullable=False),
        ),
        symbol="symbol",
        timestamp="timestamp",
    )
    rng = np.random.default_rng(3)
    table = make_table(schema)
    truth: dict[str, list[tuple]] = {}
    names, venues = ["AIG", "BAC", "", "Ü"], ["N", "Q"]
    for i in range(12):
        rows = int(rng.integers(1, 400))
        symbol = rng.integers(0, 4, rows).astype(np.int32)
        venue = rng.integers(-1, 2, rows).astype(np.int32)
        x = rng.random(rows).astype(np.float32)
        flag = rng.random(rows) < 0.5
        n = rng.integers(-5, 5, rows).astype(np.int32)
        has_x = rng.random(rows) < 0.8 if i % 3 == 2 else None
        times = np.sort(rng.integers(0, 100, rows)) + i * 20
        batch = ColumnBatch(
            (Strings(symbol, names), x, flag, Strings(venue, venues), n, times),
            (None, has_x, None, venue >= 0, None, None),
            rows,
        )
        table.append(batch)
        for r in range(rows):
            value = None if has_x is not None and not has_x[r] else float(x[r])
            truth.setdefault(names[symbol[r]], []).append(
                (int(times[r]), value, bool(flag[r]), None if venue[r] < 0 else venues[venue[r]], int(n[r]))
            )
    with table.snapshot() as snapshot:
        assert len(snapshot.symbols) == 4
        for segment, code in enumerate(snapshot.symbols):
            name = snapshot.dictionaries[0].values[code]
            columns = []
            for c in (5, 1, 2, 3, 4):
                values = read_column(snapshot, segment, c).tolist()
                if c == 3:
                    values = [snapshot.dictionaries[3].values[v] if v >= 0 else None for v in values]
                valid = read_validity(snapshot, segment, c)
                columns.append([v if ok else None for v, ok in zip(values, valid, strict=True)])
            assert list(zip(*columns, strict=True)) == sorted(truth[name], key=lambda row: row[0])


def test_missing_timestamps_are_stamped_in_order_of_arrival():
    table = make_table()
    for i in range(5):
        table.append(ColumnBatch((np.array([1]), np.array([i]), np.array([1]), None), (None,) * 4, 1))
    assert table.view(0, 1).tolist() == [0, 1, 2, 3, 4]
    assert (np.diff(table.view(0, 3)) >= 0).all()


def test_symbols_of_the_other_kind_are_refused_and_nothing_is_stored():
    table = make_table()
    table.append(trades_batch([1], [1], [1], [1]))
    one = np.array([1])
    with pytest.raises(InvalidTypeError, match='Symbols of table "trades" are integers'):
        table.append(ColumnBatch((Strings(np.zeros(1, np.int32), ["A"]), one, one, one), (None,) * 4, 1))
    assert table.row_count == 1


def test_replace_swaps_everything_and_open_readers_keep_the_old_rows():
    table = make_table()
    table.append(trades_batch([1, 2], [10, 20], [1, 2], [5, 6]))
    snapshot = table.snapshot()
    view = table.view(0, 1)
    table.replace(trades_batch([2], [99], [1], [1]))
    assert table.row_count == 1
    assert table.find_segment(1) is None
    assert view.tolist() == [10]
    assert [read_column(snapshot, s, 1).tolist() for s in range(2)] == [[10], [20]]


def test_duplicate_names_and_tables_are_refused():
    with pytest.raises(AlreadyExistsError, match='"A" occurs twice'):
        Schema((Field("a", ColumnType.INT64), Field("A", ColumnType.INT64)))


def test_extreme_symbols_prices_and_times_round_trip():
    low, high = -(2**63), 2**63 - 1
    table, truth = make_table(), Truth()
    batch = ([low, high, 0, -1, low], [low, high, 1, 2, 3], [high] * 5, [low, high, 0, low, low])
    table.append(trades_batch(*batch))
    truth.append(*batch)
    truth.check(table)
    assert table.find_segment(low) == 0
    assert table.find_segment(5) is None


def test_a_snapshot_keeps_the_contents_that_have_been_replaced_meanwhile():
    table = make_table()
    table.append(trades_batch([1, 1], [5, 6], [1, 1], [1, 2]))
    snapshot = table.snapshot()
    replaced = weakref.ref(table.contents)
    table.replace(trades_batch([2], [7], [1], [1]))
    gc.collect()
    assert replaced() is not None
    assert read_column(snapshot, 0, 1).tolist() == [5, 6]
    snapshot.close()
    del snapshot
    gc.collect()
    assert replaced() is None
