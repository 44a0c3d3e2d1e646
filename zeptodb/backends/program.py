"""Lowers expressions into flat programs that a kernel interprets, vector-at-a-time over blocks of rows.

A program is a table of instructions over numbered registers; a register holds the values of one block (int64, float64
or one byte per boolean) and, where something may be NULL, one validity byte per row. Sections of a program share its
constants and registers but no results: each begins with loads. The constants below belong to the kernels that
interpret programs, so that this file counts as a kernel source of `zeptodb.jit`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.backends.expression import (
    Arithmetic,
    Bucket,
    ColumnRef,
    Comparison,
    ComparisonOp,
    Constant,
    Expression,
    InList,
    IsNull,
    Kind,
    Logical,
    Not,
    Parameter,
    ToFloat,
)
from zeptodb.record import record
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

BLOCK_ROWS = 1024
"""Rows that one instruction works on at most."""

LOAD_64 = 0
LOAD_INT32 = 1
LOAD_FLOAT32 = 2
LOAD_BOOL = 3
LOAD_SYMBOL = 4
ADD_INT = 10
SUBTRACT_INT = 11
MULTIPLY_INT = 12
DIVIDE_INT = 13
MODULO_INT = 14
BUCKET = 15
ADD_FLOAT = 20
SUBTRACT_FLOAT = 21
MULTIPLY_FLOAT = 22
DIVIDE_FLOAT = 23
TO_FLOAT = 24
BOOL_TO_INT = 25
EQUAL_INT = 30
NOT_EQUAL_INT = 31
LESS_INT = 32
LESS_EQUAL_INT = 33
IN_INT = 34
EQUAL_FLOAT = 40
NOT_EQUAL_FLOAT = 41
LESS_FLOAT = 42
LESS_EQUAL_FLOAT = 43
IN_FLOAT = 44
AND = 50
OR = 51
NOT = 52
IS_NULL = 53
NULL_WHERE_NULL = 54

_INT_ARITHMETIC = {"+": ADD_INT, "-": SUBTRACT_INT, "*": MULTIPLY_INT, "//": DIVIDE_INT, "%": MODULO_INT}
_FLOAT_ARITHMETIC = {"+": ADD_FLOAT, "-": SUBTRACT_FLOAT, "*": MULTIPLY_FLOAT, "/": DIVIDE_FLOAT}
_COMPARISONS = {"=": EQUAL_INT, "!=": NOT_EQUAL_INT, "<": LESS_INT, "<=": LESS_EQUAL_INT}
_SWAPPED = {">": "<", ">=": "<="}
_MIRRORED: dict[str, ComparisonOp] = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_INT64_COLUMNS = frozenset({ColumnType.INT64, ColumnType.TIMESTAMP_NS})
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_MOST_INTERVALS = 2
_FROM, _UP_TO = frozenset({">", ">=", "="}), frozenset({"<", "<=", "="})
_FLOAT_COMPARISON_OFFSET = EQUAL_FLOAT - EQUAL_INT
_LOADS = {
    ColumnType.INT64: LOAD_64,
    ColumnType.TIMESTAMP_NS: LOAD_64,
    ColumnType.FLOAT64: LOAD_64,
    ColumnType.INT32: LOAD_INT32,
    ColumnType.STRING: LOAD_INT32,
    ColumnType.FLOAT32: LOAD_FLOAT32,
    ColumnType.BOOL: LOAD_BOOL,
}


@record
class BoolToInt:
    """A BOOL expression as 0 or 1."""

    argument: Node

    @property
    def kind(self) -> Kind:
        """INT."""
        return Kind.INT


@record
class NullWhereNull:
    """`argument`, but NULL also where `other` is NULL."""

    argument: Node
    other: Node

    @property
    def kind(self) -> Kind:
        """The kind of the argument."""
        return self.argument.kind


Node = Expression | BoolToInt | NullWhereNull
"""What can be lowered: expressions, and two nodes that only aggregates need."""


class Bound(NamedTuple):
    """A comparison of a column with a number: an integer, or one that is known later."""

    column: int
    op: ComparisonOp
    number: int | Parameter


class Section(NamedTuple):
    """Instructions `low` to `high` (exclusive) and the register of each lowered expression."""

    low: int
    high: int
    registers: tuple[int, ...]


class Program(NamedTuple):
    """Instructions for a kernel.

    Attributes:
        code: one row per instruction: opcode, result register, left register (of loads: the column), right register,
            and two integers (bucket width and origin; offset and length of an IN list).
        constants: one row per constant register: register, bits of the value, 1 for a boolean, 1 when not NULL. They
            are filled before the first block.
        lists: values of all IN lists, each ascending (floats as bits, NaN last).
        registers: how many there are.
        parameters: row of `constants`, position of the value, and whether it is a float.
        intervals: offset in `lists`, and what narrows the intervals that stand there.
    """

    code: Int64Array
    constants: Int64Array
    lists: Int64Array
    registers: int
    parameters: tuple[tuple[int, int, bool], ...] = ()
    intervals: tuple[tuple[int, tuple[Bound, ...]], ...] = ()

    def with_values(self, values: Sequence[float]) -> Program:
        """The program with the values of its parameters."""
        constants, lists = self.constants.copy(), self.lists
        for row, position, is_float in self.parameters:
            constants[row, 1] = float_bits(float(values[position])) if is_float else int(values[position])
        if self.intervals:
            lists = lists.copy()
            for offset, bounds in self.intervals:
                numbers = _intervals(bounds, values)
                lists[offset : offset + len(numbers)] = numbers
        return Program(self.code, constants, lists, self.registers)


class Assembler:
    """Collects sections of instructions; equal subexpressions of one section are computed once."""

    def __init__(self, *, symbol_column: int) -> None:
        """`symbol_column` is the position of the symbol column, -1 when there is none."""
        self.symbol_column = symbol_column
        self._code: list[list[int]] = []
        self._lists: list[int] = []
        self._constants: dict[tuple[int, bool, bool] | tuple[Parameter, bool], int] = {}
        self._intervals: list[tuple[int, tuple[Bound, ...]]] = []
        self._temporaries = 0
        self._known: dict[Node, int] = {}
        self._virtual: list[list[int]] = []

    def section(self, nodes: tuple[Node, ...]) -> Section:
        """Append instructions that compute `nodes` from the columns."""
        self._known = {}
        self._virtual = []
        results = [self._lower(node) for node in nodes]
        low = len(self._code)
        physical = self._allocate(results)
        return Section(low, len(self._code), tuple(physical))

    def intervals(self, predicate: Expression, nullable: frozenset[int]) -> tuple[int, int] | None:
        """Add a predicate to the lists as intervals (column, least, greatest); offset of the first, and their number.

        None unless it says no more than that one or two int64 columns, none of them in `nullable`, lie in intervals.
        """
        bounds = _bounds(predicate)
        if bounds is None:
            return None
        columns = {bound.column for bound in bounds}
        if len(columns) > _MOST_INTERVALS or self.symbol_column in columns or not nullable.isdisjoint(columns):
            return None
        offset = len(self._lists)
        self._lists += _intervals(bounds)
        self._intervals.append((offset, bounds))
        return offset, len(columns)

    def finish(self) -> tuple[Program, int]:
        """The program, and the offset to add to constant registers: register -1 - i of a section is offset + i."""
        code = np.array(self._code, dtype=np.int64).reshape(-1, 6)
        offset = self._temporaries
        for column in (2, 3):
            registers = code[:, column]
            constant = registers < 0
            registers[constant] = offset - 1 - registers[constant]
        rows: list[tuple[int, int, bool, bool]] = []
        parameters: list[tuple[int, int, bool]] = []
        for i, key in enumerate(self._constants):
            if isinstance(key[0], Parameter):
                parameters.append((i, key[0].position, key[1]))
                rows.append((offset + i, 0, False, True))
            else:
                rows.append((offset + i, *key))
        constants = np.array(rows, dtype=np.int64).reshape(-1, 4)
        lists = np.array(self._lists, dtype=np.int64)
        count = offset + len(constants)
        return Program(code, constants, lists, count, tuple(parameters), tuple(self._intervals)), offset

    def _allocate(self, results: list[int]) -> list[int]:
        """Give the section's virtual registers physical ones; a register is free again after its last use."""
        last_use = dict.fromkeys(results, len(self._virtual))
        for position, instruction in enumerate(self._virtual):
            for register in _sources(instruction):
                last_use[register] = max(last_use.get(register, 0), position)
        free: list[int] = []
        used = 0
        physical: dict[int, int] = {}
        for position, instruction in enumerate(self._virtual):
            operands = _sources(instruction)
            if free:
                physical[position] = free.pop()
            else:
                physical[position] = used
                used += 1
            self._code.append(_renumber(instruction, physical[position], physical))
            for register in set(operands):
                if register >= 0 and last_use[register] == position:
                    free.append(physical[register])
        self._temporaries = max(self._temporaries, used)
        return [r if r < 0 else physical[r] for r in results]

    def _emit(self, opcode: int, left: int = 0, right: int = 0, first: int = 0, second: int = 0) -> int:
        self._virtual.append([opcode, len(self._virtual), left, right, first, second])
        return len(self._virtual) - 1

    def _constant(self, bits: int, *, is_bool: bool, is_valid: bool) -> int:
        return -1 - self._constants.setdefault((bits, is_bool, is_valid), len(self._constants))

    def _lower(self, node: Node) -> int:
        register = self._known.get(node)
        if register is None:
            register = _LOWERING[type(node)](self, node)
            self._known[node] = register
        return register

    def load_opcode(self, node: ColumnRef) -> int:
        """The instruction that loads a column."""
        return LOAD_SYMBOL if node.index == self.symbol_column else _LOADS[node.type]

    def _column(self, node: ColumnRef) -> int:
        return self._emit(self.load_opcode(node), node.index)

    def _literal(self, node: Constant) -> int:
        value = 0 if node.value is None else node.value
        bits = float_bits(float(value)) if node.kind is Kind.FLOAT else int(value)
        return self._constant(bits, is_bool=node.kind is Kind.BOOL, is_valid=node.value is not None)

    def _parameter(self, node: Parameter, *, is_float: bool = False) -> int:
        key = node, is_float or node.kind is Kind.FLOAT
        return -1 - self._constants.setdefault(key, len(self._constants))

    def _to_float(self, node: ToFloat) -> int:
        if isinstance(node.argument, Parameter):
            return self._parameter(node.argument, is_float=True)
        if isinstance(node.argument, Constant):
            value = node.argument.value
            return self._literal(Constant(None if value is None else float(value), Kind.FLOAT))
        return self._emit(TO_FLOAT, self._lower(node.argument))

    def _arithmetic(self, node: Arithmetic) -> int:
        opcodes = _FLOAT_ARITHMETIC if node.kind is Kind.FLOAT else _INT_ARITHMETIC
        return self._emit(opcodes[node.op], self._lower(node.left), self._lower(node.right))

    def _bucket(self, node: Bucket) -> int:
        return self._emit(BUCKET, self._lower(node.argument), 0, node.width, node.origin % node.width)

    def _comparison(self, node: Comparison) -> int:
        left, right = self._comparable(node.left), self._comparable(node.right)
        op: str = node.op
        if op in _SWAPPED:
            left, right, op = right, left, _SWAPPED[op]
        offset = _FLOAT_COMPARISON_OFFSET if node.left.kind is Kind.FLOAT else 0
        return self._emit(_COMPARISONS[op] + offset, left, right)

    def _comparable(self, node: Node) -> int:
        return self._lower(BoolToInt(node) if node.kind is Kind.BOOL else node)

    def _in_list(self, node: InList) -> int:
        argument = self._lower(node.argument)
        start = len(self._lists)
        if node.argument.kind is Kind.FLOAT:
            floats = sorted((float(v) for v in node.values), key=lambda v: (math.isnan(v), v))
            self._lists.extend(float_bits(v) for v in floats)
            return self._emit(IN_FLOAT, argument, 0, start, len(floats))
        self._lists.extend(sorted(int(v) for v in node.values))
        return self._emit(IN_INT, argument, 0, start, len(node.values))

    def _logical(self, node: Logical) -> int:
        return self._emit(AND if node.op == "and" else OR, self._lower(node.left), self._lower(node.right))

    def _not(self, node: Not) -> int:
        return self._emit(NOT, self._lower(node.argument))

    def _is_null(self, node: IsNull) -> int:
        return self._emit(IS_NULL, self._lower(node.argument))

    def _bool_to_int(self, node: BoolToInt) -> int:
        return self._emit(BOOL_TO_INT, self._lower(node.argument))

    def _null_where_null(self, node: NullWhereNull) -> int:
        return self._emit(NULL_WHERE_NULL, self._lower(node.argument), self._lower(node.other))


_LOWERING: dict[type, Callable[[Assembler, Any], int]] = {
    ColumnRef: Assembler._column,
    Constant: Assembler._literal,
    ToFloat: Assembler._to_float,
    Arithmetic: Assembler._arithmetic,
    Bucket: Assembler._bucket,
    Comparison: Assembler._comparison,
    InList: Assembler._in_list,
    Logical: Assembler._logical,
    Not: Assembler._not,
    IsNull: Assembler._is_null,
    BoolToInt: Assembler._bool_to_int,
    NullWhereNull: Assembler._null_where_null,
    Parameter: Assembler._parameter,
}
_BINARY = frozenset(
    {
        *_INT_ARITHMETIC.values(),
        *_FLOAT_ARITHMETIC.values(),
        *_COMPARISONS.values(),
        *(opcode + _FLOAT_COMPARISON_OFFSET for opcode in _COMPARISONS.values()),
        AND,
        OR,
        NULL_WHERE_NULL,
    }
)


def float_bits(value: float) -> int:
    """The bits of a float64 as an int64."""
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits


def columns_in(node: Node) -> frozenset[int]:
    """Columns that an expression reads."""
    match node:
        case ColumnRef():
            return frozenset({node.index})
        case Constant() | Parameter():
            return frozenset()
        case Arithmetic() | Comparison() | Logical():
            return columns_in(node.left) | columns_in(node.right)
        case NullWhereNull():
            return columns_in(node.argument) | columns_in(node.other)
        case _:
            return columns_in(node.argument)


def may_be_null(node: Node, nullable: frozenset[int]) -> bool:
    """Whether `node` can give NULL when only the columns in `nullable` hold NULLs."""
    match node:
        case ColumnRef():
            return node.index in nullable
        case Constant():
            return node.value is None
        case IsNull() | Parameter():
            return False
        case Arithmetic() | Comparison() | Logical():
            return may_be_null(node.left, nullable) or may_be_null(node.right, nullable)
        case NullWhereNull():
            return may_be_null(node.argument, nullable) or may_be_null(node.other, nullable)
        case _:
            return may_be_null(node.argument, nullable)


def shape_of(node: Node) -> tuple[tuple[object, ...], list[float]]:
    """What two expressions have in common that differ in numbers only, hashable, and the numbers, in order."""
    shape: list[object] = []
    numbers: list[float] = []
    _describe(node, shape, numbers)
    return tuple(shape), numbers


def _describe(node: Node, shape: list[object], numbers: list[float]) -> None:
    kind = type(node)
    shape.append(kind)
    if isinstance(node, (Comparison, Logical, Arithmetic)):
        shape.append(node.op)
        _describe(node.left, shape, numbers)
        _describe(node.right, shape, numbers)
    elif isinstance(node, (Not, IsNull, ToFloat)):
        _describe(node.argument, shape, numbers)
    elif isinstance(node, Constant) and _is_number(node):
        shape.append(node.kind)
        numbers.append(node.value)  # type: ignore[arg-type]
    else:
        shape.append(node)


def _is_number(node: Constant) -> bool:
    return node.value is not None and node.kind is not Kind.BOOL


def parametrized(node: Expression, first: int = 0) -> tuple[Expression, int]:
    """The expression with the numbers that `shape_of` lists as parameters from `first` on, and the next position."""
    if isinstance(node, Constant) and _is_number(node):
        return Parameter(first, node.kind), first + 1
    if isinstance(node, (Comparison, Logical, Arithmetic)):
        left, middle = parametrized(node.left, first)
        right, end = parametrized(node.right, middle)
        return replace(node, left=left, right=right), end
    if isinstance(node, (Not, IsNull, ToFloat)):
        argument, end = parametrized(node.argument, first)
        return replace(node, argument=argument), end
    return node, first


def _intervals(bounds: tuple[Bound, ...], values: Sequence[float] = ()) -> list[int]:
    """Column, least and greatest of each interval that is left of all numbers; without `values` as if each were 0."""
    found: dict[int, tuple[int, int]] = {}
    for column, op, number in bounds:
        least, greatest = found.get(column, (_INT64_MIN, _INT64_MAX))
        value = number if isinstance(number, int) else int(values[number.position]) if values else 0
        if value == (_INT64_MAX if op == ">" else _INT64_MIN if op == "<" else None):
            least, greatest = _INT64_MAX, _INT64_MIN
        if op in _FROM:
            least = max(least, value + (op == ">" and value < _INT64_MAX))
        if op in _UP_TO:
            greatest = min(greatest, value - (op == "<" and value > _INT64_MIN))
        found[column] = least, greatest
    return [number for column, interval in found.items() for number in (column, *interval)]


def _bounds(node: Expression) -> tuple[Bound, ...] | None:
    """The comparisons of int64 columns with numbers of which a predicate is a conjunction; None when it is none."""
    if isinstance(node, Logical):
        left = _bounds(node.left) if node.op == "and" else None
        right = None if left is None else _bounds(node.right)
        return None if left is None or right is None else left + right
    if not isinstance(node, Comparison) or node.op not in _MIRRORED:
        return None
    column, constant, op = node.left, node.right, node.op
    if isinstance(column, (Constant, Parameter)):
        column, constant, op = constant, column, _MIRRORED[op]
    if not isinstance(column, ColumnRef) or column.type not in _INT64_COLUMNS:
        return None
    if isinstance(constant, Parameter):
        return (Bound(column.index, op, constant),)
    if isinstance(constant, Constant) and constant.value is not None:
        return (Bound(column.index, op, int(constant.value)),)
    return None


def _sources(instruction: list[int]) -> tuple[int, ...]:
    opcode, _, left, right, _, _ = instruction
    if opcode <= LOAD_SYMBOL:
        return ()
    return (left, right) if opcode in _BINARY else (left,)


def _renumber(instruction: list[int], result: int, physical: dict[int, int]) -> list[int]:
    opcode, _, left, right, first, second = instruction
    if opcode > LOAD_SYMBOL:
        left = physical.get(left, left)
    if opcode in _BINARY:
        right = physical.get(right, right)
    return [opcode, result, left, right, first, second]
