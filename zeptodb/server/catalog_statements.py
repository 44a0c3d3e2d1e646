"""SHOW, DESCRIBE and EXISTS as ClickHouse answers them."""

from __future__ import annotations

import pyarrow as pa

from zeptodb.errors import unknown_table
from zeptodb.server.codes import Code, failure
from zeptodb.server.statement import Statement, Token, tokens
from zeptodb.server.system_tables import (
    DATABASE,
    SYSTEM_TABLES,
    Facts,
    create_statement,
    described_table,
)
from zeptodb.storage.table import Table


def catalog_answer(statement: Statement, facts: Facts) -> pa.Table | None:
    """The answer to SHOW DATABASES, SHOW TABLES, SHOW CREATE, DESCRIBE or EXISTS; None for other statements."""
    found = list(tokens(statement.text))
    words = [token.upper for token in found]
    if statement.keyword == "EXISTS":
        return _exists(found[1:], facts)
    if statement.keyword in ("DESCRIBE", "DESC"):
        return None if query_to_describe(statement, facts) else described_table(_table(_described(found), facts))
    if statement.keyword == "SHOW":
        return _show(found[1:], words[1:], facts)
    return None


def query_to_describe(statement: Statement, facts: Facts) -> str | None:
    """The query whose columns DESCRIBE is asked for: one in its text, or all of a view; None for a table."""
    found = list(tokens(statement.text))
    if statement.keyword not in ("DESCRIBE", "DESC"):
        return None
    rest = _described(found)
    if rest and (rest[0].text == "(" or rest[0].upper in ("SELECT", "WITH", "FROM", "VALUES")):
        return statement.text[rest[0].start :]
    names = _names(rest)
    view = next((view for view in facts.views if names and view.lower() == names[-1].lower()), None)
    return None if view is None else 'SELECT * FROM "' + view.replace('"', '""') + '"'


def _described(found: list[Token]) -> list[Token]:
    return found[2:] if len(found) > 2 and found[1].upper == "TABLE" else found[1:]


def _show(found: list[Token], words: list[str], facts: Facts) -> pa.Table | None:
    if words[:1] == ["DATABASES"]:
        return pa.table({"name": [DATABASE, "system"]})
    if words[:1] == ["TABLES"]:
        names = _tables_of([], facts)
        if words[1:2] in (["FROM"], ["IN"]):
            names = _tables_of(_names(found[2:]), facts)
        return pa.table({"name": pa.array(names, pa.string())})
    if words[:1] == ["CREATE"]:
        rest = found[2:] if words[1:2] == ["TABLE"] else found[1:]
        return pa.table({"statement": [create_statement(_table(rest, facts))]})
    if words[:1] == ["PROCESSLIST"]:
        from zeptodb.server.system_tables import system_table

        return system_table("processes", facts)
    return None


def _tables_of(database: list[str], facts: Facts) -> list[str]:
    name = database[0].lower() if database else DATABASE
    if name == "system":
        return list(SYSTEM_TABLES)
    if name != DATABASE:
        raise failure(Code.UNKNOWN_DATABASE, f'There is no database "{database[0]}". Known: {DATABASE}, system.')
    return [*(table.name for table in facts.tables), *facts.views]


def _exists(found: list[Token], facts: Facts) -> pa.Table:
    while found and found[0].kind == "word" and found[0].upper in ("TABLE", "TEMPORARY", "VIEW"):
        found = found[1:]
    if found and found[0].upper == "DATABASE":
        known = _names(found[1:])[:1] in ([DATABASE], ["system"])
        return pa.table({"result": pa.array([int(known)], pa.uint8())})
    names = _names(found)
    is_view = bool(names) and names[-1].lower() in {view.lower() for view in facts.views}
    known = bool(names) and (_find(names, facts) is not None or is_view)
    return pa.table({"result": pa.array([int(known)], pa.uint8())})


def _table(found: list[Token], facts: Facts) -> Table:
    names = _names(found)
    if not names:
        raise failure(Code.SYNTAX_ERROR, "Syntax error: the name of a table is missing.")
    table = _find(names, facts)
    if table is None:
        error = unknown_table(".".join(names), [known.name for known in facts.tables])
        raise failure(Code.UNKNOWN_TABLE, str(error))
    return table


def _find(names: list[str], facts: Facts) -> Table | None:
    if len(names) > 2 or (len(names) == 2 and names[0].lower() != DATABASE):
        return None
    return next((table for table in facts.tables if table.name.lower() == names[-1].lower()), None)


def _names(found: list[Token]) -> list[str]:
    """The parts of a name such as `db`."table"; none if it is something else."""
    names: list[str] = []
    for position, token in enumerate(found):
        if position % 2:
            if token.text != ".":
                break
        elif token.kind in ("word", "name", "string"):
            text = token.text
            names.append(text if token.kind == "word" else text[1:-1].replace(text[0] * 2, text[0]))
        else:
            return []
    return names
