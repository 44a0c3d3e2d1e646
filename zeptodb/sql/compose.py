"""A statement that is not native as a whole: its native parts run first, and DuckDB finishes on their rows.

Statements are rewritten so that parts become native (`REWRITES`); then each SELECT that is native, and is faster so
than DuckDB would be, becomes a leaf: DuckDB sees a small table in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from sqlglot import exp

from zeptodb.errors import ZeptoError
from zeptodb.record import record
from zeptodb.sql.duckdb_plan import Leaf
from zeptodb.sql.joined_rows import JOINED
from zeptodb.sql.parameters import Parameters, bind
from zeptodb.sql.plan import AggregatePlan, JoinedPlan, JoinPlan, Output, Plan, Planned, Reason, SelectPlan, WindowPlan
from zeptodb.sql.prepare import is_volatile, prepare
from zeptodb.sql.relations import KIND_OF_COLUMN, Columns
from zeptodb.sql.rewrites.group_by_all import group_by_all
from zeptodb.sql.rewrites.merge_projection import merge_projection
from zeptodb.sql.rewrites.select_planner import SelectPlanner, selects_of
from zeptodb.sql.rewrites.split_groups import split_groups
from zeptodb.sql.source_text import position_of
from zeptodb.types import ColumnType

Rewrite = Callable[[exp.Select, SelectPlanner], exp.Select | None]

REWRITES: tuple[Rewrite, ...] = (group_by_all, merge_projection, split_groups)
"""Tried in this order on every SELECT that is not native, from the innermost to the outermost."""

LEAVES: dict[str, Callable[[Plan], bool]] = {
    "aggregates and groups": lambda plan: isinstance(plan, AggregatePlan),
    "as-of joins": lambda plan: isinstance(plan, (JoinPlan, JoinedPlan)),
    "windows by symbol": lambda plan: isinstance(plan, WindowPlan),
    "first rows (LIMIT)": lambda plan: isinstance(plan, SelectPlan) and plan.finish.limit is not None,
}
"""Native parts that take less time than DuckDB over the same rows, with the handing over of what they leave.

A projection without LIMIT is none: it would hand over as many rows as it reads, which DuckDB reads as fast.
"""

LEAF = "native_rows"

MAX_SELECTS = 64
"""A statement of more SELECTs is left to DuckDB: looking for native parts would take longer than they save."""


def plan_in_parts(
    statement: exp.Expr, params: Parameters, planner: SelectPlanner, reasons: tuple[Reason, ...]
) -> Planned:
    """What to do with a query that is not native as it is written, for these `reasons`.

    A rewritten one may be native after all; else DuckDB runs it over the rows of native parts. An error in it is left
    for the run to raise.
    """
    moment = is_volatile(statement)
    try:
        composition = compose(statement, planner)
        if composition.whole is not None:
            return composition.whole
        duckdb = prepare(
            composition.statement,
            bind(statement, params),
            planner.find_table,
            planner.catalog.names(),
            now_ns=planner.now_ns,
            text="" if composition.is_rewritten else planner.text,
            within=planner.text,
            leaves=composition.leaves,
            handed=composition.handed,
            columns_of=planner.columns_of,
        )
    except (ZeptoError, RecursionError):
        return Planned(None, reasons, is_volatile=moment)
    return Planned(None, reasons, is_volatile=moment, duckdb=duckdb)


@record(frozen=False)
class Composition:
    """A statement with native parts taken out.

    Attributes:
        statement: what is left; the parts stand in it as tables.
        leaves: the parts.
        handed: their columns, by lower-case name of the table.
        whole: the native plan of all of it, where rewriting made one possible.
        is_rewritten: whether it differs from what was written.
    """

    statement: exp.Expr
    leaves: list[Leaf] = field(default_factory=list)
    handed: dict[str, Columns] = field(default_factory=dict)
    whole: Planned | None = None
    is_rewritten: bool = False


def compose(statement: exp.Expr, planner: SelectPlanner) -> Composition:
    """Take the native parts out of a query (of a copy of it)."""
    root = exp.Paren(this=statement.copy())
    composition = Composition(root.this)
    if len(selects_of(root)) > MAX_SELECTS:
        return composition
    for select in selects_of(root):
        composition.is_rewritten |= _rewrite(select, planner)
    whole = planner.plan(root.this)
    if whole.plan is not None:
        composition.whole = whole
        return composition
    for select in selects_of(root):
        _take(select, planner, composition)
    composition.statement = root.this.pop()
    return composition


def _rewrite(select: exp.Select, planner: SelectPlanner) -> bool:
    """Apply every rewrite that may bring the SELECT nearer to a native plan; whether one did."""
    has_changed = False
    for rewrite in REWRITES:
        if _is_native(select, planner):
            break
        rewritten = rewrite(select, planner)
        if rewritten is not None:
            select.replace(rewritten)
            select = rewritten
            has_changed = True
            _drop_unused_ctes(select.root())
    return has_changed


def _is_native(select: exp.Select, planner: SelectPlanner) -> bool:
    return not planner.reads_ctes(select) and planner.plan(select).plan is not None


def _drop_unused_ctes(root: exp.Expr) -> None:
    """Leave out common table expressions that nothing names any more."""
    for clause in list(root.find_all(exp.With)):
        if clause.args.get("recursive"):
            continue
        for cte in reversed(list(clause.expressions)):
            name = cte.alias.lower()
            named = (t for t in root.find_all(exp.Table) if t.name.lower() == name and not t.args.get("db"))
            if next(named, None) is None:
                cte.pop()
        if not clause.expressions:
            clause.pop()


def _take(select: exp.Select, planner: SelectPlanner, composition: Composition) -> None:
    """Make a leaf of the SELECT if it is native and faster so."""
    if planner.reads_ctes(select):
        return
    plan = planner.plan(select).plan
    if plan is None or not is_faster_native(plan):
        return
    name = f"{LEAF}_{len(composition.leaves) + 1}"
    if isinstance(plan, JoinedPlan):
        replacement: exp.Expr = exp.maybe_parse(plan.sql, dialect="duckdb")
        for table in replacement.find_all(exp.Table):
            if table.name == JOINED:
                table.set("this", exp.to_identifier(name))
        plan = plan.join
    else:
        replacement = _selection(name, plan.finish.outputs)
    names = [output.name.lower() for output in plan.finish.outputs]
    if len(set(names)) < len(names):
        return
    select.replace(replacement)
    composition.leaves.append(Leaf(name, plan, position_of(select)))
    composition.handed[name] = tuple((o.name, KIND_OF_COLUMN[o.type]) for o in plan.finish.outputs)


def is_faster_native(plan: Plan) -> bool:
    """Whether the plan is one of the kinds in `LEAVES`."""
    return any(is_kind(plan) for is_kind in LEAVES.values())


def _selection(name: str, outputs: tuple[Output, ...]) -> exp.Select:
    """All columns of the leaf; those that fit INT64 but are HUGEINT in DuckDB are so again."""
    items: list[exp.Expr] = []
    for output in outputs:
        column = exp.column(exp.to_identifier(output.name, quoted=True))
        if output.type is ColumnType.HUGEINT:
            cast = exp.cast(column, "HUGEINT", dialect="duckdb")
            items.append(exp.Alias(this=cast, alias=exp.to_identifier(output.name, quoted=True)))
        else:
            items.append(column)
    return exp.Select(expressions=items, from_=exp.From(this=exp.to_table(name)))
