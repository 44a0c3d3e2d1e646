"""Plans a SELECT without aggregates over one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlglot import exp

from zeptodb.backends.base import SelectScan
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.sql.binder import Binder, ColumnResolver, Replacement
from zeptodb.sql.bound import Bound, BoundExpression, Rejection
from zeptodb.sql.plan import Finish, Plan, SelectPlan, Slot, StorageOrder, TableScan
from zeptodb.sql.predicates import table_scan
from zeptodb.sql.select_statement import (
    SelectStatement,
    column_reference,
    order_key,
    ordered_output,
    output,
    require_expression,
)
from zeptodb.sql.sources import Source, is_modified_star, is_qualified_by, is_star, outputs_of

if TYPE_CHECKING:
    from zeptodb.sql.template import Template

Named = list[tuple[str, "Bound | None"]]


def plan_rows(statement: SelectStatement, source: Source) -> SelectPlan | None:
    """The plan of a projection; None with reasons in `statement` when there is none."""
    if SelectScan not in statement.capabilities.operators:
        statement.reject("the backend cannot project rows")
    aliases: dict[str, Bound | None] = {}
    binder = statement.binder(lambda node: statement.resolve_row(node, source))
    binder.replace = alias_lookup(aliases, source)
    named = _outputs(statement, source, binder, aliases)
    scan = scan_of(statement, source, binder)
    order = [_order_bound(statement, item, named, binder) for item in statement.order_items()]
    limit, offset = statement.count("limit"), statement.count("offset")
    statement.is_volatile |= binder.is_volatile
    if statement.reasons or scan is None:
        return None
    ordered = [(item, b) for item, b in zip(statement.order_items(), order, strict=True) if b is not None]
    slots = _Slots()
    outputs = [output(name, slots.place(b)) for name, b in named if isinstance(b, BoundExpression)]
    keys = [order_key(item, slots.place(b)) for item, b in ordered]
    finish = Finish(tuple(outputs), None, tuple(keys), offset or 0, limit)

    columns, kinds = tuple(slots.columns), tuple(slots.slots)
    stored = [(item, b.expression.index if isinstance(b.expression, ColumnRef) else -1) for item, b in ordered]
    storage_order = storage_order_of(source, stored)

    def complete(scan: TableScan) -> SelectPlan:
        return SelectPlan(scan, columns, kinds, finish, storage_order(scan))

    statement.make_template = template_maker(statement, source, binder, complete)
    return complete(scan)


def alias_lookup(
    aliases: dict[str, Bound | None], source: Source, resolve: ColumnResolver | None = None
) -> Replacement:
    """A binder's `replace` that knows the aliases of the select list; a column of the table goes first.

    `resolve` says what such a column means to the binder; without it the column as stored.
    """

    def look_up(node: exp.Expr) -> Bound | Rejection | None:
        if not isinstance(node, exp.Column) or node.args.get("table") or node.name.lower() not in aliases:
            return None
        bound = aliases[node.name.lower()]
        index = source.find(node.name)
        if index is None:
            return bound or Rejection(f'the alias "{node.name}" has no native form')
        if bound == (column_reference(source, index) if resolve is None else resolve(node)):
            return None
        return Rejection(f'"{node.name}" is a column and the alias of something else')

    return look_up


def scan_of(statement: SelectStatement, source: Source, binder: Binder) -> TableScan | None:
    """The scan that the WHERE clause leaves; None after a rejection."""
    where = statement.node.args.get("where")
    condition = None if where is None else binder.bind_boolean(where.this)
    if where is not None and condition is None:
        return None
    return table_scan(source.table.name, source.schema, condition)


def template_maker(
    statement: SelectStatement, source: Source, binder: Binder, complete: Callable[[TableScan], Plan]
) -> Callable[[], Template] | None:
    """What makes a template of the planned statement; None without a WHERE clause."""
    where = statement.node.args.get("where")
    if where is None:
        return None

    def make() -> Template:
        from zeptodb.sql.template import Recipes, Template

        recipes = Recipes(binder)
        conditions = recipes.conditions(where.this)
        return Template(frozenset(recipes.places), conditions, source.table.name, source.schema, complete)

    return make


def _outputs(statement: SelectStatement, source: Source, binder: Binder, aliases: dict[str, Bound | None]) -> Named:
    named: Named = []
    for node, alias in outputs_of(statement.node):
        if is_star(node):
            if is_modified_star(node) or (isinstance(node, exp.Column) and not is_qualified_by(node, source)):
                statement.reject("this star has no native form", node)
                continue
            named += [(f.name, column_reference(source, i)) for i, f in enumerate(source.schema.fields)]
            continue
        bound = require_expression(statement, binder.bind(node), node)
        named.append((plain_or_printed_name(statement, source, node, alias), bound))
        if alias is not None:
            aliases[alias.lower()] = bound
    return named


def plain_or_printed_name(statement: SelectStatement, source: Source, node: exp.Expr, alias: str | None) -> str:
    """The name of an output: its alias, the name of a plain column as the table has it, or the printed expression."""
    plain = node.unnest()
    index = source.find(plain.name) if isinstance(plain, exp.Column) and alias is None else None
    return statement.name_of(node, alias) if index is None else source.schema.fields[index].name


def _order_bound(statement: SelectStatement, item: exp.Expr, named: Named, binder: Binder) -> BoundExpression | None:
    found = ordered_output(item, named)
    if isinstance(found, Rejection):
        statement.reject(found.message, item)
        return None
    return require_expression(statement, binder.bind(item.this) if found is None else found, item)


class _Slots:
    """Collects what the scan has to compute, each value once."""

    def __init__(self) -> None:
        self.columns: dict[Expression, int] = {}
        self.slots: list[Slot] = []

    def place(self, bound: BoundExpression) -> BoundExpression:
        """The slot that will hold `bound`."""
        index = self.columns.setdefault(bound.expression, len(self.columns))
        if index == len(self.slots):
            self.slots.append(Slot(bound.type.column_type, bound.dictionary))
        string_slot = None if bound.dictionary is None else index
        return BoundExpression(ColumnRef(index, bound.type.column_type), bound.type, string_slot)


def storage_order_of(source: Source, order: list[tuple[exp.Expr, int]]) -> Callable[[TableScan], StorageOrder]:
    """Tells of a scan whether ORDER BY asks for the order of storage.

    order: the items, each with the table's column that it is, -1 for anything else.
    """
    of_all, of_one = (_storage_order(source, order, of_one_segment=of_one) for of_one in (False, True))

    def storage_order(scan: TableScan) -> StorageOrder:
        is_one_segment = source.schema.symbol is None or (scan.symbols is not None and len(scan.symbols) == 1)
        return of_one if is_one_segment else of_all

    return storage_order


def _storage_order(source: Source, order: list[tuple[exp.Expr, int]], *, of_one_segment: bool) -> StorageOrder:
    """Whether ORDER BY asks for the order of storage: by symbol, then time; or the time of one symbol, either way."""
    schema = source.schema
    keys = [column for _, column in order]
    descending = [bool(item.args.get("desc")) for item, _ in order]
    if of_one_segment and keys and set(keys) <= {schema.symbol_index, schema.timestamp_index} - {-1}:
        by_time = [d for key, d in zip(keys, descending, strict=True) if key == schema.timestamp_index]
        return "descending" if by_time and by_time[0] else "ascending"
    if keys and not any(descending) and keys in ([schema.symbol_index], [schema.symbol_index, schema.timestamp_index]):
        return "ascending" if -1 not in keys else None
    return None
