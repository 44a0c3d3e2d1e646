"""An append that is interrupted anywhere has stored all of its rows or none, and the table works on."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from tests.storage.build import make_table, read_column, trades_batch
from tests.storage.interrupt import Interrupter
from zeptodb.storage.batch import ColumnBatch, Receipt, Strings
from zeptodb.storage.table import Table

Rows = list[tuple[int, int, int, int]]


def rows_of(table: Table) -> dict[int, list[tuple[int, int, int]]]:
    with table.snapshot() as snapshot:
        return {
            symbol: list(zip(*(read_column(snapshot, s, c).tolist() for c in (1, 2, 3)), strict=True))
            for s, symbol in enumerate(snapshot.symbols.tolist())
        }


def expected(*batches: Rows) -> dict[int, list[tuple[int, int, int]]]:
    """Rows by symbol, in time order, ties by arrival."""
    out: dict[int, list[tuple[int, int, int]]] = {}
    for row in (row for batch in batches for row in batch):
        out.setdefault(row[0], []).append(row[1:])
    return {symbol: sorted(rows, key=lambda row: row[2]) for symbol, rows in out.items()}


def batch_of(rows: Rows) -> Any:
    return trades_batch(*(list(column) for column in zip(*rows, strict=True)))


FIRST: Rows = [(symbol, symbol, 1, time) for time in (10, 20, 30) for symbol in range(6)]
SECOND: Rows = [(symbol, 100 + symbol, 2, 40) for symbol in range(3, 30)]
LATE: Rows = [(symbol, 200 + symbol, 3, time) for time in (15, 50) for symbol in range(8)]
LAST: Rows = [(symbol, 300 + symbol, 4, 60) for symbol in range(0, 40, 3)]


@pytest.mark.parametrize("rows", [SECOND, LATE], ids=["new symbols", "late rows"])
@pytest.mark.parametrize("is_read_meanwhile", [False, True])
def test_an_interrupted_append_is_all_or_nothing(rows: Rows, is_read_meanwhile: bool) -> None:
    def make() -> tuple[Table, Any]:
        table = make_table(arena_size=1 << 16)
        table.append(batch_of(FIRST))
        reader = table.snapshot() if is_read_meanwhile else None
        return table, reader

    outcomes = set()
    for at in count(1):
        table, reader = make()
        batch = batch_of(rows)
        receipt = Receipt()
        object.__setattr__(batch, "receipt", receipt)
        if not Interrupter(at).run(lambda table=table, batch=batch: table.append(batch)):
            break
        before, after = expected(FIRST), expected(FIRST, rows)
        is_stored = receipt.is_stored
        assert table.row_count == sum(map(len, (after if is_stored else before).values())), at
        if reader is not None:
            assert reader.lengths.tolist() == [3] * 6
            assert [read_column(reader, s, 1).tolist() for s in range(6)] == [[s] * 3 for s in range(6)], at
        if at % 2:
            assert rows_of(table) == (after if is_stored else before), at
        table.append(batch_of(LAST))
        assert rows_of(table) == expected(*([FIRST, rows] if is_stored else [FIRST]), LAST), at
        outcomes.add(is_stored)
    assert outcomes == {False, True}


def test_an_interrupted_merge_of_late_rows_is_finished_by_the_next_reader_or_writer() -> None:
    def make() -> Table:
        table = make_table(arena_size=1 << 16)
        table.append(batch_of(FIRST))
        with table.snapshot():
            table.append(batch_of(LATE))
        return table

    for at in count(1):
        table = make()
        if not Interrupter(at).run(lambda table=table: table.snapshot().close()):
            break
        if at % 2:
            table.append(batch_of(LAST))
            assert rows_of(table) == expected(FIRST, LATE, LAST), at
        else:
            assert rows_of(table) == expected(FIRST, LATE), at


def test_an_interrupted_first_append_does_not_settle_what_symbols_are() -> None:
    numbers = np.array([1, 2])
    strings_later = ColumnBatch((Strings(numbers.astype(np.int32) - 1, ["a", "b"]), *[numbers] * 3), (None,) * 4, 2)
    for at in count(1):
        table = make_table()
        if not Interrupter(at).run(lambda table=table: table.append(batch_of(FIRST))):
            break
        if not table.row_count:
            assert table.append(strings_later) == 2
            assert table.find_segment("b") == 1


def test_an_interrupted_replace_keeps_the_old_or_the_new_contents() -> None:
    for at in count(1):
        table = make_table()
        table.append(batch_of(FIRST))
        version = table.version
        if not Interrupter(at).run(lambda table=table: table.replace(batch_of(SECOND))):
            break
        if rows_of(table) != expected(FIRST):
            assert rows_of(table) == expected(SECOND)
            assert table.version != version
        table.append(batch_of(LAST))


def test_views_that_somebody_holds_survive_interrupted_appends() -> None:
    for at in count(1, step=3):
        table = make_table(arena_size=1 << 16)
        table.append(batch_of(FIRST))
        views = [table.view(s, 1) for s in range(6)]
        if not Interrupter(at).run(lambda table=table: table.append(batch_of(LATE))):
            break
        for _ in range(3):
            table.append(batch_of(SECOND))
            rows_of(table)
        for symbol, view in enumerate(views):
            np.testing.assert_array_equal(view, [symbol] * 3)
