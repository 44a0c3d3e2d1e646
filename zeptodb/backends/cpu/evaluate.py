"""The kernel behind row-wise results: finds the rows of pieces that pass a predicate, or writes expressions of rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cpu.expression import (
    fill_constants,
    gather_bytes,
    gather_halfwords,
    gather_words,
    repeat,
    run_section,
    scratch_words,
    select_where,
)
from zeptodb.backends.program import BLOCK_ROWS
from zeptodb.jit import claim, copy_bytes, inline, kernel, load_int64, pointer_int64, pointer_uint8

Int64Array = npt.NDArray[np.int64]

CONSECUTIVE = 0
"""Rows follow one another from the piece's start."""
LISTED = 1
"""Rows stand in a list; the piece's start is a place in it, and row -1 means NULL in every output."""
FILTER = 2
"""Write the consecutive rows for which the predicate is true into the list, and their number into the counts."""

COLUMN = 0
REGISTER = 1
SYMBOL = 2


def evaluator_words(registers: int) -> int:
    """Words of scratch memory that `evaluate` needs."""
    return scratch_words(registers) + BLOCK_ROWS


@inline
def _write_gathered(width: int, out: int, source: int, rows: int, count: int) -> None:
    if width == 8:
        gather_words(out, source, rows, count)
    elif width == 4:
        gather_halfwords(out, source, rows, count)
    else:
        gather_bytes(out, source, rows, count)


@inline
def _write_column(
    column: int, width: int, columns: Int64Array, segment: int, row: int, rows: int, count: int, out: int, valid: int
) -> None:
    """Copy a stored column, and its validity when `valid` is an address."""
    source = load_int64(columns[0] + column * columns[1] + 8 * segment) + row * width
    if rows == 0:
        copy_bytes(out, source, width * count)
    else:
        _write_gathered(width, out, source, rows, count)
    if valid == 0:
        return
    validity = load_int64(columns[2] + column * columns[3] + 8 * segment)
    if validity == 0:
        repeat(1, valid, 1, count)
    elif rows == 0:
        copy_bytes(valid, validity + row, count)
    else:
        gather_bytes(valid, validity + row, rows, count)


@inline
def _take_listed(list_address: int, count: int, rows: int) -> int:
    """Copy listed rows to `rows`, -1 as row 0; how many are -1."""
    listed, out = pointer_int64(list_address), pointer_int64(rows)
    missing = 0
    for i in range(count):
        row = listed[i]
        missing += 1 if row < 0 else 0
        out[i] = row if row > 0 else 0
    return missing


@inline
def _void(outputs: Int64Array, position: int, count: int) -> None:
    """Rows without a segment: NULL in every output."""
    for k in range(outputs.shape[0]):
        width = outputs[k, 2]
        repeat(width, outputs[k, 3] + width * position, 0, count)
        repeat(1, outputs[k, 4] + position, 0, count)


@inline
def _void_missing(outputs: Int64Array, list_address: int, position: int, count: int) -> None:
    listed = pointer_int64(list_address)
    for k in range(outputs.shape[0]):
        valid = pointer_uint8(outputs[k, 4] + position)
        for i in range(count):
            valid[i] &= np.uint8(listed[i] >= 0)


@kernel
def evaluate(
    interpreter: int,
    counter: Int64Array,
    budget: int,
    morsels: Int64Array,
    segments: Int64Array,
    starts: Int64Array,
    counts: Int64Array,
    positions: Int64Array,
    rows_list: int,
    mode: int,
    code: Int64Array,
    lists: Int64Array,
    constants: Int64Array,
    registers: int,
    predicate: int,
    outputs: Int64Array,
    columns: Int64Array,
    scratch: Int64Array,
    flags: Int64Array,
) -> None:
    """Run a program of one section over the pieces of every morsel that this call claims, at most `budget` of them.

    Piece p has counts[p] rows and writes its results from place positions[p] on. Outputs are rows of (kind, column or
    register, bytes per value, address of the values, address of the validity or 0). In FILTER mode `predicate` is the
    register to test, rows go to `rows_list` from positions[p] on and counts[p] becomes how many they are. flags[0]
    becomes 1 when integer arithmetic left int64.
    """
    selection = scratch.ctypes.data + 8 * (registers * (2 + BLOCK_ROWS + BLOCK_ROWS // 8))
    overflows = 0
    is_filled = False
    while budget > 0:
        morsel = claim(counter.ctypes.data)
        if morsel >= morsels.shape[0] - 1:
            break
        budget -= 1
        if not is_filled:
            fill_constants(constants, registers, scratch, BLOCK_ROWS)
            is_filled = True
        for piece in range(morsels[morsel], morsels[morsel + 1]):
            segment, done, total, found = segments[piece], 0, counts[piece], 0
            if segment < 0:
                _void(outputs, positions[piece], total)
                continue
            while done < total:
                count = min(total - done, BLOCK_ROWS)
                row, rows, missing = starts[piece] + done, 0, 0
                listed = rows_list + 8 * row
                if mode == LISTED:
                    row, rows = 0, selection
                    missing = _take_listed(listed, count, rows)
                if code.shape[0] > 0:
                    overflows |= run_section(
                        interpreter, code.ctypes.data, 0, code.shape[0], lists.ctypes.data, registers,
                        columns.ctypes.data, segment, row, rows, count, scratch.ctypes.data,
                    )  # fmt: skip
                if mode == FILTER:
                    selected = select_where(predicate, registers, scratch, count, selection)
                    chosen, out = pointer_int64(selection), pointer_int64(rows_list + 8 * (positions[piece] + found))
                    for i in range(selected):
                        out[i] = row + chosen[i]
                    found += selected
                    done += count
                    continue
                position = positions[piece] + done
                for k in range(outputs.shape[0]):
                    what, width = outputs[k, 1], outputs[k, 2]
                    out_values = outputs[k, 3] + width * position
                    out_valid = 0 if outputs[k, 4] == 0 else outputs[k, 4] + position
                    if outputs[k, 0] == COLUMN:
                        _write_column(what, width, columns, segment, row, rows, count, out_values, out_valid)
                        continue
                    if outputs[k, 0] == SYMBOL:
                        repeat(width, out_values, load_int64(columns[4] + 8 * segment), count)
                    else:
                        copy_bytes(out_values, scratch[what], width * count)
                    if out_valid != 0:
                        validity = 0 if outputs[k, 0] == SYMBOL else scratch[registers + what]
                        if validity == 0:
                            repeat(1, out_valid, 1, count)
                        else:
                            copy_bytes(out_valid, validity, count)
                if missing > 0:
                    _void_missing(outputs, listed, position, count)
                done += count
            if mode == FILTER:
                counts[piece] = found
    if overflows != 0:
        flags[0] = 1
