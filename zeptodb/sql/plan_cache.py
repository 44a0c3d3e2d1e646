"""Statements parsed and planned before, so that a repeated one goes straight to its operators.

A statement is found by its whole text and parameters; failing that, by its text without literals, if the literals that
differ are ones that its template can exchange. All other literals are part of the key.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from sqlglot import exp

from zeptodb.sql.lifting import Lifted, lift
from zeptodb.sql.parameters import Parameters
from zeptodb.sql.plan import Plan, Planned
from zeptodb.storage.catalog import Catalog
from zeptodb.types import Schema

if TYPE_CHECKING:
    from zeptodb.sql.template import Place, Template

CACHED_STATEMENTS = 512

Entry = TypeVar("Entry")


class Validity(NamedTuple):
    """What a plan was made for: the version of the catalog, and schemas by the name of their table."""

    catalog_version: int
    schemas: tuple[tuple[str, Schema], ...]

    def is_current(self, catalog: Catalog) -> bool:
        """Whether tables still are what they were; the first rows settle the type of a symbol column."""
        if self.catalog_version != catalog.version:
            return False
        tables = ((catalog.find(name), schema) for name, schema in self.schemas)
        return all(table is not None and table.schema is schema for table, schema in tables)


class Prepared(NamedTuple):
    """A statement that has been parsed and, unless it holds the present moment, planned.

    Attributes:
        statement: as parsed, with its parameters, never changed; None for one planned from a template.
        planned: what the planner said; None: plan it again for each run.
        validity: what the plan was made for.
    """

    statement: exp.Expr | None
    planned: Planned | None
    validity: Validity


class _Slots(NamedTuple):
    """What cannot be exchanged in a shape: literals by number, and parameters by name."""

    literals: tuple[int, ...]
    parameters: tuple[str, ...]

    @classmethod
    def of(cls, lifted: Lifted, places: frozenset[Place]) -> _Slots | None:
        """All but those at `places`; None when some of these are not among what was lifted."""
        numbers = lifted.literals()
        if not all(place in (numbers if isinstance(place, int) else lifted.params) for place in places):
            return None
        exchanged = {numbers[place] for place in places if isinstance(place, int)}
        literals = (number for number in range(len(lifted.texts)) if number not in exchanged)
        return cls(tuple(literals), tuple(name for name in lifted.params if name not in places))

    def key(self, lifted: Lifted) -> Hashable:
        """The shape with everything that cannot be exchanged."""
        texts, params = lifted.texts, lifted.params
        return lifted.shape, tuple([texts[k] for k in self.literals]), tuple([params[k] for k in self.parameters])


class _Kept(NamedTuple):
    """A template, and the number of the literal or the name of the parameter at each of its places."""

    template: Template
    numbers: tuple[tuple[Place, int], ...]
    parameters: tuple[str, ...]
    validity: Validity

    @classmethod
    def of(cls, template: Template, lifted: Lifted, validity: Validity) -> _Kept:
        """Keep a template, at whose places there is something that was lifted."""
        numbers = lifted.literals()
        literals = tuple((place, numbers[place]) for place in template.places if isinstance(place, int))
        return cls(template, literals, tuple(p for p in template.places if isinstance(p, str)), validity)

    def plan(self, lifted: Lifted) -> Plan | None:
        """The plan with these literals and parameters."""
        texts = lifted.texts
        values: dict[Place, object] = {place: texts[number] for place, number in self.numbers}
        for name in self.parameters:
            values[name] = lifted.params[name]
        return self.template.plan(values)


class _Recent(Generic[Entry]):
    """The most recently used entries, shared by threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()

    def get(self, key: Hashable) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            with self._lock:
                if key in self._entries:
                    self._entries.move_to_end(key)
        return entry

    def put(self, key: Hashable, entry: Entry) -> None:
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)

    def remove(self, key: Hashable) -> None:
        with self._lock:
            self._entries.pop(key, None)


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
    """Prepared statements and templates, the most recently used of each, shared by threads."""

    def __init__(self, capacity: int = CACHED_STATEMENTS) -> None:
        self._statements: _Recent[Prepared] = _Recent(capacity)
        # Apart from the others, so that a loop over many literals does not push these out.
        self._instances: _Recent[Prepared] = _Recent(capacity)
        self._templates: _Recent[_Kept] = _Recent(capacity)
        self._slots: _Recent[_Slots] = _Recent(capacity)

    def find(self, text: str, params: Parameters, catalog: Catalog) -> Prepared | None:
        """The statement prepared under this text and these parameters, or from a template, for tables as they are."""
        key = cache_key(text, params)
        if key is None:
            return None
        for known in (self._statements, self._instances):
            entry = known.get(key)
            if entry is not None:
                if entry.validity.is_current(catalog):
                    return entry
                known.remove(key)
        return self._from_template(key, lift(text, params), catalog)

    def keep(self, text: str, params: Parameters, entry: Prepared) -> None:
        """Remember a prepared statement, and a template of it if it has literals to exchange."""
        key = cache_key(text, params)
        if key is None:
            return
        if entry.planned is None or entry.planned.make_template is None or not self._keep_template(entry, text, params):
            self._statements.put(key, entry)
        else:
            self._instances.put(key, entry)

    def _from_template(self, key: Hashable, lifted: Lifted | None, catalog: Catalog) -> Prepared | None:
        slots = None if lifted is None else self._slots.get(lifted.shape)
        if lifted is None or slots is None:
            return None
        template_key = slots.key(lifted)
        kept = self._templates.get(template_key)
        if kept is None:
            return None
        if not kept.validity.is_current(catalog):
            self._templates.remove(template_key)
            return None
        plan = kept.plan(lifted)
        if plan is None:
            return None
        prepared = Prepared(None, Planned(plan), kept.validity)
        self._instances.put(key, prepared)
        return prepared

    def _keep_template(self, entry: Prepared, text: str, params: Parameters) -> bool:
        lifted = lift(text, params)
        planned = entry.planned
        if lifted is None or planned is None or planned.make_template is None:
            return False
        template = planned.make_template()
        slots = _Slots.of(lifted, template.places)
        if not template.places or slots is None:
            return False
        kept = _Kept.of(template, lifted, entry.validity)
        # The literals to exchange must be those of other statements of this shape, and a template must say of its own
        # statement what the planner said.
        if (self._slots.get(lifted.shape) or slots) != slots or kept.plan(lifted) != planned.plan:
            return False
        self._slots.put(lifted.shape, slots)
        self._templates.put(slots.key(lifted), kept)
        return True
