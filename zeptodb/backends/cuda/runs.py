"""Which operations the device does not run: looked at without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zeptodb.backends.base import AggregateScan, AsofJoin, Operation, SelectScan, TopScan, WindowFunction, WindowScan
from zeptodb.backends.cuda.lowering import lower_for_device
from zeptodb.backends.cuda.operands import CannotRunError, Operands
from zeptodb.backends.expression import Comparison, Constant, Expression, Logical
from zeptodb.backends.results import nullable_columns
from zeptodb.types import Schema


def why_not(operation: Operation) -> str:
    """Why the device does not run an operation; empty when it does."""
    try:
        CHECKS[type(operation)](operation)
    except CannotRunError as error:
        return str(error)
    return ""


def _aggregate(operation: AggregateScan) -> None:
    snapshot, predicate = operation.scan.snapshot, operation.scan.predicate
    lower_for_device(operation.aggregates, predicate, nullable_columns(snapshot), snapshot.schema)
    if operation.keys:
        _assemble(snapshot.schema, [predicate])
        _assemble(snapshot.schema, operation.keys)


def _select(operation: SelectScan) -> None:
    schema = operation.scan.snapshot.schema
    _assemble(schema, [operation.scan.predicate])
    _assemble(schema, operation.outputs)


def _top(operation: TopScan) -> None:
    schema, predicate = operation.scan.snapshot.schema, operation.scan.predicate
    reached = Comparison(">=", operation.key, Constant(0, operation.key.kind))
    _assemble(schema, [reached if predicate is None else Logical("and", predicate, reached)])
    _assemble(schema, operation.outputs)


def _window(operation: WindowScan) -> None:
    schema = operation.scan.snapshot.schema
    _assemble(schema, [operation.scan.predicate])
    _assemble(schema, [e.argument if isinstance(e, WindowFunction) else e for e in operation.outputs])


def _asof(operation: AsofJoin) -> None:
    left = operation.left.snapshot.schema
    _assemble(left, [operation.left.predicate])
    _assemble(left, operation.left_outputs)
    _assemble(operation.right.snapshot.schema, operation.right_outputs)


CHECKS: dict[type, Callable[..., None]] = {
    AggregateScan: _aggregate,
    SelectScan: _select,
    TopScan: _top,
    WindowScan: _window,
    AsofJoin: _asof,
}
"""Per operator what raises CannotRunError, if it does."""


def _assemble(schema: Schema, expressions: Iterable[Expression | None]) -> None:
    """Make one program of the expressions, as the operator will; raises CannotRunError."""
    operands = Operands(schema.symbol_index)
    for expression in expressions:
        operands.place(expression)
    operands.finish()
