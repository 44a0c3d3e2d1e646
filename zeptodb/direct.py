"""Direct queries of a Pipeline: one number or one column of one symbol, without SQL."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, overload
from weakref import ref

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Aggregate, AggregateOp, AggregateScan, Backend, Ranges, Scan, Vector
from zeptodb.backends.expression import ColumnRef
from zeptodb.errors import BackendUnavailableError, InvalidInputError, InvalidTypeError
from zeptodb.statistics import Counters
from zeptodb.storage.catalog import Catalog
from zeptodb.storage.segments import Segments
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.types import DEFAULT_TABLE, INT64_MAX, INT64_MIN, ColumnType, Schema

if TYPE_CHECKING:
    import cupy
    import pyarrow as pa

RECENT_VIEWS = 16_384
"""Columns that `get_column` finds again without a look-up; then it forgets them all."""

_RecentView = tuple[type, int, Table, Segments, int, ref[npt.NDArray[np.generic]]]
"""Type of the symbol, version of the catalog, table, its contents and their version, view."""


class DirectQueries:
    """The part of a Pipeline that answers direct queries.

    Attributes:
        catalog: the tables.
        backend: computes aggregates.
    """

    def __init__(self, catalog: Catalog, backend: Backend, *, catch_up: Callable[[], None]) -> None:
        """`catch_up` makes visible every tick that was accepted before it is called."""
        self.catalog = catalog
        self.backend = backend
        self._counters = Counters()
        self._catch_up = catch_up
        self._direct_plans: dict[tuple[AggregateOp, tuple[str, ...], str], tuple[Schema, tuple[Aggregate, ...]]] = {}
        self._recent_views: dict[tuple[int | str, str, str], _RecentView] = {}  # weak: they must not keep memory

    def vwap(
        self, symbol: int | str, from_ns: int | None = None, to_ns: int | None = None, *, table: str = DEFAULT_TABLE
    ) -> float:
        """Volume-weighted average price, sum(price * volume) / sum(volume), of from_ns <= timestamp < to_ns.

        nan for an unknown symbol, no rows or zero volume. The error is at most 1e-12 of the sum of absolute terms.
        """
        value = self._aggregate(AggregateOp.VWAP, symbol, ("price", "volume"), table, from_ns, to_ns)
        return math.nan if value is None else float(value)

    def count(
        self, symbol: int | str, from_ns: int | None = None, to_ns: int | None = None, *, table: str = DEFAULT_TABLE
    ) -> int:
        """Rows of a symbol with from_ns <= timestamp < to_ns; 0 for an unknown symbol."""
        from_ns, to_ns = _bound_ns(from_ns, "from_ns"), _bound_ns(to_ns, "to_ns")
        self._catch_up()
        found = self.catalog.get(table)
        segment = self._find_segment(found, symbol)
        rows = 0
        if segment is not None:
            with found.snapshot() as snapshot:
                ranges = self._range(snapshot, segment, from_ns, to_ns)
            rows = max(0, int(ranges.ends[0]) - int(ranges.starts[0]))
        self._counters.add_query(rows)
        return rows

    def sum(
        self,
        symbol: int | str,
        col: str = "volume",
        from_ns: int | None = None,
        to_ns: int | None = None,
        *,
        table: str = DEFAULT_TABLE,
    ) -> int | float:
        """Sum of a column over from_ns <= timestamp < to_ns: an exact int, a float for float columns; 0 for no rows."""
        value = self._aggregate(AggregateOp.SUM, symbol, (col,), table, from_ns, to_ns)
        return 0 if value is None else value

    @overload
    def get_column(
        self, symbol: int | str, name: str, table: str = DEFAULT_TABLE, *, device: Literal[False] = False
    ) -> npt.NDArray[np.generic]: ...

    @overload
    def get_column(
        self, symbol: int | str, name: str, table: str = DEFAULT_TABLE, *, device: Literal[True]
    ) -> cupy.ndarray: ...

    def get_column(
        self, symbol: int | str, name: str, table: str = DEFAULT_TABLE, *, device: bool = False
    ) -> npt.NDArray[np.generic] | cupy.ndarray:
        """The values of one column of one symbol, in time order (ties by arrival), as a read-only view.

        No copy: the array lies in the table's own memory and stays valid and unchanged for as long as it is held,
        whatever is ingested later; `numpy.from_dlpack` and other consumers of DLPack 1.0 take it as it is, read-only.
        Empty for an unknown symbol. Strings come as int32 codes (`dictionary()`).

        device: a `cupy.ndarray` over the rows in the GPU's memory instead, brought up if they are not there; likewise
        valid and unchanged for as long as it is held. CuPy has no read-only arrays: who writes to it changes what
        queries see.

        Raises UnknownTableError and UnknownColumnError; with `device` BackendUnavailableError when the pipeline has no
        GPU, and OutOfDeviceMemoryError.
        """
        self._catch_up()
        if device:
            return self._device_column(symbol, name, table)
        try:
            recent = self._recent_views.get((symbol, name, table))
        except TypeError:  # something unhashable; what it is in the way of is said below
            recent = None
        if recent is not None:
            kind, catalog_version, found, contents, version, view_of = recent
            if (
                contents.version == version
                and found.contents is contents
                and self.catalog.version == catalog_version
                and type(symbol) is kind  # True and 1.0 equal 1
            ):
                view = view_of()
                if view is not None:
                    return view
        return self._find_column(symbol, name, table)

    def _device_column(self, symbol: int | str, name: str, table: str) -> cupy.ndarray:
        accelerator = self.backend.accelerator
        if accelerator is None:
            why = f" ({self.backend.reason})" if self.backend.reason else ""
            raise BackendUnavailableError(
                f"get_column(device=True) needs a GPU, and this pipeline runs on {self.backend!r}{why}; make one with "
                'backend="cuda", or leave device out.'
            )
        found = self.catalog.get(table)
        column = found.schema.index(name, table=found.name)
        segment = self._find_segment(found, symbol)
        if segment is None or column == found.schema.symbol_index:
            return accelerator.copies((self._find_column(symbol, name, table),))[0]
        return accelerator.column(found, segment, column)

    def _find_column(self, symbol: int | str, name: str, table: str) -> npt.NDArray[np.generic]:
        catalog_version = self.catalog.version
        found = self.catalog.get(table)
        column = found.schema.index(name, table=found.name)
        field = found.schema.fields[column]
        segment = self._find_segment(found, symbol)
        if segment is None:
            return np.empty(0, dtype=field.type.dtype)
        if column == found.schema.symbol_index:
            with found.snapshot() as snapshot:
                return np.broadcast_to(snapshot.symbols[segment], int(snapshot.lengths[segment]))
        contents = found.contents
        version = contents.version
        view = found.view(segment, column)
        if len(self._recent_views) >= RECENT_VIEWS:
            self._recent_views.clear()
        # A change since `version` was read makes the entry one that is out of date at once.
        self._recent_views[symbol, name, table] = (type(symbol), catalog_version, found, contents, version, ref(view))
        return view

    def to_arrow(self, table: str = DEFAULT_TABLE, symbol: int | str | None = None) -> pa.Table:
        """The stored rows of a table, or of one symbol, at one moment, as an Arrow table over the table's own memory.

        All columns in SQL order, symbol by symbol in the order in which these first arrived, each in time order; for
        one symbol the timestamp first and no symbol column. Like a view of `get_column` the table stays as it is
        whatever is ingested later. Copied are only symbols, BOOL columns, bitmaps of NULLs, and many short symbols
        (fewer than 4,096 rows on average). Timestamps are int64 ns, strings dictionary-coded.
        Raises UnknownTableError and InvalidTypeError; an unknown symbol gives no rows.
        """
        from zeptodb.sql.export import export_schema, export_table

        self._catch_up()
        found = self.catalog.get(table)
        if symbol is None:
            return export_table(found, self.backend)
        segment = self._find_segment(found, symbol)
        if segment is None:
            return export_schema(found.schema, with_symbol=False).empty_table()
        return export_table(found, self.backend, segment=segment)

    def columns(self, table: str = DEFAULT_TABLE) -> list[str]:
        """Column names of a table, in SQL order."""
        return list(self.catalog.get(table).schema.names)

    def schema(self, table: str = DEFAULT_TABLE) -> Schema:
        """The columns of a table, their types, and which of them are the symbol and the timestamp."""
        return self.catalog.get(table).schema

    def tables(self) -> list[str]:
        """Names of all tables."""
        return self.catalog.names()

    def _find_segment(self, table: Table, symbol: int | str) -> int | None:
        column = table.schema.symbol_index
        if column >= 0:
            kind = table.schema.fields[column].type
            wanted = str if kind is ColumnType.STRING else (int, np.integer)
            if kind is not ColumnType.SYMBOL and (not isinstance(symbol, wanted) or isinstance(symbol, bool)):
                words = "strings" if kind is ColumnType.STRING else "integers"
                raise InvalidTypeError(f'Symbols of table "{table.name}" are {words}, got {symbol!r}.')
        return table.find_segment(symbol)

    def _aggregate(
        self,
        op: AggregateOp,
        symbol: int | str,
        columns: tuple[str, ...],
        table_name: str,
        from_ns: int | None,
        to_ns: int | None,
    ) -> int | float | None:
        """One aggregate over one symbol's rows; None for NULL and for an unknown symbol."""
        from_ns, to_ns = _bound_ns(from_ns, "from_ns"), _bound_ns(to_ns, "to_ns")
        self._catch_up()
        table = self.catalog.get(table_name)
        prepared = self._direct_plans.get((op, columns, table.name))
        if prepared is None or prepared[0] is not table.schema:
            prepared = table.schema, _direct_plan(op, columns, table)
            self._direct_plans[op, columns, table.name] = prepared
        segment = self._find_segment(table, symbol)
        if segment is None:
            self._counters.add_query(0)
            return None
        with table.snapshot() as snapshot:
            ranges = self._range(snapshot, segment, from_ns, to_ns)
            result = self.backend.aggregate(AggregateScan(Scan(snapshot, ranges), prepared[1]))
        self._counters.add_query(int(ranges.ends[0]) - int(ranges.starts[0]))
        return _scalar(result.columns[0])

    def _range(self, snapshot: Snapshot, segment: int, from_ns: int | None, to_ns: int | None) -> Ranges:
        segments = np.array([segment], dtype=np.int64)
        if from_ns is None and to_ns is None:
            return Ranges(segments, np.zeros(1, dtype=np.int64), snapshot.lengths[segment : segment + 1])
        return self.backend.time_ranges(snapshot, segments, from_ns=from_ns, to_ns=to_ns)


def _bound_ns(bound: object, name: str) -> int | None:
    """A bound of a time range, checked."""
    if bound is None:
        return None
    if isinstance(bound, bool) or not isinstance(bound, (int, np.integer)):
        raise InvalidTypeError(
            f"{name} is {bound!r:.60} of type {type(bound).__name__}; give int nanoseconds since 1970 (UTC), or None."
        )
    if not INT64_MIN <= bound <= INT64_MAX:
        raise InvalidInputError(f"{name} is {bound}, which is out of int64; leave it out for no bound.")
    return int(bound)


def _direct_plan(op: AggregateOp, columns: tuple[str, ...], table: Table) -> tuple[Aggregate, ...]:
    """The one aggregate of a direct query; raises UnknownColumnError, and InvalidTypeError for what is no number."""
    schema = table.schema
    arguments = []
    for name in columns:
        index = schema.index(name, table=table.name)
        field = schema.fields[index]
        if not field.type.is_numeric:
            raise InvalidTypeError(f'{op.value} needs numbers, and column "{field.name}" is {field.type.value}.')
        arguments.append(ColumnRef(index, field.type))
    return (Aggregate(op, tuple(arguments)),)


def _scalar(vector: Vector) -> int | float | None:
    if len(vector.values) == 0 or (vector.validity is not None and not vector.validity[0]):
        return None
    value = vector.values[0]
    return float(value) if isinstance(value, np.floating) else int(value)
