"""Statements parsed and planned before, so that a repeated one goes straight to its operators."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from sqlglot import exp

from zeptodb.sql.parameters import Parameters
from zeptodb.sql.plan import Planned
from zeptodb.storage.catalog import Catalog
from zeptodb.types import Schema

CACHED_STATEMENTS = 512


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that has been parsed and, unless it holds the present moment, planned.

    Attributes:
        statement: as parsed, with its parameters; never changed.
        planned: what the planner said; None: plan it again for each run.
        catalog_version, schemas: what the plan was made for.
    """

    statement: exp.Expr
    planned: Planned | None
    catalog_version: int
    schemas: tuple[tuple[str, Schema], ...]

    def is_current(self, catalog: Catalog) -> bool:
        """Whether tables still are what the plan was made for; the first rows settle the type of a symbol column."""
        if self.catalog_version != catalog.version:
            return False
        tables = ((catalog.find(name), schema) for name, schema in self.schemas)
        return all(table is not None and table.schema is schema for table, schema in tables)


def cache_key(text: str, params: Parameters) -> Hashable | None:
    """What a plan depends on besides the tables: the text, and the parameters with their types; None: do not cache."""
    if params is None:
        return text
    if not isinstance(params, (Mapping, list, tuple)):
        return None
    items = params.items() if isinstance(params, Mapping) else enumerate(params)
    key = (text, *((name, type(value), value) for name, value in items))
    try:
        hash(key)
    except TypeError:
        return None
    return key


class PlanCache:
    """The most recently used prepared statements, shared by threads."""

    def __init__(self, capacity: int = CACHED_STATEMENTS) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, Prepared] = OrderedDict()

    def find(self, key: Hashable | None, catalog: Catalog) -> Prepared | None:
        """The statement prepared under `key`, unless tables have changed since."""
        with self._lock:
            entry = self._entries.get(key) if key is not None else None
            if entry is None:
                return None
            if not entry.is_current(catalog):
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return entry

    def keep(self, key: Hashable | None, entry: Prepared) -> None:
        """Remember a prepared statement; the least recently used one makes room."""
        if key is None:
            return
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
