"""Calls from one kernel to another by address, so that what many kernels need is compiled once.

numba compiles a callee anew into everything that calls it, and the interpreter takes seconds. Kernels made by
`zeptodb.jit.kernel_with_address` whose arguments and result are int64 can be called through their C entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from zeptodb.jit import with_arguments

_WORD = ir.IntType(64)


def call_by_address(arguments: int) -> Callable[..., int]:
    """A function for kernels: (address of a kernel, its int64 arguments...) -> its int64 result."""

    def generate(_context: object, builder: ir.IRBuilder, _signature: object, values: Sequence[ir.Value]) -> ir.Value:
        function = ir.FunctionType(_WORD, [_WORD] * arguments)
        return builder.call(builder.inttoptr(values[0], function.as_pointer()), values[1:])

    typed = types.int64(*([types.int64] * (arguments + 1))), generate
    return cast(Callable[..., int], intrinsic(with_arguments(arguments + 1, typed)))


@cache
def compiled_address(function: Callable[..., int], arguments: int) -> int:
    """Compile (or load) a kernel of int64 arguments; the address of its C entry, good for the life of the process."""
    dispatcher = cast(Any, function)
    dispatcher.compile((types.int64,) * arguments)
    (compiled,) = dispatcher.overloads.values()
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name))
