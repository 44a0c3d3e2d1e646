"""ema(x, n) OVER (PARTITION BY symbol ORDER BY timestamp) of a table's own rows, computed where they lie.

Rows are stored by symbol and in the order of time, so the averages are a column beside the others, which DuckDB is
handed with the table (the backend computes them). `ema_windows` has the way for all other rows.
"""

from __future__ import annotations

from sqlglot import exp

from zeptodb.sql.ema_windows import is_ema
from zeptodb.sql.pruning import Parameters, conjuncts, constant
from zeptodb.sql.relations import EmaColumn, Occurrence, Relation, Scope

_TIME_BOUNDS = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)


def take(select: exp.Select, scope: Scope, parameters: Parameters) -> bool:
    """Replace every ema of a SELECT by a column of the table that it reads, if that is possible for all of them.

    To be called when the words of the SELECT are those of DuckDB and the bounds of what it reads are known.
    """
    relation = scope.relations[0] if len(scope.relations) == 1 else None
    occurrence = None if relation is None else relation.occurrence
    if relation is None or occurrence is None or not _reads_rows_alone(select, scope, relation, parameters):
        return False
    calls = [w for w in select.find_all(exp.Window) if is_ema(w) and w.find_ancestor(exp.Select) is select]
    columns = [_column_of(call, scope, relation, occurrence) for call in calls]
    if None in columns:
        return False
    for call, column in zip(calls, columns, strict=True):
        if column is not None:
            if column not in occurrence.emas:
                occurrence.emas.append(column)
            table = exp.to_identifier(relation.alias, quoted=True) if relation.alias else None
            call.replace(exp.column(exp.to_identifier(column.name, quoted=True), table))
    return True


def _reads_rows_alone(select: exp.Select, scope: Scope, relation: Relation, parameters: Parameters) -> bool:
    """Whether the averages see the rows of the table within its bounds, and no others."""
    occurrence = relation.occurrence
    others = any(select.args.get(key) for key in ("joins", "laterals", "sample", "group", "having", "qualify"))
    if others or scope.is_grouped or occurrence is None or occurrence.fraction is not None or occurrence.is_wrapped:
        return False
    where = select.args.get("where")
    return where is None or all(_is_bound(part, scope, relation, parameters) for part in conjuncts(where.this))


def _is_bound(part: exp.Expr, scope: Scope, relation: Relation, parameters: Parameters) -> bool:
    """Whether a condition leaves out whole symbols, or is one of the bounds on the time."""
    if part.find(exp.Query, exp.Window) is not None:
        return False
    columns = list(part.find_all(exp.Column))
    roles = {_role(column, scope, relation) for column in columns}
    if roles <= {"symbol"}:
        return bool(columns)
    if roles != {"time"} or "time" not in relation.prunable or not isinstance(part, _TIME_BOUNDS):
        return False
    sides = [part.this, *(part.args.get(key) for key in ("expression", "low", "high"))]
    given = [side for side in sides if side is not None]
    return all(isinstance(s, exp.Column) or isinstance(constant(s, parameters), int) for s in given)


def _role(column: exp.Column, scope: Scope, relation: Relation) -> str | None:
    found = scope.resolve_here(column)
    return None if found is None or found[0] is not relation else relation.role(found[1][0])


def _column_of(call: exp.Expr, scope: Scope, relation: Relation, occurrence: Occurrence) -> EmaColumn | None:
    schema = occurrence.schema
    if any(schema.fields[i].is_nullable for i in (schema.symbol_index, schema.timestamp_index) if i >= 0):
        return None
    partition = [_role_of(key, scope, relation) for key in call.args.get("partition_by") or ()]
    if partition != ([] if schema.symbol is None else ["symbol"]) or schema.timestamp is None:
        return None
    first, *ties = call.args["order"].expressions
    if _role_of(first.this, scope, relation) != "time" or first.args.get("desc"):
        return None
    if any(key.this.name != occurrence.row_name for key in ties):
        return None
    value, alpha = call.this.expressions
    while isinstance(value, (exp.Cast, exp.Paren)):
        value = value.this
    found = scope.resolve_here(value) if isinstance(value, exp.Column) else None
    if found is None or found[0] is not relation or relation.columns is None:
        return None
    index = relation.columns.index(found[1])
    if not schema.fields[index].type.is_numeric or index == schema.symbol_index:
        return None
    return EmaColumn(f"__ema{occurrence.row_name}_{index}_{alpha.name}", index, float(alpha.name))


def _role_of(node: exp.Expr, scope: Scope, relation: Relation) -> str | None:
    return _role(node, scope, relation) if isinstance(node, exp.Column) else None
