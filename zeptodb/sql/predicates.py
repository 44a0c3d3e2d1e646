"""Sorts a bound WHERE condition into lookups of symbols, ranges of time, and what is left for each row."""

from __future__ import annotations

from collections.abc import Iterable

from zeptodb.backends.expression import ColumnRef, Comparison, Constant, Expression, InList, Logical
from zeptodb.record import record
from zeptodb.sql.bound import BoundConstant, BoundExpression, StringCode, StringCodeList
from zeptodb.sql.plan import Symbol, TableScan
from zeptodb.types import INT64_MAX, INT64_MIN, Schema

LOOKED_UP = ("symbol = x", "symbol IN (list)", "OR of these", "comparisons of the time with constants")
"""Parts of WHERE that `table_scan` turns into lookups of symbols and binary searches of times."""


@record(frozen=False)
class _Condition:
    """The parts found so far."""

    symbols: set[Symbol] | None = None
    symbol_filter: Expression | None = None
    from_ns: int = INT64_MIN
    to_ns: int = INT64_MAX + 1
    predicate: Expression | None = None


def table_scan(table: str, schema: Schema, condition: BoundConstant | BoundExpression | None) -> TableScan:
    """The scan of the rows for which `condition` is true (None: all rows)."""
    if condition is None:
        return TableScan(table, schema)
    if isinstance(condition, BoundConstant):
        return TableScan(table, schema, is_empty=not condition.value)
    return scan_where(table, schema, [condition.expression])


def scan_where(table: str, schema: Schema, conditions: Iterable[Expression]) -> TableScan:
    """The scan of the rows for which all `conditions` are true."""
    parts = _Condition()
    for condition in conditions:
        for conjunct in conjuncts(condition):
            _place(conjunct, schema, parts)
    symbols = parts.symbols
    is_empty = parts.from_ns >= parts.to_ns or (symbols is not None and not symbols)
    return TableScan(
        table,
        schema,
        symbols=None if symbols is None else _in_order(symbols),
        symbol_filter=parts.symbol_filter,
        from_ns=None if parts.from_ns == INT64_MIN else parts.from_ns,
        to_ns=None if parts.to_ns > INT64_MAX else parts.to_ns,
        predicate=parts.predicate,
        is_empty=is_empty,
    )


def _in_order(symbols: set[Symbol]) -> tuple[Symbol, ...]:
    if len(symbols) < 2:
        return tuple(symbols)
    return tuple(sorted(symbols, key=lambda s: (isinstance(s, str), s)))


def conjuncts(expression: Expression) -> list[Expression]:
    """The operands of the outermost chain of ANDs."""
    if not isinstance(expression, Logical):
        return [expression]
    pending: list[Expression] = [expression]
    found: list[Expression] = []
    while pending:
        node = pending.pop()
        if isinstance(node, Logical) and node.op == "and":
            pending += [node.right, node.left]
        else:
            found.append(node)
    return found


def conjunction(left: Expression | None, right: Expression) -> Expression:
    """`left AND right`, or `right` alone."""
    return right if left is None else Logical("and", left, right)


def columns_of(expression: Expression) -> frozenset[int]:
    """The columns that an expression reads."""
    found: set[int] = set()
    pending: list[object] = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, ColumnRef):
            found.add(node.index)
        else:
            pending += [getattr(node, name) for name in getattr(node, "__match_args__", ())]  # fields of a dataclass
    return frozenset(found)


def _place(conjunct: Expression, schema: Schema, parts: _Condition) -> None:
    if isinstance(conjunct, Comparison) and isinstance(conjunct.left, ColumnRef):
        of_another = conjunct.left.index not in (schema.symbol_index, schema.timestamp_index)
        if of_another:  # most conditions; there is nothing to look up or to search
            parts.predicate = conjunction(parts.predicate, conjunct)
            return
    symbols = _symbols(conjunct, schema.symbol_index)
    if symbols is not None:
        parts.symbols = symbols if parts.symbols is None else parts.symbols & symbols
    elif not _narrow_time(conjunct, schema.timestamp_index, parts):
        if schema.symbol_index >= 0 and columns_of(conjunct) == {schema.symbol_index}:
            parts.symbol_filter = conjunction(parts.symbol_filter, conjunct)
        else:
            parts.predicate = conjunction(parts.predicate, conjunct)


def _symbols(expression: Expression, symbol_index: int) -> set[Symbol] | None:
    """The symbols that a condition allows, if it is one of symbol = x, symbol IN (...), or an OR of such."""
    if isinstance(expression, Logical) and expression.op == "or":
        left, right = _symbols(expression.left, symbol_index), _symbols(expression.right, symbol_index)
        return None if left is None or right is None else left | right
    if isinstance(expression, InList) and _is_column(expression.argument, symbol_index):
        return set(expression.texts) if isinstance(expression, StringCodeList) else {int(v) for v in expression.values}
    if isinstance(expression, Comparison) and expression.op == "=" and _is_column(expression.left, symbol_index):
        constant = expression.right
        if isinstance(constant, StringCode):
            return {constant.text}
        if isinstance(constant, Constant) and isinstance(constant.value, int):
            return {constant.value}
    return None


def _is_column(expression: Expression, index: int) -> bool:
    return index >= 0 and isinstance(expression, ColumnRef) and expression.index == index


def _narrow_time(expression: Expression, timestamp_index: int, parts: _Condition) -> bool:
    """Take a comparison of the timestamp with a constant into the range; False when it is something else."""
    if not isinstance(expression, Comparison) or not _is_column(expression.left, timestamp_index):
        return False
    if not isinstance(expression.right, Constant) or not isinstance(expression.right.value, int):
        return False
    value = expression.right.value
    if expression.op == "!=":
        return False
    if expression.op in ("=", ">=", ">"):
        parts.from_ns = max(parts.from_ns, value + (expression.op == ">"))
    if expression.op in ("=", "<=", "<"):
        parts.to_ns = min(parts.to_ns, value + (expression.op != "<"))
    return True
