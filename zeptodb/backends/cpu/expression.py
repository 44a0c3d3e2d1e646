"""The interpreter of programs: runs one section over one block of rows of one segment.

Registers are addresses. A plain int64, float64 or boolean column without a selection is read where it lies; everything
else is written to the register's home in the scratch memory. `scratch` is laid out as words:

    [0, R)        address of each register's values
    [R, 2 R)      address of each register's validity bytes, 0 when nothing is NULL
    [2 R, ...)    the homes: per register 1,024 words of values and 128 words of validity bytes

`columns` describes the snapshot in six words: the addresses table and its row stride, the validity table and its row
stride (both in bytes), the address of the segments' symbols, and that of the compiled `elementwise` table. A selection
is the address of int64 row offsets that are added to `row`; 0 means the `count` rows from `row` on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeptodb.backends import program
from zeptodb.backends.cpu.elementwise import AND_BYTES, apply
from zeptodb.backends.cpu.lanes import multiply_overflows
from zeptodb.backends.cpu.linkage import call_by_address
from zeptodb.jit import (
    address_of_kernel,
    copy_bytes,
    inline,
    kernel_with_address,
    load_int64,
    pointer_float32,
    pointer_float64,
    pointer_int32,
    pointer_int64,
    pointer_uint8,
)

Int64Array = npt.NDArray[np.int64]

_VALUE_WORDS = program.BLOCK_ROWS
_VALIDITY_WORDS = program.BLOCK_ROWS // 8
HOME_WORDS = _VALUE_WORDS + _VALIDITY_WORDS
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_SHORT_LIST = 8
_EVEN_BYTES = 0x00FF_00FF_00FF_00FF
_ONE_IN_16_BITS = 0x0001_0001_0001_0001

_LOAD_64, _LOAD_INT32, _LOAD_FLOAT32 = program.LOAD_64, program.LOAD_INT32, program.LOAD_FLOAT32
_LOAD_BOOL, _LOAD_SYMBOL = program.LOAD_BOOL, program.LOAD_SYMBOL
_ADD_INT, _SUBTRACT_INT, _MULTIPLY_INT = program.ADD_INT, program.SUBTRACT_INT, program.MULTIPLY_INT
_DIVIDE_INT, _MODULO_INT, _BUCKET = program.DIVIDE_INT, program.MODULO_INT, program.BUCKET
_ADD_FLOAT, _SUBTRACT_FLOAT, _MULTIPLY_FLOAT = program.ADD_FLOAT, program.SUBTRACT_FLOAT, program.MULTIPLY_FLOAT
_DIVIDE_FLOAT, _TO_FLOAT, _BOOL_TO_INT = program.DIVIDE_FLOAT, program.TO_FLOAT, program.BOOL_TO_INT
_EQUAL_INT, _NOT_EQUAL_INT, _LESS_INT = program.EQUAL_INT, program.NOT_EQUAL_INT, program.LESS_INT
_LESS_EQUAL_INT, _IN_INT = program.LESS_EQUAL_INT, program.IN_INT
_EQUAL_FLOAT, _NOT_EQUAL_FLOAT, _LESS_FLOAT = program.EQUAL_FLOAT, program.NOT_EQUAL_FLOAT, program.LESS_FLOAT
_LESS_EQUAL_FLOAT, _IN_FLOAT = program.LESS_EQUAL_FLOAT, program.IN_FLOAT
_AND, _OR, _NOT, _IS_NULL, _NULL_WHERE_NULL = (
    program.AND,
    program.OR,
    program.NOT,
    program.IS_NULL,
    program.NULL_WHERE_NULL,
)


def scratch_words(registers: int) -> int:
    """Words of scratch memory that the interpreter needs."""
    return registers * (2 + HOME_WORDS)


@inline
def repeat(width: int, out: int, value: int, count: int) -> None:
    """Write the low `width` (1, 4 or 8) bytes of a word `count` times, doubling what is there with each copy."""
    if count <= 0:
        return
    if width == 8:
        pointer_int64(out)[0] = value
    elif width == 4:
        pointer_int32(out)[0] = np.int32(value)
    else:
        pointer_uint8(out)[0] = np.uint8(value)
    done = 1
    while done < count:
        more = min(done, count - done)
        copy_bytes(out + width * done, out, width * more)
        done += more


@inline
def fill_constants(constants: Int64Array, registers: int, scratch: Int64Array, block_rows: int) -> None:
    """Write each constant into the first `block_rows` rows of its register."""
    for k in range(constants.shape[0]):
        register = constants[k, 0]
        home = scratch.ctypes.data + 8 * (2 * registers + register * HOME_WORDS)
        scratch[register] = home
        scratch[registers + register] = 0
        repeat(1 if constants[k, 2] != 0 else 8, home, constants[k, 1], block_rows)
        if constants[k, 3] == 0:
            scratch[registers + register] = home + 8 * _VALUE_WORDS
            repeat(1, home + 8 * _VALUE_WORDS, 0, block_rows)


@inline
def gather_words(out: int, source: int, selection: int, count: int) -> None:
    """out[i] = source[selection[i]] for words of 8 bytes."""
    to, origin, rows = pointer_int64(out), pointer_int64(source), pointer_int64(selection)
    for i in range(count):
        to[i] = origin[rows[i]]


@inline
def gather_halfwords(out: int, source: int, selection: int, count: int) -> None:
    """out[i] = source[selection[i]] for values of 4 bytes."""
    to, origin, rows = pointer_int32(out), pointer_int32(source), pointer_int64(selection)
    for i in range(count):
        to[i] = origin[rows[i]]


@inline
def gather_bytes(out: int, source: int, selection: int, count: int) -> None:
    """out[i] = source[selection[i]] for bytes."""
    to, origin, rows = pointer_uint8(out), pointer_uint8(source), pointer_int64(selection)
    for i in range(count):
        to[i] = origin[rows[i]]


@inline
def select_true(flags: int, count: int, out: int) -> int:
    """Write the positions of the non-zero bytes among `count` to `out` (int64); how many there are."""
    byte, position = pointer_uint8(flags), pointer_int64(out)
    found = 0
    for i in range(count):
        position[found] = i
        found += 1 if byte[i] != 0 else 0
    return found


@inline
def count_true(flags: int, validity: int, count: int) -> int:
    """How many of `count` (at most 1,024) bytes of 0 or 1 are 1, and their byte at `validity` (0: none), too."""
    words, byte = count >> 3, pointer_uint8(flags)
    eight, both = pointer_int64(flags), pointer_int64(flags if validity == 0 else validity)
    total = np.int64(0)
    for i in range(words):
        total += eight[i] & both[i]
    # Eight sums of at most 128; pairs of them add up in 16 bits.
    pairs = (total & _EVEN_BYTES) + ((total >> 8) & _EVEN_BYTES)
    found = ((pairs * _ONE_IN_16_BITS) >> 48) & 0xFFFF
    valid = pointer_uint8(flags if validity == 0 else validity)
    for i in range(words << 3, count):
        found += np.int64(byte[i] & valid[i])
    return int(found)


@inline
def _gather_wide(opcode: int, source: int, selection: int, count: int, home: int) -> None:
    """Selected values of INT32 as int64 and of FLOAT32 as float64."""
    rows = pointer_int64(selection)
    if opcode == _LOAD_INT32:
        integers, words = pointer_int32(source), pointer_int64(home)
        for i in range(count):
            words[i] = np.int64(integers[rows[i]])
    else:
        floats, doubles = pointer_float32(source), pointer_float64(home)
        for i in range(count):
            doubles[i] = np.float64(floats[rows[i]])


@inline
def _load(table: int, opcode: int, source: int, selection: int, count: int, home: int) -> int:
    """Bring a column into a register; the address of its values (source: of the first row of the block)."""
    if selection == 0:
        if opcode == _LOAD_64 or opcode == _LOAD_BOOL:
            return source
        apply(table, opcode, source, 0, home, count)
    elif opcode == _LOAD_64:
        gather_words(home, source, selection, count)
    elif opcode == _LOAD_BOOL:
        gather_bytes(home, source, selection, count)
    else:
        _gather_wide(opcode, source, selection, count, home)
    return home


@inline
def _both_valid(table: int, left: int, right: int, count: int, home: int) -> int:
    """Validity of an operation on two operands: 0 when neither has NULLs."""
    if left == 0 and right == 0:
        return 0
    if left == 0 or right == 0:
        copy_bytes(home, left + right, count)
        return home
    apply(table, AND_BYTES, left, right, home, count)
    return home


@inline
def _arithmetic_int(table: int, opcode: int, left: int, right: int, validity: int, count: int, home: int) -> bool:
    """+ - *; whether a row that is not NULL left int64."""
    a, b, out = pointer_int64(left), pointer_int64(right), pointer_int64(home)
    if opcode != _MULTIPLY_INT:
        wrapped = apply(table, opcode, left, right, home, count)
    else:
        wrapped = 0
        for i in range(count):
            out[i], is_wrapped = multiply_overflows(a[i], b[i])
            wrapped |= -1 if is_wrapped else 0
    if wrapped >= 0 or validity == 0:
        return wrapped < 0
    valid = pointer_uint8(validity)
    for i in range(count):
        if valid[i] != 0:
            if opcode == _ADD_INT:
                is_wrapped = ((a[i] ^ out[i]) & (b[i] ^ out[i])) < 0
            elif opcode == _SUBTRACT_INT:
                is_wrapped = ((a[i] ^ b[i]) & (a[i] ^ out[i])) < 0
            else:
                _, is_wrapped = multiply_overflows(a[i], b[i])
            if is_wrapped:
                return True
    return False


@inline
def _divide_int(opcode: int, left: int, right: int, validity: int, count: int, home: int) -> bool:
    """// and % toward zero; whether a row that is not NULL divides by zero or leaves int64."""
    a, b, out, valid = pointer_int64(left), pointer_int64(right), pointer_int64(home), pointer_uint8(validity)
    is_wrong = False
    for i in range(count):
        dividend, divisor = a[i], b[i]
        if divisor == 0 or (divisor == -1 and dividend == INT64_MIN):
            is_wrong |= validity == 0 or valid[i] != 0
            divisor = 1  # the processor traps on both
        quotient = dividend // divisor
        remainder = dividend - quotient * divisor
        if remainder != 0 and (dividend < 0) != (divisor < 0):
            quotient += 1
            remainder -= divisor
        out[i] = quotient if opcode == _DIVIDE_INT else remainder
    return is_wrong


@inline
def _bucket(argument: int, validity: int, width: int, origin: int, count: int, home: int) -> bool:
    """Floor to origin + a multiple of width, origin in [0, width); whether a row that is not NULL left int64."""
    x, out, valid = pointer_int64(argument), pointer_int64(home), pointer_uint8(validity)
    has_overflow = False
    for i in range(count):
        beyond = x[i] % width - origin
        if beyond < 0:
            beyond += width
        out[i] = x[i] - beyond
        has_overflow |= out[i] > x[i] and (validity == 0 or valid[i] != 0)
    return has_overflow


@inline
def _in_int(argument: int, lists: int, offset: int, length: int, count: int, home: int) -> None:
    x, out, values = pointer_int64(argument), pointer_uint8(home), pointer_int64(lists)
    repeat(1, home, 0, count)
    if length <= _SHORT_LIST:
        for k in range(offset, offset + length):
            value = values[k]
            for i in range(count):
                out[i] |= np.uint8(x[i] == value)
        return
    for i in range(count):
        low, high = offset, offset + length
        while low < high:
            middle = (low + high) >> 1
            if values[middle] < x[i]:
                low = middle + 1
            else:
                high = middle
        out[i] = np.uint8(low < offset + length and values[low] == x[i])


@inline
def _in_float(argument: int, lists: int, offset: int, length: int, count: int, home: int) -> None:
    x, out = pointer_float64(argument), pointer_uint8(home)
    doubles = pointer_float64(lists + 8 * offset)
    numbers = length
    while numbers > 0 and doubles[numbers - 1] != doubles[numbers - 1]:
        numbers -= 1
    for i in range(count):
        low, high = 0, numbers
        while low < high:
            middle = (low + high) >> 1
            if doubles[middle] < x[i]:
                low = middle + 1
            else:
                high = middle
        is_found = low < numbers and doubles[low] == x[i]
        if x[i] != x[i]:
            is_found = numbers < length
        out[i] = np.uint8(is_found)


@inline
def _logical(
    table: int,
    opcode: int,
    left: int,
    right: int,
    left_valid: int,
    right_valid: int,
    count: int,
    home: int,
    home_validity: int,
) -> int:
    """AND and OR by Kleene's rules; the address of the validity."""
    apply(table, opcode, left, right, home, count)
    if left_valid == 0 and right_valid == 0:
        return 0
    a, b, out = pointer_uint8(left), pointer_uint8(right), pointer_uint8(home)
    va, vb, valid = pointer_uint8(left_valid), pointer_uint8(right_valid), pointer_uint8(home_validity)
    decisive = np.uint8(0) if opcode == _AND else np.uint8(1)
    for i in range(count):
        has_left = left_valid == 0 or va[i] != 0
        has_right = right_valid == 0 or vb[i] != 0
        is_decided = (has_left and a[i] == decisive) or (has_right and b[i] == decisive)
        valid[i] = np.uint8(is_decided or (has_left and has_right))
        if is_decided:
            out[i] = decisive
    return home_validity


@inline
def _is_null(table: int, validity: int, count: int, home: int) -> None:
    if validity != 0:
        apply(table, _NOT, validity, 0, home, count)
        return
    repeat(1, home, 0, count)


@inline
def column_width(opcode: int) -> int:
    """Bytes of one stored value of a column that `opcode` loads."""
    if opcode == _LOAD_64:
        return 8
    return 1 if opcode == _LOAD_BOOL else 4


@inline
def _run_load(
    opcode: int, column: int, columns: int, segment: int, row: int, selection: int, count: int, home: int
) -> tuple[int, int]:
    """Addresses of the values and of the validity of a column."""
    snapshot = pointer_int64(columns)
    if opcode == _LOAD_SYMBOL:
        repeat(8, home, load_int64(snapshot[4] + 8 * segment), count)
        return home, 0
    source = load_int64(snapshot[0] + column * snapshot[1] + 8 * segment) + row * column_width(opcode)
    values = _load(snapshot[5], opcode, source, selection, count, home)
    validity = load_int64(snapshot[2] + column * snapshot[3] + 8 * segment)
    if validity != 0:
        validity += row
        if selection != 0:
            gather_bytes(home + 8 * _VALUE_WORDS, validity, selection, count)
            validity = home + 8 * _VALUE_WORDS
    return values, validity


@kernel_with_address
def _run_section(
    code: int, low: int, high: int, lists: int, registers: int, columns: int, segment: int, row: int, selection: int,
    count: int, scratch: int,
) -> int:  # fmt: skip
    """Run instructions `low` to `high` over `count` rows (at most 1,024); 1 when integer arithmetic
    left int64 or divided by zero."""
    homes = scratch + 16 * registers
    words = pointer_int64(scratch)
    table = pointer_int64(columns)[5]
    has_overflow = False
    for k in range(low, high):
        instruction = pointer_int64(code + 48 * k)
        opcode, result, a, b = instruction[0], instruction[1], instruction[2], instruction[3]
        home = homes + 8 * HOME_WORDS * result
        home_validity = home + 8 * _VALUE_WORDS
        if opcode <= _LOAD_SYMBOL:
            values, validity = _run_load(opcode, a, columns, segment, row, selection, count, home)
            words[result] = values
            words[registers + result] = validity
            continue
        left, left_valid = words[a], words[registers + a]
        right, right_valid = words[b], words[registers + b]
        words[result] = home
        if opcode == _AND or opcode == _OR:
            words[registers + result] = _logical(
                table, opcode, left, right, left_valid, right_valid, count, home, home_validity
            )
            continue
        if opcode == _IS_NULL:
            _is_null(table, left_valid, count, home)
            words[registers + result] = 0
            continue
        is_unary = opcode in (_BUCKET, _TO_FLOAT, _BOOL_TO_INT, _NOT, _IN_INT, _IN_FLOAT)
        validity = _both_valid(table, left_valid, 0 if is_unary else right_valid, count, home_validity)
        if opcode <= _MULTIPLY_INT:
            has_overflow |= _arithmetic_int(table, opcode, left, right, validity, count, home)
        elif opcode <= _MODULO_INT:
            has_overflow |= _divide_int(opcode, left, right, validity, count, home)
        elif opcode == _BUCKET:
            has_overflow |= _bucket(left, validity, instruction[4], instruction[5], count, home)
        elif opcode == _IN_INT:
            _in_int(left, lists, instruction[4], instruction[5], count, home)
        elif opcode == _IN_FLOAT:
            _in_float(left, lists, instruction[4], instruction[5], count, home)
        elif opcode == _NULL_WHERE_NULL:
            copy_bytes(home, left, 8 * count)
        else:
            apply(table, opcode, left, right, home, count)
        words[registers + result] = validity
    return 1 if has_overflow else 0


run_section = call_by_address(11)
"""(address of `interpreter`, then the arguments of `_run_section`), for kernels."""


def interpreter() -> int:
    """The address of the compiled interpreter."""
    return address_of_kernel(_run_section)


@inline
def select_where(register: int, registers: int, scratch: Int64Array, count: int, out: int) -> int:
    """Positions among `count` rows where a boolean register is true (not NULL), written to `out`; how many."""
    flags, validity = scratch[register], scratch[registers + register]
    if validity == 0:
        return select_true(flags, count, out)
    byte, valid, position = pointer_uint8(flags), pointer_uint8(validity), pointer_int64(out)
    found = 0
    for i in range(count):
        position[found] = i
        found += 1 if byte[i] & valid[i] != 0 else 0
    return found
