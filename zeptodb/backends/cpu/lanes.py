"""Reductions over one tile, written as vector loops in LLVM's own terms, for kernels made with `zeptodb.jit`.

Neither numba nor LLVM may reorder float additions, so a plain loop runs one addition at a time. Here the order is part
of the program: element i of a tile goes to lane i mod 16, those at its end with the other lanes masked, and the lanes
are folded in halves. The result is therefore the same on every processor, whatever its vector width.
"""

# What numba hands to an intrinsic has no public type, and an intrinsic must name arguments that it only passes on.
# ruff: noqa: ANN401
# mypy: allow-untyped-calls

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import llvmlite.binding as llvm
from llvmlite import ir

from zeptodb.jit import intrinsic

_WIDTH = 8
_DOUBLE = ir.DoubleType()
_INT64 = ir.IntType(64)
_INT32 = ir.IntType(32)
_BYTE = ir.IntType(8)
_INFINITY = float("inf")
_SIGNED_HIGH = 0x4530_0000_8000_0000
_LOW = 0x4330_0000_0000_0000
_SIGNED_ALL = 2.0**84 + 2.0**63 + 2.0**52

Builder: TypeAlias = ir.IRBuilder
Value: TypeAlias = ir.Value
Values: TypeAlias = Sequence[ir.Value]


class _Reduction(NamedTuple):
    """A loop over equally long inputs.

    Attributes:
        inputs: LLVM type of one element of each input.
        initial: type and start value of each accumulator.
        step: (builder, accumulators, elements, extra arguments) -> accumulators; for vectors and scalars alike.
        fold: (builder, accumulators, other accumulators) -> accumulators; likewise.
        is_masked: whether one more input follows, bytes, and elements whose byte is 0 are left out.
    """

    inputs: tuple[ir.Type, ...]
    initial: tuple[tuple[ir.Type, float], ...]
    step: Callable[[Builder, Values, Values, Values], list[Value]]
    fold: Callable[[Builder, Values, Values], list[Value]]
    is_masked: bool = False

    def take(self, builder: Builder, accumulators: Values, elements: Values, extra: Values) -> list[Value]:
        """One step of the loop."""
        if not self.is_masked:
            return self.step(builder, accumulators, elements, extra)
        *elements, byte = elements
        is_taken = builder.icmp_unsigned("!=", byte, constant_like(byte, _BYTE, 0))
        stepped = self.step(builder, accumulators, elements, extra)
        return [builder.select(is_taken, new, old) for new, old in zip(stepped, accumulators, strict=True)]


def constant_like(value: Value, scalar: ir.Type, constant: float) -> ir.Constant:
    """`constant` as `scalar`, or as a vector of it when `value` is a vector."""
    if isinstance(value.type, ir.VectorType):
        return ir.Constant(ir.VectorType(scalar, value.type.count), [constant] * value.type.count)
    return ir.Constant(scalar, constant)


def typed_like(value: Value, scalar: ir.Type) -> ir.Type:
    """`scalar`, or the vector of it that is as wide as `value`."""
    return ir.VectorType(scalar, value.type.count) if isinstance(value.type, ir.VectorType) else scalar


def _emit_reduction(builder: Builder, reduction: _Reduction, addresses: Values, count: Value, extra: Values) -> Values:
    """Emit the vector loop, its last step and the fold of its lanes."""
    from numba.core import cgutils  # where a kernel is compiled, and only there, is numba imported

    vectors = [ir.VectorType(scalar, _WIDTH) for scalar, _ in reduction.initial]
    slots = [
        [
            cgutils.alloca_once_value(builder, ir.Constant(vector, [start] * _WIDTH))
            for vector, (_, start) in zip(vectors, reduction.initial, strict=True)
        ]
        for _ in range(2)
    ]
    splats = [_splat(builder, value) for value in extra]
    steps = builder.ashr(count, ir.Constant(_INT64, 4))
    with cgutils.for_range(builder, steps) as loop:
        first = builder.shl(loop.index, ir.Constant(_INT64, 4))
        for half, accumulators in enumerate(slots):
            index = builder.add(first, ir.Constant(_INT64, half * _WIDTH))
            elements = [
                load_elements(builder, address, index, scalar, _WIDTH)
                for address, scalar in zip(addresses, reduction.inputs, strict=True)
            ]
            _store_all(
                builder, accumulators, reduction.take(builder, _load_all(builder, accumulators), elements, splats)
            )
    start = builder.shl(steps, ir.Constant(_INT64, 4))
    for half, accumulators in enumerate(slots):
        _take_rest(builder, reduction, accumulators, addresses, start, count, half * _WIDTH, splats)
    lanes = reduction.fold(builder, _load_all(builder, slots[0]), _load_all(builder, slots[1]))
    width = _WIDTH
    while width > 1:
        width //= 2
        low, high = _halves(builder, lanes, width)
        lanes = reduction.fold(builder, low, high)
    zero = ir.Constant(_INT32, 0)
    return [builder.extract_element(lane, zero) for lane in lanes]


def _take_rest(
    builder: Builder, reduction: _Reduction, accumulators: Values, addresses: Values, start: Value, count: Value,
    offset: int, splats: Values,
) -> None:  # fmt: skip
    """One step for those of a vector's elements, from `start` + `offset` on, that lie before `count`."""
    index = builder.add(start, ir.Constant(_INT64, offset))
    lanes = ir.Constant(ir.VectorType(_INT64, _WIDTH), list(range(_WIDTH)))
    is_there = builder.icmp_signed("<", lanes, _splat(builder, builder.sub(count, index)))
    elements = [
        _load_masked(builder, address, index, scalar, is_there)
        for address, scalar in zip(addresses, reduction.inputs, strict=True)
    ]
    before = _load_all(builder, accumulators)
    stepped = reduction.take(builder, before, elements, splats)
    _store_all(
        builder, accumulators, [builder.select(is_there, new, old) for new, old in zip(stepped, before, strict=True)]
    )


def _load_masked(builder: Builder, address: Value, index: Value, scalar: ir.Type, is_there: Value) -> Value:
    """The elements from `index` on whose lane is set; of bytes, which lie in scratch memory, the others as well."""
    from numba.core import cgutils

    if scalar is _BYTE:
        return load_elements(builder, address, index, scalar, _WIDTH)
    vector = ir.VectorType(scalar, _WIDTH)
    first = builder.gep(builder.inttoptr(address, scalar.as_pointer()), [index])
    first = builder.bitcast(first, vector.as_pointer())
    signature = ir.FunctionType(vector, [first.type, _INT32, is_there.type, vector])
    name = f"llvm.masked.load.v{_WIDTH}{scalar.intrinsic_name}.p0"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [first, ir.Constant(_INT32, 1), is_there, ir.Constant(vector, None)])


def load_elements(builder: Builder, address: Value, index: Value, scalar: ir.Type, width: int) -> Value:
    """The element at `index` of an array, or a vector of `width` elements from there."""
    first = builder.gep(builder.inttoptr(address, scalar.as_pointer()), [index])
    if width > 1:
        first = builder.bitcast(first, ir.VectorType(scalar, width).as_pointer())
    return builder.load(first, align=1)


def _load_all(builder: Builder, slots: Values) -> list[Value]:
    return [builder.load(slot) for slot in slots]


def _store_all(builder: Builder, slots: Values, values: Values) -> None:
    for slot, value in zip(slots, values, strict=True):
        builder.store(value, slot)


def _splat(builder: Builder, value: Value) -> Value:
    vector = ir.Constant(ir.VectorType(value.type, _WIDTH), ir.Undefined)
    for lane in range(_WIDTH):
        vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), lane))
    return vector


def _halves(builder: Builder, lanes: Values, width: int) -> tuple[list[Value], list[Value]]:
    mask = ir.VectorType(ir.IntType(32), width)
    low = ir.Constant(mask, list(range(width)))
    high = ir.Constant(mask, list(range(width, 2 * width)))
    return (
        [builder.shuffle_vector(lane, lane, low) for lane in lanes],
        [builder.shuffle_vector(lane, lane, high) for lane in lanes],
    )


@cache
def _converts_vectors() -> bool:
    """Whether the processor turns vectors of int64 into float64 with one instruction."""
    return platform.machine() in {"aarch64", "arm64"} or bool(llvm.get_host_cpu_features().get("avx512dq"))


def to_double(builder: Builder, value: Value) -> Value:
    """An int64 as float64, rounded to nearest.

    Where there is no vector instruction for it, the halves become the low mantissa bits of 2^52 and of 2^84 + 2^63;
    taking the offsets off is exact for the high half, so that the last addition is the only one that rounds.
    """
    if _converts_vectors():
        return builder.sitofp(value, typed_like(value, _DOUBLE))
    high = builder.lshr(value, constant_like(value, _INT64, 32))
    high = builder.xor(high, constant_like(value, _INT64, _SIGNED_HIGH))
    low = builder.and_(value, constant_like(value, _INT64, 0xFFFF_FFFF))
    low = builder.or_(low, constant_like(value, _INT64, _LOW))
    double = typed_like(value, _DOUBLE)
    high = builder.fsub(builder.bitcast(high, double), constant_like(value, _DOUBLE, _SIGNED_ALL))
    return builder.fadd(high, builder.bitcast(low, double))


def _as_double(builder: Builder, value: Value) -> Value:
    scalar = value.type.element if isinstance(value.type, ir.VectorType) else value.type
    return value if scalar == _DOUBLE else to_double(builder, value)


def _add_all(builder: Builder, accumulators: Values, others: Values) -> list[Value]:
    return [builder.fadd(a, b) for a, b in zip(accumulators, others, strict=True)]


def _sum_step(builder: Builder, accumulators: Values, elements: Values, _: Values) -> list[Value]:
    return [builder.fadd(accumulators[0], elements[0])]


def _dot_step(builder: Builder, accumulators: Values, elements: Values, _: Values) -> list[Value]:
    product = builder.fmul(_as_double(builder, elements[0]), _as_double(builder, elements[1]))
    return [builder.fadd(accumulators[0], product)]


def _squares_step(builder: Builder, accumulators: Values, elements: Values, extra: Values) -> list[Value]:
    deviation = builder.fsub(elements[0], extra[0])
    return [
        builder.fadd(accumulators[0], deviation),
        builder.fadd(accumulators[1], builder.fmul(deviation, deviation)),
    ]


def _minmax_step(builder: Builder, accumulators: Values, elements: Values, _: Values) -> list[Value]:
    low, high, nans = accumulators
    (x,) = elements
    is_nan = builder.fcmp_unordered("uno", x, x)
    return [
        builder.select(builder.fcmp_ordered("<", x, low), x, low),
        builder.select(builder.fcmp_ordered(">", x, high), x, high),
        builder.add(nans, builder.zext(is_nan, nans.type)),
    ]


def _minmax_fold(builder: Builder, accumulators: Values, others: Values) -> list[Value]:
    return [
        builder.select(builder.fcmp_ordered("<", others[0], accumulators[0]), others[0], accumulators[0]),
        builder.select(builder.fcmp_ordered(">", others[1], accumulators[1]), others[1], accumulators[1]),
        builder.add(accumulators[2], others[2]),
    ]


def _sum_int_step(builder: Builder, accumulators: Values, elements: Values, _: Values) -> list[Value]:
    # Vector units shift unsigned words only: the sign goes in as an offset, to be taken off afterwards.
    (x,) = elements
    word = builder.xor(x, constant_like(x, _INT64, -(2**63)))
    high = builder.lshr(word, constant_like(x, _INT64, 32))
    low = builder.and_(word, constant_like(x, _INT64, 0xFFFF_FFFF))
    return [builder.add(accumulators[0], high), builder.add(accumulators[1], low)]


def _sum_int_fold(builder: Builder, accumulators: Values, others: Values) -> list[Value]:
    return [builder.add(a, b) for a, b in zip(accumulators, others, strict=True)]


def _dot_halves_step(builder: Builder, accumulators: Values, elements: Values, extra: Values) -> list[Value]:
    dot = _dot_step(builder, accumulators[:1], elements, extra)
    return [*dot, *_sum_int_step(builder, accumulators[1:], elements[1:], extra)]


def _dot_halves_fold(builder: Builder, accumulators: Values, others: Values) -> list[Value]:
    dot = _add_all(builder, accumulators[:1], others[:1])
    return [*dot, *_sum_int_fold(builder, accumulators[1:], others[1:])]


def _minmax_int_step(builder: Builder, accumulators: Values, elements: Values, _: Values) -> list[Value]:
    return _minmax_int_fold(builder, accumulators, [elements[0], elements[0]])


def _minmax_int_fold(builder: Builder, accumulators: Values, others: Values) -> list[Value]:
    low, high = accumulators
    return [
        builder.select(builder.icmp_signed("<", others[0], low), others[0], low),
        builder.select(builder.icmp_signed(">", others[1], high), others[1], high),
    ]


def _reducer(reduction: _Reduction, *, extra: tuple[ir.Type, ...] = ()) -> Callable[..., Any]:
    """The reduction as a function for kernels: (address of each input, count, extra arguments...) -> accumulators."""
    inputs = len(reduction.inputs)

    def generate(context: Any, builder: Builder, signature: Any, arguments: Values) -> Value:
        results = _emit_reduction(builder, reduction, arguments[:inputs], arguments[inputs], arguments[inputs + 1 :])
        return results[0] if len(results) == 1 else context.make_tuple(builder, signature.return_type, results)

    @intrinsic(inputs + 1 + len(extra))
    def reducer() -> tuple[Any, Any]:
        from numba import types

        kinds = [types.float64 if kind is _DOUBLE else types.int64 for kind, _ in reduction.initial]
        result = kinds[0] if len(kinds) == 1 else types.BaseTuple.from_types(kinds)
        others = [types.float64 if kind is _DOUBLE else types.int64 for kind in extra]
        return result(*([types.int64] * (inputs + 1)), *others), generate

    return reducer


def _within(reduction: _Reduction) -> _Reduction:
    """Of those elements for which two more int64 inputs lie in intervals (least and greatest of each: the extra
    arguments); one more accumulator counts them.
    """

    def step(builder: Builder, accumulators: Values, elements: Values, extra: Values) -> list[Value]:
        *elements, x, y = elements
        tests = (("<=", extra[0], x), ("<=", x, extra[1]), ("<=", extra[2], y), ("<=", y, extra[3]))
        is_taken = builder.icmp_signed(*tests[0])
        for test in tests[1:]:
            is_taken = builder.and_(is_taken, builder.icmp_signed(*test))
        *kept, count = accumulators
        stepped = reduction.step(builder, kept, elements, ())
        taken = [builder.select(is_taken, new, old) for new, old in zip(stepped, kept, strict=True)]
        return [*taken, builder.add(count, builder.zext(is_taken, count.type))]

    def fold(builder: Builder, accumulators: Values, others: Values) -> list[Value]:
        return [
            *reduction.fold(builder, accumulators[:-1], others[:-1]),
            builder.add(accumulators[-1], others[-1]),
        ]

    return _Reduction((*reduction.inputs, _INT64, _INT64), (*reduction.initial, (_INT64, 0)), step, fold)


def _masked(reduction: _Reduction) -> _Reduction:
    return reduction._replace(inputs=(*reduction.inputs, _BYTE), is_masked=True)


def _dot(*inputs: ir.Type) -> _Reduction:
    return _Reduction(inputs, ((_DOUBLE, 0.0),), _dot_step, _add_all)


_SUM_FLOAT = _Reduction((_DOUBLE,), ((_DOUBLE, 0.0),), _sum_step, _add_all)
_HALVES_INT = _Reduction((_INT64,), ((_INT64, 0), (_INT64, 0)), _sum_int_step, _sum_int_fold)

sum_float = _reducer(_SUM_FLOAT)
"""(address, count): the sum of float64 values."""
masked_sum_float = _reducer(_masked(_SUM_FLOAT))
"""(address, address of a byte per value, count): the sum of those whose byte is not 0; likewise all that are masked."""

dot_float_float = _reducer(_dot(_DOUBLE, _DOUBLE))
"""(address, address, count): the sum of products; likewise the next three, of float64 and int64 values."""
dot_float_int = _reducer(_dot(_DOUBLE, _INT64))
dot_int_float = _reducer(_dot(_INT64, _DOUBLE))
dot_int_int = _reducer(_dot(_INT64, _INT64))
masked_dot_float_float = _reducer(_masked(_dot(_DOUBLE, _DOUBLE)))
masked_dot_int_int = _reducer(_masked(_dot(_INT64, _INT64)))

squares_about = _reducer(
    _Reduction((_DOUBLE,), ((_DOUBLE, 0.0), (_DOUBLE, 0.0)), _squares_step, _add_all),
    extra=(_DOUBLE,),
)
"""(address, count, center): the sum of deviations from `center` and the sum of their squares."""

minmax_float = _reducer(
    _Reduction((_DOUBLE,), ((_DOUBLE, _INFINITY), (_DOUBLE, -_INFINITY), (_INT64, 0)), _minmax_step, _minmax_fold)
)
"""(address, count): least and greatest number (inf and -inf when there is none), and how many values are NaN."""


halves_int = _reducer(_HALVES_INT)
"""(address, count): sums of the high halves of int64 values, each 2^31 too great, and of the low halves."""
masked_halves_int = _reducer(_masked(_HALVES_INT))

_INTERVALS = (_INT64,) * 4
halves_within = _reducer(_within(_HALVES_INT), extra=_INTERVALS)
"""(address, x, y, count, least x, greatest x, least y, greatest y): sums of halves where x and y lie in their
intervals, and how many there are."""

_DOT_HALVES = _Reduction(
    (_INT64, _INT64), ((_DOUBLE, 0.0), (_INT64, 0), (_INT64, 0)), _dot_halves_step, _dot_halves_fold
)
dot_halves = _reducer(_DOT_HALVES)
"""(address, address, count): the sum of products, and sums of the second operand's halves."""
dot_halves_within = _reducer(_within(_DOT_HALVES), extra=_INTERVALS)
"""(address, address, x, y, ...) likewise: the sum of products, sums of the second operand's halves, and how many."""

minmax_int = _reducer(
    _Reduction((_INT64,), ((_INT64, 2**63 - 1), (_INT64, -(2**63))), _minmax_int_step, _minmax_int_fold)
)
"""(address, count): least and greatest int64 (the type's limits when there is none)."""


@intrinsic(2)
def multiply_overflows() -> tuple[Any, Any]:
    """The product of two int64, wrapped, and whether it left int64."""
    from numba import types

    def generate(context: Any, builder: Builder, signature: Any, arguments: Values) -> Value:
        result = builder.smul_with_overflow(*arguments)
        parts = [builder.extract_value(result, 0), builder.extract_value(result, 1)]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.Tuple((types.int64, types.boolean))(types.int64, types.int64), generate
