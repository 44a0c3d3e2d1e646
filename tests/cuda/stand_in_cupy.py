"""A stand-in for CuPy: enough of its interface, as of version 14.2, for the driver to be made and to meet errors.

It computes nothing. What the device was asked for stands in `calls`, and a test makes any of it raise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, Self


class CUDARuntimeError(RuntimeError):
    """As CuPy's: no other base, the text begins with the name of the error."""


class CUDADriverError(RuntimeError):
    """Of launches and modules; no relative of CUDARuntimeError."""


class NVRTCError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Context:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class StandInStream:
    """Streams are numbered from 77 on; the current one is that of the innermost `with`."""

    active: ClassVar[list[int]] = []

    def __init__(self, ptr: int, call: Callable[..., Callable[..., Any]]) -> None:
        self.ptr, self._call = ptr, call

    @classmethod
    def maker(cls, call: Callable[..., Callable[..., Any]]) -> Callable[..., StandInStream]:
        numbers = itertools.count(77)
        return lambda **_: cls(next(numbers), call)

    @classmethod
    def current(cls) -> int:
        return cls.active[-1] if cls.active else 0

    def __enter__(self) -> Self:
        self.active.append(self.ptr)
        return self

    def __exit__(self, *_: object) -> None:
        self.active.pop()

    def synchronize(self) -> None:
        self._call("synchronize")(self.ptr)

    def record(self, event: Any) -> Any:
        self._call("record")(self.ptr)
        return event

    def wait_event(self, event: Any) -> None:
        self._call("wait_event")(self.ptr, event)


class StandInCupy(ModuleType):
    """Attributes: `driver_version` and what `fails` hold: name of a call -> what it raises."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.__spec__ = ModuleSpec("cupy", loader=None)
        self.driver_version, self.runtime_version, self.devices = 13_000, 13_020, 1
        self.architectures = (80, 90, 100)
        self.fails: dict[str, BaseException] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.cumsum = self._call("cumsum")
        self.argsort = self._call("argsort", lambda: SimpleNamespace(data=SimpleNamespace(ptr=4096)))
        self.ndarray = lambda shape, dtype, memptr: ("array", shape, dtype, memptr.ptr)
        self.cuda = SimpleNamespace(
            runtime=self._runtime(),
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            nvrtc=SimpleNamespace(
                NVRTCError=NVRTCError,
                getVersion=self._call("getVersion", lambda: (13, 0)),
                getSupportedArchs=lambda: self.architectures,
                createProgram=self._call("createProgram", lambda: 1),
                compileProgram=self._call("compileProgram"),
                getCUBIN=lambda _: b"cubin",
                getProgramLog=lambda _: "the log",
                destroyProgram=self._call("destroyProgram"),
            ),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            function=SimpleNamespace(
                Module=lambda: SimpleNamespace(load=self._call("load"), get_function=self._kernel)
            ),
            Device=lambda _: Context(),
            Stream=StandInStream.maker(self._call),
            Event=lambda **options: SimpleNamespace(options=options, synchronize=self._call("wait")),
            MemoryPool=lambda: SimpleNamespace(malloc=self._malloc("pool"), free_bytes=lambda: 0),
            PinnedMemory=self._malloc("host"),
            Memory=self._malloc("apart"),
            MemoryPointer=lambda memory, offset: SimpleNamespace(ptr=memory.ptr + offset),
            UnownedMemory=lambda address, *_: SimpleNamespace(ptr=address),
            using_allocator=lambda _: Context(),
        )

    def _call(self, name: str, answer: Callable[[], Any] = lambda: None) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, *arguments, *options.values()))
            if name in self.fails:
                raise self.fails[name]
            return answer()

        return call

    def _runtime(self) -> SimpleNamespace:
        names = ("memcpyAsync", "memsetAsync", "hostRegister", "hostUnregister")
        return SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: self.driver_version,
            runtimeGetVersion=lambda: self.runtime_version,
            getDeviceCount=self._call("getDeviceCount", lambda: self.devices),
            getDeviceProperties=self._call(
                "getDeviceProperties", lambda: {"name": b"NVIDIA H200", "major": 9, "minor": 0}
            ),
            memGetInfo=lambda: (1 << 30, 2 << 30),
            memcpyHostToDevice=1, memcpyDeviceToHost=2, memcpyDeviceToDevice=3,
            **{name: self._call(name) for name in names},
        )  # fmt: skip

    def _malloc(self, name: str) -> Callable[[int], Any]:
        return self._call(name, lambda: SimpleNamespace(ptr=1 << 20, stream=StandInStream.current()))

    def _kernel(self, name: str) -> Callable[..., Any]:
        return lambda *launched: self._call("launch")(name, *launched)
