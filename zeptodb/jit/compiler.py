"""Kernels into object code, with numba (see `zeptodb.jit`).

Beside what numba makes of a kernel stands an entry of our own, of CPython's calling convention METH_FASTCALL. It takes
arguments of the types that the first caller gave and refuses others with a TypeError; nothing is compiled twice.
"""

# What numba and llvmlite hand out has few public types.
# mypy: allow-untyped-calls

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target

from zeptodb.jit.intrinsics import INTRINSICS
from zeptodb.jit.machine import target_machine

if TYPE_CHECKING:
    from zeptodb.jit.kernels import Kernel

_BYTE, _INT32, _WORD, _DOUBLE = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.DoubleType()
_OBJECT = _BYTE.as_pointer()
_SCALARS = {"int": types.int64, "float": types.float64}
_FLAGS = 0x1 | 0x100 | 0x400
"""NPY_ARRAY_C_CONTIGUOUS, ALIGNED, WRITEABLE."""

# Offsets in PyArrayObject and in PyArray_Descr behind PyObject_HEAD, whose last word is the type: numpy's public ABI.
_HEAD = object.__basicsize__
_TYPE = _HEAD - 8
_DATA, _NDIM, _SHAPE, _STRIDES, _DESCR, _ARRAY_FLAGS = (_HEAD + 8 * i for i in (0, 1, 2, 3, 5, 6))
_KIND, _BYTEORDER, _ITEMSIZE = _HEAD + 8, _HEAD + 10, _HEAD + 24


def compile_kernel(kernel: Kernel, arguments: tuple[Any, ...]) -> list[bytes]:
    """Object files with the kernel and its entries: `kernel.name` for Python, and `.address` behind it for kernels."""
    for item in INTRINSICS:
        item._numba_type_  # noqa: B018 - numba looks for new ones before it compiles, not while it does
    dispatcher = _jit(kernel.py_func)
    dispatcher.compile(_argument_types(kernel, arguments))
    (compiled,) = dispatcher.overloads.values()
    _require_self_contained(kernel, compiled.library)
    return [compiled.library._get_compiled_object(), _Entries(kernel, compiled).object_code()]


def inlined(function: Callable[..., Any]) -> Any:
    """The function as numba compiles it into its callers."""
    return _jit(function)


def intrinsic_type(arguments: int, typed: tuple[Any, Any]) -> Any:
    """The type of a new intrinsic with so many arguments, which numba wants named one by one."""
    names = ", ".join(f"a{i}" for i in range(arguments))
    made = numba.extending.intrinsic(eval(f"lambda context, {names}: typed", {"typed": typed}))
    _INTRINSICS.append(made)
    typing_context: Any = cpu_target.typing_context
    typing_context.refresh()
    return typing_context.resolve_value_type(made)


_INTRINSICS: list[Any] = []  # numba keeps weak references only


def _jit(function: Callable[..., Any]) -> Any:
    decorate: Any = numba.njit  # its types leave the wrappers out
    return decorate(
        nogil=True,
        error_model="numpy",
        boundscheck=False,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        _nrt=False,  # kernels allocate nothing
    )(function)


def _argument_types(kernel: Kernel, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """int64 and float64 for `int` and `float`; for other parameters what the arguments are."""
    found = []
    parameters = inspect.signature(kernel.py_func).parameters
    if arguments and len(arguments) != len(parameters):
        raise TypeError(f"{kernel.name} takes {len(parameters)} arguments, not {len(arguments)}.")
    for place, parameter in enumerate(parameters.values()):
        kind = _SCALARS.get(parameter.annotation)
        if kind is None:
            kind = numba.typeof(arguments[place])
            if kind not in _SCALARS.values() and not _is_plain_array(kind):
                raise TypeError(f"{kernel.name}: no kernel takes {kind} as its argument {parameter.name}.")
        found.append(kind)
    return tuple(found)


def _is_plain_array(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.layout == "C" and kind.mutable and kind.aligned


def _require_self_contained(kernel: Kernel, library: Any) -> None:
    """What a kernel calls must be there in a process without numba."""
    for function in library._final_module.functions:
        if function.is_declaration and function.name.startswith(("NRT_", "numba_")):
            raise TypeError(f"{kernel.name} needs numba's run time ({function.name}): does it allocate or raise?")


class _Entries:
    """A module with the entries of one kernel."""

    def __init__(self, kernel: Kernel, compiled: Any) -> None:
        self.kernel = kernel
        self.context = compiled.target_context
        self.described = compiled.fndesc
        self.module = self.context.create_module(f"{kernel.name}.entry")
        function_type = self.context.call_conv.get_function_type(self.described.restype, self.described.argtypes)
        self.function = ir.Function(self.module, function_type, self.described.llvm_func_name)

    def object_code(self) -> bytes:
        """The module, compiled."""
        self._python_entry()
        if self.kernel.has_address:
            self._address_entry()
        module = llvm.parse_assembly(str(self.module))
        module.verify()
        return bytes(target_machine().emit_object(module))

    # ---- entries ---------------------------------------------------------------------------------------------------

    def _address_entry(self) -> None:
        count = len(self.described.argtypes)
        entry = ir.Function(self.module, ir.FunctionType(_WORD, [_WORD] * count), f"{self.kernel.name}.address")
        builder = ir.IRBuilder(entry.append_basic_block())
        _, result = self._call(builder, list(entry.args))
        builder.ret(result)

    def _python_entry(self) -> None:
        entry_type = ir.FunctionType(_OBJECT, [_OBJECT, _OBJECT.as_pointer(), _WORD])
        entry = ir.Function(self.module, entry_type, self.kernel.name)
        builder = ir.IRBuilder(entry.append_basic_block())
        given, count = entry.args[1:]
        kinds, names = self.described.argtypes, list(inspect.signature(self.kernel.py_func).parameters)
        is_right = builder.icmp_signed("==", count, _WORD(len(kinds)))
        self._require(builder, is_right, f"takes {len(kinds)} arguments")
        values = []
        for place, (kind, name) in enumerate(zip(kinds, names, strict=True)):
            item = builder.load(builder.gep(given, [_WORD(place)]))
            take = self._array if isinstance(kind, types.Array) else self._scalar
            values.append(take(builder, item, kind, name))
        thread = builder.call(self._extern("PyEval_SaveThread", _OBJECT, []), [])
        status, result = self._call(builder, values)
        builder.call(self._extern("PyEval_RestoreThread", ir.VoidType(), [_OBJECT]), [thread])
        self._require(builder, builder.not_(status.is_error), "failed")
        builder.ret(self._boxed(builder, result))

    def _call(self, builder: ir.IRBuilder, values: list[Any]) -> tuple[Any, Any]:
        kinds = self.described.argtypes
        result: tuple[Any, Any] = self.context.call_conv.call_function(
            builder, self.function, self.described.restype, kinds, values
        )
        return result

    # ---- arguments and results -------------------------------------------------------------------------------------

    def _scalar(self, builder: ir.IRBuilder, item: Any, kind: Any, name: str) -> Any:
        convert, result = ("PyLong_AsLongLong", _WORD) if kind == types.int64 else ("PyFloat_AsDouble", _DOUBLE)
        value = builder.call(self._extern(convert, result, [_OBJECT]), [item])
        minus_one = result(-1) if result is _WORD else result(-1.0)
        is_odd = (builder.icmp_signed if kind == types.int64 else builder.fcmp_ordered)("==", value, minus_one)
        with builder.if_then(is_odd, likely=False):
            error = builder.call(self._extern("PyErr_Occurred", _OBJECT, []), [])
            self._require(builder, builder.icmp_unsigned("==", error, _OBJECT(None)), f"{name} is no number")
        return value

    def _array(self, builder: ir.IRBuilder, item: Any, kind: Any, name: str) -> Any:
        dtype = np.dtype(str(kind.dtype))
        array_type = self._object("zeptodb.ndarray")
        wanted = f"{name} must be a C-contiguous, writable {kind.ndim}-d array of {dtype}"

        def field(base: Any, offset: int, of: ir.Type) -> Any:
            return builder.load(builder.bitcast(builder.gep(base, [_WORD(offset)]), of.as_pointer()))

        is_array = builder.icmp_unsigned("==", field(item, _TYPE, _OBJECT), array_type)
        self._require(builder, is_array, wanted)
        descr = field(item, _DESCR, _OBJECT)
        flags = builder.and_(field(item, _ARRAY_FLAGS, _INT32), _INT32(_FLAGS))
        tests = [
            builder.icmp_signed("==", flags, _INT32(_FLAGS)),
            builder.icmp_signed("==", field(item, _NDIM, _INT32), _INT32(kind.ndim)),
            builder.icmp_signed("==", field(descr, _KIND, _BYTE), _BYTE(ord(dtype.kind))),
            builder.icmp_signed("!=", field(descr, _BYTEORDER, _BYTE), _BYTE(ord(">"))),
            builder.icmp_signed("==", field(descr, _ITEMSIZE, _WORD), _WORD(dtype.itemsize)),
        ]
        is_right = tests[0]
        for test in tests[1:]:
            is_right = builder.and_(is_right, test)
        self._require(builder, is_right, wanted)
        shape, strides = (field(item, offset, _WORD.as_pointer()) for offset in (_SHAPE, _STRIDES))
        array = self.context.make_array(kind)(self.context, builder)
        sizes, steps = ([builder.load(builder.gep(p, [_WORD(i)])) for i in range(kind.ndim)] for p in (shape, strides))
        items = sizes[0]
        for size in sizes[1:]:
            items = builder.mul(items, size)
        array.meminfo, array.parent = _OBJECT(None), _OBJECT(None)
        array.nitems, array.itemsize = items, _WORD(dtype.itemsize)
        array.data = builder.bitcast(field(item, _DATA, _OBJECT), array.data.type)
        array.shape = _packed(builder, sizes)
        array.strides = _packed(builder, steps)
        return array._getvalue()

    def _boxed(self, builder: ir.IRBuilder, result: Any) -> Any:
        kind = self.described.restype
        if isinstance(kind, types.NoneType):
            none = self._object("zeptodb.None")
            builder.call(self._extern("Py_IncRef", ir.VoidType(), [_OBJECT]), [none])
            return none
        if isinstance(kind, (types.Boolean, types.Integer)):
            word = result if result.type == _WORD else builder.zext(result, _WORD)
            return builder.call(self._extern("PyLong_FromLongLong", _OBJECT, [_WORD]), [word])
        if kind == types.float64:
            return builder.call(self._extern("PyFloat_FromDouble", _OBJECT, [_DOUBLE]), [result])
        raise TypeError(f"{self.kernel.name}: no kernel returns {kind}.")

    # ---- small parts -----------------------------------------------------------------------------------------------

    def _require(self, builder: ir.IRBuilder, condition: Any, message: str) -> None:
        """Unless the condition holds, return to Python with a TypeError."""
        with builder.if_then(builder.not_(condition), likely=False):
            text = self._text(f"{self.kernel.name}: {message}.")
            set_error = self._extern("PyErr_SetString", ir.VoidType(), [_OBJECT, _OBJECT])
            builder.call(set_error, [self._object("zeptodb.TypeError"), text])
            builder.ret(_OBJECT(None))

    def _extern(self, name: str, result: ir.Type, arguments: list[ir.Type]) -> Any:
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, arguments), name)

    def _object(self, name: str) -> Any:
        """The address of one of `machine.SYMBOLS`."""
        return self.module.globals.get(name) or ir.GlobalVariable(self.module, _BYTE, name)

    def _text(self, message: str) -> Any:
        content = bytearray(message.encode() + b"\0")
        kind = ir.ArrayType(_BYTE, len(content))
        text = ir.GlobalVariable(self.module, kind, self.module.get_unique_name("message"))
        text.linkage, text.global_constant, text.initializer = "private", True, ir.Constant(kind, content)
        return text.bitcast(_OBJECT)


def _packed(builder: ir.IRBuilder, words: list[Any]) -> Any:
    packed = ir.Constant(ir.ArrayType(_WORD, len(words)), ir.Undefined)
    for i, word in enumerate(words):
        packed = builder.insert_value(packed, word, i)
    return packed
