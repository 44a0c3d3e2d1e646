"""Plans a SELECT with window functions, and without aggregates, over one table."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.backends.base import WindowFunction, WindowScan
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.sql.bound import ALREADY_NOTED, Bound, BoundExpression, Rejection, SqlType
from zeptodb.sql.plan import Finish, Slot, TableScan, WindowPlan
from zeptodb.sql.row_planner import alias_lookup, plain_or_printed_name, scan_of, storage_order_of, template_maker
from zeptodb.sql.select_statement import (
    SelectStatement,
    column_reference,
    order_key,
    ordered_output,
    output,
    require_expression,
)
from zeptodb.sql.sources import Source, is_modified_star, is_qualified_by, is_star, outputs_of
from zeptodb.sql.window_functions import bind_window


class WindowPlanner:
    """Plans one statement. Values of rows and windows are slots; what is made of windows is computed from these."""

    def __init__(self, statement: SelectStatement, source: Source) -> None:
        self.statement = statement
        self.source = source
        self.columns: dict[Expression | WindowFunction, int] = {}
        self.slots: list[Slot] = []
        self.rows = statement.binder(lambda node: statement.resolve_row(node, source))
        self.row_aliases: dict[str, Bound | None] = {}
        self.rows.replace = alias_lookup(self.row_aliases, source)
        self.finals = statement.binder(self._resolve_final)
        self.finals.replace = self._replace_final
        self.finals.is_in_backend = False
        self.aliases: dict[str, Bound | None] = {}

    def plan(self) -> WindowPlan | None:
        """The plan; None with reasons in the statement when there is none."""
        statement = self.statement
        if WindowScan not in statement.capabilities.operators:
            statement.reject("the backend cannot compute window functions")
        named = self._bind_outputs()
        scan = scan_of(statement, self.source, self.rows)
        ordered = [(item, self._bind_order(item, named)) for item in statement.order_items()]
        limit, offset = statement.count("limit"), statement.count("offset")
        statement.is_volatile |= self.rows.is_volatile or self.finals.is_volatile
        if statement.reasons or scan is None:
            return None
        keys = [(item, bound) for item, bound in ordered if bound is not None]
        finish = Finish(
            tuple(output(name, b) for name, b in named if isinstance(b, BoundExpression)),
            None,
            tuple(order_key(item, b) for item, b in keys),
            offset or 0,
            limit,
        )
        columns, slots = tuple(self.columns), tuple(self.slots)
        storage_order = storage_order_of(self.source, [(item, self._stored_column(b)) for item, b in keys])

        def complete(scan: TableScan) -> WindowPlan:
            return WindowPlan(scan, columns, slots, finish, storage_order(scan))

        statement.make_template = template_maker(statement, self.source, self.rows, complete)
        return complete(scan)

    def _bind_outputs(self) -> list[tuple[str, Bound | None]]:
        statement, source = self.statement, self.source
        named: list[tuple[str, Bound | None]] = []
        for node, alias in outputs_of(statement.node):
            if is_star(node):
                if is_modified_star(node) or (isinstance(node, exp.Column) and not is_qualified_by(node, source)):
                    statement.reject("this star has no native form", node)
                    continue
                fields = enumerate(source.schema.fields)
                named += [(f.name, self._slot(column_reference(source, i))) for i, f in fields]
                continue
            bound = self._bind_value(node)
            named.append((plain_or_printed_name(statement, source, node, alias), bound))
            if alias is not None:
                self.aliases[alias.lower()] = bound
                self.row_aliases[alias.lower()] = None if self._is_final(node) else self._quietly_bound(node)
        return named

    def _bind_value(self, node: exp.Expr) -> BoundExpression | None:
        """A value over the slots: what no window takes part in is one slot, which the backend computes."""
        if self._is_final(node):
            return require_expression(self.statement, self.finals.bind(node), node)
        bound = require_expression(self.statement, self.rows.bind(node), node)
        return None if bound is None else self._slot(bound)

    def _bind_order(self, item: exp.Expr, named: list[tuple[str, Bound | None]]) -> BoundExpression | None:
        found = ordered_output(item, named)
        if isinstance(found, Rejection):
            self.statement.reject(found.message, item)
            return None
        return self._bind_value(item.this) if found is None else require_expression(self.statement, found, item)

    def _is_final(self, node: exp.Expr) -> bool:
        """Whether a window takes part in a value, by itself or by an alias."""
        return _has_window(node) or any(
            not column.args.get("table")
            and self.source.find(column.name) is None
            and column.name.lower() in self.aliases
            and self.row_aliases[column.name.lower()] is None
            for column in node.find_all(exp.Column)
        )

    def _quietly_bound(self, node: exp.Expr) -> Bound | None:
        before = len(self.statement.reasons)
        bound = self.rows.bind(node)
        del self.statement.reasons[before:]
        return bound

    # ---- slots ----------------------------------------------------------------------------------------------------

    def _slot(self, bound: BoundExpression) -> BoundExpression:
        return self._place(bound.expression, bound.type, bound.dictionary)

    def _place(
        self, what: Expression | WindowFunction, kind: SqlType, dictionary: int | None = None
    ) -> BoundExpression:
        index = self.columns.setdefault(what, len(self.columns))
        if index == len(self.slots):
            self.slots.append(Slot(kind.column_type, dictionary))
        return BoundExpression(ColumnRef(index, kind.column_type), kind, None if dictionary is None else index)

    def _resolve_final(self, node: exp.Column) -> Bound | Rejection:
        row = self.statement.resolve_row(node, self.source)
        return self._slot(row) if isinstance(row, BoundExpression) else row

    def _replace_final(self, node: exp.Expr) -> Bound | Rejection | None:
        if isinstance(node, exp.Window):
            called = bind_window(node, self.rows, self.statement, self.source)
            return ALREADY_NOTED if called is None else self._place(*called)
        return alias_lookup(self.aliases, self.source, self._resolve_final)(node)

    def _stored_column(self, bound: BoundExpression) -> int:
        """The column of the table that a slot holds, -1 for anything else."""
        if not isinstance(bound.expression, ColumnRef):
            return -1
        held = tuple(self.columns)[bound.expression.index]
        return held.index if isinstance(held, ColumnRef) else -1


def _has_window(node: exp.Expr) -> bool:
    return node.find(exp.Window) is not None
