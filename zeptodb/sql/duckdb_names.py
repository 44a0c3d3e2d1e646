"""The name that DuckDB itself gives an unnamed expression."""

from __future__ import annotations

import json
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlglot import exp

if TYPE_CHECKING:
    import duckdb

_lock = threading.Lock()


def name_of(node: exp.Expr) -> str:
    """What DuckDB would call the column `SELECT <node>`; functions that DuckDB lacks are printed like its own."""
    return _printed(node.sql("duckdb"))


@lru_cache(maxsize=1_024)
def written_names(text: str) -> tuple[str, ...] | None:
    """What DuckDB calls the items of the SELECT list of the statement `text`; None when it is not one plain SELECT.

    A column is printed with its table, and an item with an alias without it: both are for the caller to leave alone.
    """
    with _lock:
        tree = _serialized(text)
        if tree is None or len(tree["statements"]) != 1:
            return None
        node = tree["statements"][0]["node"]
        if node["type"] != "SELECT_NODE":
            return None
        names = []
        for item in node["select_list"]:
            item["alias"] = ""
            single = dict(_serialized("SELECT 1") or {})
            single["statements"][0]["node"]["select_list"] = [item]
            names.append(_deserialized(single).removeprefix("SELECT "))
        return tuple(names)


@lru_cache(maxsize=4_096)
def _printed(text: str) -> str:
    with _lock:
        tree = _serialized(f"SELECT {text}")
        return text if tree is None else _deserialized(tree).removeprefix("SELECT ")


def _serialized(text: str) -> dict[str, Any] | None:
    """DuckDB's syntax tree of a statement, None when it cannot parse it."""
    answer = _printer().execute("SELECT json_serialize_sql($1::VARCHAR)", [text]).fetchone()
    tree: dict[str, Any] = json.loads(answer[0]) if answer is not None else {"error": True}
    return None if tree["error"] else tree


def _deserialized(tree: dict[str, Any]) -> str:
    answer = _printer().execute("SELECT json_deserialize_sql($1::JSON)", [json.dumps(tree)]).fetchone()
    return "" if answer is None else str(answer[0])


@lru_cache(maxsize=1)
def _printer() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(":memory:", config={"threads": 1})
