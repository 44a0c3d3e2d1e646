"""What moved: never less than truly did, and nothing else as long as moves are few."""

from __future__ import annotations

import numpy as np
from numpy.random import default_rng

from tests.storage.build import make_table, trades_batch
from zeptodb.storage.history import History


def moved(history: History, merges: int) -> dict[int, int]:
    """The earliest row per segment that moved since."""
    found: dict[int, int] = {}
    for segment, row in zip(*(array.tolist() for array in history.moved_since(merges)), strict=True):
        found[segment] = min(row, found.get(segment, row))
    return found


def test_every_later_merge_is_named_and_no_earlier_one():
    rng = default_rng(1)
    history, truth = History(), []
    for _ in range(200):
        segments = rng.choice(20, rng.integers(1, 5), replace=False).astype(np.int64)
        rows = rng.integers(0, 1000, len(segments))
        history = history.with_merge(segments, rows)
        truth.append(dict(zip(segments.tolist(), rows.tolist(), strict=True)))
    for since in (0, 1, 63, 64, 150, 199, 200):
        expected: dict[int, int] = {}
        for merge in truth[since:]:
            for segment, row in merge.items():
                expected[segment] = min(row, expected.get(segment, row))
        assert moved(history, since) == expected
    assert history.merges == 200


def test_very_many_moves_take_bounded_memory_and_none_is_lost():
    history, segments = History(), np.arange(50, dtype=np.int64)
    for merge in range(1000):
        history = history.with_merge(segments, np.full(50, 1000 - merge))
    assert len(history.moved_since(0)[0]) <= 8192
    assert moved(history, 999) == dict.fromkeys(range(50), 1)


def test_a_snapshot_knows_the_first_row_that_late_rows_displaced():
    table = make_table()
    table.append(trades_batch([1] * 4 + [2] * 4, range(8), range(8), [10, 20, 30, 40] * 2))
    with table.snapshot() as snapshot:
        before = snapshot.history
    table.append(trades_batch([2, 2], [9, 9], [9, 9], [35, 25]))
    with table.snapshot() as snapshot:
        after = snapshot.history
    assert after.origin is before.origin
    assert moved(after, before.merges) == {1: 2}


def test_new_contents_have_another_origin():
    table = make_table()
    table.append(trades_batch([1], [1], [1], [1]))
    with table.snapshot() as snapshot:
        origin = snapshot.history.origin
    table.replace(trades_batch([1], [1], [1], [1]))
    with table.snapshot() as snapshot:
        assert snapshot.history.origin is not origin
