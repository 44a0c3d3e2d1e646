"""Row ranges of time intervals, by binary search in every segment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.jit import inline, kernel, load_int64, pointer_int64

Int64Array = npt.NDArray[np.int64]


@inline
def _first_at_or_after(times: int, length: int, sought: int) -> int:
    time = pointer_int64(times)
    low, high = 0, length
    while low < high:
        middle = (low + high) >> 1
        if time[middle] < sought:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def find_intervals(
    segments: Int64Array,
    lengths: Int64Array,
    times: int,
    has_from: int,
    from_ns: int,
    has_to: int,
    to_ns: int,
    starts: Int64Array,
    ends: Int64Array,
) -> None:
    """Rows with from_ns <= time < to_ns of each segment; `times` is the address of the column's row of addresses."""
    for i in range(segments.shape[0]):
        segment = segments[i]
        address, length = load_int64(times + 8 * segment), lengths[segment]
        starts[i] = _first_at_or_after(address, length, from_ns) if has_from != 0 else 0
        ends[i] = _first_at_or_after(address, length, to_ns) if has_to != 0 else length
        if ends[i] < starts[i]:
            ends[i] = starts[i]
