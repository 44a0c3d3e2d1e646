"""The one place where numba is applied to kernels, and the policy of their disk cache.

`@kernel` compiles for release of the GIL. The disk cache lives in `$ZEPTODB_CACHE_DIR`, else in the user's cache
directory, in a folder named after a digest of all kernel sources (every file of the package that names `zeptodb.jit`)
and of the versions that decide what the code compiles to: numba's own cache looks only at the kernel's own file, so
that an edited callee in another file would leave stale results. What a kernel uses, constants too, must therefore
stand in such a file. Where no folder can be written, kernels are compiled in memory for this process.

`load_*` and `store_*` read and write memory by address; `pointer_*` turns an address into something indexable; `claim`
hands out the work items that threads share.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

_PACKAGE = Path(__file__).resolve().parent


@cache
def source_digest() -> str:
    """Digest of every kernel source of the package and of the versions that decide what kernels compile to."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        source = path.read_bytes()
        if b"zeptodb.jit" in source:
            digest.update(str(path.relative_to(_PACKAGE)).encode())
            digest.update(source)
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__, platform.machine())
    digest.update(repr(versions).encode())
    return digest.hexdigest()[:20]


@cache
def cache_directory() -> Path | None:
    """The folder of compiled kernels, made if need be; None when none can be written."""
    for root in _cache_roots():
        folder = root / "kernels" / source_digest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


def _cache_roots() -> list[Path]:
    chosen = os.environ.get("ZEPTODB_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    roots = []
    if os.environ.get("XDG_CACHE_HOME"):
        roots.append(Path(os.environ["XDG_CACHE_HOME"]) / "zeptodb")
    try:
        home = Path.home()
    except RuntimeError:
        return roots
    roots.append(home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "zeptodb")
    return roots


class _KernelLocator(_CacheLocator):
    """Puts a kernel's files into `cache_directory()`, whose name already says which sources they come from."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._py_func = py_func

    def get_cache_path(self) -> str:
        return str(cache_directory())

    def get_source_stamp(self) -> str:
        return source_digest()

    def get_disambiguator(self) -> str:
        return self._py_func.__module__.replace(".", "_")

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _KernelLocator:  # noqa: ARG003
        return cls(py_func)


class _KernelCacheImpl(CompileResultCacheImpl):
    _locator_classes: ClassVar[list[Any]] = [_KernelLocator]  # type: ignore[misc]


class _KernelCache(FunctionCache):
    _impl_class = _KernelCacheImpl


_new_cache: Any = _KernelCache  # numba's constructor has no types


def kernel(function: Function) -> Function:
    """Compile `function` (lazily, on its first call) to a kernel that releases the GIL, cached on disk.

    No fastmath: float results are the same on every run. Division by zero follows numpy, not Python.
    """
    return _kernel(function, has_c_entry=False)


def kernel_with_address(function: Function) -> Function:
    """As `kernel`, for one that other kernels call by its address (see `backends/cpu/linkage.py`)."""
    return _kernel(function, has_c_entry=True)


def _kernel(function: Function, *, has_c_entry: bool) -> Function:
    dispatcher = _jit(function, no_cfunc_wrapper=not has_c_entry)
    if cache_directory() is not None:
        dispatcher._cache = _new_cache(function)
        dispatcher.compile = partial(_compile_once, dispatcher)
    KERNELS.append(dispatcher)
    return cast(Function, dispatcher)


def inline(function: Function) -> Function:
    """Compile `function` for use inside kernels; LLVM decides about inlining, nothing is cached on its own."""
    return cast(Function, _jit(function, no_cfunc_wrapper=True, no_cpython_wrapper=True))


def _jit(function: Callable[..., Any], **wrappers: bool) -> Any:
    """`function` with numba's decorator; each wrapper (an entry for callers in Python or C) costs time to compile."""
    decorate: Any = numba.njit  # its types leave the wrappers out
    return decorate(nogil=True, error_model="numpy", boundscheck=False, **wrappers)(function)


def _compile_once(dispatcher: Any, signature: Any) -> Any:
    """Compile or load a kernel; while another process compiles it, wait for what that one puts into the cache."""
    folder = cache_directory()
    if folder is None:
        return type(dispatcher).compile(dispatcher, signature)
    function = dispatcher.py_func
    with (folder / f"{function.__module__}.{function.__name__}.lock").open("wb") as lock:
        with suppress(OSError):  # a file system without locks: at worst both compile it
            fcntl.flock(lock, fcntl.LOCK_EX)
        return type(dispatcher).compile(dispatcher, signature)


KERNELS: list[Any] = []
"""Every kernel defined so far, for warm-up and for the test that each has one signature only."""


def with_arguments(count: int, typed: object) -> Callable[..., Any]:
    """What an intrinsic is made of: a function of a typing context and `count` arguments, which must be named one by
    one, that returns `typed` (a signature and the function that generates code).
    """
    names = ", ".join(f"a{i}" for i in range(count))
    function: Callable[..., Any] = eval(f"lambda context, {names}: typed", {"typed": typed})
    return function


def _loader(numba_type: Any) -> Any:
    @intrinsic
    def load(typing_context: Any, address: Any) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            pointer = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            value_type = context.get_data_type(numba_type)
            typed = builder.bitcast(pointer, value_type.as_pointer())
            return builder.load(typed)

        return numba_type(types.int64), generate

    return load


def _storer(numba_type: Any) -> Any:
    @intrinsic
    def store(typing_context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            pointer = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            value_type = context.get_data_type(numba_type)
            typed = builder.bitcast(pointer, value_type.as_pointer())
            builder.store(arguments[1], typed)
            return context.get_dummy_value()

        return types.void(types.int64, numba_type), generate

    return store


_pointer_to: Any = types.CPointer


def _pointer(numba_type: Any) -> Any:
    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return _pointer_to(numba_type)(types.int64), generate

    return pointer


load_int64, store_int64, pointer_int64 = _loader(types.int64), _storer(types.int64), _pointer(types.int64)
load_int32, store_int32, pointer_int32 = _loader(types.int32), _storer(types.int32), _pointer(types.int32)
load_uint8, store_uint8, pointer_uint8 = _loader(types.uint8), _storer(types.uint8), _pointer(types.uint8)
load_float64, store_float64, pointer_float64 = _loader(types.float64), _storer(types.float64), _pointer(types.float64)
load_float32, store_float32, pointer_float32 = _loader(types.float32), _storer(types.float32), _pointer(types.float32)


def _copy_bytes(typing_context: Any, destination: Any, source: Any, count: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        to = builder.inttoptr(arguments[0], cgutils.voidptr_t)
        origin = builder.inttoptr(arguments[1], cgutils.voidptr_t)
        raw_memmove: Any = cgutils.raw_memmove
        raw_memmove(builder, to, origin, arguments[2], ir.Constant(ir.IntType(64), 1))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _prefetch(typing_context: Any, address: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        )
        builder.call(function, [builder.inttoptr(arguments[0], byte), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


prefetch: Any = intrinsic(_prefetch)
"""prefetch(address): begin to bring a cache line; any address will do."""

copy_bytes: Any = intrinsic(_copy_bytes)
"""memmove(destination, source, count), all int64; the areas may overlap."""


def _claim(typing_context: Any, address: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        word = ir.IntType(64)
        return builder.atomic_rmw("add", builder.inttoptr(arguments[0], word.as_pointer()), word(1), "seq_cst")

    return types.int64(types.int64), generate


claim: Any = intrinsic(_claim)
"""Add 1 to the int64 at an address in one atomic step; what it was before. For work items that threads share."""
