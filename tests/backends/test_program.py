"""Lowering of expressions into programs."""

from __future__ import annotations

from zeptodb.backends import program
from zeptodb.backends.expression import Arithmetic, ColumnRef, Comparison, Constant, Kind, Not, ToFloat
from zeptodb.backends.program import Assembler, may_be_null
from zeptodb.types import ColumnType

X, Y = ColumnRef(0, ColumnType.INT64), ColumnRef(1, ColumnType.INT64)


def test_equal_subexpressions_are_computed_once() -> None:
    assembler = Assembler(symbol_column=-1)
    total = Arithmetic("+", X, Y)
    section = assembler.section((Arithmetic("*", total, total), total))
    assert section.high - section.low == 4


def test_registers_are_used_again_after_their_last_use() -> None:
    assembler = Assembler(symbol_column=-1)
    chain = X
    for k in range(50):
        chain = Arithmetic("+", chain, Constant(k, Kind.INT))
    assembler.section((chain,))
    finished, _ = assembler.finish()
    assert finished.registers == 50 + 2
    for _, result, left, right, _, _ in finished.code.tolist()[1:]:
        assert result not in {left, right}


def test_result_registers_are_not_overwritten() -> None:
    assembler = Assembler(symbol_column=-1)
    section = assembler.section((X, Not(Comparison("=", X, Y)), Y))
    assert len(set(section.registers)) == 3


def test_constants_are_shared_by_sections_and_numbered_behind_the_temporaries() -> None:
    assembler = Assembler(symbol_column=-1)
    first = assembler.section((Comparison(">", X, Constant(5, Kind.INT)),))
    second = assembler.section((Constant(5, Kind.INT),))
    finished, offset = assembler.finish()
    assert second.registers == (-1,)
    assert finished.constants.tolist() == [[offset, 5, 0, 1]]
    assert finished.code[first.high - 1].tolist()[:4] == [program.LESS_INT, 1, offset, 0]


def test_integer_literal_becomes_a_float_before_the_scan() -> None:
    assembler = Assembler(symbol_column=-1)
    section = assembler.section((ToFloat(Constant(3, Kind.INT)),))
    finished, _ = assembler.finish()
    assert section.low == section.high
    assert finished.constants[0, 1] == program.float_bits(3.0)


def test_null_comes_from_columns_and_constants_only() -> None:
    assert not may_be_null(Arithmetic("/", ToFloat(X), ToFloat(Y)), frozenset())
    assert may_be_null(Arithmetic("+", X, Y), frozenset({1}))
    assert may_be_null(Constant(None, Kind.INT), frozenset())
