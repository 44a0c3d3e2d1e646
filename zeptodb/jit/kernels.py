"""Kernels and the functions that they are made of, as Python objects (see `zeptodb.jit`)."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, TypeVar, cast

from zeptodb.forks import at_fork
from zeptodb.jit import cache

Function = TypeVar("Function", bound=Callable[..., Any])

_LOCK = RLock()
"""Held while a kernel is compiled or loaded: once per process."""

at_fork(  # a child that is forked while a kernel compiles would wait for the compiler for ever
    before=_LOCK.acquire,
    after_in_parent=_LOCK.release,
    after_in_child=_LOCK.release,
)


class Kernel:
    """A compiled function, once it has been called. It takes exact types: those of the first call ever made.

    Arrays must be C-contiguous, aligned and writable; `int` parameters are int64 and `float` ones float64.
    """

    def __init__(self, function: Callable[..., Any], *, has_address: bool) -> None:
        self.py_func = function
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.has_address = has_address
        self.is_from_cache = False
        self._address = 0
        self._run: Callable[..., Any] = self._first_call

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""
        return self._run(*arguments)

    def __repr__(self) -> str:
        """Name and state."""
        return f"<kernel {self.name}{'' if self.is_ready else ', not loaded'}>"

    @property
    def is_ready(self) -> bool:
        """Whether it has been compiled or loaded in this process."""
        return self._run != self._first_call

    @property
    def address(self) -> int:
        """Address of its C entry, of int64 parameters and result, good for the life of the process."""
        if not self._address:
            from zeptodb.jit import machine

            self.prepare(())
            self._address = machine.address(f"{self.name}.address")
        return self._address

    def prepare(self, arguments: tuple[Any, ...]) -> None:
        """Compile or load it; arrays among the arguments say of what type they are."""
        from zeptodb.jit import machine

        with _LOCK:
            if self.is_ready:
                return
            objects = cache.read_objects(self.name)
            self.is_from_cache = objects is not None
            if objects is None:
                with cache.locked(self.name):
                    objects = cache.read_objects(self.name)
                    self.is_from_cache = objects is not None
                    if objects is None:
                        objects = self._compile(arguments)
            machine.load(objects)
            self._run = machine.python_function(self.name, self.__doc__ or "")

    def _compile(self, arguments: tuple[Any, ...]) -> list[bytes]:
        from zeptodb.jit.compiler import compile_kernel

        objects = compile_kernel(self, arguments)
        cache.write_objects(self.name, objects)
        return objects

    def _first_call(self, *arguments: Any) -> Any:
        self.prepare(arguments)
        return self._run(*arguments)


class Inline:
    """A function that kernels call; compiled with each of them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.py_func = function
        self._dispatcher: Any = None  # kept here: numba's type of it refers to it weakly

    def __call__(self, *arguments: Any) -> Any:
        """What it computes, in plain Python."""
        return self.py_func(*arguments)

    @property
    def _numba_type_(self) -> Any:
        """What numba takes it for where a kernel names it."""
        if self._dispatcher is None:
            from zeptodb.jit.compiler import inlined

            self._dispatcher = inlined(self.py_func)
        return self._dispatcher._numba_type_


KERNELS: list[Kernel] = []
"""Every kernel defined so far, for warm-up."""


def kernel(function: Function) -> Function:
    """Compile `function` (lazily, on its first call) to a kernel that releases the GIL, cached on disk.

    No fastmath: float results are the same on every run. Division by zero follows numpy, not Python.
    """
    KERNELS.append(Kernel(function, has_address=False))
    return cast(Function, KERNELS[-1])


def kernel_with_address(function: Function) -> Function:
    """As `kernel`, for one of int64 parameters that other kernels call by its address (`address_of_kernel`)."""
    KERNELS.append(Kernel(function, has_address=True))
    return cast(Function, KERNELS[-1])


def inline(function: Function) -> Function:
    """Compile `function` for use inside kernels; LLVM decides about inlining, nothing is cached on its own."""
    return cast(Function, Inline(function))


def address_of_kernel(function: Callable[..., int]) -> int:
    """Address of the C entry of a `kernel_with_address`, good for the life of the process."""
    return cast(Kernel, function).address
