"""ema(x, n) OVER (...) in DuckDB's words.

DuckDB has no window function that carries a value from row to row. With d = 1 - alpha the average after row i is
alpha * (x_i + d x_{i-1} + d^2 x_{i-2} + ...), the first row without the factor alpha: a running sum of x_j / d^j times
d^i. As the powers would overflow, rows are cut into blocks in which they stay below e^100. What a block leaves
decays by d per row, so that of earlier blocks the last two can be seen in a float64, and no others.
"""

from __future__ import annotations

import math
from dataclasses import field, replace
from decimal import Decimal

from sqlglot import exp, parse_one

from zeptodb.errors import QueryError
from zeptodb.record import record
from zeptodb.sql.duckdb_names import name_of
from zeptodb.sql.relations import Scope

_LARGEST_EXPONENT = 100.0

_PARTS = ("place", "odd", "block", "step", "own", "value")

_LEFT_ALONE = (exp.Literal, exp.Null, exp.Boolean, exp.Placeholder, exp.Interval)


def is_ema(node: exp.Expr) -> bool:
    """Whether the node is ema(x, n) OVER (...)."""
    function = node.this if isinstance(node, exp.Window) else None
    return isinstance(function, exp.Anonymous) and function.name.lower() == "ema"


def unfold(select: exp.Select, scope: Scope) -> None:
    """Rewrite a SELECT with ema(x, n) OVER, all other words of which DuckDB knows already, in place.

    What it reads becomes a subquery; the averages are computed over its rows; the rest is done at the end.
    """
    _Unfolding(select, scope).run()


@record
class _Call:
    """One ema over columns of the subquery."""

    number: int
    alpha: float
    value: exp.Column
    partition: list[exp.Column]
    order: list[exp.Ordered]


@record(frozen=False)
class _Unfolding:
    select: exp.Select
    scope: Scope
    inner: list[exp.Expr] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    aliases: dict[str, exp.Expr] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)

    def run(self) -> None:
        select = self.select
        written = [item.copy() for item in select.expressions]
        items = [self._item(item) for item in select.expressions]
        qualify = select.args.get("qualify")
        where = None if qualify is None else exp.Where(this=self._outer(self._spelled(qualify.this)))
        order = self._order()
        distinct = select.args.get("distinct")
        if distinct is not None and distinct.args.get("on") is not None:
            distinct = exp.Distinct(on=self._outer(self._spelled(distinct.args["on"])))
        source = self._source(written)
        for item in items:
            if isinstance(item, exp.Star):
                item.set("except_", [exp.column(name) for name in self._hidden()])
        for key in ("laterals", "joins", "where", "group", "having", "sample", "windows", "qualify"):
            select.set(key, None)
        select.set("expressions", items)
        select.set("from_", exp.From(this=source))
        select.set("where", where)
        select.set("distinct", distinct)
        select.set("order", order)

    # ---- what the outer SELECT says ---------------------------------------------------------------------------------

    def _item(self, item: exp.Expr) -> exp.Expr:
        star = item.this if isinstance(item, exp.Column) else item
        if isinstance(star, exp.Star):
            self.inner.append(item)
            return exp.Star()
        if isinstance(item, exp.Alias):
            name, value = item.alias, item.this
        else:
            name, value = (item.name if isinstance(item, exp.Column) else name_of(item)), item
        spelled = self._spelled(value)
        self.aliases.setdefault(name.lower(), spelled.copy())
        self.outputs.add(name.lower())
        return exp.Alias(this=self._outer(spelled), alias=exp.to_identifier(name, quoted=True))

    def _order(self) -> exp.Order | None:
        order = self.select.args.get("order")
        if order is None:
            return None
        keys = []
        for key in order.expressions:
            node = key.this
            is_output = isinstance(node, exp.Column) and not node.table and node.name.lower() in self.outputs
            if not is_output and not isinstance(node, (exp.Literal, exp.Var)):
                key.set("this", self._outer(self._spelled(node)))
            keys.append(key)
        return exp.Order(expressions=keys)

    def _spelled(self, node: exp.Expr) -> exp.Expr:
        """The expression with the aliases of earlier items replaced by what they stand for."""
        holder = exp.Paren(this=node.copy())
        for column in list(holder.find_all(exp.Column)):
            meant = None if column.table else self.aliases.get(column.name.lower())
            if meant is not None and self.scope.resolve_here(column) is None:
                column.replace(exp.Paren(this=meant.copy()))
        result: exp.Expr = holder.this
        return result

    def _outer(self, node: exp.Expr) -> exp.Expr:
        """The expression over columns of the subquery: each largest part without an ema becomes one of them."""
        if is_ema(node):
            return self._call(node)
        has_ema = any(is_ema(window) for window in node.find_all(exp.Window))
        is_branch = isinstance(node, exp.If) and isinstance(node.parent, exp.Case)
        if isinstance(node, _LEFT_ALONE):
            return node
        if not has_ema and isinstance(node, (exp.Condition, exp.Query)) and not is_branch:
            return self._pushed(node)
        for child in list(node.iter_expressions()):
            if not isinstance(child, (exp.Identifier, exp.DataType, exp.Var)):
                new = self._outer(child)
                if new is not child:
                    child.replace(new)
        return node

    def _pushed(self, node: exp.Expr) -> exp.Column:
        for item in self.inner:
            if isinstance(item, exp.Alias) and isinstance(node, exp.Column) and item.this == node:
                return exp.column(item.alias)
        name = f"__ema_{len(self.inner)}"
        self.inner.append(exp.Alias(this=node.copy(), alias=exp.to_identifier(name)))
        return exp.column(name)

    def _call(self, node: exp.Expr) -> exp.Column:
        value, alpha = node.this.expressions
        if any(True for key in (value, *(node.args.get("partition_by") or ())) for _ in key.find_all(exp.Window)):
            raise QueryError("Window functions cannot stand inside each other; compute the inner one in a subquery.")
        order = [
            exp.Ordered(this=self._pushed(k.this), desc=k.args.get("desc"), nulls_first=k.args.get("nulls_first"))
            for k in node.args["order"].expressions
        ]
        call = _Call(
            len(self.calls),
            float(alpha.name),
            self._pushed(value),
            [self._pushed(key) for key in node.args.get("partition_by") or ()],
            order,
        )
        known = next((c for c in self.calls if c == replace(call, number=c.number)), None)
        if known is None:
            self.calls.append(call)
        return exp.column(f"__ema_value_{(known or call).number}")

    def _hidden(self) -> list[str]:
        """Names of the columns that only the computation needs."""
        own = [item.alias for item in self.inner if isinstance(item, exp.Alias)]
        return own + [f"__ema_{part}_{call.number}" for call in self.calls for part in _PARTS]

    # ---- the subqueries ----------------------------------------------------------------------------------------------

    def _source(self, written: list[exp.Expr]) -> exp.Subquery:
        """The rows with all hidden columns, in layers, as a window cannot be an argument of another one."""
        select = self.select
        self._check()
        rows = exp.Select(expressions=self.inner)
        for key in ("from_", "laterals", "joins", "where", "group", "having", "sample"):
            value = select.args.get(key)
            if value is not None:
                select.set(key, None)
                rows.set(key, value)
        _spell_out_positions(rows, written)
        self._spell_out_aliases(rows)
        query = rows
        for layer in (_counts, _sums, _carried, _values):
            added = [item for call in self.calls for item in layer(call)]
            query = exp.Select(expressions=[exp.Star(), *added], from_=exp.From(this=_subquery(query)))
        return _subquery(query)

    def _check(self) -> None:
        for key in ("where", "group", "having"):
            clause = self.select.args.get(key)
            if clause is not None and any(is_ema(window) for window in clause.find_all(exp.Window)):
                raise QueryError(
                    f"ema(x, n) OVER is computed after {key.upper()}: write QUALIFY, or a condition around a subquery."
                )

    def _spell_out_aliases(self, rows: exp.Select) -> None:
        for key in ("where", "group", "having"):
            clause = rows.args.get(key)
            for column in list(clause.find_all(exp.Column)) if clause is not None else ():
                meant = None if column.table else self.aliases.get(column.name.lower())
                if meant is None or self.scope.resolve_here(column) is not None:
                    continue
                if any(is_ema(window) for window in meant.find_all(exp.Window)):
                    raise QueryError(f"{column.name} is an ema, which is computed after {key.upper()}: write QUALIFY.")
                column.replace(exp.Paren(this=meant.copy()))


def _spell_out_positions(rows: exp.Select, written: list[exp.Expr]) -> None:
    """GROUP BY 1, 2 name items of the SELECT list as it was."""
    group = rows.args.get("group")
    for key in group.expressions if group is not None else ():
        if isinstance(key, exp.Literal) and not key.is_string and 0 < int(key.name) <= len(written):
            item = written[int(key.name) - 1]
            key.replace((item.this if isinstance(item, exp.Alias) else item).copy())


def _subquery(query: exp.Select) -> exp.Subquery:
    return exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier("__ema_rows")))


def _window(function: str, call: _Call, *, frame: str, by: str = "", blocks: bool = False) -> str:
    partition = [*(c.sql("duckdb") for c in call.partition), *([f"__ema_block_{call.number}"] if blocks else [])]
    order = by or ", ".join(key.sql("duckdb") for key in call.order)
    over = (f"PARTITION BY {', '.join(partition)} " if partition else "") + f"ORDER BY {order} {frame}"
    return f"{function} OVER ({over})"


_RUNNING = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


def _aliased(text: str, name: str) -> exp.Expr:
    return exp.Alias(this=parse_one(text, dialect="duckdb"), alias=exp.to_identifier(name))


def _block_rows(call: _Call) -> int:
    if call.alpha >= 1:
        return 1
    return max(1, math.floor(_LARGEST_EXPONENT / -math.log1p(-call.alpha)))


def _counts(call: _Call) -> list[exp.Expr]:
    """The place of the row among those with a value, from 0; what infinity and NaN make of it."""
    x = call.value.sql("duckdb")
    count = _window(f"count({x})", call, frame=_RUNNING)
    odd = _window(f"sum(CASE WHEN isfinite({x}) THEN 0.0 ELSE {x} END)", call, frame=_RUNNING)
    return [_aliased(f"{count} - 1", f"__ema_place_{call.number}"), _aliased(odd, f"__ema_odd_{call.number}")]


def _sums(call: _Call) -> list[exp.Expr]:
    """The block, and the place in it."""
    rows, place = _block_rows(call), f"__ema_place_{call.number}"
    return [
        _aliased(f"{place} // {rows}", f"__ema_block_{call.number}"),
        _aliased(f"{place} % {rows}", f"__ema_step_{call.number}"),
    ]


def _carried(call: _Call) -> list[exp.Expr]:
    """The average over the rows of the block alone."""
    x, decay, step = call.value.sql("duckdb"), _float(1 - call.alpha), f"__ema_step_{call.number}"
    if call.alpha >= 1:
        return [_aliased(x, f"__ema_own_{call.number}")]
    weighted = f"CASE WHEN __ema_place_{call.number} = 0 THEN {x} ELSE {_float(call.alpha)} * {x} END"
    term = f"CASE WHEN isfinite({x}) THEN ({weighted}) * pow({decay}, -{step}) END"
    total = _window(f"sum({term})", call, frame=_RUNNING, blocks=True)
    return [_aliased(f"pow({decay}, {step}) * {total}", f"__ema_own_{call.number}")]


def _values(call: _Call) -> list[exp.Expr]:
    """The average."""
    x, n, rows = call.value.sql("duckdb"), call.number, _block_rows(call)
    if call.alpha >= 1:
        return [_aliased(x, f"__ema_value_{n}")]
    decay = _float(1 - call.alpha)
    last = f"CASE WHEN __ema_step_{n} = {rows - 1} AND {x} IS NOT NULL THEN __ema_own_{n} END"
    blocks = [
        _window(f"sum({last})", call, frame=f"RANGE BETWEEN {k} PRECEDING AND {k} PRECEDING", by=f"__ema_block_{n}")
        for k in (1, 2)
    ]
    before = f"coalesce({blocks[0]}, 0.0) + pow({decay}, {rows}) * coalesce({blocks[1]}, 0.0)"
    value = f"coalesce(__ema_own_{n}, 0.0) + pow({decay}, __ema_step_{n} + 1) * ({before}) + __ema_odd_{n}"
    return [_aliased(f"CASE WHEN {x} IS NOT NULL THEN {value} END", f"__ema_value_{n}")]


def _float(value: float) -> str:
    return f"{Decimal(value):.20e}"
