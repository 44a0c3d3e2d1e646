"""Aggregates as the tables that the device's kernels take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Aggregate
from zeptodb.backends.cuda.operands import Operands, Program
from zeptodb.backends.expression import Expression, Logical
from zeptodb.backends.primitives import Plan, lower
from zeptodb.types import Schema

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class DevicePlan:
    """What the kernels need to compute a list of aggregates.

    Attributes:
        plan: the primitives and where their words stand.
        program: computes predicates and arguments.
        sections, primitives: tables of `aggregate_tiles`.
        columns: what is read.
    """

    plan: Plan
    program: Program
    sections: Int64Array
    primitives: Int64Array
    columns: frozenset[int]


@lru_cache(maxsize=512)
def lower_for_device(
    aggregates: tuple[Aggregate, ...], predicate: Expression | None, nullable: frozenset[int], schema: Schema
) -> DevicePlan:
    """Plan `aggregates` over the rows that pass `predicate`; raises CannotRunError."""
    plan = lower(aggregates, predicate, nullable, schema)
    operands = Operands(schema.symbol_index)
    tests = [
        operands.place(_both(predicate, condition))
        for condition in dict.fromkeys([None, *(item.condition for item in aggregates)])
    ]
    sides = [
        (operands.place(nodes[0] if nodes else None), operands.place(nodes[1] if len(nodes) > 1 else None))
        for nodes in plan.operands
    ]
    program = operands.finish()
    sections = np.zeros((len(tests), 6), dtype=np.int64)
    sections[:, :4] = program.operands[tests]
    sections[:, 4:] = plan.sections[:, 5:7]
    primitives = np.zeros((len(sides), 10), dtype=np.int64)
    primitives[:, :2] = plan.primitives[:, [0, 3]]
    primitives[:, 2:6] = program.operands[[left for left, _ in sides]]
    primitives[:, 6:] = program.operands[[right for _, right in sides]]
    return DevicePlan(plan, program, sections, primitives, frozenset(operands.columns))


def _both(predicate: Expression | None, condition: Expression | None) -> Expression | None:
    if predicate is None or condition is None:
        return predicate if condition is None else condition
    return Logical("and", predicate, condition)
