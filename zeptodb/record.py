"""`@record`: a frozen dataclass with slots that costs its module a tenth of what `dataclass` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from functools import partial
from inspect import Signature, signature
from operator import attrgetter
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform, overload

Class = TypeVar("Class")


@overload
def record(cls: type[Class], /) -> type[Class]: ...
@overload
def record(*, frozen: bool = ..., eq: bool = ..., kw_only: bool = ...) -> Callable[[type[Class]], type[Class]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(
    cls: type[Class] | None = None, /, *, frozen: bool = True, eq: bool = True, kw_only: bool = False
) -> type[Class] | Callable[[type[Class]], type[Class]]:
    """As `dataclass(frozen=True, slots=True)`, for a class that has no base or a record; what it defines is kept.

    `dataclass` writes and compiles half a dozen methods for each class, in 0.4 ms, and a new process pays that for all
    classes of the modules that it imports. Here methods are shared; `__init__`, which must be fast, is compiled when
    the first instance is made. `fields`, `replace` and `asdict` of `dataclasses` and signatures work as ever.
    """
    if cls is not None:
        return _made_of(cls, frozen=frozen, eq=eq, kw_only=kw_only)
    return partial(_made_of, frozen=frozen, eq=eq, kw_only=kw_only)


def _made_of(cls: type[Class], *, frozen: bool, eq: bool, kw_only: bool) -> type[Class]:
    namespace = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    own = {name: namespace.pop(name, MISSING) for name in cls.__annotations__}
    every = {**getattr(cls, "__record_fields__", {}), **own}
    namespace["__slots__"] = tuple(own)
    namespace["__record_fields__"] = every
    given = tuple(name for name, default in every.items() if _takes_part(default, "init"))
    namespace["__match_args__"] = () if kw_only else given
    compared = [name for name, default in every.items() if _takes_part(default, "compare")]
    namespace["__record_key__"] = attrgetter(*(compared or ["__class__"]))
    namespace["__record_is_kw_only__"] = kw_only
    namespace["__dataclass_fields__"] = _DATACLASS_FIELDS
    namespace["__signature__"] = _SIGNATURE
    namespace["__init__"] = _Record.__init__  # not the one that a base has compiled
    if eq:
        namespace.setdefault("__eq__", _equals)
        if frozen and namespace.get("__hash__") is None:
            namespace["__hash__"] = _hash
    bases = cls.__bases__ if cls.__bases__ != (object,) else (_Frozen if frozen else _Record,)
    if not issubclass(bases[0], _Record):
        raise TypeError(f"{cls.__qualname__} has a base that is no record; make it a dataclass.")
    return cast(type[Class], type(cls.__name__, bases, namespace))


def _takes_part(default: object, role: str) -> bool:
    """Whether a field is one of `__init__` (role "init"), of comparisons ("compare") or of the text ("repr")."""
    return not isinstance(default, Field) or bool(getattr(default, role))


class _DataclassFields:
    """What `dataclasses` keeps of a class, made by itself for a class alike when somebody asks."""

    def __get__(self, instance: object, owner: type[_Record]) -> dict[str, Field[Any]]:
        namespace = {name: default for name, default in owner.__record_fields__.items() if default is not MISSING}
        namespace["__annotations__"] = _annotations(owner)
        namespace["__doc__"] = owner.__doc__ or owner.__name__  # else `dataclass` writes one, which takes milliseconds
        make = dataclass(init=False, repr=False, eq=False, match_args=False, kw_only=owner.__record_is_kw_only__)
        found: dict[str, Field[Any]] = {f.name: f for f in fields(make(type(owner.__name__, (), namespace)))}
        owner.__dataclass_fields__ = found
        return found


class _Signature:
    """The parameters of a class, for `help` and notebooks."""

    def __get__(self, instance: object, owner: type[_Record]) -> Signature:
        make = _compiled_init(owner)
        make.__annotations__ = {**_annotations(owner), "return": None}
        whole = signature(make)
        return whole.replace(parameters=[*whole.parameters.values()][1:])  # without `self`


_DATACLASS_FIELDS = _DataclassFields()
_SIGNATURE = _Signature()


def _annotations(owner: type[_Record]) -> dict[str, Any]:
    """The annotations of all fields."""
    found = {name: type_ for base in reversed(owner.__mro__[:-1]) for name, type_ in base.__annotations__.items()}
    return {name: found[name] for name in owner.__record_fields__}


class _Record:
    """The methods of all records."""

    __slots__ = ()
    __record_fields__: ClassVar[dict[str, Any]]
    """By name, in order: the default, or `dataclasses.field(...)`, or MISSING."""
    __record_key__: ClassVar[attrgetter[Any]]
    """What of an instance is compared and hashed: a value or a tuple of them."""
    __record_is_kw_only__: ClassVar[bool]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init__(self, *values: object, **named: object) -> None:
        """Compile the class's own `__init__`, then leave it to that one."""
        cls = type(self)
        cls.__init__ = _compiled_init(cls)  # type: ignore[method-assign]
        cls.__init__(self, *values, **named)

    def __repr__(self) -> str:
        shown = (name for name, default in self.__record_fields__.items() if _takes_part(default, "repr"))
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), [getattr(self, name) for name in self.__record_fields__])


class _Frozen(_Record):
    """The methods of records that cannot be changed."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")


def _equals(self: _Record, other: object) -> object:
    if other.__class__ is not self.__class__:
        return NotImplemented
    key = self.__record_key__
    return key(self) == key(other)


def _hash(self: _Record) -> int:
    return hash(self.__record_key__(self))


def _restored(cls: type[_Record], values: list[object]) -> _Record:
    """A copy, whose `__post_init__` has been called before."""
    made = object.__new__(cls)
    for name, value in zip(cls.__record_fields__, values, strict=True):
        object.__setattr__(made, name, value)
    return made


def _compiled_init(cls: type[_Record]) -> Callable[..., None]:
    """`__init__` as one would write it, but that it sets slots past `__setattr__`, which refuses."""
    names: dict[str, Any] = {"MISSING": MISSING}
    parameters, lines = ["self", "*"] if cls.__record_is_kw_only__ else ["self"], []
    for name, default in cls.__record_fields__.items():
        if not _takes_part(default, "init"):
            continue  # `__post_init__` sets it
        names[f"set_{name}"] = getattr(cls, name).__set__
        value = name
        if isinstance(default, Field) and default.default_factory is not MISSING:
            names[f"make_{name}"] = default.default_factory
            value = f"make_{name}() if {name} is MISSING else {name}"
            parameters.append(f"{name}=MISSING")
        else:
            names[f"default_{name}"] = default.default if isinstance(default, Field) else default
            parameters.append(name if names[f"default_{name}"] is MISSING else f"{name}=default_{name}")
        lines.append(f" set_{name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or [" pass"]), names)
    return cast(Callable[..., None], names["__init__"])
