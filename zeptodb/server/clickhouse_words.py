"""ClickHouse's functions as expressions of ours: a table from the name of each to what stands for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlglot
from sqlglot import exp

from zeptodb.server.codes import Code, failure

Rewrite = Callable[[list[exp.Expr]], exp.Expr]


def template(sql: str) -> Rewrite:
    """An expression of DuckDB in which $1, $2 are the arguments."""
    tree = exp.paren(sqlglot.parse_one(sql.replace("$", "argument_"), read="duckdb"), copy=False)

    def rewrite(arguments: list[exp.Expr]) -> exp.Expr:
        made = tree.copy()
        for place in list(made.find_all(exp.Column)):
            number = int(place.name.removeprefix("argument_"))
            if number > len(arguments):
                raise failure(Code.BAD_ARGUMENTS, f"A function lacks its argument {number}.")
            argument = arguments[number - 1].copy()
            needs_parentheses = isinstance(argument, (exp.Binary, exp.Unary, exp.Between, exp.In))
            place.replace(exp.paren(argument, copy=False) if needs_parentheses else argument)
        inner: exp.Expr = made.this
        return inner.pop() if not isinstance(inner, exp.Binary) else made

    return rewrite


def call(name: str) -> Rewrite:
    """A function of another name, with the same arguments."""
    return lambda arguments: exp.Anonymous(this=name, expressions=arguments)


def _filtered(name: str) -> Rewrite:
    """sumIf(x, condition) as sum(x) FILTER (WHERE condition)."""

    def rewrite(arguments: list[exp.Expr]) -> exp.Expr:
        values = arguments[:-1] or [exp.Star()]
        return exp.Filter(this=exp.Anonymous(this=name, expressions=values), expression=exp.Where(this=arguments[-1]))

    return rewrite


def _multi_if(arguments: list[exp.Expr]) -> exp.Expr:
    """multiIf(a, x, b, y, z) as CASE WHEN a THEN x WHEN b THEN y ELSE z END."""
    branches = [exp.If(this=when, true=then) for when, then in zip(arguments[:-1:2], arguments[1::2], strict=False)]
    return exp.Case(ifs=branches, default=arguments[-1])


_CASTS = {
    "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "uint8": "UTINYINT",
    "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT", "float32": "FLOAT", "float64": "DOUBLE",
    "string": "VARCHAR", "bool": "BOOLEAN", "uuid": "UUID",
}  # fmt: skip

_OPERATORS = {
    "plus": "$1 + $2", "minus": "$1 - $2", "multiply": "$1 * $2", "divide": "$1 / $2", "modulo": "$1 % $2",
    "equals": "$1 = $2", "notequals": "$1 <> $2", "less": "$1 < $2", "greater": "$1 > $2", "lessorequals": "$1 <= $2",
    "greaterorequals": "$1 >= $2", "negate": "-$1", "isnull": "$1 IS NULL", "isnotnull": "$1 IS NOT NULL",
    "empty": "$1 = ''", "notempty": "$1 <> ''", "intdiv": "$1 // $2",
}  # fmt: skip

WORDS: Mapping[str, Rewrite] = {
    **{f"to{name}": template(f"CAST($1 AS {sql})") for name, sql in _CASTS.items()},
    **{f"to{name}ornull": template(f"TRY_CAST($1 AS {sql})") for name, sql in _CASTS.items()},
    **{f"to{name}orzero": template(f"coalesce(TRY_CAST($1 AS {sql}), 0)") for name, sql in _CASTS.items()},
    **{name: template(sql) for name, sql in _OPERATORS.items()},
    **{
        f"{name}if": _filtered(name if name != "uniq" else "approx_count_distinct")
        for name in ("count", "sum", "avg", "min", "max", "median", "stddev", "first", "last", "uniq", "vwap")
    },
    "anyif": _filtered("any_value"),
    "uniq": template("count(DISTINCT $1)"),
    "approxdistinct": template("count(DISTINCT $1)"),
    "uniqexact": template("count(DISTINCT $1)"),
    "anylast": call("last"),
    "grouparray": call("list"),
    "groupuniqarray": template("list(DISTINCT $1)"),
    "stddevsamp": call("stddev_samp"),
    "stddevpop": call("stddev_pop"),
    "varsamp": call("var_samp"),
    "varpop": call("var_pop"),
    "avgweighted": template("sum($1 * $2) / nullif(sum($2), 0)"),
    "multiif": _multi_if,
    "materialize": template("$1"),
    "identity": template("$1"),
    "assumenotnull": template("$1"),
    "tonullable": template("$1"),
    "replaceall": call("replace"),
    "bitand": template("$1 & $2"),
    "bitor": template("$1 | $2"),
    "generateuuidv4": call("uuid"),
    "totypename": call("typeof"),
    "length": call("length"),
    "arraysort": call("list_sort"),
    "arraydistinct": call("list_distinct"),
    "arraysum": call("list_sum"),
    "arrayelement": template("$1[$2]"),
}


def function_name(node: exp.Expr) -> str:
    """The name of a function as the table has it: in lower case, as sqlglot calls it where it knows it."""
    if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc, exp.CombinedAggFunc, exp.ParameterizedAgg)):
        return str(node.this).lower()
    return _SPELT_OTHERWISE.get(node.key, node.key)


def arguments_of(node: exp.Expr) -> list[exp.Expr]:
    """The arguments of a function, in order."""
    if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc, exp.CombinedAggFunc, exp.ParameterizedAgg)):
        return list(node.expressions)
    return [value for value in (node.args.get("this"), node.args.get("expression")) if isinstance(value, exp.Expr)]


_SPELT_OTHERWISE = {"currentversion": "version"}
