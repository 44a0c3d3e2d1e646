"""Which rows of a table a WHERE clause can let through: symbols and a time range, from its top-level ANDs.

DuckDB does not push filters into Arrow scans, so what can be left out is left out before DuckDB sees the table.
Bounds only ever leave out rows that the WHERE clause, which still runs, would reject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from sqlglot import exp

from zeptodb.sql.relations import Bounds, Relation, Role, Scope
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType

_FLIPPED: dict[type, type] = {exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE}

Constant = int | str
Parameters = Mapping[str, object]


def conjuncts(condition: exp.Expr) -> Iterator[exp.Expr]:
    """The parts of a condition that all have to be true."""
    if isinstance(condition, exp.And):
        yield from conjuncts(condition.this)
        yield from conjuncts(condition.expression)
    elif isinstance(condition, exp.Paren):
        yield from conjuncts(condition.this)
    else:
        yield condition


def constant(node: exp.Expr | None, parameters: Parameters) -> Constant | None:
    """The integer or string that an expression spells out, None for anything else."""
    value: object = None
    if isinstance(node, exp.Paren):
        value = constant(node.this, parameters)
    elif isinstance(node, exp.Neg):
        inner = constant(node.this, parameters)
        value = -inner if isinstance(inner, int) else None
    elif isinstance(node, exp.Placeholder):
        value = parameters.get(node.name)
    elif isinstance(node, exp.Literal) and node.is_string:
        value = str(node.this)
    elif isinstance(node, exp.Literal) and str(node.this).isdigit():
        value = int(node.this)
    elif isinstance(node, (exp.Add, exp.Sub)):
        left, right = constant(node.this, parameters), constant(node.expression, parameters)
        if isinstance(left, int) and isinstance(right, int):
            value = left + right if isinstance(node, exp.Add) else left - right
    return _plain(value)


def _plain(value: object) -> Constant | None:
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def prune(scope: Scope, where: exp.Expr, parameters: Parameters) -> None:
    """Narrow the bounds of this SELECT's own tables by its (already rewritten) WHERE condition."""
    for part in conjuncts(where):
        for column, narrow in _narrowings(part, parameters):
            found = scope.resolve_here(column)
            if found is None or found[0].occurrence is None:
                continue
            relation, (name, _) = found
            role = relation.role(name)
            if role is None or role not in relation.prunable:
                continue
            bounds = narrow(found[0].occurrence.bounds, role, _symbols_are_strings(relation))
            if bounds is not None:
                found[0].occurrence.bounds = bounds


def _symbols_are_strings(relation: Relation) -> bool:
    if relation.occurrence is None:
        return False
    schema = relation.occurrence.schema
    return schema.symbol_index >= 0 and schema.fields[schema.symbol_index].type is ColumnType.STRING


Narrowing = Callable[[Bounds, Role, bool], Bounds | None]


def _narrowings(part: exp.Expr, parameters: Parameters) -> Iterator[tuple[exp.Column, Narrowing]]:
    if isinstance(part, exp.EQ):
        for column, other in ((part.this, part.expression), (part.expression, part.this)):
            value = constant(other, parameters)
            if isinstance(column, exp.Column) and value is not None:
                yield column, _one_of([value])
    elif isinstance(part, exp.In) and isinstance(part.this, exp.Column):
        values = _in_values(part, parameters)
        if values is not None:
            yield part.this, _one_of(values)
    elif isinstance(part, exp.Between) and isinstance(part.this, exp.Column) and not part.args.get("symmetric"):
        low, high = constant(part.args["low"], parameters), constant(part.args["high"], parameters)
        yield part.this, _between(low, high)
    elif type(part) in _FLIPPED:
        for column, other, op in (
            (part.this, part.expression, type(part)),
            (part.expression, part.this, _FLIPPED[type(part)]),
        ):
            value = constant(other, parameters)
            if isinstance(column, exp.Column) and isinstance(value, int):
                yield column, _bounded(op, value)


def _in_values(part: exp.In, parameters: Parameters) -> list[Constant] | None:
    listed = part.args.get("field")
    if isinstance(listed, exp.Placeholder):
        given = parameters.get(listed.name)
        values: list[Constant | None] = [_plain(v) for v in given] if isinstance(given, list) else [None]
        return None if None in values else [v for v in values if v is not None]
    if listed is not None or part.args.get("query") is not None or part.args.get("unnest") is not None:
        return None
    values = [constant(e, parameters) for e in part.expressions]
    return None if None in values else [v for v in values if v is not None]


def _one_of(values: list[Constant]) -> Narrowing:
    def narrow(bounds: Bounds, role: Role, strings: bool) -> Bounds | None:  # noqa: FBT001
        if role == "symbol":
            if any(isinstance(v, str) is not strings for v in values):
                return None
            known = frozenset(values)
            return replace(bounds, symbols=known if bounds.symbols is None else bounds.symbols & known)
        numbers = [v for v in values if isinstance(v, int)]
        return _time_bounds(bounds, min(numbers), max(numbers)) if len(numbers) == len(values) > 0 else None

    return narrow


def _bounded(operator: type, value: int) -> Narrowing:
    """The bounds that `column operator value` gives."""
    if operator in (exp.GT, exp.GTE):
        return _between(value + 1 if operator is exp.GT else value, None)
    return _between(None, value - 1 if operator is exp.LT else value)


def _between(low: Constant | None, high: Constant | None) -> Narrowing:
    def narrow(bounds: Bounds, role: Role, strings: bool) -> Bounds | None:  # noqa: ARG001, FBT001
        if role != "time" or isinstance(low, str) or isinstance(high, str):
            return None
        return _time_bounds(bounds, low, high)

    return narrow


def _time_bounds(bounds: Bounds, low: int | None, high: int | None) -> Bounds:
    """Narrow to low <= time <= high; both may lie beyond int64."""
    from_ns, to_ns = bounds.from_ns, bounds.to_ns
    if low is not None and low > INT64_MIN:
        low = min(low, INT64_MAX)
        from_ns = low if from_ns is None else max(from_ns, low)
    if high is not None and high < INT64_MAX:
        end = max(high, INT64_MIN) + 1
        to_ns = end if to_ns is None else min(to_ns, end)
    return replace(bounds, from_ns=from_ns, to_ns=to_ns)
