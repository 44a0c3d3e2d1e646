"""The kernels of exponential moving averages: ranges of rows, cut into pieces that are averaged at the same time.

e = alpha x + decay e before is a chain: each row waits for the one before. So a piece takes four tiles of rows side by
side: first what each leaves by itself (reduce), then, as that tells what each begins with, the averages (scan).
`reduce` does the same for the pieces of a range. Tiles lie at fixed places, so results are the same on every run.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends import control
from zeptodb.backends.base import Vector
from zeptodb.backends.cpu.arguments import Argument
from zeptodb.backends.cpu.columns import address_of
from zeptodb.backends.cpu.pool import WorkerPool
from zeptodb.backends.pieces import Pieces, cut
from zeptodb.jit import claim, inline, kernel, load_float64, load_int64, pointer_float64, pointer_uint8
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

TILE_ROWS = 256


def moving_averages(pool: WorkerPool, argument: Argument, alpha: float) -> Vector:
    """EMA of an argument; NULL where that is. alpha below 1."""
    total = int(argument.bounds[-1])
    control.reserve(8 * total)
    result = np.empty(total, dtype=np.float64)
    if argument.validity is not None:
        result[:] = 0.0
    firsts = np.empty(len(argument.lengths), dtype=np.int64)
    skip_nulls(argument.validities, argument.lengths, firsts)
    pieces = cut(np.arange(len(firsts), dtype=np.int64), firsts, argument.lengths)
    averages = np.zeros(pieces.count, dtype=np.float64)
    counts = np.zeros(pieces.count, dtype=np.int64)
    outs = address_of(result) + 8 * argument.bounds[:-1]
    power = (1.0 - alpha) ** TILE_ROWS

    def run(outs: Int64Array) -> None:
        def work(counter: Int64Array, budget: int) -> None:
            average(
                counter, budget, pieces.morsels, pieces.segments, pieces.starts, pieces.ends, firsts, argument.sources,
                argument.validities, int(argument.is_int), alpha, power, outs, averages, counts,
            )  # fmt: skip

        pool.run(work, pieces.morsel_count, rows=pieces.rows)

    if pieces.ranges is not None:
        run(np.zeros_like(firsts))
        averages[:] = _carry(pieces, averages, counts, 1.0 - alpha)
    run(outs)
    return Vector(result, argument.validity, ColumnType.FLOAT64)


def _carry(pieces: Pieces, own: Float64Array, counts: Int64Array, decay: float) -> list[float]:
    """The average before each piece, from what each leaves by itself."""
    before = [0.0] * pieces.count
    left, powers, ranges = own.tolist(), (np.float64(decay) ** counts).tolist(), pieces.segments.tolist()
    for piece in range(1, pieces.count):
        if ranges[piece] == ranges[piece - 1]:
            is_second = piece == 1 or ranges[piece - 2] != ranges[piece]
            before[piece] = left[piece - 1]
            if not is_second:
                before[piece] = carried(left[piece - 1], powers[piece - 1], before[piece - 1])
    return before


@inline
def _is_finite(x: float) -> bool:
    return x - x == 0.0


@inline
def carried(own: float, power: float, before: float) -> float:
    """The average after rows that leave `own` by themselves and `power` of the one before; power may be as small as 0,
    yet what is infinite or NaN stays so."""
    return own + before if not _is_finite(before) else own + power * before


@inline
def _value(source: int, is_int: int, row: int) -> float:
    address = source + 8 * row
    return float(load_int64(address)) if is_int != 0 else load_float64(address)


@inline
def _average_tiles(
    source: int, is_int: int, row: int, end: int, alpha: float, decay: float, power: float, average: float, out: int
) -> tuple[int, float]:
    """Groups of four whole tiles; where they end, and the average there. `power` is decay to the rows of a tile."""
    result = pointer_float64(out)
    while row + 4 * TILE_ROWS <= end:
        second, third, fourth = row + TILE_ROWS, row + 2 * TILE_ROWS, row + 3 * TILE_ROWS
        a, b, c, d = average, 0.0, 0.0, 0.0
        for i in range(TILE_ROWS):
            b = alpha * _value(source, is_int, row + i) + decay * b
            c = alpha * _value(source, is_int, second + i) + decay * c
            d = alpha * _value(source, is_int, third + i) + decay * d
        b = carried(b, power, a)
        c = carried(c, power, b)
        d = carried(d, power, c)
        for i in range(TILE_ROWS):
            a = alpha * _value(source, is_int, row + i) + decay * a
            b = alpha * _value(source, is_int, second + i) + decay * b
            c = alpha * _value(source, is_int, third + i) + decay * c
            d = alpha * _value(source, is_int, fourth + i) + decay * d
            if out != 0:
                result[row + i] = a
                result[second + i] = b
                result[third + i] = c
                result[fourth + i] = d
        average = d
        row += 4 * TILE_ROWS
    return row, average


@inline
def _average_rows(
    source: int, validity: int, is_int: int, row: int, end: int, alpha: float, decay: float, average: float, out: int
) -> tuple[int, float]:
    """Row by row; how many are not NULL, and the last average."""
    result, valid, count = pointer_float64(out), pointer_uint8(validity), 0
    for i in range(row, end):
        is_valid = validity == 0 or valid[i] != 0
        if is_valid:
            average = alpha * _value(source, is_int, i) + decay * average
            count += 1
        if out != 0:
            result[i] = average if is_valid else 0.0
    return count, average


@kernel
def average(
    counter: Int64Array,
    budget: int,
    morsels: Int64Array,
    ranges: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    firsts: Int64Array,
    sources: Int64Array,
    validities: Int64Array,
    is_int: int,
    alpha: float,
    power: float,
    outs: Int64Array,
    averages: Float64Array,
    counts: Int64Array,
) -> None:
    """Rows starts[p] to ends[p] of range ranges[p] for the pieces of every morsel that this call claims.

    Range r has its values from sources[r] on (int64 with `is_int`, else float64), their validity from validities[r] on
    (0: none is NULL), its first value in row firsts[r], and room for averages from outs[r] on. averages[p] is the
    average before the piece; where outs[r] is 0 it becomes the one after it (of the first piece of a range; of
    others what they leave by themselves), and counts[p] how many values there are.
    """
    decay = 1.0 - alpha
    while budget > 0:
        morsel = claim(counter.ctypes.data)
        if morsel >= morsels.shape[0] - 1:
            break
        budget -= 1
        for piece in range(morsels[morsel], morsels[morsel + 1]):
            k, row, end = ranges[piece], starts[piece], ends[piece]
            source, validity, out = sources[k], validities[k], outs[k]
            if out == 0 and (piece + 1 == ranges.shape[0] or ranges[piece + 1] != k):
                continue  # nobody asks what the last piece of a range leaves
            last = averages[piece]
            if row == firsts[k] and row < end:
                last = _value(source, is_int, row)
                if out != 0:
                    pointer_float64(out)[row] = last
                row += 1
            done = row
            if validity == 0:
                done, last = _average_tiles(source, is_int, row, end, alpha, decay, power, last, out)
            count, last = _average_rows(source, validity, is_int, done, end, alpha, decay, last, out)
            if out == 0:
                averages[piece] = last
                counts[piece] = count + done - row


@kernel
def skip_nulls(validities: Int64Array, lengths: Int64Array, firsts: Int64Array) -> None:
    """firsts[r] = the first row of range r that is not NULL, else its length."""
    for k in range(lengths.shape[0]):
        row = 0
        if validities[k] != 0:
            valid = pointer_uint8(validities[k])
            while row < lengths[k] and valid[row] == 0:
                row += 1
        firsts[k] = row
