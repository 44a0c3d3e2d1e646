"""Object code into functions that Python can call, with llvmlite alone (see `zeptodb.jit`)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

SYMBOLS = {"zeptodb.ndarray": np.ndarray, "zeptodb.TypeError": TypeError, "zeptodb.None": None}
"""Objects that entries refer to. CPython's own symbols would do, did numba not give these other meanings."""

_METH_FASTCALL = 0x80


class _MethodDefinition(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


# What LLVM and Python's functions refer to for as long as the process lives.
_OBJECTS: list[bytes] = []
_DEFINITIONS: list[_MethodDefinition] = []


@cache
def processor() -> tuple[str, str]:
    """Name and features of this processor, as LLVM knows them."""
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # not known for this system
        features = ""
    return llvm.get_host_cpu_name(), features


@cache
def target_machine() -> llvm.TargetMachine:
    """This processor, as LLVM's code generator sees it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    name, features = processor()
    relocation = "static" if target.name.startswith("x86") else "default"  # MCJIT cannot place others there
    return target.create_target_machine(
        cpu=name, features=features, opt=2, reloc=relocation, codemodel="jitdefault", jit=True
    )


@cache
def _engine() -> llvm.ExecutionEngine:
    machine = target_machine()
    for name, referred in SYMBOLS.items():
        llvm.add_symbol(name, id(referred))
    # The machine belongs to the engine from here on; `target_machine` makes no second one for that.
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def load(objects: list[bytes]) -> None:
    """Put object files into the process."""
    engine = _engine()
    _OBJECTS.extend(objects)
    for code in objects:
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()


def address(symbol: str) -> int:
    """The address of a function in a loaded object file."""
    return int(_engine().get_function_address(symbol))


def python_function(symbol: str, documentation: str) -> Callable[..., Any]:
    """A loaded function of CPython's calling convention METH_FASTCALL as a builtin function."""
    text = documentation.encode()
    definition = _MethodDefinition(symbol.encode(), address(symbol), _METH_FASTCALL, text)
    _DEFINITIONS.append(definition)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = (ctypes.POINTER(_MethodDefinition), ctypes.c_void_p, ctypes.c_void_p)
    function: Callable[..., Any] = make(ctypes.byref(definition), None, None)
    return function
