"""How many bytes of tables an answer covers: of each row the columns that the statement looks at."""

from __future__ import annotations

from collections.abc import Iterable

from zeptodb.backends.expression import Expression
from zeptodb.backends.program import columns_in
from zeptodb.sql.plan import AggregatePlan, JoinedPlan, JoinPlan, Plan, SelectPlan, TableScan


def scanned_bytes(plan: Plan, rows: int, right_rows: int) -> int:
    """Bytes of the columns that a native plan reads over these rows, `right_rows` of them the right ones of a join.

    Counted are values as they are stored: symbols are not, which are stored once per segment, nor marks of NULL.
    """
    if isinstance(plan, JoinedPlan):
        plan = plan.join
    if isinstance(plan, JoinPlan):
        left = _row_bytes(plan.left, plan.left_columns, needs_time=True)
        right = _row_bytes(plan.right, plan.right_columns, needs_time=True)
        return left * (rows - right_rows) + right * right_rows
    return rows * _row_bytes(
        plan.scan, _expressions(plan), needs_time=isinstance(plan, AggregatePlan) and plan.bucket is not None
    )


def _expressions(plan: SelectPlan | AggregatePlan) -> Iterable[Expression]:
    if isinstance(plan, SelectPlan):
        yield from plan.columns
        return
    yield from plan.keys
    for aggregate in plan.aggregates:
        yield from aggregate.arguments
        if aggregate.condition is not None:
            yield aggregate.condition


def _row_bytes(scan: TableScan, expressions: Iterable[Expression], *, needs_time: bool) -> int:
    schema = scan.schema
    found = {schema.timestamp_index} if needs_time else set()
    for expression in expressions:
        found |= columns_in(expression)
    if scan.predicate is not None:
        found |= columns_in(scan.predicate)
    return sum(schema.fields[c].type.dtype.itemsize for c in found if 0 <= c != schema.symbol_index)
