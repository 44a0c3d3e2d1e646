"""`*` and `t.*`: the columns they stand for, and which ones they leave out or show otherwise."""

from __future__ import annotations

from sqlglot import exp

from zeptodb.sql.relations import Columns, OutputColumn, Relation, Scope, ValueKind


def star_columns(star: exp.Expr, qualifier: exp.Expr | None, scope: Scope) -> Columns:
    """The columns that `*`, or `t.*` with a qualifier, stands for; None when they are unknown."""
    if star.args.get("rename") or star.args.get("like"):
        return None
    left_out = {e.name.lower() for e in star.args.get("except_") or ()}
    result: list[OutputColumn] = []
    for relation in scope.relations:
        if relation.is_hidden or (qualifier is not None and not relation.is_called(qualifier.name)):
            continue
        if relation.columns is None:
            return None
        merged = relation.merged if qualifier is None else frozenset()
        result.extend(c for c in relation.columns if c[0].lower() not in left_out | merged)
    replaced = {e.alias.lower() for e in star.args.get("replace") or ()}
    return tuple((name, ValueKind.OTHER if name.lower() in replaced else kind) for name, kind in result)


def hide_columns(node: exp.Select, scope: Scope) -> None:
    """`*` leaves out the hidden columns."""
    for relation in scope.relations:
        occurrence = relation.occurrence
        if occurrence is None or occurrence.is_wrapped or relation.is_hidden:
            continue
        names = [occurrence.row_name] if occurrence.needs_rows else []
        names += [ema.name for ema in occurrence.emas]
        for item in node.expressions:
            star = item.this if isinstance(item, (exp.Column, exp.Columns)) else item
            table = item.args.get("table")
            if names and isinstance(star, exp.Star) and (table is None or table.name.lower() == relation.alias.lower()):
                hidden = [exp.column(exp.to_identifier(name, quoted=True)) for name in names]
                star.set("except_", [*(star.args.get("except_") or []), *hidden])


def fit_stars(node: exp.Select, scope: Scope) -> None:
    """`*` shows what tick joins make of a relation: the substitutes of AJ0, and nothing of the right of WINDOW JOIN."""
    for item in node.expressions:
        star = item.this if isinstance(item, (exp.Column, exp.Columns)) else item
        if not isinstance(star, exp.Star):
            continue
        table = item.args.get("table")
        for relation in scope.relations:
            if table is not None and not relation.is_called(table.name):
                continue
            if relation.window is not None:
                hidden = [exp.column(i.alias_or_name) for i in relation.window.query.expressions]
                if table is None and hidden:
                    star.set("except_", [*(star.args.get("except_") or []), *hidden])
            if table is not None and table.name.lower() != relation.alias.lower():
                table.replace(exp.to_identifier(relation.alias, quoted=True))
            _substitute(star, relation)


def _substitute(star: exp.Expr, relation: Relation) -> None:
    taken = {e.name.lower() for e in star.args.get("except_") or ()}
    taken |= {e.alias.lower() for e in star.args.get("replace") or ()}
    for name, column in relation.substitutes.items():
        found = relation.find(name)
        if name not in taken and found is not None:
            alias = exp.Alias(this=column.copy(), alias=exp.to_identifier(found[0], quoted=True))
            star.set("replace", [*(star.args.get("replace") or []), alias])
