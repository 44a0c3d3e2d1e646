"""Operations on every row of a block, as one table from opcode to LLVM code, for kernels made with `zeptodb.jit`.

Each entry says how to compute one element; the loops around it, vectors first and then the rest one by one, are made
here, so that LLVM need not find out by itself (and spend seconds on it) that the loops can be vectorised.
"""

# What numba hands to an intrinsic has no public type, and an intrinsic must name arguments that it only passes on.
# ruff: noqa: ARG001
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from zeptodb.backends import program
from zeptodb.backends.cpu.lanes import Builder, Value, Values, constant_like, load_elements, to_double, typed_like
from zeptodb.backends.cpu.linkage import call_by_address
from zeptodb.jit import address_of_kernel, intrinsic, kernel_with_address

AND_BYTES = 100
"""Bitwise AND of bytes: the validity of an operation on two operands."""

_BYTE, _INT32, _INT64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()

Element = Callable[..., Any]


class _Operation(NamedTuple):
    """Attributes: types of the operands and the result, and (builder, *elements) -> the result's element.

    An element function may also return a pair: the result, and a word that is negative where int64 was left.
    """

    operands: tuple[ir.Type, ...]
    result: ir.Type
    element: Element


def _flag(builder: Builder, condition: Value) -> Value:
    return builder.zext(condition, typed_like(condition, _BYTE))


def _add(builder: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    result = builder.add(x, y)
    return result, builder.and_(builder.xor(x, result), builder.xor(y, result))


def _subtract(builder: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    result = builder.sub(x, y)
    return result, builder.and_(builder.xor(x, y), builder.xor(x, result))


def _is_nan(builder: Builder, x: Value) -> Value:
    return builder.fcmp_unordered("uno", x, x)


def _equal(builder: Builder, x: Value, y: Value) -> Value:
    both_nan = builder.and_(_is_nan(builder, x), _is_nan(builder, y))
    return _flag(builder, builder.or_(builder.fcmp_ordered("==", x, y), both_nan))


def _not_equal(builder: Builder, x: Value, y: Value) -> Value:
    result = _equal(builder, x, y)
    return builder.xor(result, constant_like(result, _BYTE, 1))


def _less(builder: Builder, x: Value, y: Value) -> Value:
    below_nan = builder.and_(builder.fcmp_ordered("ord", x, x), _is_nan(builder, y))
    return _flag(builder, builder.or_(builder.fcmp_ordered("<", x, y), below_nan))


def _less_equal(builder: Builder, x: Value, y: Value) -> Value:
    return _flag(builder, builder.or_(builder.fcmp_ordered("<=", x, y), _is_nan(builder, y)))


def _float_operation(name: str) -> _Operation:
    return _Operation((_DOUBLE, _DOUBLE), _DOUBLE, lambda builder, x, y: getattr(builder, name)(x, y))


def _int_comparison(comparison: str) -> _Operation:
    return _Operation(
        (_INT64, _INT64), _BYTE, lambda builder, x, y: _flag(builder, builder.icmp_signed(comparison, x, y))
    )


def _byte_operation(name: str) -> _Operation:
    return _Operation((_BYTE, _BYTE), _BYTE, lambda builder, x, y: getattr(builder, name)(x, y))


_OPERATIONS = {
    program.LOAD_INT32: _Operation((_INT32,), _INT64, lambda b, x: b.sext(x, typed_like(x, _INT64))),
    program.LOAD_FLOAT32: _Operation((_FLOAT,), _DOUBLE, lambda b, x: b.fpext(x, typed_like(x, _DOUBLE))),
    program.ADD_INT: _Operation((_INT64, _INT64), _INT64, _add),
    program.SUBTRACT_INT: _Operation((_INT64, _INT64), _INT64, _subtract),
    program.ADD_FLOAT: _float_operation("fadd"),
    program.SUBTRACT_FLOAT: _float_operation("fsub"),
    program.MULTIPLY_FLOAT: _float_operation("fmul"),
    program.DIVIDE_FLOAT: _float_operation("fdiv"),
    program.TO_FLOAT: _Operation((_INT64,), _DOUBLE, to_double),
    program.BOOL_TO_INT: _Operation((_BYTE,), _INT64, lambda b, x: b.zext(x, typed_like(x, _INT64))),
    program.EQUAL_INT: _int_comparison("=="),
    program.NOT_EQUAL_INT: _int_comparison("!="),
    program.LESS_INT: _int_comparison("<"),
    program.LESS_EQUAL_INT: _int_comparison("<="),
    program.EQUAL_FLOAT: _Operation((_DOUBLE, _DOUBLE), _BYTE, _equal),
    program.NOT_EQUAL_FLOAT: _Operation((_DOUBLE, _DOUBLE), _BYTE, _not_equal),
    program.LESS_FLOAT: _Operation((_DOUBLE, _DOUBLE), _BYTE, _less),
    program.LESS_EQUAL_FLOAT: _Operation((_DOUBLE, _DOUBLE), _BYTE, _less_equal),
    program.AND: _byte_operation("and_"),
    program.OR: _byte_operation("or_"),
    program.NOT: _Operation((_BYTE,), _BYTE, lambda b, x: b.xor(x, constant_like(x, _BYTE, 1))),
    AND_BYTES: _byte_operation("and_"),
}


def _emit_loop(
    builder: Builder, operation: _Operation, arguments: Values, out: Value, wrapped: Value, first: Value, last: Value,
    width: int,
) -> None:  # fmt: skip
    """Elements `first` to `last` (exclusive) in steps of `width`, which divides their number."""
    from numba.core import cgutils

    vector_flag = None
    if width > 1:
        vector_flag = cgutils.alloca_once(builder, ir.VectorType(_INT64, width))
        builder.store(ir.Constant(ir.VectorType(_INT64, width), [0] * width), vector_flag)
    steps = builder.sdiv(builder.sub(last, first), ir.Constant(_INT64, width))
    with cgutils.for_range(builder, steps) as loop:
        index = builder.add(first, builder.mul(loop.index, ir.Constant(_INT64, width)))
        elements = [
            load_elements(builder, address, index, scalar, width)
            for address, scalar in zip(arguments, operation.operands, strict=False)
        ]
        result = operation.element(builder, *elements)
        if isinstance(result, tuple):
            slot = wrapped if vector_flag is None else vector_flag
            result, word = result
            builder.store(builder.or_(builder.load(slot), word), slot)
        place = builder.gep(builder.inttoptr(out, operation.result.as_pointer()), [index])
        builder.store(result, builder.bitcast(place, result.type.as_pointer()), align=1)
    if vector_flag is not None:
        words = builder.load(vector_flag)
        for lane in range(width):
            word = builder.extract_element(words, ir.Constant(ir.IntType(32), lane))
            builder.store(builder.or_(builder.load(wrapped), word), wrapped)


@intrinsic(5)
def _apply() -> tuple[Any, Any]:
    from numba import types
    from numba.core import cgutils

    def generate(context: object, builder: Builder, signature: object, arguments: Values) -> Value:
        code, left, right, to, rows = arguments
        wrapped = cgutils.alloca_once_value(builder, ir.Constant(_INT64, 0))
        end = builder.append_basic_block("elementwise.end")
        switch = builder.switch(code, end)
        for number, operation in _OPERATIONS.items():
            block = builder.append_basic_block(f"elementwise.{number}")
            switch.add_case(ir.Constant(_INT64, number), block)
            builder.position_at_end(block)
            all_bytes = {*operation.operands, operation.result} == {_BYTE}
            shift = 5 if all_bytes else 3
            whole = builder.shl(builder.ashr(rows, ir.Constant(_INT64, shift)), ir.Constant(_INT64, shift))
            zero = ir.Constant(_INT64, 0)
            _emit_loop(builder, operation, (left, right), to, wrapped, zero, whole, 1 << shift)
            _emit_loop(builder, operation, (left, right), to, wrapped, whole, rows, 1)
            builder.branch(end)
        builder.position_at_end(end)
        return builder.load(wrapped)

    return types.int64(*([types.int64] * 5)), generate


@kernel_with_address
def _elementwise(opcode: int, first: int, second: int, out: int, count: int) -> int:
    wrapped: int = _apply(opcode, first, second, out, count)
    return wrapped


apply = call_by_address(5)
"""(address of `elementwise`, opcode, first, second, out, count), for kernels: compute `count` elements at address `out`
from those at `first` and `second` (unused by unary operations). Negative when integer arithmetic left int64."""


def elementwise() -> int:
    """The address of the compiled table."""
    return address_of_kernel(_elementwise)
