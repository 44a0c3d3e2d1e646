"""Plans a SELECT over an as-of join in two steps: the join natively, the rest in DuckDB over the rows it leaves."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.record import record
from zeptodb.sql.bound import BoundConstant, BoundExpression, Rejection, SqlType
from zeptodb.sql.join_planner import JoinPlanner
from zeptodb.sql.naming import column_name
from zeptodb.sql.plan import Finish, JoinedPlan, Output
from zeptodb.sql.predicates import conjunction
from zeptodb.sql.select_statement import SelectStatement
from zeptodb.sql.sources import Source, is_star, outputs_of
from zeptodb.types import ColumnType

JOINED = "joined_rows"

_BUCKETS = (exp.TimestampTrunc, exp.DateTrunc, exp.Anonymous)
_SAME_IN_DUCKDB = (
    exp.Select, exp.From, exp.Table, exp.TableAlias, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered,
    exp.Limit, exp.Offset, exp.Distinct, exp.Alias, exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null,
    exp.Star,
    exp.Paren, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.EQ, exp.NEQ, exp.LT, exp.LTE,
    exp.GT, exp.GTE, exp.And, exp.Or, exp.Not, exp.Is, exp.In, exp.Between, exp.Case, exp.If, exp.Coalesce, exp.Abs,
    exp.Round, exp.Greatest, exp.Least, exp.Filter, exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Stddev,
    exp.StddevSamp, exp.StddevPop, exp.Variance, exp.VariancePop, exp.Median, exp.Corr, exp.Cast, exp.DataType,
)  # fmt: skip
"""Nodes that mean to DuckDB over int64 nanoseconds what they mean to us."""


@record
class _Column:
    """What the join hands over under a name of its own."""

    name: str
    bound: BoundExpression


class JoinedRowsPlanner(JoinPlanner):
    """Plans one statement: every column or time bucket that it names becomes a column of the joined rows."""

    def __init__(self, statement: SelectStatement, left: Source, right: Source, join: exp.Join) -> None:
        """As for JoinPlanner."""
        super().__init__(statement, left, right, join)
        self.handed: dict[BoundExpression, _Column] = {}
        self.aliases = {alias.lower() for _, alias in outputs_of(statement.node) if alias is not None}

    def plan_in_two_steps(self) -> JoinedPlan | None:
        """The plan; None with reasons in the statement when there is none."""
        op = self._join_condition()
        select = self.statement.node.copy()
        self._name_outputs(select)
        left = self._take_left_conditions(select)
        self._replace_names(select)
        self._check(select)
        self.statement.is_volatile |= self.binder.is_volatile
        if self.statement.reasons or op is None:
            return None
        if not self.handed:
            self._hand_over(self._slot_of("left", self.left.schema.timestamp_index))
        outputs = [
            Output(c.name, c.bound.expression, c.bound.type.column_type, c.bound.dictionary)
            for c in self.handed.values()
        ]
        select.set("joins", None)
        select.set("from_", exp.From(this=exp.to_table(JOINED)))
        timestamps = frozenset(i for i, item in enumerate(select.expressions) if self._is_time(item.this))
        join = self._join_plan(op, left, Finish(tuple(outputs)))
        return JoinedPlan(join, select.sql("duckdb"), timestamps)

    def _name_outputs(self, select: exp.Select) -> None:
        """Give each output the name that DuckDB would give it, before its text changes."""
        for i, node in enumerate(list(select.expressions)):
            if is_star(node):
                self.statement.reject("a star has no native form here", node)
            elif not isinstance(node, exp.Alias):
                name = self._plain_name(node) or column_name(node, self.statement.text)
                if name is None:
                    self.statement.reject("only DuckDB knows the name of this column; give it an alias", node)
                    continue
                alias = exp.Alias(this=node.copy(), alias=exp.to_identifier(name, quoted=True))
                select.expressions[i].replace(alias)

    def _plain_name(self, node: exp.Expr) -> str | None:
        plain = node.unnest()
        found = self._find(plain) if isinstance(plain, exp.Column) else None
        if found is None or isinstance(found, Rejection):
            return None
        return (self.left if found[0] == "left" else self.right).schema.fields[found[1]].name

    def _take_left_conditions(self, select: exp.Select) -> BoundExpression | BoundConstant | None:
        """Move the conditions that a scan of the left table can decide out of WHERE."""
        where = select.args.get("where")
        if where is None:
            return None
        condition = where.this.unnest()
        taken: BoundExpression | None = None
        kept: list[exp.Expr] = []
        for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
            bound = self._left_condition(part)
            if bound is None:
                kept.append(part)
                continue
            before = None if taken is None else taken.expression
            taken = BoundExpression(conjunction(before, bound.expression), bound.type)
        select.set("where", exp.Where(this=exp.and_(*kept, dialect="duckdb")) if kept else None)
        return taken

    def _left_condition(self, part: exp.Expr) -> BoundExpression | None:
        columns = list(part.find_all(exp.Column))
        if not columns or not all(self._side_of(column) == "left" for column in columns):
            return None
        reasons = len(self.statement.reasons)
        binder = self.statement.binder(self._resolve_left)
        bound = binder.bind_boolean(part)
        del self.statement.reasons[reasons:]
        self.statement.is_volatile |= binder.is_volatile
        return bound if isinstance(bound, BoundExpression) else None

    def _replace_names(self, select: exp.Select) -> None:
        for node in list(select.find_all(*_BUCKETS)):
            bound = self.binder.bind(node)
            if isinstance(bound, BoundExpression):
                node.replace(self._hand_over(bound))
        for column in list(select.find_all(exp.Column)):
            if column.name in {c.name for c in self.handed.values()} or is_star(column):
                continue
            is_alias = not column.args.get("table") and column.name.lower() in self.aliases
            found = self._find(column)
            if isinstance(found, Rejection):
                if not is_alias:
                    self.statement.reject(found.message, column, is_error=found.is_error)
            elif is_alias and not self._is_alias_of_itself(column):
                self.statement.reject(f'"{column.name}" is a column and the alias of something else', column)
            else:
                column.replace(self._hand_over(self._slot_of(*found)))

    def _is_alias_of_itself(self, column: exp.Column) -> bool:
        for node, alias in outputs_of(self.statement.node):
            if alias is not None and alias.lower() == column.name.lower():
                plain = node.unnest()
                return isinstance(plain, exp.Column) and self._find(plain) == self._find(column)
        return False

    def _hand_over(self, bound: BoundExpression) -> exp.Column:
        if bound not in self.handed:
            self.handed[bound] = _Column(f"handed_{len(self.handed)}", bound)
        return exp.column(self.handed[bound].name)

    def _check(self, select: exp.Select) -> None:
        """Reject what DuckDB would not understand as we do."""
        for node in select.walk(prune=lambda n: isinstance(n, exp.Join)):
            if isinstance(node, exp.Join):
                continue
            if not isinstance(node, _SAME_IN_DUCKDB) or (isinstance(node, exp.Select) and node is not select):
                self.statement.reject(f"{node.key.upper()} over a join has no native form", node)
            elif isinstance(node, exp.Literal) and node.args.get("is_string") and self._stands_beside_time(node):
                self.statement.reject("a string beside a timestamp of a join has no native form", node)

    def _stands_beside_time(self, node: exp.Expr) -> bool:
        """Whether a timestamp takes part in the operation or call that `node` is part of."""
        while isinstance(node.parent, (exp.Paren, exp.Neg)):
            node = node.parent
        parent = node.parent
        if parent is None or isinstance(parent, (exp.If, exp.Case, exp.Alias)):
            return False
        times = {c.name for c in self.handed.values() if c.bound.type is SqlType.TIMESTAMP}
        return any(column.name in times for column in parent.find_all(exp.Column))

    def _is_time(self, node: exp.Expr) -> bool:
        if isinstance(node, (exp.Min, exp.Max)):
            node = node.this
        named = {c.name: c.bound.type.column_type for c in self.handed.values()}
        return isinstance(node, exp.Column) and named.get(node.name) is ColumnType.TIMESTAMP_NS
