"""One SELECT on its way to a native plan: its clauses, what has been bound so far, and the reasons against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING

from sqlglot import exp

from zeptodb.backends.base import Capabilities
from zeptodb.backends.expression import ColumnRef
from zeptodb.record import record
from zeptodb.sql.binder import Binder, ColumnResolver
from zeptodb.sql.bound import ALREADY_NOTED, SQL_TYPES, Bound, BoundConstant, BoundExpression, Rejection
from zeptodb.sql.naming import column_name
from zeptodb.sql.plan import OrderKey, Output, Reason
from zeptodb.sql.source_text import position_of
from zeptodb.sql.sources import Source, is_qualified_by, unknown_column_message
from zeptodb.types import INT64_MAX, ColumnType

if TYPE_CHECKING:
    from zeptodb.sql.template import Template

CLAUSES = {
    "expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "distinct",
}  # fmt: skip
_AGGREGATE_FUNCTIONS = frozenset({"vwap", "mean"})


@record(frozen=False)
class SelectStatement:
    """What the planners of one SELECT share.

    Attributes:
        node: the SELECT.
        text: the text that positions refer to.
        capabilities: of the backend.
        now_ns: what now() means.
        reasons: against a native plan.
        is_volatile: whether the present moment was folded into the plan.
        make_template: see `Planned`.
    """

    node: exp.Select
    text: str
    capabilities: Capabilities
    now_ns: int
    reasons: list[Reason] = field(default_factory=list)
    is_volatile: bool = False
    make_template: Callable[[], Template] | None = None

    def reject(self, message: str, node: exp.Expr | None = None, *, is_error: bool = False) -> None:
        """Note a reason against a native plan ("": noted already); `is_error`: no engine will be able to run it."""
        if message:
            self.reasons.append(Reason(message, position_of(node), is_error))

    def check_clauses(self) -> None:
        """Reject every clause that has no native form."""
        for key, value in self.node.args.items():
            if value and key not in CLAUSES:
                name = key.strip("_").upper()
                self.reject(f"{name} has no native form", value if isinstance(value, exp.Expr) else None)

    def is_aggregated(self) -> bool:
        """Whether the statement groups or aggregates."""
        if self.node.args.get("group") or self.node.args.get("having"):
            return True
        items = [*self.node.expressions, *self.order_items()]
        return any(is_aggregate_call(n) and not is_windowed(n) for item in items for n in item.walk())

    def has_windows(self) -> bool:
        """Whether an output or a key of ORDER BY has an OVER."""
        return any(item.find(exp.Window) is not None for item in [*self.node.expressions, *self.order_items()])

    def order_items(self) -> list[exp.Expr]:
        """The items of ORDER BY."""
        order = self.node.args.get("order")
        return [] if order is None else list(order.expressions)

    def count(self, clause: str) -> int | None:
        """The number behind LIMIT or OFFSET; None without the clause or after a rejection."""
        node = self.node.args.get(clause)
        if node is None:
            return None
        value = node.args.get("expression")
        extra = [key for key, v in node.args.items() if v and key != "expression"]
        if extra or not isinstance(value, exp.Literal) or value.args.get("is_string") or not value.name.isdigit():
            self.reject(f"{clause.upper()} is native with a whole number only", node)
            return None
        if int(value.name) > INT64_MAX:
            self.reject(f"{clause.upper()} is beyond INT64", node)
        return int(value.name)

    def name_of(self, node: exp.Expr, alias: str | None) -> str:
        """The name of an output that is no plain column; rejects one that only DuckDB can name."""
        name = alias if alias is not None else column_name(node, self.text)
        if name is None:
            self.reject("only DuckDB knows the name of this column; give it an alias", node)
        return name or ""

    def binder(self, resolve: ColumnResolver) -> Binder:
        """A binder that adds to the reasons of this statement."""
        return Binder(resolve, self.reasons, now_ns=self.now_ns)

    def resolve_row(self, node: exp.Column, source: Source) -> Bound | Rejection:
        """A column of the one table that the statement reads."""
        index = source.find(node.name) if is_qualified_by(node, source) else None
        if index is None:
            return Rejection(unknown_column_message(node, [source]), is_error=True)
        return column_reference(source, index)


def column_reference(source: Source, index: int) -> BoundExpression:
    """Column `index` of the table, as an expression."""
    column_type = source.schema.fields[index].type
    dictionary = index if column_type is ColumnType.STRING else None
    return BoundExpression(ColumnRef(index, column_type), SQL_TYPES[column_type], dictionary)


def is_aggregate_call(node: exp.Expr) -> bool:
    """Whether the node calls an aggregate function."""
    return isinstance(node, (exp.AggFunc, exp.Filter)) or (
        isinstance(node, exp.Anonymous) and node.name.lower() in _AGGREGATE_FUNCTIONS
    )


def is_windowed(node: exp.Expr) -> bool:
    """Whether the call is that of a window function."""
    while isinstance(node.parent, (exp.Filter, exp.IgnoreNulls, exp.RespectNulls)) and node.arg_key == "this":
        node = node.parent
    return isinstance(node.parent, exp.Window) and node.arg_key == "this"


def output(name: str, bound: BoundExpression) -> Output:
    """A column of the answer."""
    return Output(name, bound.expression, bound.type.column_type, bound.dictionary)


def order_key(item: exp.Expr, bound: BoundExpression) -> OrderKey:
    """A key of ORDER BY; `item` says in which direction."""
    return OrderKey(bound.expression, bool(item.args.get("desc")), bool(item.args.get("nulls_first")), bound.dictionary)


def ordered_output(item: exp.Expr, named: list[tuple[str, Bound | None]]) -> Bound | Rejection | None:
    """The output that an item of ORDER BY means by position or by bare name; None when it is an expression.

    A bare name means an output before it means a column of the table.
    """
    target = item.this
    if isinstance(target, exp.Literal):
        if target.args.get("is_string") or not target.name.isdigit() or not 1 <= int(target.name) <= len(named):
            return Rejection("ORDER BY wants the position of an output")
        return named[int(target.name) - 1][1] or ALREADY_NOTED
    if isinstance(target, exp.Column) and not target.args.get("table"):
        matches = [bound for name, bound in named if name.lower() == target.name.lower()]
        if matches:
            if any(bound != matches[0] for bound in matches[1:]):
                return Rejection(f'"{target.name}" means several outputs')
            return matches[0] or ALREADY_NOTED
    if isinstance(target, exp.Var):
        return Rejection("ORDER BY ALL has no native form")
    extra = [key for key, value in item.args.items() if value and key not in ("this", "desc", "nulls_first")]
    return Rejection(f"ORDER BY with {', '.join(extra)} has no native form") if extra else None


def require_expression(statement: SelectStatement, bound: Bound | None, node: exp.Expr) -> BoundExpression | None:
    """`bound` unless it is a constant, which is rejected."""
    if isinstance(bound, BoundConstant):
        statement.reject("a constant has no native form here", node)
        return None
    return bound
