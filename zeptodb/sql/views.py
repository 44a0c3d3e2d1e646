"""Views: queries under a name, put in the place of the name; materialized ones keep their rows in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import RLock

import numpy as np
import numpy.typing as npt
from sqlglot import exp

from zeptodb.errors import AlreadyExistsError, InvalidInputError, NotSupportedError, QueryError, ZeptoError
from zeptodb.ingest.append import frame_batch
from zeptodb.sql.create_table import roles_without_null, storable
from zeptodb.sql.engine import Engine
from zeptodb.sql.fallback import FallbackAnswer
from zeptodb.sql.view_names import base_tables, is_cte, query_of
from zeptodb.storage.batch import ColumnBatch
from zeptodb.storage.catalog import Catalog, View
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.storage.workers import Workers
from zeptodb.types import Schema

Contents = tuple[Schema, ColumnBatch]

# ---- statements ----------------------------------------------------------------------------------------------------


def create(engine: Engine, node: exp.Expr) -> None:
    """Run CREATE [OR REPLACE] [MATERIALIZED] VIEW [IF NOT EXISTS] name [(columns)] AS query."""
    target = node.this.this if isinstance(node.this, exp.Schema) else node.this
    name, query = target.name, node.args.get("expression")
    if not isinstance(query, exp.Query):
        raise QueryError(f"CREATE VIEW {name} needs AS and a query.")
    properties = node.args.get("properties")
    kinds = [type(p) for p in properties.expressions] if properties is not None else []
    if any(kind is not exp.MaterializedProperty for kind in kinds):
        raise NotSupportedError("CREATE VIEW takes MATERIALIZED and no other property.")
    if next(query.find_all(exp.Placeholder), None) is not None:
        raise QueryError("A view is a query without parameters; write the values into it.")
    catalog = engine.catalog
    existing = catalog.find_view(name)
    if (existing is not None or catalog.find(name) is not None) and node.args.get("exists"):
        return
    if existing is not None and not node.args.get("replace"):
        raise AlreadyExistsError(f'"{name}" is a view already; DROP VIEW it first or write CREATE OR REPLACE VIEW.')
    if existing is None and catalog.find(name) is not None:
        raise AlreadyExistsError(f'Table "{name}" exists already; DROP TABLE it first or use another name.')
    columns = tuple(c.name for c in node.this.expressions) if isinstance(node.this, exp.Schema) else ()
    view = View(name, str(query.meta_get("text") or query.sql("duckdb")), columns)
    _require_no_cycle(catalog, view)
    contents = contents_of_view(engine, view)  # a query that does not run is no view
    if kinds:
        view = View(name, view.text, columns, _materialized(engine, view, contents))
    if existing is not None:
        catalog.drop_view(name)
    catalog.create_view(view)


def _materialized(engine: Engine, view: View, contents: Contents) -> MaterializedView:
    schema, batch = contents
    table = engine.catalog.make_table(view.name, schema, MaterializedView)
    table.settle(batch, engine.catalog, base_tables(engine.catalog, view), lambda: contents_of_view(engine, view))
    return table


def drop(engine: Engine, name: str) -> None:
    """Run DROP VIEW of a view that exists."""
    engine.catalog.drop_view(name)


def require_unused(catalog: Catalog, table: Table) -> None:
    """Raise QueryError when a materialized view reads the table."""
    for view in catalog.views():
        if isinstance(view.table, MaterializedView) and view.table is not table and view.table.reads(table):
            raise QueryError(f'The materialized view "{view.name}" reads "{table.name}"; DROP VIEW {view.name} first.')


def contents_of_view(engine: Engine, view: View) -> Contents:
    """The rows of a view's query now, with a schema for them."""
    from zeptodb.sql.executor import QueryExecutor

    result = QueryExecutor(engine).answer_within(view.text)
    if not result.ok():
        raise QueryError(f'View "{view.name}": {result.error}')
    data = storable(FallbackAnswer(result.to_arrow(), frozenset(), 0, ""))
    names = [*view.columns, *data.column_names[len(view.columns) :]]
    if len(names) != data.num_columns:
        raise QueryError(f'View "{view.name}" names {len(view.columns)} columns, its query has {data.num_columns}.')
    data = data.rename_columns(names)
    schema = roles_without_null(data)
    return schema, frame_batch(schema, data, table=view.name)


def _require_no_cycle(catalog: Catalog, view: View, seen: frozenset[str] = frozenset()) -> None:
    for node in query_of(view.text).find_all(exp.Table):
        if node.name.lower() == view.name.lower() and not node.args.get("db") and not is_cte(node):
            raise QueryError(f'View "{view.name}" cannot read itself.')
        other = catalog.find_view(node.name)
        if other is not None and other.name.lower() not in seen:
            path = seen | {other.name.lower()}
            _require_no_cycle(catalog, View(view.name, other.text), path)


# ---- materialized views --------------------------------------------------------------------------------------------


class MaterializedView(Table):
    """The rows of a view's query, computed anew when they are read after a table below has changed."""

    def __init__(
        self, name: str, schema: Schema, *, memory: HostMemory, arena_size: int, workers: Workers | None = None
    ) -> None:
        self._refresh_lock = RLock()
        self._sources: list[Table] = []
        self._known: list[tuple[int, int]] = []
        super().__init__(name, schema, memory=memory, arena_size=arena_size, workers=workers)

    def settle(
        self, batch: ColumnBatch, catalog: Catalog, sources: list[Table], compute: Callable[[], Contents]
    ) -> None:
        """Say where the rows come from; `batch` is what they are now."""
        self._catalog = catalog
        self._sources = sources
        self._compute = compute
        self.freeze_rank = 1 + max((source.freeze_rank for source in sources), default=0)
        self._known = [(-1, -1)] * len(sources)
        super().replace(batch)

    def reads(self, table: Table) -> bool:
        """Whether its query reads the table."""
        return any(source is table for source in self._sources)

    def refresh(self) -> None:
        """Compute the rows anew if what they are made of has changed; raises QueryError when that fails."""
        with self._refresh_lock:
            for source in self._sources:
                if isinstance(source, MaterializedView):
                    source.refresh()
            versions = [source.version for source in self._sources]
            if versions == self._known:
                return
            schema, batch = self._compute()
            if schema.fields == self.schema.fields:
                super().replace(batch)
            else:
                super().reshape(schema, lambda _: batch)
                self._catalog.note_change()
            self._known = versions

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """As of a table; a computation that has begun is waited for."""
        with self._refresh_lock, super().frozen():
            yield

    @property
    def row_count(self) -> int:
        """Rows in the view; those of the last time when it cannot be computed."""
        with suppress(ZeptoError):
            self.refresh()
        return super().row_count

    def snapshot(self) -> Snapshot:
        """The rows as they are now."""
        self.refresh()
        return super().snapshot()

    def view(self, segment: int, column: int) -> npt.NDArray[np.generic]:
        """As of a table."""
        self.refresh()
        return super().view(segment, column)

    def append(self, batch: ColumnBatch) -> int:
        """Raises InvalidInputError: rows come from the query alone."""
        raise InvalidInputError(f'"{self.name}" is a materialized view, {batch.rows} row(s) cannot be appended to it.')
