"""Calls from one kernel to another by address, so that what many kernels need is compiled once.

numba compiles a callee anew into everything that calls it, and the interpreter takes seconds. Kernels made by
`zeptodb.jit.kernel_with_address` whose arguments and result are int64 can be called through their C entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from zeptodb.jit import intrinsic

_WORD = ir.IntType(64)


def call_by_address(arguments: int) -> Callable[..., int]:
    """A function for kernels: (address of a kernel, its int64 arguments...) -> its int64 result."""

    @intrinsic(arguments + 1)
    def call() -> tuple[Any, Any]:
        from numba import types

        def generate(
            _context: object, builder: ir.IRBuilder, _signature: object, values: Sequence[ir.Value]
        ) -> ir.Value:
            function = ir.FunctionType(_WORD, [_WORD] * arguments)
            return builder.call(builder.inttoptr(values[0], function.as_pointer()), values[1:])

        return types.int64(*([types.int64] * (arguments + 1))), generate

    return call
