"""Row ranges of time intervals, against numpy's own binary search."""

from __future__ import annotations

import numpy as np
import pytest

from zeptodb.backends.base import Backend
from zeptodb.types import INT64_MAX, INT64_MIN

from .build import random_table


@pytest.mark.parametrize("from_ns", [None, INT64_MIN, -3, 0, 10, INT64_MAX])
@pytest.mark.parametrize("to_ns", [None, INT64_MIN, -3, 0, 11, INT64_MAX])
def test_rows_from_inclusive_to_exclusive(backend: Backend, from_ns: int | None, to_ns: int | None) -> None:
    table = random_table(8, (40, 0, 1, 200), time_span=30, time_origin=-10)
    segments = np.array([3, 0, 1, 2], dtype=np.int64)
    found = backend.time_ranges(table.snapshot, segments, from_ns=from_ns, to_ns=to_ns)
    for k, s in enumerate(segments.tolist()):
        times = table.segments[s].values[1]
        chosen = np.ones(len(times), dtype=bool)
        if from_ns is not None:
            chosen &= times >= from_ns
        if to_ns is not None:
            chosen &= times < to_ns
        np.testing.assert_array_equal(np.arange(len(times))[found.starts[k] : found.ends[k]], np.flatnonzero(chosen))
        assert found.ends[k] >= found.starts[k]
