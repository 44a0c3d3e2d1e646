"""The kernels of aggregates over frames of rows that end with the current one, in a time that no frame length changes.

Rows are taken in strips, at most as long as a frame. What frames of a strip hold before it begins is summed up
backwards: from what all of them hold (the middle) to what the first one holds. What they hold of the strip itself is
summed up forwards. No value is ever taken off again, so that a spike, an infinity or a NaN leaves no trace when it has
left the frame. Long middles are put together from tiles and pieces that were summed up before.

Loops over rows stand in functions that are called by address: compiled once, one loop for each family of states.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cpu.expression import INT64_MAX, INT64_MIN
from zeptodb.backends.cpu.linkage import call_by_address
from zeptodb.backends.pieces import PIECE_ROWS
from zeptodb.backends.windows import (
    AVG_FLOAT,
    AVG_INT,
    COUNT,
    EXTREME_INT,
    FLOATS,
    GREATEST,
    INTEGERS,
    STDDEV_SAMP,
    SUM_FLOAT,
    SUM_INT,
    SUM_INT_HIGH,
    TILES,
    VARIANCE_SAMP,
)
from zeptodb.jit import (
    address_of_kernel,
    bits_of_float64,
    claim,
    float64_of_bits,
    inline,
    kernel,
    kernel_with_address,
    load_int64,
    pointer_float64,
    pointer_int64,
    pointer_uint8,
    store_int64,
    store_uint8,
)

Int64Array = npt.NDArray[np.int64]

TILE_ROWS = 1024
"""Rows of a tile, and of the longest strip."""

_COLUMN_BYTES = 8 * TILE_ROWS
_STATES_BYTES = 3 * _COLUMN_BYTES

_DECODE, _SCAN, _COMBINE, _SUM_ROWS, _SUM_MIDDLE, _WORDS, _ONES, _STATE, _TABLE_WORDS = range(9)
"""What the first words of the scratch memory are addresses of: functions, and areas of that memory."""

SCRATCH_WORDS = _TABLE_WORDS + 3 + 7 * TILE_ROWS + TILE_ROWS // 8
"""That table, a state, the states before each row of a strip and those of its own rows, values, validity bytes."""


@inline
def reordered(bits: int) -> int:
    """The bits of a float from its key, and the key of any but NaN from its bits."""
    return bits ^ ((bits >> 63) & INT64_MAX)


@inline
def key_of(bits: int) -> int:
    """Integers in the order of floats from their bits, NaN last."""
    is_nan = float64_of_bits(bits) != float64_of_bits(bits)
    return INT64_MAX if is_nan else reordered(bits)


@kernel_with_address
def _decode(family: int, is_int: int, flip: int, source: int, count: int, words: int) -> int:
    """Write values as states take them; with `flip` -1 the greatest key is that of the least value."""
    bits, out, doubles = pointer_int64(source), pointer_int64(words), pointer_float64(words)
    if family != GREATEST:
        for i in range(count):
            doubles[i] = np.float64(bits[i])
    elif is_int != 0:
        for i in range(count):
            out[i] = bits[i] ^ flip
    else:
        for i in range(count):
            out[i] = key_of(bits[i]) ^ flip
    return 0


@inline
def two_sum(a: float, b: float) -> tuple[float, float]:
    """The rounded sum, and what rounding took off (Knuth)."""
    total = a + b
    taken = total - a
    return total, (a - (total - taken)) + (b - taken)


@kernel_with_address
def _scan(family: int, words: int, validity: int, first: int, step: int, count: int, state: int, out: int) -> int:
    """Add `count` values to a state, from place `first` on; the states on the way go to `out`, place by place."""
    x, f, valid = pointer_int64(words), pointer_float64(words), pointer_uint8(validity)
    counts, a, b = pointer_int64(out), pointer_int64(out + _COLUMN_BYTES), pointer_int64(out + 2 * _COLUMN_BYTES)
    s, t = pointer_float64(out + _COLUMN_BYTES), pointer_float64(out + 2 * _COLUMN_BYTES)
    n, place = load_int64(state), first
    if family == INTEGERS:
        high, low = load_int64(state + 8), load_int64(state + 16)
        for _ in range(count):
            taken = np.int64(valid[place])
            n += taken
            high += (x[place] >> 32) * taken
            low += (x[place] & 0xFFFFFFFF) * taken
            counts[place], a[place], b[place] = n, high, low
            place += step
        store_int64(state + 8, high)
        store_int64(state + 16, low)
    elif family == GREATEST:
        greatest = load_int64(state + 8)
        for _ in range(count):
            n += np.int64(valid[place])
            greatest = max(greatest, x[place] if valid[place] != 0 else INT64_MIN)
            counts[place], a[place] = n, greatest
            place += step
        store_int64(state + 8, greatest)
    elif family == FLOATS:
        total, lost = float64_of_bits(load_int64(state + 8)), float64_of_bits(load_int64(state + 16))
        for _ in range(count):
            n += np.int64(valid[place])
            total, rest = two_sum(total, f[place] if valid[place] != 0 else 0.0)
            lost += rest
            counts[place], s[place], t[place] = n, total, lost
            place += step
        store_int64(state + 8, bits_of_float64(total))
        store_int64(state + 16, bits_of_float64(lost))
    else:
        mean, squares = float64_of_bits(load_int64(state + 8)), float64_of_bits(load_int64(state + 16))
        for _ in range(count):
            if valid[place] != 0:
                n += 1
                deviation = f[place] - mean
                mean = f[place] if n == 1 else mean + deviation / np.float64(n)
                squares = 0.0 if n == 1 else squares + deviation * (f[place] - mean)
            counts[place], s[place], t[place] = n, mean, squares
            place += step
        store_int64(state + 8, bits_of_float64(mean))
        store_int64(state + 16, bits_of_float64(squares))
    store_int64(state, n)
    return 0


@inline
def merged_squares(n: int, mean: float, squares: float, m: int, other: float, more: float) -> tuple[float, float]:
    """Mean and squared deviations of two sets of values (Chan, Golub, LeVeque)."""
    if n == 0:
        return other, more
    if m == 0:
        return mean, squares
    share, difference = np.float64(m) / np.float64(n + m), other - mean
    apart = difference * difference * np.float64(n) * share + (difference - difference)  # NaN of infinity
    return mean + difference * share, squares + more + apart


@inline
def merged(family: int, n: int, a: int, b: int, m: int, c: int, d: int) -> tuple[int, int, int]:
    """A state and that of the values behind it as one."""
    if family == INTEGERS:
        return n + m, a + c, b + d
    if family == GREATEST:
        return n + m, max(a, c), 0
    x, y, z, w = float64_of_bits(a), float64_of_bits(b), float64_of_bits(c), float64_of_bits(d)
    if family == FLOATS:
        total, rest = two_sum(x, z)
        rest += y + w
    else:
        total, rest = merged_squares(n, x, y, m, z, w)
    return n + m, bits_of_float64(total), bits_of_float64(rest)


@inline
def _float_value(operation: int, count: int, mean: float, rest: float) -> float:
    """What becomes of a state of FLOATS or SQUARES."""
    n = np.float64(count)
    if operation <= AVG_FLOAT:
        total = mean + rest if mean - mean == 0.0 else mean
        return total if operation == SUM_FLOAT else total / n
    variance = rest / (n - 1.0 if operation in (VARIANCE_SAMP, STDDEV_SAMP) else n)
    return math.sqrt(variance) if operation >= STDDEV_SAMP else variance


@inline
def _bits_of_value(operation: int, flip: int, count: int, a: int, b: int) -> int:
    """What becomes of a state."""
    if operation == COUNT:
        return count
    if operation >= EXTREME_INT:
        return a ^ flip if operation == EXTREME_INT else reordered(a ^ flip)
    high, low = a + (b >> 32), b & 0xFFFFFFFF
    if operation == AVG_INT:
        value = (float(high) * 4294967296.0 + float(low)) / float(count)
    elif operation <= SUM_INT_HIGH:
        return high >> 32 if operation == SUM_INT_HIGH else (high << 32) | low
    else:
        value = _float_value(operation, count, float64_of_bits(a), float64_of_bits(b))
    bits: int = bits_of_float64(value)
    return bits


@kernel_with_address
def _combine(
    family: int, operation: int, flip: int, least: int, before: int, own: int, stride: int, count: int, out: int,
    validity: int,
) -> int:  # fmt: skip
    """Merge states with those of later rows, word by word `stride` bytes apart, into results; they are NULL of fewer
    than `least` values. With TILES one state is merged, into itself. 1 when a SUM_INT is beyond int64."""
    beyond = 0
    for place in range(0, 8 * count, 8):
        one, other = before + place, own + place
        n, a, b = merged(
            family, load_int64(one), load_int64(one + stride), load_int64(one + 2 * stride),
            load_int64(other), load_int64(other + stride), load_int64(other + 2 * stride),
        )  # fmt: skip
        if operation == TILES:
            store_int64(out, n)
            store_int64(out + 8, a)
            store_int64(out + 16, b)
            continue
        bits = 0
        if n >= least:
            bits = _bits_of_value(operation, flip, n, a, b)
            high = a + (b >> 32)
            beyond |= (high >> 31) ^ (high >> 63) if operation == SUM_INT else 0
        store_int64(out + place, bits)
        if validity != 0:
            store_uint8(validity + (place >> 3), np.uint8(n >= least))
    return 1 if beyond != 0 else 0


_decode_at, _scan_at, _combine_at, _sum_rows_at, _sum_middle_at = (
    call_by_address(arguments) for arguments in (6, 8, 10, 11, 11)
)


@inline
def _merge_into(combine: int, family: int, state: int, other: int) -> None:
    _combine_at(combine, family, TILES, 0, 0, state, other, 8, 1, state, 0)


@inline
def _clear(family: int, state: int) -> None:
    store_int64(state, 0)
    store_int64(state + 8, INT64_MIN if family == GREATEST else 0)
    store_int64(state + 16, 0)


@kernel_with_address
def _sum_rows(
    memory: int, family: int, is_int: int, flip: int, source: int, validity: int, row: int, first: int, step: int,
    count: int, out: int,
) -> int:  # fmt: skip
    """Add `count` of the rows that follow `row` to the state in the scratch memory, from place `first` on; the states
    on the way go to `out`."""
    table = pointer_int64(memory)
    words, ones, state = table[_WORDS], table[_ONES], table[_STATE]
    low = first if step > 0 else first - count + 1
    is_plain = is_int != 0 and flip == 0 if family == GREATEST else family == INTEGERS or is_int == 0
    x = source + 8 * row
    if not is_plain:
        _decode_at(table[_DECODE], family, is_int, flip, x + 8 * low, count, words)
        x = words - 8 * low
    return int(
        _scan_at(table[_SCAN], family, x, ones if validity == 0 else validity + row, first, step, count, state, out)
    )


@kernel_with_address
def _sum_middle(
    memory: int, family: int, is_int: int, flip: int, source: int, validity: int, row: int, after: int, tiles: int,
    pieces: int, out: int,
) -> int:  # fmt: skip
    """Set the state to that of rows of a range; from whole tiles and pieces, where there is an address of theirs."""
    table = pointer_int64(memory)
    state = table[_STATE]
    _clear(family, state)
    while row < after:
        step = TILE_ROWS
        states = 0
        if pieces != 0 and row % PIECE_ROWS == 0 and after - row >= PIECE_ROWS:
            step, states = PIECE_ROWS, pieces
        elif tiles != 0 and row % TILE_ROWS == 0 and after - row >= TILE_ROWS:
            states = tiles
        if states != 0:
            _merge_into(table[_COMBINE], family, state, states + 24 * (row // step))
        else:
            step = min(after - row, TILE_ROWS - row % TILE_ROWS)
            _sum_rows_at(table[_SUM_ROWS], memory, family, is_int, flip, source, validity, row, 0, 1, step, out)
        row += step
    return 0


def functions() -> Int64Array:
    """Addresses of what `roll` calls."""
    called = (_decode, _scan, _combine, _sum_rows, _sum_middle)
    return np.array([address_of_kernel(function) for function in called], dtype=np.int64)


@inline
def _copy_state(target: int, source: int, stride: int) -> None:
    store_int64(target, load_int64(source))
    store_int64(target + stride, load_int64(source + 8))
    store_int64(target + 2 * stride, load_int64(source + 16))


@inline
def _lay_out(calls: Int64Array, memory: int, ones: int) -> None:
    table = pointer_int64(memory)
    for k in range(_WORDS):
        table[k] = calls[k]
    table[_STATE] = memory + 8 * _TABLE_WORDS
    table[_WORDS] = table[_STATE] + 24 + 2 * _STATES_BYTES
    table[_ONES] = ones


@kernel
def roll(
    calls: Int64Array,
    counter: Int64Array,
    budget: int,
    morsels: Int64Array,
    ranges: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    sources: Int64Array,
    validities: Int64Array,
    is_int: int,
    family: int,
    operation: int,
    flip: int,
    least: int,
    rows: int,
    tiles: Int64Array,
    pieces: Int64Array,
    outs: Int64Array,
    valids: Int64Array,
    ones: int,
    scratch: Int64Array,
    flags: Int64Array,
) -> None:
    """The value of the frame of each row, at most `rows` rows, for the pieces of every morsel that this call claims.

    Range r has its values from sources[r] on, their validity from validities[r] on (0: none is NULL), and room for
    results from outs[r] on and for their validity from valids[r] on (0: none can be NULL). tiles[r] and pieces[r] are
    addresses of the states of its tiles and pieces (0: there are none); with TILES as operation these are set instead.
    `ones` is the address of a tile's validity. flags[0] becomes 1 when a SUM_INT is beyond int64.
    """
    memory = scratch.ctypes.data
    _lay_out(calls, memory, ones)
    state = memory + 8 * _TABLE_WORDS
    before, beyond = state + 24, 0
    own, strip = before + _STATES_BYTES, min(rows, TILE_ROWS)
    while budget > 0:
        morsel = claim(counter.ctypes.data)
        if morsel >= morsels.shape[0] - 1:
            break
        budget -= 1
        for piece in range(morsels[morsel], morsels[morsel + 1]):
            k, row, end = ranges[piece], starts[piece], ends[piece]
            source, validity = sources[k], validities[k]
            while row < end:
                count = min(end - row, strip)
                first, last = max(0, row + count - rows), row
                if operation == TILES:
                    first, last = row, row + count
                _sum_middle_at(
                    calls[_SUM_MIDDLE],
                    memory,
                    family,
                    is_int,
                    flip,
                    source,
                    validity,
                    first,
                    last,
                    tiles[k],
                    pieces[k],
                    before,
                )
                if operation == TILES:
                    _copy_state(outs[k] + 24 * (row // TILE_ROWS), state, 8)
                    row += count
                    continue
                # The frame of row + i holds what that of the next row holds of the rows before, and row + i + 1 - rows.
                _copy_state(before + 8 * (count - 1), state, _COLUMN_BYTES)
                head = row + 1 - rows
                first = min(max(0, -head), count - 1)
                _sum_rows_at(
                    calls[_SUM_ROWS], memory, family, is_int, flip, source, validity, head, count - 2, -1,
                    count - 1 - first, before,
                )  # fmt: skip
                for i in range(first):
                    _copy_state(before + 8 * i, state, _COLUMN_BYTES)
                _clear(family, state)
                _sum_rows_at(calls[_SUM_ROWS], memory, family, is_int, flip, source, validity, row, 0, 1, count, own)
                beyond |= _combine_at(
                    calls[_COMBINE], family, operation, flip, least, before, own, _COLUMN_BYTES, count,
                    outs[k] + 8 * row, 0 if valids[k] == 0 else valids[k] + row,
                )  # fmt: skip
                row += count
            if operation == TILES and end > starts[piece]:
                whole = valids[k] + 24 * (starts[piece] // PIECE_ROWS)
                _clear(family, whole)
                for tile in range(starts[piece] // TILE_ROWS, (end + TILE_ROWS - 1) // TILE_ROWS):
                    _merge_into(calls[_COMBINE], family, whole, outs[k] + 24 * tile)
    if beyond != 0:
        flags[0] = 1
