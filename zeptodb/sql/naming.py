"""The name that DuckDB gives a column without an alias: its expression, printed in DuckDB's own way."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from zeptodb.sql.keywords import quoted

_BINARY: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.IntDiv: "//",
    exp.Mod: "%",
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_UNPLACED: dict[type[exp.Expr], str] = {exp.Max: "max", exp.Min: "min"}
"""Functions that the parser keeps no place of; they have one name only."""

_FUNCTION_NAME = re.compile(r"[A-Za-z_]\w*")
_DATE_TRUNC = re.compile(r"date_trunc\s*\(\s*'(\w+)'\s*,", re.IGNORECASE)


def column_name(node: exp.Expr, text: str) -> str | None:
    """The name of the unaliased expression `node` of the statement `text`; None when only DuckDB knows.

    A plain column is not printed but called as its table calls it; that is the caller's to do.
    """
    while isinstance(node, exp.Paren):
        node = node.this
    parameter = node.meta_get("parameter")
    if parameter is not None:
        return f"${quoted(str(parameter))}" if not str(parameter).isdigit() else f"${parameter}"
    if type(node) in _BINARY:
        return _operands(node, text, f" {_BINARY[type(node)]} ")
    render = _RENDERERS.get(type(node))
    if render is not None:
        return render(node, text)
    return _function(node, text) if isinstance(node, exp.Func) else None


def _operands(node: exp.Expr, text: str, separator: str) -> str | None:
    names = [column_name(node.this, text), column_name(node.expression, text)]
    return None if None in names else f"({separator.join(n for n in names if n is not None)})"


def _column(node: exp.Expr, text: str) -> str | None:  # noqa: ARG001
    if not isinstance(node.this, exp.Identifier) or node.args.get("db"):
        return None
    table = node.args.get("table")
    return (f"{quoted(table.name)}." if table is not None else "") + quoted(node.name)


def _literal(node: exp.Expr, text: str) -> str | None:
    if node.args.get("is_string"):
        return "'" + node.name.replace("'", "''") + "'"
    start, end = node.meta_get("start"), node.meta_get("end")
    return None if start is None or end is None else text[int(start) : int(end) + 1]


def _negation(node: exp.Expr, text: str) -> str | None:
    inner = node.this
    while isinstance(inner, exp.Paren):
        inner = inner.this
    name = column_name(inner, text)
    if name is None or (isinstance(inner, exp.Neg) and isinstance(inner.this, exp.Literal)):
        return None
    return f"-{name}" if isinstance(inner, exp.Literal) else f"(-({name}))"


def _logical(node: exp.Expr, text: str) -> str | None:
    """DuckDB prints a chain of the same word with one pair of brackets; the chain leans to the left."""
    word = "AND" if isinstance(node, exp.And) else "OR"
    names: list[str | None] = []
    left: exp.Expr = node
    while type(left) is type(node):
        names.append(column_name(left.expression, text))
        left = left.this
    names.append(column_name(left, text))
    if any(isinstance(p.unnest(), type(node)) for p in node.find_all(exp.Paren)):
        return None
    return None if None in names else "(" + f" {word} ".join(n for n in reversed(names) if n is not None) + ")"


def _not(node: exp.Expr, text: str) -> str | None:
    inner = node.this
    if isinstance(inner, exp.Is) and isinstance(inner.expression, exp.Null):
        name = column_name(inner.this, text)
        return None if name is None else f"({name} IS NOT NULL)"
    name = column_name(inner, text)
    return None if name is None else f"(NOT {name})"


def _is(node: exp.Expr, text: str) -> str | None:
    name = column_name(node.this, text)
    return f"({name} IS NULL)" if name is not None and isinstance(node.expression, exp.Null) else None


def _in(node: exp.Expr, text: str) -> str | None:
    names = [column_name(node.this, text), *(column_name(e, text) for e in node.expressions)]
    if None in names or len(names) < 2:
        return None
    return f"({names[0]} IN ({', '.join(n for n in names[1:] if n is not None)}))"


def _between(node: exp.Expr, text: str) -> str | None:
    names = [column_name(node.args[part], text) for part in ("this", "low", "high")]
    return None if None in names else f"({names[0]} BETWEEN {names[1]} AND {names[2]})"


def _filter(node: exp.Expr, text: str) -> str | None:
    name, condition = column_name(node.this, text), column_name(node.expression.this, text)
    return None if name is None or condition is None else f"{name} FILTER (WHERE {condition})"


def _window(node: exp.Expr, text: str) -> str | None:
    """OVER with columns to partition by, plain keys, and a frame of rows up to the current one."""
    order, spec = node.args.get("order"), node.args.get("spec")
    keys = [] if order is None else order.expressions
    if node.args.get("alias") is not None or any(k.args.get("desc") or k.args.get("nulls_first") for k in keys):
        return None
    partition = [column_name(key, text) for key in node.args.get("partition_by") or ()]
    sorted_by = [column_name(key.this, text) for key in keys]
    name, frame = _windowed(node.this, text), "" if spec is None else _frame(spec, text)
    if name is None or frame is None or None in partition or None in sorted_by:
        return None
    parts = [f"PARTITION BY {', '.join(n for n in partition if n is not None)}"] if partition else []
    parts += [f"ORDER BY {', '.join(n for n in sorted_by if n is not None)}"] if sorted_by else []
    return f"{name} OVER ({' '.join([*parts, frame]).strip()})"


def _windowed(function: exp.Expr, text: str) -> str | None:
    is_count_of_rows = isinstance(function, exp.Count) and (
        function.this is None or isinstance(function.this, exp.Star)
    )
    return "count()" if is_count_of_rows else column_name(function, text)


def _frame(spec: exp.Expr, text: str) -> str | None:
    start, side = spec.args.get("start"), str(spec.args.get("start_side") or "").upper()
    is_running = str(spec.args.get("end") or "CURRENT ROW").upper() == "CURRENT ROW"
    if str(spec.args.get("kind")).upper() != "ROWS" or not is_running or spec.args.get("exclude"):
        return None
    first = column_name(start, text) if isinstance(start, exp.Expr) else str(start).upper()
    return None if first is None else f"ROWS BETWEEN {f'{first} {side}'.strip()} AND CURRENT ROW"


def _count(node: exp.Expr, text: str) -> str | None:
    if node.this is None or isinstance(node.this, exp.Star):
        return "count_star()"
    return _function(node, text)


def _date_trunc(node: exp.Expr, text: str) -> str | None:
    start, argument = node.meta_get("start"), column_name(node.this, text)
    match = None if start is None else _DATE_TRUNC.match(text, int(start))
    return None if match is None or argument is None else f"date_trunc('{match.group(1)}', {argument})"


def _case(node: exp.Expr, text: str) -> str | None:
    """DuckDB prints the form with a subject as comparisons."""
    subject = node.args.get("this")
    prefix = "" if subject is None else f"{column_name(subject, text)} = "
    parts: list[str | None] = [None if subject is not None and column_name(subject, text) is None else ""]
    words = []
    for branch in node.args["ifs"]:
        condition, value = column_name(branch.this, text), column_name(branch.args["true"], text)
        parts += [condition, value]
        words.append(
            f" WHEN (({prefix}{condition})) THEN ({value})" if prefix else f" WHEN ({condition}) THEN ({value})"
        )
    default = "NULL" if node.args.get("default") is None else column_name(node.args["default"], text)
    return None if None in parts or default is None else f"CASE {''.join(words)} ELSE {default} END"


def _coalesce(node: exp.Expr, text: str) -> str | None:
    names = [column_name(a, text) for a in (node.this, *node.expressions)]
    return None if None in names else f"COALESCE({', '.join(n for n in names if n is not None)})"


def _null(node: exp.Expr, text: str) -> str | None:  # noqa: ARG001
    return "NULL"


def _function(node: exp.Expr, text: str) -> str | None:
    """A call of a function by the name that the statement uses, in lower case."""
    start, end = node.meta_get("start"), node.meta_get("end")
    spelled = (
        text[int(start) : int(end) + 1] if start is not None and end is not None else _UNPLACED.get(type(node), "")
    )
    arguments = list(node.expressions) if isinstance(node, exp.Anonymous) else [node.this, *node.expressions]
    known = {"this", "expressions"}
    if isinstance(node, exp.Count):
        known.add("big_int")
    elif isinstance(node, exp.Round) and node.args.get("decimals") is not None:
        arguments.append(node.args["decimals"])
        known.add("decimals")
    if not _FUNCTION_NAME.fullmatch(spelled) or any(value and key not in known for key, value in node.args.items()):
        return None
    names = [column_name(a, text) if isinstance(a, exp.Expr) else None for a in arguments]
    if None in names:
        return None
    return f"{quoted(spelled.lower())}({', '.join(n for n in names if n is not None)})"


def _boolean(node: exp.Expr, text: str) -> str | None:  # noqa: ARG001
    return "true" if node.this else "false"


_RENDERERS: dict[type[exp.Expr], Callable[[exp.Expr, str], str | None]] = {
    exp.Column: _column,
    exp.Literal: _literal,
    exp.Boolean: _boolean,
    exp.Neg: _negation,
    exp.And: _logical,
    exp.Or: _logical,
    exp.Not: _not,
    exp.Is: _is,
    exp.In: _in,
    exp.Between: _between,
    exp.Filter: _filter,
    exp.Count: _count,
    exp.Window: _window,
    exp.Case: _case,
    exp.Coalesce: _coalesce,
    exp.Null: _null,
    exp.TimestampTrunc: _date_trunc,
    exp.DateTrunc: _date_trunc,
}
