"""Plans a SELECT with aggregates over one table, grouped by symbol, a time bucket, other keys, or by nothing."""

from __future__ import annotations

from typing import NamedTuple

from sqlglot import exp

from zeptodb.backends.base import Aggregate, AggregateOp, AggregateScan, TimeBucket
from zeptodb.backends.expression import Bucket, ColumnRef, Expression
from zeptodb.sql.aggregates import bind_aggregate
from zeptodb.sql.binder import Binder
from zeptodb.sql.bound import ALREADY_NOTED, Bound, BoundExpression, Rejection, SqlType
from zeptodb.sql.plan import AggregatePlan, Finish, OrderKey, Slot, TableScan
from zeptodb.sql.row_planner import alias_lookup, plain_or_printed_name, scan_of, template_maker
from zeptodb.sql.select_statement import (
    SelectStatement,
    column_reference,
    is_aggregate_call,
    order_key,
    ordered_output,
    output,
    require_expression,
)
from zeptodb.sql.sources import Source, is_star, outputs_of
from zeptodb.types import ColumnType

KEY_TYPES = frozenset({SqlType.VARCHAR, SqlType.INTEGER, SqlType.BIGINT, SqlType.TIMESTAMP, SqlType.BOOLEAN})


class _Keys(NamedTuple):
    """What a statement groups by."""

    symbol: BoundExpression | None = None
    bucket: BoundExpression | None = None
    others: tuple[BoundExpression, ...] = ()

    @property
    def slots(self) -> list[BoundExpression]:
        """The keys in the order of their slots."""
        return [key for key in (self.symbol, self.bucket, *self.others) if key is not None]

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The keys besides symbol and bucket."""
        return tuple(key.expression for key in self.others)


class AggregatePlanner:
    """Plans one grouped statement."""

    def __init__(self, statement: SelectStatement, source: Source) -> None:
        self.statement = statement
        self.source = source
        self.items = list(outputs_of(statement.node))
        self.aggregates: dict[Aggregate, int] = {}
        self.slots: list[Slot] = []
        self.rows = statement.binder(lambda node: statement.resolve_row(node, source))
        self.finals = statement.binder(self._resolve_final)
        self.finals.replace = self._replace_final
        self.finals.is_in_backend = False
        self.keys = _Keys()
        self.aliases: dict[str, Bound | None] = {}

    def plan(self) -> AggregatePlan | None:
        """The plan; None with reasons in the statement when there is none."""
        statement = self.statement
        if AggregateScan not in statement.capabilities.operators:
            statement.reject("the backend cannot aggregate")
        self.keys = self._bind_keys()
        for key in self.keys.slots:
            self.slots.append(Slot(key.type.column_type, key.dictionary))
        named = self._bind_outputs()
        scan = scan_of(statement, self.source, self._where_binder())
        having = self._bind_having()
        ordered = [(item, self._bind_order(item, named)) for item in statement.order_items()]
        limit, offset = statement.count("limit"), statement.count("offset")
        statement.is_volatile |= self.rows.is_volatile or self.finals.is_volatile
        if statement.reasons or scan is None:
            return None
        bucket = None if self.keys.bucket is None else _time_bucket(self.keys.bucket)
        finish = Finish(
            tuple(output(name, b) for name, b in named if isinstance(b, BoundExpression)),
            having.expression if isinstance(having, BoundExpression) else None,
            tuple(order_key(item, b) for item, b in ordered if b is not None) or self._key_order(),
            offset or 0,
            limit,
        )
        if not self.aggregates:
            self.aggregates[Aggregate(AggregateOp.COUNT_ROWS)] = 0
            self.slots.append(Slot(ColumnType.INT64))
        slots = tuple(self.slots)
        by_symbol, aggregates, keys = self.keys.symbol is not None, tuple(self.aggregates), self.keys.expressions

        def complete(scan: TableScan) -> AggregatePlan:
            return AggregatePlan(scan, aggregates, by_symbol, bucket, keys, slots, finish)

        statement.make_template = template_maker(statement, self.source, self.rows, complete)
        return complete(scan)

    # ---- keys -----------------------------------------------------------------------------------------------------

    def _bind_keys(self) -> _Keys:
        symbol: BoundExpression | None = None
        bucket: BoundExpression | None = None
        others: dict[BoundExpression, None] = {}
        for node in self._key_nodes():
            bound = require_expression(self.statement, self.rows.bind(node), node)
            if bound is None:
                continue
            if self.source.schema.symbol is not None and bound == column_reference(
                self.source, self.source.schema.symbol_index
            ):
                symbol = bound
            elif self._is_bucket(bound) and bucket in (None, bound):
                bucket = bound
            elif bound.type in KEY_TYPES:
                others[bound] = None
            else:
                self.statement.reject(f"GROUP BY of a {bound.type.value} has no native form", node)
        return _Keys(symbol, bucket, tuple(others))

    def _key_order(self) -> tuple[OrderKey, ...]:
        """The order of the answer where the statement asks for none: by its keys, which the backend sorts by codes."""
        if not any(key.type is SqlType.VARCHAR for key in self.keys.others):
            return ()
        slots = [b for key in self.keys.slots if (b := self._key_slot(key)) is not None]
        return tuple(OrderKey(b.expression, False, False, b.dictionary) for b in slots)  # noqa: FBT003

    def _key_nodes(self) -> list[exp.Expr]:
        group = self.statement.node.args.get("group")
        if group is None:
            is_distinct = self.statement.node.args.get("distinct") is not None
            return [node for node, _ in self.items] if is_distinct else []
        for key, value in group.args.items():
            if value and key != "expressions":
                self.statement.reject(f"GROUP BY {key.upper()} has no native form", group)
        return [self._key_node(node) for node in group.expressions]

    def _key_node(self, node: exp.Expr) -> exp.Expr:
        """The expression behind a position or an alias; a column of the table goes before an alias."""
        if isinstance(node, exp.Literal) and node.name.isdigit() and 1 <= int(node.name) <= len(self.items):
            return self.items[int(node.name) - 1][0]
        if isinstance(node, exp.Column) and not node.args.get("table") and self.source.find(node.name) is None:
            for item, alias in self.items:
                if alias is not None and alias.lower() == node.name.lower():
                    return item
        return node

    def _is_bucket(self, bound: BoundExpression) -> bool:
        expression = bound.expression
        return (
            isinstance(expression, Bucket)
            and isinstance(expression.argument, ColumnRef)
            and expression.argument.index == self.source.schema.timestamp_index
        )

    # ---- outputs, HAVING, ORDER BY --------------------------------------------------------------------------------

    def _bind_outputs(self) -> list[tuple[str, Bound | None]]:
        named: list[tuple[str, Bound | None]] = []
        for node, alias in self.items:
            if is_star(node):
                self.statement.reject("a star beside aggregates has no native form", node)
                continue
            bound = require_expression(self.statement, self.finals.bind(node), node)
            named.append((plain_or_printed_name(self.statement, self.source, node, alias), bound))
            if alias is not None:
                self.aliases[alias.lower()] = bound
        return named

    def _bind_having(self) -> Bound | None:
        node = self.statement.node.args.get("having")
        bound = None if node is None else self.finals.bind_boolean(node.this)
        return require_expression(self.statement, bound, node) if node is not None else None

    def _bind_order(self, item: exp.Expr, named: list[tuple[str, Bound | None]]) -> BoundExpression | None:
        found = ordered_output(item, named)
        if isinstance(found, Rejection):
            self.statement.reject(found.message, item)
            return None
        return require_expression(self.statement, self.finals.bind(item.this) if found is None else found, item)

    def _where_binder(self) -> Binder:
        """WHERE sees the aliases of keys; those of aggregates have no meaning there."""
        aliases: dict[str, Bound | None] = {}
        for node, alias in self.items:
            if alias is not None and self.source.find(alias) is None:
                is_aggregate = any(is_aggregate_call(n) for n in node.walk())
                aliases[alias.lower()] = (
                    None if is_aggregate else Binder(self.rows.resolve, [], self.statement.now_ns).bind(node)
                )
        self.rows.replace = alias_lookup(aliases, self.source)
        return self.rows

    def _quietly_bound(self, node: exp.Expr) -> Bound | None:
        """The expression over rows of the table; None, without a reason, when there is none."""
        return Binder(self.rows.resolve, [], self.statement.now_ns).bind(node)

    def _resolve_final(self, node: exp.Column) -> Bound | Rejection:
        row = self.statement.resolve_row(node, self.source)
        if isinstance(row, Rejection):
            return row
        return self._key_slot(row) or Rejection(f'column "{node.name}" is neither a key of GROUP BY nor aggregated')

    def _replace_final(self, node: exp.Expr) -> Bound | Rejection | None:
        if is_aggregate_call(node):
            return self._aggregate_slot(node)
        if not isinstance(node, (exp.Column, exp.Literal)) and self._is_computed_key(node):
            bound = self._quietly_bound(node)
            return None if bound is None else self._key_slot(bound)
        return alias_lookup(self.aliases, self.source, self._resolve_final)(node)

    def _is_computed_key(self, node: exp.Expr) -> bool:
        """Whether the node may be a key of GROUP BY that is no plain column."""
        has_computed = any(not isinstance(key.expression, ColumnRef) for key in self.keys.slots)
        return has_computed and not any(is_aggregate_call(n) for n in node.walk())

    def _key_slot(self, bound: Bound) -> BoundExpression | None:
        for i, key in enumerate(self.keys.slots):
            if key == bound:
                string_slot = None if key.dictionary is None else i
                return BoundExpression(ColumnRef(i, key.type.column_type), key.type, string_slot)
        return None

    def _aggregate_slot(self, node: exp.Expr) -> Bound | Rejection:
        called = bind_aggregate(node, self.rows, self.statement)
        if called is None:
            return ALREADY_NOTED
        aggregate, result, dictionary = called
        position = self.aggregates.setdefault(aggregate, len(self.aggregates))
        index = len(self.keys.slots) + position
        if index == len(self.slots):
            self.slots.append(Slot(result.column_type, dictionary))
        string_slot = index if result is SqlType.VARCHAR else None
        return BoundExpression(ColumnRef(index, result.column_type), result, string_slot)


def _time_bucket(bound: BoundExpression) -> TimeBucket:
    assert isinstance(bound.expression, Bucket)
    return TimeBucket(bound.expression.width, bound.expression.origin)
