"""Values for the parameters of a statement, `?` or `$1` (a sequence) and `$name` (a mapping), as DuckDB takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sqlglot import exp

from zeptodb.errors import InvalidTypeError, QueryError

Parameters = Sequence[object] | Mapping[str, object] | None


def bind(expression: exp.Expr, given: Parameters) -> dict[str, object]:
    """The value of each parameter of a statement as `dialect.parse` returns it, where every parameter has a name.

    Raises QueryError when values are missing or left over, and InvalidTypeError when `given` is neither a sequence nor
    a mapping of names.
    """
    placeholders = list(expression.find_all(exp.Placeholder))
    if given is None:
        given = ()
    if isinstance(given, Mapping):
        return _by_name(placeholders, given)
    if isinstance(given, (str, bytes)) or not isinstance(given, (Sequence, np.ndarray)):
        raise InvalidTypeError(f"Parameters are a list or a dict of names, got {type(given).__name__}.")
    return _by_position(placeholders, list(given))


def _by_name(placeholders: list[exp.Placeholder], given: Mapping[str, object]) -> dict[str, object]:
    names = {p.name for p in placeholders}
    missing, unused = sorted(names - set(given)), sorted(set(given) - names)
    if missing or unused:
        problems = [f"no value for ${name}" for name in missing] + [f"no parameter ${name}" for name in unused]
        raise QueryError(f"The parameters do not fit the statement: {', '.join(problems)}.")
    return {name: plain(value) for name, value in given.items()}


def _by_position(placeholders: list[exp.Placeholder], given: list[object]) -> dict[str, object]:
    names = {p.name for p in placeholders}
    for name in sorted(names):
        if not name.isdecimal():
            raise QueryError(f"The statement has the parameter ${name}, but values came by position; give a dict.")
    wanted = max((int(name) for name in names), default=0)
    if wanted != len(given):
        raise QueryError(f"The statement has {wanted} parameter(s), {len(given)} value(s) were given.")
    return {str(place): plain(value) for place, value in enumerate(given, start=1)}


def plain(value: object) -> object:
    """A value as DuckDB takes it: numpy scalars as Python ones, arrays and tuples as lists."""
    if isinstance(value, np.datetime64):
        return value.astype("datetime64[us]").item() if not np.isnat(value) else None
    if isinstance(value, np.timedelta64):
        return value.astype("timedelta64[us]").item() if not np.isnat(value) else None
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    return value
