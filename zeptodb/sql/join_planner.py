"""Plans a SELECT over an as-of join of two tables on their symbols and times."""

from __future__ import annotations

from typing import Literal, cast

from sqlglot import exp

from zeptodb.backends.base import AsofJoin
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.sql.binder import Binder
from zeptodb.sql.bound import SQL_TYPES, Bound, BoundConstant, BoundExpression, Rejection
from zeptodb.sql.naming import column_name
from zeptodb.sql.plan import Finish, JoinPlan, Side, Slot, TableScan
from zeptodb.sql.predicates import conjunction, table_scan
from zeptodb.sql.select_statement import (
    SelectStatement,
    column_reference,
    order_key,
    ordered_output,
    output,
    require_expression,
)
from zeptodb.sql.sources import (
    Source,
    is_modified_star,
    is_qualified_by,
    is_star,
    outputs_of,
    unknown_column_message,
)
from zeptodb.types import ColumnType

AsofOp = Literal[">=", ">", "<=", "<"]

_INEQUALITIES: dict[type[exp.Expr], AsofOp] = {exp.GTE: ">=", exp.GT: ">", exp.LTE: "<=", exp.LT: "<"}
_FLIPPED: dict[AsofOp, AsofOp] = {">=": "<=", ">": "<", "<=": ">=", "<": ">"}


class JoinPlanner:
    """Plans one as-of join. Column references become slots; the join leaves a slot per column that is used."""

    def __init__(self, statement: SelectStatement, left: Source, right: Source, join: exp.Join) -> None:
        self.statement = statement
        self.left = left
        self.right = right
        self.join = join
        self.using = frozenset(node.name.lower() for node in join.args.get("using") or [])
        self.left_columns: dict[int, int] = {}
        self.right_columns: dict[int, int] = {}
        self.order: list[tuple[Side, int]] = []
        self.binder = statement.binder(self._resolve)
        self.binder.is_in_backend = False

    def plan(self) -> JoinPlan | None:
        """The plan; None with reasons in the statement when there is none."""
        statement = self.statement
        if AsofJoin not in statement.capabilities.operators:
            statement.reject("the backend cannot join as of a time")
        op = self._join_condition()
        named = self._outputs()
        left_condition, predicate = self._split_where()
        ordered = [(item, self._order_bound(item, named)) for item in statement.order_items()]
        limit, offset = statement.count("limit"), statement.count("offset")
        statement.is_volatile |= self.binder.is_volatile
        if statement.reasons or op is None:
            return None
        finish = Finish(
            tuple(output(name, b) for name, b in named if isinstance(b, BoundExpression)),
            predicate,
            tuple(order_key(item, b) for item, b in ordered if b is not None),
            offset or 0,
            limit,
        )
        return self._join_plan(op, left_condition, finish)

    def _join_plan(self, op: AsofOp, left: BoundExpression | BoundConstant | None, finish: Finish) -> JoinPlan:
        """The plan that leaves a slot for each column asked for so far."""
        return JoinPlan(
            table_scan(self.left.table.name, self.left.schema, left),
            TableScan(self.right.table.name, self.right.schema),
            op,
            self.join.args.get("side") == "LEFT",
            tuple(_plain(self.left, index) for side, index in self.order if side == "left"),
            tuple(_plain(self.right, index) for side, index in self.order if side == "right"),
            tuple(_slot(self.left if side == "left" else self.right, side, index) for side, index in self.order),
            finish,
        )

    # ---- ON and USING ---------------------------------------------------------------------------------------------

    def _join_condition(self) -> AsofOp | None:
        for source in (self.left, self.right):
            if source.schema.timestamp is None:
                self.statement.reject(f'table "{source.table.name}" has no timestamp to join on', self.join)
                return None
        if self._symbol_types_differ():
            self.statement.reject("an as-of join is native between symbols of one type", self.join)
            return None
        if self.using:
            return self._using()
        condition = self.join.args.get("on")
        op: AsofOp | None = None
        has_symbol = self.left.schema.symbol is None and self.right.schema.symbol is None
        for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
            node = part.unnest() if part is not None else None
            found = self._inequality(node)
            if found is not None and op is None:
                op = found
            elif isinstance(node, exp.EQ) and self._is_symbol_pair(node) and self.left.schema.symbol is not None:
                has_symbol = True
            else:
                self.statement.reject("this join condition has no native form", node or self.join)
                return None
        if op is None or not has_symbol:
            self.statement.reject("an as-of join is native on equal symbols and one comparison of times", self.join)
        return op

    def _using(self) -> AsofOp | None:
        names = [node.name.lower() for node in self.join.args["using"]]
        wanted = [
            [role.lower() for role in (source.schema.symbol, source.schema.timestamp) if role is not None]
            for source in (self.left, self.right)
        ]
        if wanted[0] != names or wanted[1] != names:
            self.statement.reject("USING is native with the symbol and then the timestamp", self.join)
            return None
        return ">="

    def _symbol_types_differ(self) -> bool:
        types = []
        for source in (self.left, self.right):
            index = source.schema.symbol_index
            types.append(source.schema.fields[index].type if index >= 0 else None)
        settled = {t for t in types if t is not ColumnType.SYMBOL}
        return len(settled) > 1

    def _inequality(self, node: exp.Expr | None) -> AsofOp | None:
        """The comparison of the left timestamp with the right one, whichever way round it is written."""
        op = None if node is None else _INEQUALITIES.get(type(node))
        if op is None or node is None:
            return None
        sides = [self._role_of(operand, "timestamp") for operand in (node.this, node.expression)]
        if sides == ["left", "right"]:
            return op
        return _FLIPPED[op] if sides == ["right", "left"] else None

    def _is_symbol_pair(self, node: exp.Expr) -> bool:
        return {self._role_of(node.this, "symbol"), self._role_of(node.expression, "symbol")} == {"left", "right"}

    def _role_of(self, node: exp.Expr, role: Literal["symbol", "timestamp"]) -> Side | None:
        """The side whose symbol or timestamp `node` is."""
        if not isinstance(node, exp.Column):
            return None
        found = self._find(node)
        if isinstance(found, Rejection):
            return None
        side, index = found
        schema = (self.left if side == "left" else self.right).schema
        return side if index == (schema.symbol_index if role == "symbol" else schema.timestamp_index) else None

    # ---- names ----------------------------------------------------------------------------------------------------

    def _find(self, node: exp.Column) -> tuple[Side, int] | Rejection:
        matches: list[tuple[Side, int]] = []
        for side, source in (("left", self.left), ("right", self.right)):
            index = source.find(node.name) if is_qualified_by(node, source) else None
            if index is not None:
                matches.append((cast(Side, side), index))
        if not matches:
            return Rejection(unknown_column_message(node, [self.left, self.right]), is_error=True)
        if len(matches) > 1 and not (node.name.lower() in self.using and not node.args.get("table")):
            choices = f"{self.left.name}.{node.name} or {self.right.name}.{node.name}"
            return Rejection(f'Column "{node.name}" is ambiguous: write {choices}.', is_error=True)
        return matches[0]

    def _resolve(self, node: exp.Column) -> Bound | Rejection:
        found = self._find(node)
        return found if isinstance(found, Rejection) else self._slot_of(*found)

    def _slot_of(self, side: Side, index: int) -> BoundExpression:
        """The slot of a column, a new one if need be."""
        source = self.left if side == "left" else self.right
        if (side, index) not in self.order:
            self.order.append((side, index))
        slot = self.order.index((side, index))
        column_type = _column_type(source, index)
        string_slot = slot if column_type is ColumnType.STRING else None
        return BoundExpression(ColumnRef(slot, column_type), SQL_TYPES[column_type], string_slot)

    # ---- clauses --------------------------------------------------------------------------------------------------

    def _outputs(self) -> list[tuple[str, Bound | None]]:
        named: list[tuple[str, Bound | None]] = []
        for node, alias in outputs_of(self.statement.node):
            if is_star(node):
                named += self._star(node)
                continue
            bound = require_expression(self.statement, self.binder.bind(node), node)
            plain = node.unnest()
            found = self._find(plain) if isinstance(plain, exp.Column) and alias is None else None
            if found is None or isinstance(found, Rejection):
                printed = alias if alias is not None else column_name(node, self.statement.text)
                name = self.statement.name_of(node, printed)
            else:
                name = (self.left if found[0] == "left" else self.right).schema.fields[found[1]].name
            named.append((name, bound))
        return named

    def _star(self, node: exp.Expr) -> list[tuple[str, Bound | None]]:
        if is_modified_star(node):
            self.statement.reject("this star has no native form", node)
            return []
        named: list[tuple[str, Bound | None]] = []
        for side, source in (("left", self.left), ("right", self.right)):
            if isinstance(node, exp.Column) and not is_qualified_by(node, source):
                continue
            is_merged = side == "right" and isinstance(node, exp.Star)
            for index, field in enumerate(source.schema.fields):
                if not (is_merged and field.name.lower() in self.using):
                    named.append((field.name, self._slot_of(cast(Side, side), index)))
        if not named:
            self.statement.reject("this star has no native form", node)
        return named

    def _split_where(self) -> tuple[BoundExpression | BoundConstant | None, Expression | None]:
        """WHERE as a condition on the left table alone, applied before the join, and one on the joined rows."""
        where = self.statement.node.args.get("where")
        if where is None:
            return None, None
        left: Binder = self.statement.binder(self._resolve_left)
        left_parts: BoundExpression | None = None
        joined: Expression | None = None
        condition = where.this.unnest()
        for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
            is_left = all(self._side_of(column) == "left" for column in part.find_all(exp.Column))
            bound = require_expression(self.statement, (left if is_left else self.binder).bind_boolean(part), part)
            if bound is None:
                continue
            if is_left:
                before = None if left_parts is None else left_parts.expression
                left_parts = BoundExpression(conjunction(before, bound.expression), bound.type)
            else:
                joined = conjunction(joined, bound.expression)
        self.statement.is_volatile |= left.is_volatile
        return left_parts, joined

    def _side_of(self, node: exp.Column) -> Side | None:
        found = self._find(node)
        return None if isinstance(found, Rejection) else found[0]

    def _resolve_left(self, node: exp.Column) -> Bound | Rejection:
        found = self._find(node)
        return found if isinstance(found, Rejection) else column_reference(self.left, found[1])

    def _order_bound(self, item: exp.Expr, named: list[tuple[str, Bound | None]]) -> BoundExpression | None:
        found = ordered_output(item, named)
        if isinstance(found, Rejection):
            self.statement.reject(found.message, item)
            return None
        return require_expression(self.statement, self.binder.bind(item.this) if found is None else found, item)


def _column_type(source: Source, index: int) -> ColumnType:
    column_type = source.schema.fields[index].type
    return ColumnType.INT64 if column_type is ColumnType.SYMBOL else column_type


def _plain(source: Source, index: int) -> ColumnRef:
    return ColumnRef(index, _column_type(source, index))


def _slot(source: Source, side: Side, index: int) -> Slot:
    column_type = _column_type(source, index)
    return Slot(column_type, index if column_type is ColumnType.STRING else None, side)
