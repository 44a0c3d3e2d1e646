"""What summaries do not know, made by the device: partial results of pieces, brought to the host, which keeps them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends import control
from zeptodb.backends.base import Aggregate, Backend, Ranges, Scan, SelectScan, Vector
from zeptodb.backends.cuda.accumulate import MANY_PIECES, accumulate, pieces_of
from zeptodb.backends.cuda.batch import ResultBuffer
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import Driver
from zeptodb.backends.cuda.lowering import lower_for_device
from zeptodb.backends.expression import Expression
from zeptodb.backends.pieces import Pieces, as_words
from zeptodb.backends.results import nullable_columns, overflow
from zeptodb.storage.snapshot import Snapshot

Int64Array = npt.NDArray[np.int64]


def partial_results(
    driver: Driver,
    columns: DeviceColumns,
    snapshot: Snapshot,
    aggregates: tuple[Aggregate, ...],
    pieces: Pieces,
    *,
    many_pieces: int = MANY_PIECES,
) -> Int64Array:
    """Partial results of pieces, [slot, piece], in one copy back; raises CannotRunError."""
    plan = lower_for_device(aggregates, None, nullable_columns(snapshot), snapshot.schema)
    control.reserve(8 * plan.plan.width * pieces.count)
    columns.require(snapshot, plan.columns)
    there, _ = pieces_of(driver, pieces.segments, pieces.starts, pieces.ends, many_pieces=many_pieces)
    buffer = ResultBuffer(driver)
    flags, words = buffer.add(1), buffer.add(plan.plan.width * pieces.count)
    buffer.allocate()
    driver.clear(buffer.device(flags).address, buffer.device(flags).size_bytes)
    program = plan.program.upload(driver, plan.sections, plan.primitives)
    accumulate(driver, columns, plan, program, there, buffer.device(words), buffer.device(flags))
    buffer.fetch()
    if buffer.host(flags)[0]:
        raise overflow()
    return as_words(buffer.host(words).view(np.int64).reshape(plan.plan.width, pieces.count))


def values_at(
    host: Backend, snapshot: Snapshot, segments: Int64Array, rows: Int64Array, expressions: tuple[Expression, ...]
) -> tuple[Vector, ...]:
    """Expressions at single rows, of host memory, where all rows are; NULL where the row is -1."""
    is_there = rows >= 0
    segments, rows = segments[is_there], rows[is_there]
    found = host.select(SelectScan(Scan(snapshot, Ranges(segments, rows, rows + 1)), expressions))
    return found if is_there.all() else tuple(_spread(vector, is_there) for vector in found)


def _spread(vector: Vector, is_there: npt.NDArray[np.bool_]) -> Vector:
    values, validity = np.zeros(len(is_there), dtype=vector.values.dtype), is_there.copy()
    values[is_there] = vector.values
    if vector.validity is not None:
        validity[is_there] = vector.validity
    return Vector(values, validity, vector.type)
