"""GROUP BY ALL names its keys: the items of the SELECT list that do not aggregate."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.sql.rewrites.select_planner import SelectPlanner
from zeptodb.sql.select_statement import is_aggregate_call
from zeptodb.sql.sources import is_star


def group_by_all(select: exp.Select, planner: SelectPlanner) -> exp.Select | None:  # noqa: ARG001
    """The SELECT with positions in place of ALL; None when there is nothing to name."""
    group = select.args.get("group")
    if group is None or not group.args.get("all") or group.expressions:
        return None
    positions = []
    for position, item in enumerate(select.expressions, start=1):
        if is_star(item) or isinstance(item.unalias(), exp.Literal) or item.find(exp.Query, exp.Window) is not None:
            return None
        if not any(is_aggregate_call(node) for node in item.walk()):
            positions.append(exp.Literal.number(position))
    named: exp.Select = select.copy()
    named.set("group", exp.Group(expressions=positions) if positions else None)
    return named
