"""The kernel that folds block summaries over ranges of rows.

A store has a row of words per block: rows summarized, rows of the prefix, words of the whole, words of the prefix (see
`summary_store.py`). Of a full block FOLDED stands for the rows of the prefix, where its words are those of all blocks
from the start of the segment to it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends.pieces import PIECE_ROWS
from zeptodb.backends.primitives import COUNT
from zeptodb.backends.states import add_to, merge, reset
from zeptodb.jit import inline, kernel, load_int64, store_int64

Int64Array = npt.NDArray[np.int64]

KNOWN_ROWS, PREFIX_ROWS, WORDS = 0, 1, 2
FOLDED = -1
NO_PLACE = -1
NOT_KNOWN = -2


@kernel
def fold(
    segments: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    lengths: Int64Array,
    first_slots: Int64Array,
    capacities: Int64Array,
    table: Int64Array,
    given: Int64Array,
    missing: Int64Array,
    words: Int64Array,
) -> int:
    """Fold partial results of the pieces of each range, in order, into `words[slot, range]`.

    Ranges are cut as `cut` does it. With `lengths` empty no block is looked up. Without `given` pieces that are not
    known are listed in `missing` (as far as they fit) and counted; with it they are `missing`, their words given.
    Returns how many pieces are not known, or NO_PLACE, or NOT_KNOWN when a piece is neither known nor given.
    """
    stride, given_stride = 8 * words.shape[1], 8 * given.shape[1]
    found, is_open, is_given = 0, lengths.shape[0] > 0, given.shape[0] > 0
    for i in range(segments.shape[0]):
        segment, row, end = segments[i], starts[i], ends[i]
        state = words.ctypes.data + 8 * i
        for k in range(table.shape[0]):
            reset(table[k, 0], state + stride * table[k, 1], stride, 1)
        is_short = end - row <= PIECE_ROWS
        is_unbroken = is_open and row == 0 and not is_short
        if is_unbroken:
            row = _resume(segment, end, first_slots, capacities, table, state, stride)
            while is_given and found < missing.shape[1] and missing[0, found] == segment and missing[1, found] < row:
                found += 1  # somebody else has computed it meanwhile
        while row < end:
            stop = end if is_short else min(end, (row // PIECE_ROWS + 1) * PIECE_ROWS)
            slot = -1
            if is_open and row % PIECE_ROWS == 0 and (stop - row == PIECE_ROWS or stop == lengths[segment]):
                block = row // PIECE_ROWS
                if segment >= capacities.shape[0] or block >= capacities[segment]:
                    return NO_PLACE
                slot = first_slots[segment] + block
            is_known = slot >= 0
            if is_given and found < missing.shape[1]:
                is_known = is_known and not (missing[0, found] == segment and missing[1, found] == row)
            elif is_given and not is_known:
                return NOT_KNOWN
            if is_known:
                for k in range(table.shape[0]):
                    is_known = is_known and load_int64(table[k, 3] + slot * table[k, 4]) == stop - row
                if is_given and not is_known:
                    return NOT_KNOWN
            if is_known or is_given:
                for k in range(table.shape[0]):
                    source = table[k, 3] + slot * table[k, 4] + 8 * WORDS
                    source_stride = 8
                    if not is_known:
                        source = given.ctypes.data + given_stride * table[k, 1] + 8 * found
                        source_stride = given_stride
                    target = state + stride * table[k, 1]
                    if table[k, 0] == COUNT:
                        add_to(target, load_int64(source))
                    elif load_int64(source + 2 * source_stride) > 0:
                        merge(table[k, 0], target, stride, source, source_stride)
            if not is_known:
                if not is_given and found < missing.shape[1]:
                    missing[0, found], missing[1, found] = segment, row
                    missing[2, found], missing[3, found] = stop, slot
                found += 1
            is_unbroken = is_unbroken and slot >= 0 and stop - row == PIECE_ROWS and (is_known or is_given)
            if is_unbroken:
                _keep_folded(slot, table, state, stride)
            row = stop
    return 0 if is_given else found


@inline
def _resume(
    segment: int, end: int, first_slots: Int64Array, capacities: Int64Array, table: Int64Array, state: int, stride: int
) -> int:
    """Set states to those of all full blocks before `end` that are folded; the row that follows them."""
    if segment >= capacities.shape[0]:
        return 0
    block = min(end // PIECE_ROWS, capacities[segment]) - 1
    while block >= 0:
        is_folded = True
        for k in range(table.shape[0]):
            kept = table[k, 3] + (first_slots[segment] + block) * table[k, 4]
            is_folded = is_folded and load_int64(kept) == PIECE_ROWS and load_int64(kept + 8) == FOLDED
        if is_folded:
            break
        block -= 1
    for k in range(table.shape[0] if block >= 0 else 0):
        source = table[k, 3] + (first_slots[segment] + block) * table[k, 4] + 8 * (WORDS + table[k, 2])
        for word in range(table[k, 2]):
            store_int64(state + stride * (table[k, 1] + word), load_int64(source + 8 * word))
    row: int = (block + 1) * PIECE_ROWS
    return row


@inline
def _keep_folded(slot: int, table: Int64Array, state: int, stride: int) -> None:
    """Keep the states of all blocks from the segment's start to the one in `slot`, which is full, where it is known."""
    for k in range(table.shape[0]):
        kept = table[k, 3] + slot * table[k, 4]
        if load_int64(kept) == PIECE_ROWS and load_int64(kept + 8) != FOLDED:
            target = kept + 8 * (WORDS + table[k, 2])
            for word in range(table[k, 2]):
                store_int64(target + 8 * word, load_int64(state + stride * (table[k, 1] + word)))
            store_int64(kept + 8, FOLDED)
