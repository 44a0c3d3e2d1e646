"""Snapshots as Arrow tables over the segments' own memory, for DuckDB to scan and for exports."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zeptodb.backends.base import Backend, Ranges, Scan, SelectScan, Vector
from zeptodb.backends.expression import ColumnRef
from zeptodb.sql.arrow_columns import arrow_type
from zeptodb.sql.relations import Bounds, EmaColumn
from zeptodb.sql.sampling import sample_mask
from zeptodb.sql.smoothing import ema_array
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType

MIN_CHUNK_ROWS = 4_096
"""Below this many rows per segment on average, columns are gathered: many tiny chunks cost more than one copy."""

Keep = Literal["all", "last"]
Int64Array = npt.NDArray[np.int64]


class Lease:
    """Keeps a snapshot open; its memory is given back when the last Arrow buffer over it is gone, or by `close()`."""

    __slots__ = ("__weakref__", "_finalizer", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._finalizer = weakref.finalize(self, snapshot.close)

    def close(self) -> None:
        """Give the memory back now; no Arrow buffer over it may be read afterwards."""
        self._finalizer()


def rows_within(snapshot: Snapshot, bounds: Bounds, backend: Backend) -> Ranges:
    """The rows that the bounds let through, segments in the order in which their symbols first arrived."""
    segments = np.arange(len(snapshot.lengths), dtype=np.int64)
    if bounds.symbols is not None:
        wanted = _symbol_keys(snapshot, bounds.symbols)
        segments = segments[np.isin(snapshot.symbols[segments], wanted)]
    if snapshot.schema.timestamp is None or (bounds.from_ns is None and bounds.to_ns is None):
        lengths = snapshot.lengths[segments]
        return Ranges(segments, np.zeros(len(segments), np.int64), lengths)
    if bounds.from_ns is not None and bounds.to_ns is not None and bounds.from_ns >= bounds.to_ns:
        none = np.zeros(0, np.int64)
        return Ranges(none, none, none)
    return backend.time_ranges(snapshot, segments, from_ns=bounds.from_ns, to_ns=bounds.to_ns)


def _symbol_keys(snapshot: Snapshot, symbols: frozenset[int | str]) -> Int64Array:
    dictionary = snapshot.dictionaries[snapshot.schema.symbol_index]
    if dictionary is None:
        keys: list[int | None] = [int(s) for s in symbols if not isinstance(s, str) and -(2**63) <= s < 2**63]
    else:
        keys = [dictionary.find(s) for s in symbols if isinstance(s, str)]
    return np.array([key for key in keys if key is not None], dtype=np.int64)


def arrow_table(
    lease: Lease,
    ranges: Ranges,
    columns: Sequence[int],
    backend: Backend,
    *,
    row_name: str | None = None,
    keep: Keep = "all",
    fraction: float | None = None,
    emas: Sequence[EmaColumn] = (),
    may_gather: bool = True,
) -> pa.Table:
    """The rows of `ranges` as an Arrow table of the columns with these indexes, in this order.

    Timestamps are int64 nanoseconds, NULL is Arrow's. Long segments become one chunk each over the segment's memory
    (the lease stays open as long as they live), short ones are copied together. The symbol of a segment is a
    dictionary of one value.

    Parameters
    ----------
    row_name
        Adds an int64 column of that name: the positions of the rows when all segments are read in turn.
    keep
        Of rows with equal symbol and time keep only the "last" arrived.
    fraction
        Take a sample of the rows first; None: all.
    emas
        Adds float64 columns of moving averages over all rows of the ranges.
    """
    occupied = ranges.ends > ranges.starts
    ranges = Ranges(ranges.segments[occupied], ranges.starts[occupied], ranges.ends[occupied])
    build = _gathered if may_gather and ranges.rows < MIN_CHUNK_ROWS * len(ranges.segments) else _chunked
    schema = lease.snapshot.schema
    arrays = build(lease, ranges, columns, backend)
    names = [schema.fields[c].name for c in columns]
    if row_name is not None or not columns:
        arrays.append(_row_numbers(lease.snapshot, ranges))
        names.append(row_name if row_name is not None else "row")
    for ema in emas:
        arrays.append(pa.chunked_array([ema_array(lease.snapshot, ranges, ema.column, ema.alpha, backend)]))
        names.append(ema.name)
    table = pa.table(dict(zip(names, arrays, strict=True)))
    sample = None if fraction is None or fraction == 1 else sample_mask(lease.snapshot, ranges, fraction)
    if sample is not None:
        table = table.filter(pa.array(sample))
    return table if keep == "all" else _without_ties(lease.snapshot, ranges, table, sample)


def _row_numbers(snapshot: Snapshot, ranges: Ranges) -> pa.ChunkedArray:
    first = np.cumsum(snapshot.lengths) - snapshot.lengths
    rows = ranges.ends - ranges.starts
    shift = first[ranges.segments] + ranges.starts - (np.cumsum(rows) - rows)
    return pa.chunked_array([pa.array(np.arange(ranges.rows, dtype=np.int64) + np.repeat(shift, rows))])


# ---- one chunk per segment -----------------------------------------------------------------------------------------


def _chunked(lease: Lease, ranges: Ranges, columns: Sequence[int], backend: Backend) -> list[pa.ChunkedArray]:  # noqa: ARG001
    snapshot = lease.snapshot
    longest = int((ranges.ends - ranges.starts).max(initial=0))
    zeros = pa.array(np.zeros(longest, np.int8))
    result = []
    for c in columns:
        if c == snapshot.schema.symbol_index:
            kind = pa.dictionary(pa.int8(), arrow_type(snapshot.schema.fields[c].type))
            chunks = [
                pa.DictionaryArray.from_arrays(zeros.slice(0, rows), pa.array([symbol], kind.value_type), safe=False)
                for symbol, rows in _symbols_and_rows(snapshot, ranges)
            ]
        else:
            kind = _stored_arrow_type(snapshot, c)
            chunks = [
                _chunk(lease, c, segment, start, end, kind)
                for segment, start, end in zip(
                    ranges.segments.tolist(), ranges.starts.tolist(), ranges.ends.tolist(), strict=True
                )
            ]
        result.append(pa.chunked_array(chunks, kind))
    return result


def _symbols_and_rows(snapshot: Snapshot, ranges: Ranges) -> list[tuple[int | str, int]]:
    keys = snapshot.symbols[ranges.segments].tolist()
    rows = (ranges.ends - ranges.starts).tolist()
    dictionary = snapshot.dictionaries[snapshot.schema.symbol_index]
    symbols = keys if dictionary is None else [dictionary.values[key] for key in keys]
    return list(zip(symbols, rows, strict=True))


def _stored_arrow_type(snapshot: Snapshot, column: int) -> pa.DataType:
    field = snapshot.schema.fields[column]
    return pa.dictionary(pa.int32(), pa.string()) if field.type is ColumnType.STRING else arrow_type(field.type)


def _chunk(lease: Lease, column: int, segment: int, start: int, end: int, kind: pa.DataType) -> pa.Array:
    """Rows start to end of one stored column of one segment."""
    snapshot = lease.snapshot
    field = snapshot.schema.fields[column]
    rows = end - start
    validity = int(snapshot.validity[column, segment])
    bitmap = None
    if validity:
        present = np.frombuffer(pa.foreign_buffer(validity + start, rows, base=lease), np.uint8)
        bitmap = pa.py_buffer(np.packbits(present, bitorder="little"))
    width = field.type.dtype.itemsize
    values = pa.foreign_buffer(int(snapshot.addresses[column, segment]) + start * width, rows * width, base=lease)
    if field.type is ColumnType.BOOL:
        values = pa.py_buffer(np.packbits(np.frombuffer(values, np.uint8), bitorder="little"))
    if field.type is not ColumnType.STRING:
        return pa.Array.from_buffers(kind, rows, [bitmap, values])
    codes = pa.Array.from_buffers(pa.int32(), rows, [bitmap, values])
    return pa.DictionaryArray.from_arrays(codes, _strings(snapshot, column), safe=False)


def _strings(snapshot: Snapshot, column: int) -> pa.Array:
    dictionary = snapshot.dictionaries[column]
    if dictionary is None:
        raise AssertionError("a STRING column has no dictionary")
    return dictionary.to_arrow()


# ---- many short segments -------------------------------------------------------------------------------------------


def _gathered(lease: Lease, ranges: Ranges, columns: Sequence[int], backend: Backend) -> list[pa.ChunkedArray]:
    snapshot = lease.snapshot
    fields = snapshot.schema.fields
    outputs = tuple(ColumnRef(c, fields[c].type) for c in columns)
    vectors = backend.select(SelectScan(Scan(snapshot, ranges), outputs)) if columns else ()
    return [_gathered_column(snapshot, c, vector) for c, vector in zip(columns, vectors, strict=True)]


def _gathered_column(snapshot: Snapshot, column: int, vector: Vector) -> pa.ChunkedArray:
    field_type = snapshot.schema.fields[column].type
    mask = None if vector.validity is None else ~vector.validity
    if field_type is not ColumnType.STRING:
        values = vector.values.astype(field_type.dtype, copy=False)
        return pa.chunked_array([pa.array(values, arrow_type(field_type), mask=mask)])
    codes = pa.array(vector.values.astype(np.int32, copy=False), pa.int32(), mask=mask)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(codes, _strings(snapshot, column), safe=False)])


# ---- ties ----------------------------------------------------------------------------------------------------------


def _without_ties(
    snapshot: Snapshot, ranges: Ranges, table: pa.Table, sample: npt.NDArray[np.bool_] | None
) -> pa.Table:
    column = snapshot.schema.timestamp_index
    kept = []
    done = 0
    for segment, start, end in zip(ranges.segments.tolist(), ranges.starts.tolist(), ranges.ends.tolist(), strict=True):
        times = _times(snapshot, column, segment, start, end)
        if sample is not None:
            times = times[sample[done : done + end - start]]
            done += end - start
        kept.append(_tie_mask(times))
    if not kept or all(mask.all() for mask in kept):
        return table
    return table.filter(pa.array(np.concatenate(kept)))


def _times(snapshot: Snapshot, column: int, segment: int, start: int, end: int) -> Int64Array:
    address = int(snapshot.addresses[column, segment]) + 8 * start
    buffer: Any = pa.foreign_buffer(address, 8 * (end - start))
    return np.frombuffer(buffer, np.int64)


def _tie_mask(times: Int64Array) -> npt.NDArray[np.bool_]:
    mask = np.ones(len(times), np.bool_)
    mask[:-1] = times[1:] != times[:-1]
    return mask
