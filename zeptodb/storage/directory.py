"""Entries of a table's directory, read and written by the hundred thousand: tables of int64, [column, segment]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.jit import kernel

Int64Array = npt.NDArray[np.int64]


def entries_of(table: Int64Array, columns: Int64Array, segments: Int64Array) -> Int64Array:
    """A copy of table[columns][:, segments]; numpy takes several times as long."""
    taken = np.empty((len(columns), len(segments)), dtype=np.int64)
    _take(table, columns, segments, taken)
    return taken


@kernel
def _take(table: Int64Array, columns: Int64Array, segments: Int64Array, taken: Int64Array) -> None:
    for row in range(taken.shape[0]):
        for k in range(taken.shape[1]):
            taken[row, k] = table[columns[row], segments[k]]


@kernel
def put_entries(table: Int64Array, columns: Int64Array, segments: Int64Array, entries: Int64Array) -> None:
    """table[columns][:, segments] = entries."""
    for row in range(entries.shape[0]):
        for k in range(entries.shape[1]):
            table[columns[row], segments[k]] = entries[row, k]


@kernel
def place_ends(starts: Int64Array, lengths: Int64Array, widths: Int64Array, ends: Int64Array) -> None:
    """Where the values of each column and segment end; 0 where there are none (their start is 0)."""
    for column in range(starts.shape[0]):
        for k in range(starts.shape[1]):
            start = starts[column, k]
            ends[column, k] = start + lengths[k] * widths[column] if start != 0 else 0
