"""Aggregates as primitives: what kernels accumulate, each once however many aggregates share it.

The constants belong to the kernels that accumulate, so that this file counts as a kernel source of `zeptodb.jit`;
`states.py` says what the words of each primitive mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Aggregate, AggregateOp
from zeptodb.backends.expression import (
    Arithmetic,
    Bucket,
    ColumnRef,
    Comparison,
    Constant,
    Expression,
    Kind,
    Logical,
    Parameter,
    ToFloat,
)
from zeptodb.backends.program import (
    Assembler,
    BoolToInt,
    Node,
    NullWhereNull,
    Program,
    Section,
    may_be_null,
    parametrized,
    shape_of,
)
from zeptodb.types import ColumnType, Schema

Int64Array = npt.NDArray[np.int64]

ROWS = 0
COUNT = 1
SUM_INT = 2
SUM_FLOAT = 3
DOT_INT_INT = 4
DOT_INT_FLOAT = 5
DOT_FLOAT_INT = 6
DOT_FLOAT_FLOAT = 7
MINMAX_INT = 8
MINMAX_FLOAT = 9
VARIANCE = 10
FIRST = 11
LAST = 12

SLOTS = (1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 6, 1, 1)
"""Words of each primitive."""

MASKABLE = frozenset({ROWS, SUM_INT, SUM_FLOAT, DOT_INT_INT, DOT_FLOAT_FLOAT, FIRST, LAST})
"""Primitives that can leave out rows by a mask; of more, each kernel would take longer to compile."""

TESTABLE = frozenset({ROWS, SUM_INT, DOT_INT_INT})
"""Primitives that can test by themselves whether columns lie in intervals; behind DOT_INT_INT the SUM_INT of its right
operand must follow."""

SELECT = 0
"""Rows that pass a section's predicate are listed, and its arguments computed for them alone."""
TALLY = 1
"""They are only counted."""
TALLY_INTERVALS = 2
"""They are only counted, and the predicate is that columns of int64 without NULLs lie in intervals."""
MASK = 3
"""Arguments are columns without NULLs and primitives can leave rows out by themselves."""
MASK_INTERVALS = 4
"""As MASK, the predicate is as of TALLY_INTERVALS, and primitives are TESTABLE."""
WHOLE = 5
"""There is no predicate, and arguments are columns of 8 bytes without NULLs."""

_EIGHT_BYTES = frozenset({ColumnType.INT64, ColumnType.TIMESTAMP_NS, ColumnType.FLOAT64})

_DOTS = {
    (Kind.INT, Kind.INT): DOT_INT_INT,
    (Kind.INT, Kind.FLOAT): DOT_INT_FLOAT,
    (Kind.FLOAT, Kind.INT): DOT_FLOAT_INT,
    (Kind.FLOAT, Kind.FLOAT): DOT_FLOAT_FLOAT,
}


class Plan(NamedTuple):
    """What the kernels need to compute a list of aggregates.

    Attributes:
        program: computes predicates and arguments.
        sections, primitives: tables of `accumulate`.
        width: slots of a partial result.
        rows_slot: where the number of rows that pass the scan's predicate stands.
        slots: per aggregate the first slot of each of its primitives.
        operands: per primitive what it is computed from.
        ends: per FIRST and LAST (by place among the aggregates) the expression to take at the row found.
        plain_ends: those of them that are columns of 8 bytes without NULLs, by place: slot and column.
    """

    program: Program
    sections: Int64Array
    primitives: Int64Array
    width: int
    rows_slot: int
    slots: tuple[tuple[int, ...], ...]
    operands: tuple[tuple[Node, ...], ...]
    ends: dict[int, Expression]
    plain_ends: dict[int, tuple[int, int]]

    def with_program(self, program: Program) -> Plan:
        """The plan with another program of the same shape."""
        return Plan(
            program, self.sections, self.primitives, self.width, self.rows_slot, self.slots, self.operands, self.ends,
            self.plain_ends,
        )  # fmt: skip


class _Primitive(NamedTuple):
    opcode: int
    operands: tuple[Node, ...] = ()


class _Collector:
    """The distinct primitives of each condition."""

    def __init__(self, nullable: frozenset[int]) -> None:
        self.nullable = nullable
        self.sections: dict[Expression | None, dict[_Primitive, int]] = {None: {}}
        self.width = 0
        self.condition: Expression | None = None

    def add(self, opcode: int, *operands: Node) -> int:
        """The first slot of a primitive of the current condition."""
        section = self.sections.setdefault(self.condition, {})
        primitive = _Primitive(opcode, operands)
        if primitive not in section:
            section[primitive] = self.width
            self.width += SLOTS[opcode]
        return section[primitive]

    def is_nullable(self, node: Node) -> bool:
        return may_be_null(node, self.nullable)


def lower(
    aggregates: tuple[Aggregate, ...], predicate: Expression | None, nullable: frozenset[int], schema: Schema
) -> Plan:
    """Plan `aggregates` over the rows that pass `predicate`, when the columns `nullable` hold NULLs.

    Predicates that differ in numbers only share the work.
    """
    if predicate is None:
        return _lower(aggregates, None, nullable, schema)
    shape, numbers = shape_of(predicate)
    key = aggregates, shape, nullable, schema
    plan = _PLANS.get(key)
    if plan is None:
        if len(_PLANS) >= _KEPT_PLANS:
            _PLANS.clear()
        plan = _PLANS[key] = _lower(aggregates, parametrized(predicate)[0], nullable, schema)
    return plan if not numbers else plan.with_program(plan.program.with_values(numbers))


_KEPT_PLANS = 512
_PLANS: dict[tuple[tuple[Aggregate, ...], tuple[object, ...], frozenset[int], Schema], Plan] = {}


@lru_cache(maxsize=_KEPT_PLANS)
def _lower(
    aggregates: tuple[Aggregate, ...], predicate: Expression | None, nullable: frozenset[int], schema: Schema
) -> Plan:
    collector = _Collector(nullable)
    rows_slot = collector.add(ROWS)
    slots = []
    ends: dict[int, Expression] = {}
    for k, item in enumerate(aggregates):
        collector.condition = item.condition
        slots.append(_LOWERING[item.op](collector, item.arguments))
        if item.op in {AggregateOp.FIRST, AggregateOp.LAST}:
            ends[k] = item.arguments[0]
    assembler = Assembler(symbol_column=schema.symbol_index)
    assembled = [
        _assemble(assembler, nullable, predicate, condition, _in_order(found))
        for condition, found in collector.sections.items()
    ]
    program, offset = assembler.finish()
    sections, primitives = _tables(list(collector.sections.values()), assembled, offset)
    operands = tuple(primitive.operands for _, _, ordered, _ in assembled for primitive in ordered)
    plain = {
        k: (slots[k][0], expression.index)
        for k, expression in ends.items()
        if _is_plain(expression, nullable, schema.symbol_index)
    }
    return Plan(program, sections, primitives, collector.width, rows_slot, tuple(slots), operands, ends, plain)


def _is_plain(node: Node, nullable: frozenset[int], symbol_column: int) -> TypeGuard[ColumnRef]:
    """Whether it is a column of 8 bytes without NULLs that is stored with each row."""
    return (
        isinstance(node, ColumnRef)
        and node.type in _EIGHT_BYTES
        and node.index not in nullable
        and node.index != symbol_column
    )


def _in_order(found: Iterable[_Primitive]) -> list[_Primitive]:
    """Primitives in the order that kernels want: what they can take in one pass stands together.

    First the sums of products, each followed by that of its right operand, then the other sums, then the rest.
    """
    sums = dict.fromkeys(primitive for primitive in found if primitive.opcode == SUM_INT)
    ordered: dict[_Primitive, None] = {}
    for primitive in found:
        if primitive.opcode == DOT_INT_INT:
            ordered[primitive] = None
            second = _Primitive(SUM_INT, primitive.operands[1:])
            if second in sums:
                ordered[second] = None
    return list(ordered | sums | dict.fromkeys(found))


_Assembled = tuple[Section | None, Section, list[_Primitive], tuple[int, int, int]]


def _assemble(
    assembler: Assembler,
    nullable: frozenset[int],
    predicate: Expression | None,
    condition: Expression | None,
    found: list[_Primitive],
) -> _Assembled:
    """Instructions of the predicate (None: every row passes) and of the operands of one condition's primitives."""
    tested = predicate if condition is None else condition
    if predicate is not None and condition is not None:
        tested = Logical("and", predicate, condition)
    test = None if tested is None else assembler.section((tested,))
    operands = tuple(dict.fromkeys(node for primitive in found for node in primitive.operands))
    section, chosen = assembler.section(operands), (SELECT, 0, 0)
    if tested is not None:
        chosen = _how_rows_are_chosen(assembler, nullable, tested, found)
    elif all(_is_plain(node, nullable, assembler.symbol_column) for node in operands):
        chosen = (WHOLE, 0, 0)
    return test, section, found, chosen


def _how_rows_are_chosen(
    assembler: Assembler, nullable: frozenset[int], tested: Expression, found: list[_Primitive]
) -> tuple[int, int, int]:
    """The last three columns of a section's row."""
    if all(primitive.opcode == ROWS for primitive in found):
        intervals = assembler.intervals(tested, nullable)
        return (TALLY, 0, 0) if intervals is None else (TALLY_INTERVALS, *intervals)
    # What is computed for rows that do not pass must not fail.
    is_plain = all(
        isinstance(node, ColumnRef) and node.index not in nullable for primitive in found for node in primitive.operands
    )
    opcodes = {primitive.opcode for primitive in found}
    if not is_plain or may_be_null(tested, nullable) or not opcodes <= MASKABLE:
        return SELECT, 0, 0
    intervals = assembler.intervals(tested, nullable) if opcodes <= TESTABLE else None
    return (MASK, 0, 0) if intervals is None else (MASK_INTERVALS, *intervals)


def _tables(
    slots: list[dict[_Primitive, int]], assembled: list[_Assembled], offset: int
) -> tuple[Int64Array, Int64Array]:
    sections: list[tuple[int, ...]] = []
    primitives: list[tuple[int, ...]] = []
    for found, (test, section, order, chosen) in zip(slots, assembled, strict=True):
        operands = tuple(dict.fromkeys(node for primitive in order for node in primitive.operands))
        registers = {
            node: register if register >= 0 else offset - 1 - register
            for node, register in zip(operands, section.registers, strict=True)
        }
        first = len(primitives)
        for primitive in order:
            inputs = [registers[node] for node in primitive.operands]
            left = inputs[0] if inputs else 0
            primitives.append((primitive.opcode, left, inputs[-1] if inputs else 0, found[primitive]))
        tested = (0, 0, -1)
        if test is not None:
            register = test.registers[0]
            tested = (test.low, test.high, register if register >= 0 else offset - 1 - register)
        sections.append((*tested, section.low, section.high, first, len(primitives), *chosen))
    return np.array(sections, dtype=np.int64).reshape(-1, 10), np.array(primitives, dtype=np.int64).reshape(-1, 4)


_Arguments = tuple[Expression, ...]


def _number(node: Expression) -> Node:
    return BoolToInt(node) if node.kind is Kind.BOOL else node


def _as_float(node: Expression) -> Node:
    if node.kind is Kind.FLOAT:
        return node
    return ToFloat(BoolToInt(node) if node.kind is Kind.BOOL else node)  # type: ignore[arg-type]


def _count_rows(collector: _Collector, arguments: _Arguments) -> tuple[int, ...]:  # noqa: ARG001
    return (collector.add(ROWS),)


def _count(collector: _Collector, arguments: _Arguments) -> tuple[int, ...]:
    if not collector.is_nullable(arguments[0]) and not _may_fail(arguments[0]):
        return (collector.add(ROWS),)
    return (collector.add(COUNT, arguments[0]),)


def _may_fail(node: Node) -> bool:
    """Whether there is integer arithmetic in an expression, so that it must be computed even to be counted only."""
    match node:
        case Arithmetic() if node.kind is Kind.INT:
            return True
        case Bucket():
            return True
        case Arithmetic() | Comparison() | Logical():
            return _may_fail(node.left) or _may_fail(node.right)
        case ColumnRef() | Constant() | Parameter():
            return False
        case _:
            return _may_fail(node.argument)


def _sum(collector: _Collector, arguments: _Arguments) -> tuple[int, ...]:
    node = _number(arguments[0])
    return (collector.add(SUM_FLOAT if node.kind is Kind.FLOAT else SUM_INT, node),)


def _minmax(collector: _Collector, arguments: _Arguments) -> tuple[int, ...]:
    node = _number(arguments[0])
    return (collector.add(MINMAX_FLOAT if node.kind is Kind.FLOAT else MINMAX_INT, node),)


def _variance(collector: _Collector, arguments: _Arguments) -> tuple[int, ...]:
    return (collector.add(VARIANCE, _as_float(arguments[0])),)


def _end(opcode: int) -> Callable[[_Collector, _Arguments], tuple[int, ...]]:
    def lower_end(collector: _Collector, arguments: _Arguments) -> tuple[int, ...]:  # noqa: ARG001
        return (collector.add(opcode),)

    return lower_end


def _vwap(collector: _Collector, arguments: _Arguments) -> tuple[int, ...]:
    """The sum of products, and the sum of the volumes of rows whose price is not NULL."""
    price, volume = _number(arguments[0]), _number(arguments[1])
    products = collector.add(_DOTS[price.kind, volume.kind], price, volume)
    if not collector.is_nullable(price):
        counted = volume
    else:
        counted = NullWhereNull(volume, price)
    opcode = SUM_FLOAT if volume.kind is Kind.FLOAT else SUM_INT
    return products, collector.add(opcode, counted)


_LOWERING: dict[AggregateOp, Callable[[_Collector, _Arguments], tuple[int, ...]]] = {
    AggregateOp.COUNT_ROWS: _count_rows,
    AggregateOp.COUNT: _count,
    AggregateOp.SUM: _sum,
    AggregateOp.AVG: _sum,
    AggregateOp.MIN: _minmax,
    AggregateOp.MAX: _minmax,
    AggregateOp.FIRST: _end(FIRST),
    AggregateOp.LAST: _end(LAST),
    AggregateOp.VWAP: _vwap,
    AggregateOp.VARIANCE_SAMP: _variance,
    AggregateOp.VARIANCE_POP: _variance,
    AggregateOp.STDDEV_SAMP: _variance,
    AggregateOp.STDDEV_POP: _variance,
}
