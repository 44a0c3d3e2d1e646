"""ClickHouse's words in our SQL, through sqlglot: functions, types and clauses that our dialect does not know."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from zeptodb.server.codes import Code, failure
from zeptodb.server.system_tables import DATABASE, FUNCTIONS, SYSTEM_TABLES, Facts

_SERVER_WORDS = re.compile(
    r"\b(?:"
    + "|".join(FUNCTIONS)
    + r")\s*\(\s*\)|\bsystem[\"`]?\s*\.|\b[\"`]?"
    + DATABASE
    + r"[\"`]?\s*\.|`|\bFINAL\b",
    re.IGNORECASE,
)


def needs_translation(text: str) -> bool:
    """Whether a statement has words that ours would misunderstand, rather than reject."""
    return _SERVER_WORDS.search(text) is not None


def parse_clickhouse(text: str) -> exp.Expr:
    """The statement as sqlglot's ClickHouse dialect reads it; raises SYNTAX_ERROR."""
    logger = logging.getLogger("sqlglot")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        parsed = sqlglot.parse(text, read="clickhouse")
    except (SqlglotError, RecursionError, ValueError, AttributeError, TypeError, LookupError) as error:
        reason = str(error).splitlines()[0][:200]
        raise failure(
            Code.SYNTAX_ERROR, f"Syntax error: {re.sub(chr(27) + r'.4m|' + chr(27) + r'.0m', '', reason)}"
        ) from error
    finally:
        logger.setLevel(before)
    found = [statement for statement in parsed if statement is not None]
    if len(found) != 1:
        raise failure(Code.SYNTAX_ERROR, "Syntax error: a request takes one statement.")
    return found[0]


def translated(statement: exp.Expr, facts: Facts) -> exp.Expr:
    """The statement in our words; columns keep the names that ClickHouse would give them."""
    for select in statement.find_all(exp.Select):
        _keep_names(select)
    return statement.transform(lambda node: _in_our_words(node, facts))


def system_tables_of(statement: exp.Expr) -> dict[str, str]:
    """The tables of the database `system` that a statement names, by the name that they are given in it."""
    found: dict[str, str] = {}
    for table in statement.find_all(exp.Table):
        if table.db.lower() == "system":
            name = table.name.lower()
            if name not in SYSTEM_TABLES:
                known = ", ".join(f"system.{known}" for known in SYSTEM_TABLES)
                raise failure(Code.UNKNOWN_TABLE, f'There is no table "system.{table.name}". Known: {known}.')
            own = f"system_{name}"
            if not table.alias:
                table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name)))
            table.set("db", None)
            table.set("catalog", None)
            table.set("this", exp.to_identifier(own))
            found[own] = name
    return found


def _keep_names(select: exp.Select) -> None:
    """Name what has no name as ClickHouse does: by its text."""
    named: list[exp.Expr] = []
    for projection in select.expressions:
        if isinstance(projection, (exp.Alias, exp.Column, exp.Star, exp.Aliases, exp.Dot)) or projection.is_star:
            named.append(projection)
            continue
        text = projection.sql("clickhouse", normalize_functions=False)
        named.append(exp.alias_(projection, text, quoted=True))
    select.set("expressions", named)


def _in_our_words(node: exp.Expr, facts: Facts) -> exp.Expr:
    if isinstance(node, exp.Table) and node.db.lower() == DATABASE:
        node.set("db", None)
        return node
    if isinstance(node, exp.Final):
        inner: exp.Expr = node.this
        return inner
    if isinstance(node, exp.Func):
        name = _function_name(node)
        if name in FUNCTIONS and not _arguments(node):
            return _constant(FUNCTIONS[name](facts), name)
        rewrite = _REWRITES.get(name)
        if rewrite is not None:
            return rewrite(_arguments(node))
    if isinstance(node, exp.Struct | exp.Tuple) and isinstance(node.parent, exp.Values):
        return node
    return node


def _function_name(node: exp.Func) -> str:
    if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc)):
        return node.name.lower()
    if isinstance(node, exp.CombinedAggFunc):
        return str(node.this).lower()
    return _SPELT_OTHERWISE.get(node.key, node.key)


_SPELT_OTHERWISE = {"currentversion": "version"}


def _arguments(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc, exp.CombinedAggFunc)):
        return list(node.expressions)
    return [value for value in (node.args.get("this"), node.args.get("expression")) if isinstance(value, exp.Expr)]


def _constant(value: object, name: str) -> exp.Expr:
    if isinstance(value, int):
        return exp.cast(exp.Literal.number(value), "UINTEGER", dialect="duckdb")
    del name
    return exp.Literal.string(str(value))


# ---- functions -----------------------------------------------------------------------------------------------------

Rewrite = Callable[[list[exp.Expr]], exp.Expr]


def _call(name: str) -> Rewrite:
    return lambda arguments: exp.Anonymous(this=name, expressions=arguments)


def _cast(kind: str) -> Rewrite:
    return lambda arguments: exp.cast(arguments[0], kind, dialect="duckdb")


def _filtered(name: str) -> Rewrite:
    """sumIf(x, condition) as sum(x) FILTER (WHERE condition)."""

    def rewrite(arguments: list[exp.Expr]) -> exp.Expr:
        values = arguments[:-1] or [exp.Star()]
        return exp.Filter(this=exp.Anonymous(this=name, expressions=values), expression=exp.Where(this=arguments[-1]))

    return rewrite


def _sql(template: str) -> Rewrite:
    """An expression of DuckDB in which $1, $2 are the arguments."""

    def rewrite(arguments: list[exp.Expr]) -> exp.Expr:
        tree = sqlglot.parse_one(template, read="duckdb")
        for place in list(tree.find_all(exp.Placeholder, exp.Parameter)):
            number = int(place.name)
            if number > len(arguments):
                raise failure(Code.BAD_ARGUMENTS, f"A function lacks its argument {number}.")
            place.replace(exp.paren(arguments[number - 1].copy(), copy=False))
        return tree

    return rewrite


_TO_SECONDS = "make_timestamp_ns(CAST($1 AS BIGINT) * 1000000000)"

_REWRITES: Mapping[str, Rewrite] = {
    **{f"to{kind.lower()}": _cast(sql) for kind, sql in {
        "Int8": "TINYINT", "Int16": "SMALLINT", "Int32": "INTEGER", "Int64": "BIGINT", "UInt8": "UTINYINT",
        "UInt16": "USMALLINT", "UInt32": "UINTEGER", "UInt64": "UBIGINT", "Float32": "FLOAT", "Float64": "DOUBLE",
        "String": "VARCHAR", "Date32": "DATE", "Bool": "BOOLEAN",
    }.items()},
    **{f"{name.lower()}if": _filtered(name) for name in ("count", "sum", "avg", "min", "max", "median", "stddev")},
    "uniq": _sql("count(DISTINCT $1)"),
    "uniqexact": _sql("count(DISTINCT $1)"),
    "intdiv": _sql("$1 // $2"),
    "grouparray": _call("list"),
    "groupuniqarray": _sql("list(DISTINCT $1)"),
    "anylast": _call("last"),
    "stddevsamp": _call("stddev_samp"),
    "stddevpop": _call("stddev_pop"),
    "varsamp": _call("var_samp"),
    "varpop": _call("var_pop"),
    "today": _sql("current_date"),
    "lower": _call("lower"),
    "tounixtimestamp": _sql("CAST(epoch($1) AS BIGINT)"),
    "fromunixtimestamp": _sql(_TO_SECONDS),
    "fromunixtimestamp64milli": _sql("CAST(make_timestamp_ns(CAST($1 AS BIGINT) * 1000000) AS TIMESTAMP_MS)"),
    "fromunixtimestamp64micro": _sql("CAST(make_timestamp_ns(CAST($1 AS BIGINT) * 1000) AS TIMESTAMP)"),
    "fromunixtimestamp64nano": _sql("make_timestamp_ns(CAST($1 AS BIGINT))"),
    "tounixtimestamp64milli": _call("epoch_ms"),
    "tounixtimestamp64nano": _call("epoch_ns"),
}  # fmt: skip
