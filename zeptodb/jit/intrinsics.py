"""Operations for kernels that numba does not have, defined when the first kernel is compiled (see `zeptodb.jit`)."""

# What numba hands to an intrinsic has no public type.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

Definition = Callable[[], tuple[Any, Callable[[Any, Any, Any, Any], Any]]]
"""() -> numba's signature, and a function of (context, builder, signature, arguments) that generates code."""


class Intrinsic:
    """A function for kernels, written in LLVM's terms."""

    def __init__(self, arguments: int, define: Definition) -> None:
        self._arguments = arguments
        self._define = define
        self._type: Any = None

    @property
    def _numba_type_(self) -> Any:
        """What numba takes it for where a kernel names it."""
        if self._type is None:
            from zeptodb.jit.compiler import intrinsic_type

            self._type = intrinsic_type(self._arguments, self._define())
        return self._type


INTRINSICS: list[Intrinsic] = []
"""Every intrinsic defined so far."""


def intrinsic(arguments: int) -> Callable[[Definition], Callable[..., Any]]:
    """A function for kernels with so many arguments from its definition, which is not looked at before it is needed."""

    def decorate(define: Definition) -> Callable[..., Any]:
        INTRINSICS.append(Intrinsic(arguments, define))
        return cast(Callable[..., Any], INTRINSICS[-1])

    return decorate


def _loader(name: str) -> Any:
    @intrinsic(1)
    def load() -> Any:
        from numba import types

        kind = getattr(types, name)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            pointer = builder.inttoptr(arguments[0], context.get_data_type(kind).as_pointer())
            return builder.load(pointer)

        return kind(types.int64), generate

    return load


def _storer(name: str) -> Any:
    @intrinsic(2)
    def store() -> Any:
        from numba import types

        kind = getattr(types, name)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            pointer = builder.inttoptr(arguments[0], context.get_data_type(kind).as_pointer())
            builder.store(arguments[1], pointer)
            return context.get_dummy_value()

        return types.void(types.int64, kind), generate

    return store


def _pointer(name: str) -> Any:
    @intrinsic(1)
    def pointer() -> Any:
        from numba import types

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(getattr(types, name))(types.int64), generate

    return pointer


load_int64, store_int64, pointer_int64 = _loader("int64"), _storer("int64"), _pointer("int64")
load_int32, store_int32, pointer_int32 = _loader("int32"), _storer("int32"), _pointer("int32")
load_uint8, store_uint8, pointer_uint8 = _loader("uint8"), _storer("uint8"), _pointer("uint8")
load_float64, store_float64, pointer_float64 = _loader("float64"), _storer("float64"), _pointer("float64")
load_float32, store_float32, pointer_float32 = _loader("float32"), _storer("float32"), _pointer("float32")


def _reinterpreter(origin: str, target: str) -> Any:
    @intrinsic(1)
    def reinterpret() -> Any:
        from numba import types

        kind = getattr(types, target)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.bitcast(arguments[0], context.get_data_type(kind))

        return kind(getattr(types, origin)), generate

    return reinterpret


float64_of_bits, bits_of_float64 = _reinterpreter("int64", "float64"), _reinterpreter("float64", "int64")


@intrinsic(1)
def prefetch() -> Any:
    """prefetch(address): begin to bring a cache line; any address will do."""
    from llvmlite import ir
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        )
        builder.call(function, [builder.inttoptr(arguments[0], byte), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic(3)
def copy_bytes() -> Any:
    """memmove(destination, source, count), all int64; the areas may overlap."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        to, origin = (builder.inttoptr(address, cgutils.voidptr_t) for address in arguments[:2])
        cgutils.raw_memmove(builder, to, origin, arguments[2], ir.Constant(ir.IntType(64), 1))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic(1)
def claim() -> Any:
    """Add 1 to the int64 at an address in one atomic step; what it was before. For work items that threads share."""
    from llvmlite import ir
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        word = ir.IntType(64)
        return builder.atomic_rmw("add", builder.inttoptr(arguments[0], word.as_pointer()), word(1), "seq_cst")

    return types.int64(types.int64), generate
