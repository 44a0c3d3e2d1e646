"""One walk over a statement's expressions that puts DuckDB's words in place of ours; other modules know the words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Protocol

from sqlglot import exp

from zeptodb.errors import QueryError
from zeptodb.sql.relations import Columns, Scope, ValueKind
from zeptodb.sql.temporal import duration_ns, moment_ns, required_timestamp_ns

Handler = Callable[["Rewriter", exp.Expr, Scope], ValueKind]


class Queries(Protocol):
    """Rewrites a query that stands inside an expression."""

    def __call__(self, node: exp.Expr, outer: Scope | None, ctes: Mapping[str, Columns]) -> Columns:
        """Rewrite the query in place; its columns."""
        ...


class Rewriter:
    """Walks expressions from the leaves up; handlers by node type replace nodes and say what kind of value results.

    Attributes:
        parameters: values by name, as DuckDB gets them; handlers may read but not change them.
        now_ns: the moment that every now() of the statement means.
        has_changed: whether anything was replaced so far.
    """

    def __init__(
        self,
        parameters: MutableMapping[str, object],
        now_ns: int,
        handlers: Mapping[type[exp.Expr], Handler],
        queries: Queries,
    ) -> None:
        self.parameters = parameters
        self.now_ns = now_ns
        self.has_changed = False
        self._handlers = handlers
        self._queries = queries
        # The nodes are kept beside their kinds, so that no new node can take the id of a dropped one.
        self._kinds: dict[int, tuple[exp.Expr, ValueKind]] = {}

    def rewrite(self, node: exp.Expr, scope: Scope) -> ValueKind:
        """Rewrite `node` and everything below it in place (it may be replaced in its parent); what it is."""
        if isinstance(node, exp.Query):
            columns = self._queries(node, scope, scope.ctes)
            kind = columns[0][1] if columns is not None and len(columns) == 1 else ValueKind.OTHER
            return self._note(node, kind)
        for child in list(node.iter_expressions()):
            self.rewrite(child, scope)
        handler = next((self._handlers[t] for t in type(node).__mro__ if t in self._handlers), None)
        if handler is None:
            return self._note(node, ValueKind.OTHER)
        kind = handler(self, node, scope)
        if id(node) not in self._kinds:
            self._note(node, kind)
        return kind

    def kind(self, node: exp.Expr | None) -> ValueKind:
        """What an already rewritten expression is."""
        if node is None:
            return ValueKind.OTHER
        known = self._kinds.get(id(node))
        return ValueKind.OTHER if known is None else known[1]

    def replace(self, node: exp.Expr, new: exp.Expr, kind: ValueKind) -> ValueKind:
        """Put `new` in the place of `node`; returns `kind`, what `new` is."""
        self._note(node, kind)
        if node.parent is None:
            raise AssertionError("the root of a statement cannot be replaced")
        node.replace(new)
        self.has_changed = True
        return self._note(new, kind)

    def _note(self, node: exp.Expr, kind: ValueKind) -> ValueKind:
        self._kinds[id(node)] = (node, kind)
        return kind

    def parameter(self, node: exp.Placeholder) -> object:
        """The value given for a parameter; raises QueryError when there is none."""
        if node.name not in self.parameters:
            given = ", ".join(f"${name}" for name in self.parameters) or "none"
            raise QueryError(f"No value was given for the parameter ${node.name}. Given: {given}.")
        return self.parameters[node.name]

    def parameter_moment_ns(self, node: exp.Placeholder) -> int | None:
        """Nanoseconds since the epoch of a parameter that is a moment, or the text of one; None for others."""
        value = self.parameter(node)
        return required_timestamp_ns(value) if isinstance(value, str) else moment_ns(value)

    def parameter_duration_ns(self, node: exp.Placeholder) -> int | None:
        """Nanoseconds of a parameter that is a duration; None for others."""
        return duration_ns(self.parameter(node))
