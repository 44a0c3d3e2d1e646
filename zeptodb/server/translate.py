"""ClickHouse's words in our SQL, through sqlglot: functions, types and clauses that our dialect does not know."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from itertools import pairwise

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from zeptodb.errors import QueryError
from zeptodb.server.clickhouse_times import TimeWords
from zeptodb.server.clickhouse_types import own_table
from zeptodb.server.clickhouse_words import WORDS, arguments_of, function_name
from zeptodb.server.codes import Code, failure
from zeptodb.server.statement import tokens
from zeptodb.server.system_tables import DATABASE, FUNCTIONS, SYSTEM_TABLES, Facts
from zeptodb.sql.limits import check_limits, room_for_depth
from zeptodb.types import ColumnType

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
    """The statement as sqlglot's ClickHouse dialect reads it; raises SYNTAX_ERROR, also for what is nested too deep."""
    try:
        depth = check_limits(text)
    except QueryError as error:
        raise failure(Code.SYNTAX_ERROR, str(error)) from error
    logger = logging.getLogger("sqlglot")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with room_for_depth(depth):
            parsed = sqlglot.parse(_with_clickhouse_parameters(text), read="clickhouse")
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


def _with_clickhouse_parameters(text: str) -> str:
    """The statement with `{name:String}` in place of `$name`, as ClickHouse writes it; the type has no effect."""
    if "$" not in text:
        return text
    parts: list[str] = []
    position = 0
    found = list(tokens(text))
    for sign, name in pairwise(found):
        if sign.text == "$" and name.kind == "word" and name.start == sign.end:
            parts += [text[position : sign.start], f"{{{name.text}:String}}"]
            position = name.end
    return "".join([*parts, text[position:]])


def translated(statement: exp.Expr, facts: Facts) -> exp.Expr:
    """The statement in our words; columns keep the names that ClickHouse would give them."""
    for select in statement.find_all(exp.Select):
        _keep_names(select)
    times = TimeWords(_time_columns(statement, facts))
    for node in reversed(list(statement.bfs())):  # what is within comes first
        made = _in_our_words(node, facts, times)
        if node is statement:
            statement = made
        elif made is not node:
            node.replace(made)
    return statement


def _time_columns(statement: exp.Expr, facts: Facts) -> frozenset[str]:
    """Columns of nanoseconds in the tables that a statement names, in lower case."""
    named = {table.name.lower() for table in statement.find_all(exp.Table)}
    return frozenset(
        field.name.lower()
        for table in facts.tables
        if table.name.lower() in named
        for field in table.schema.fields
        if field.type is ColumnType.TIMESTAMP_NS
    )


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
        text = text.replace("VERSION()", "version()").replace("CURRENT_DATABASE()", "currentDatabase()")
        named.append(exp.alias_(projection, text, quoted=True))
    select.set("expressions", named)


def _in_our_words(node: exp.Expr, facts: Facts, times: TimeWords) -> exp.Expr:
    if isinstance(node, exp.Table) and node.db.lower() == DATABASE:
        node.set("db", None)
        return node
    if isinstance(node, exp.Create) and str(node.args.get("kind")).upper() == "TABLE":
        return own_table(node)
    if isinstance(node, exp.Final):
        inner: exp.Expr = node.this
        return inner
    made = times.rewrite(node)
    if made is not None:
        return made
    by_type = _BY_TYPE.get(type(node))
    if by_type is not None:
        return by_type(node)
    if isinstance(node, exp.Func):
        name = function_name(node)
        if name in FUNCTIONS and not arguments_of(node):
            return _constant(FUNCTIONS[name](facts))
        rewrite = WORDS.get(name)
        if rewrite is not None:
            return rewrite(arguments_of(node))
    return node


def _cast_to_named_type(node: exp.Expr) -> exp.Expr:
    """CAST(x, 'Int32')."""
    return exp.cast(node.this, exp.DataType.build(node.args["to"].name, dialect="clickhouse"))


def _quantile(node: exp.Expr) -> exp.Expr:
    """quantile(0.5)(x) and median(x), between the two nearest values."""
    return exp.Anonymous(this="quantile_cont", expressions=[node.this, node.args["quantile"]])


def _parameterized(node: exp.Expr) -> exp.Expr:
    """quantileExact(0.5)(x) and the like as quantile_cont(x, 0.5)."""
    if not function_name(node).startswith("quantile") or not node.expressions:
        return node
    levels = node.args.get("params") or []
    # The parser puts what stands in the first parentheses into `expressions`.
    first, second = node.expressions, levels
    values, chosen = (second, first) if second else (first, [exp.Literal.number("0.5")])
    level: exp.Expr = chosen[0] if len(chosen) == 1 else exp.Array(expressions=list(chosen))
    return exp.Anonymous(this="quantile_cont", expressions=[values[0], level])


_BY_TYPE: Mapping[type[exp.Expr], Callable[[exp.Expr], exp.Expr]] = {
    exp.CastToStrType: _cast_to_named_type,
    exp.ParameterizedAgg: _parameterized,
    exp.Quantile: _quantile,
}


def _constant(value: object) -> exp.Expr:
    if isinstance(value, int):
        return exp.cast(exp.Literal.number(value), "UINTEGER", dialect="duckdb")
    return exp.Literal.string(str(value))
