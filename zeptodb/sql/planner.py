"""Turns a SELECT into a native plan, or finds every reason why it is not native."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.backends.base import Capabilities
from zeptodb.sql import constants
from zeptodb.sql.aggregate_planner import AggregatePlanner
from zeptodb.sql.plan import Plan, Planned, Reason
from zeptodb.sql.row_planner import plan_rows
from zeptodb.sql.select_statement import SelectStatement
from zeptodb.sql.sources import Source, source_of
from zeptodb.storage.catalog import Catalog


def plan(
    node: exp.Expr, text: str, catalog: Catalog, capabilities: Capabilities, *, now_ns: int | None = None
) -> Planned:
    """The native plan of a statement, or all reasons against one; `text` is what positions refer to.

    now_ns: what now() means; None: the present.
    """
    while isinstance(node, exp.Subquery) and not any(v for k, v in node.args.items() if k != "this"):
        node = node.this
    if not isinstance(node, exp.Select):
        return Planned(None, (Reason(f"{type(node).__name__.upper()} is no plain SELECT"),))
    node = _with_windows_spelled_out(node)
    statement = SelectStatement(node, text, capabilities, constants.now_ns() if now_ns is None else now_ns)
    try:
        statement.check_clauses()
        found = _plan_select(statement, catalog)
    except RecursionError:
        return Planned(None, (Reason("the expressions are nested too deeply"),))
    if statement.reasons:
        return Planned(None, tuple(dict.fromkeys(statement.reasons)))
    return Planned(found, (), statement.is_volatile, statement.make_template)


def _with_windows_spelled_out(select: exp.Select) -> exp.Select:
    """The SELECT without WINDOW; as it is where DuckDB would name a column after a window's name."""
    if not select.args.get("windows"):
        return select
    unnamed = [item for item in select.expressions if not isinstance(item, exp.Alias)]
    if any(window.args.get("alias") for item in unnamed for window in item.find_all(exp.Window)):
        return select
    from zeptodb.sql import windows_by_name

    copy = select.copy()
    windows_by_name.spell_out(copy)
    return copy


def _plan_select(statement: SelectStatement, catalog: Catalog) -> Plan | None:
    select = statement.node
    if not select.expressions:
        statement.reject("the select list is empty")
        return None
    if select.args.get("from_") is None:
        statement.reject("there is no FROM")
        return None
    table = select.args["from_"].this
    joins = [*(select.args.get("joins") or []), *(table.args.get("joins") or [])]
    sources = _sources(statement, catalog, [table, *(join.this for join in joins)])
    if len(sources) != len(joins) + 1 or not _joins_are_native(statement, joins):
        return None
    is_aggregated, distinct = statement.is_aggregated(), select.args.get("distinct")
    if distinct is not None and (distinct.args.get("on") is not None or (is_aggregated and not joins)):
        statement.reject("DISTINCT is native over the symbol and a time bucket only", distinct)
        return None
    if joins:
        return _plan_join(statement, sources, joins[0], is_plain=not is_aggregated and distinct is None)
    if is_aggregated or distinct is not None:
        return AggregatePlanner(statement, sources[0]).plan()
    if statement.has_windows():
        from zeptodb.sql.window_planner import WindowPlanner

        return WindowPlanner(statement, sources[0]).plan()
    return plan_rows(statement, sources[0])


def _plan_join(statement: SelectStatement, sources: list[Source], join: exp.Join, *, is_plain: bool) -> Plan | None:
    """All of it natively if it projects rows only and every expression has a native form; else join, then DuckDB."""
    from zeptodb.sql.join_planner import JoinPlanner
    from zeptodb.sql.joined_rows import JoinedRowsPlanner

    before = list(statement.reasons)
    if is_plain:
        plan = JoinPlanner(statement, sources[0], sources[1], join).plan()
        if plan is not None or before:
            return plan
    reasons, statement.reasons = statement.reasons, before
    in_two_steps = JoinedRowsPlanner(statement, sources[0], sources[1], join).plan_in_two_steps()
    if in_two_steps is None:
        statement.reasons = [*reasons, *statement.reasons]
    return in_two_steps


def _sources(statement: SelectStatement, catalog: Catalog, nodes: list[exp.Expr]) -> list[Source]:
    """The tables that the nodes name; shorter than `nodes` after a rejection."""
    sources = []
    for node in nodes:
        source = source_of(node, catalog)
        if isinstance(source, str):
            statement.reject(source, node)
        elif node is not nodes[0] and node.args.get("joins"):
            statement.reject("joins in brackets have no native form", node)
        else:
            sources.append(source)
    if len({source.name.lower() for source in sources}) < len(sources):
        statement.reject("two tables of FROM have one name")
        return []
    return sources


def _joins_are_native(statement: SelectStatement, joins: list[exp.Join]) -> bool:
    """Whether there is no join, or one as-of join that is neither RIGHT nor FULL."""
    for join in joins:
        extra = [
            key for key, v in join.args.items() if v and key not in ("this", "on", "using", "method", "side", "kind")
        ]
        is_asof = join.args.get("method") == "ASOF" and join.args.get("side") in (None, "", "LEFT")
        if not is_asof or extra or (join.args.get("kind") or "INNER") not in ("INNER", "OUTER"):
            statement.reject("only ASOF [LEFT] JOIN of two tables is native", join)
            return False
    if len(joins) > 1:
        statement.reject("only two tables are joined natively", joins[1])
        return False
    return True
