"""The Pipeline: lifecycle, ingest, direct queries and SQL over one set of tables on one backend."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self
from weakref import ref

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Aggregate, AggregateOp, AggregateScan, Backend, Scan, Vector
from zeptodb.backends.expression import ColumnRef
from zeptodb.config import MIN_ARENA_BYTES, PipelineConfig
from zeptodb.errors import (
    AlreadyExistsError,
    BackendUnavailableError,
    ConfigError,
    InvalidInputError,
    InvalidTypeError,
    NotSupportedError,
    PipelineStoppedError,
    ZeptoError,
)
from zeptodb.ingest.append import SiftedBatch, frame_batch, row_error, sift_trades, trades_batch
from zeptodb.ingest.frame import read_frame
from zeptodb.ingest.infer import infer_schema
from zeptodb.ingest.queue import TickQueue
from zeptodb.storage.batch import ColumnBatch
from zeptodb.storage.catalog import Catalog
from zeptodb.storage.segments import Segments
from zeptodb.storage.table import Table
from zeptodb.types import INT64_MAX, INT64_MIN, TRADES, ColumnType, Schema

if TYPE_CHECKING:
    import pyarrow as pa

    from zeptodb.sql import QueryExecutor
    from zeptodb.sql.result import QueryResult
    from zeptodb.sql.running import RunningQuery

BackendName = Literal["auto", "cpu", "cuda"]
DEFAULT_TABLE = "trades"
RECENT_VIEWS = 16_384
"""Columns that `get_column` finds again without a look-up; then it forgets them all."""

_RecentView = tuple[type, int, Table, Segments, int, ref[npt.NDArray[np.generic]]]
"""Type of the symbol, version of the catalog, table, its contents and their version, view."""


@dataclass(frozen=True, slots=True)
class PipelineStats:
    """Counters of a Pipeline since it was made.

    Attributes:
        ticks_ingested: rows accepted by any ingest call.
        ticks_stored: rows that tables have taken.
        ticks_dropped: rows dropped because the queue was full (only with overflow="drop").
        queries_executed: statements and direct queries.
        total_rows_scanned: rows that those had to look at.
        partitions_created: segments, one per table and symbol.
        last_ingest_latency_ns: time from a tick's arrival in the queue to its visibility, of the last batch.
    """

    ticks_ingested: int
    ticks_stored: int
    ticks_dropped: int
    queries_executed: int
    total_rows_scanned: int
    partitions_created: int
    last_ingest_latency_ns: int


@dataclass(frozen=True, slots=True)
class IngestedRows:
    """What `Pipeline.ingest_good_rows` did.

    Attributes:
        stored: how many rows it stored.
        bad_rows: int64 positions of the bad ones, ascending.
        error_of: called with one of those positions: the error that says what is wrong there.
    """

    stored: int
    bad_rows: npt.NDArray[np.int64]
    error_of: Callable[[int], ZeptoError]


class Pipeline:
    """Tables of ticks in memory and everything that is asked of them; safe to use from any number of threads.

    Usable at once; `start()` adds a background thread that drains single ticks. A context manager: leaving it stops.

    >>> import zeptodb
    >>> with zeptodb.Pipeline(backend="cpu") as pipeline:
    ...     pipeline.ingest(symbol=1, price=15000, volume=100)
    ...     pipeline.ingest(symbol=1, price=15010, volume=300)
    ...     pipeline.vwap(symbol=1)
    15007.5

    Raises ConfigError, NotSupportedError and BackendUnavailableError for settings that cannot be had.
    """

    def __init__(
        self,
        config: PipelineConfig | None = None,
        *,
        backend: BackendName | None = None,
        data_dir: str | Path | None = None,
    ) -> None:
        if config is not None and not isinstance(config, PipelineConfig):
            raise ConfigError(f"config is {config!r}; give a zeptodb.PipelineConfig.")
        if data_dir is not None:
            raise NotSupportedError(f"data_dir={str(data_dir)!r} is not available in this version; leave it out.")
        self.config = config or PipelineConfig()
        self.backend = _make_backend(backend or os.environ.get("ZEPTODB_BACKEND", "auto"), self.config)
        self.catalog = Catalog(self.backend.memory, arena_size=self.config.arena_size, workers=self.backend.workers)
        self.catalog.create(DEFAULT_TABLE, TRADES)
        self._queue = TickQueue(
            self.catalog,
            capacity=self.config.queue_capacity,
            batch_size=self.config.drain_batch_size,
            overflow=self.config.overflow,
        )
        if type(self).ingest is Pipeline.ingest:
            # The same signature without a frame of its own: a fifth of what the call takes.
            self.ingest = self._queue.put  # type: ignore[method-assign]
        self._is_stopped = False
        self._counter_lock = Lock()
        self._batch_rows = 0
        self._queries = 0
        self._rows_scanned = 0
        self._executor: QueryExecutor | None = None
        self._direct_plans: dict[tuple[AggregateOp, tuple[str, ...], str], tuple[Schema, tuple[Aggregate, ...]]] = {}
        self._recent_views: dict[tuple[int | str, str, str], _RecentView] = {}  # weak: they must not keep memory

    def __repr__(self) -> str:
        """Backend, tables and rows."""
        tables = ", ".join(f"{table.name}: {table.row_count:,} rows" for table in self.catalog.tables())
        return f"<zeptodb.Pipeline on {self.backend!r}; {tables}>"

    def _repr_html_(self) -> str:
        """The backend and a table of the tables, their rows and symbols, for notebooks."""
        rows = "".join(
            f"<tr><td>{escape(table.name)}</td><td>{escape(', '.join(table.schema.names))}</td>"
            f"<td>{table.row_count:,}</td><td>{_symbols_in_words(table)}</td></tr>"
            for table in self.catalog.tables()
        )
        head = "<tr><th>table</th><th>columns</th><th>rows</th><th>symbols</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table><p>{escape(repr(self.backend))}</p>"

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    # ---- lifecycle ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the background thread that drains ticks; does nothing when it runs. May follow `stop()`.

        Kernels are compiled or loaded in the background meanwhile, once per process.
        """
        self._is_stopped = False
        self._queue.start()
        _warm_up_in_background(self)

    def warm_up(self) -> None:
        """Compile (on a machine's first run) or load every kernel now, so that nothing waits for it later."""
        with _WARM_UP_LOCK:
            self.backend.begin_warm_up()
            scratch = Catalog(self.backend.memory, arena_size=MIN_ARENA_BYTES).create("warm_up", TRADES)
            for timestamp in (2, 1):  # the second row is late
                scratch.append(trades_batch(scratch.schema, [1], [1.0], [1], [timestamp]))
            for rows in (8, 64):  # blocks are outgrown, and given back with the next growth
                ones = [1] * rows
                scratch.append(sift_trades(scratch.schema, ones, [1.0] * rows, ones, [3] * rows).batch)
            self.backend.warm_up()

    def stop(self) -> None:
        """Store every tick that was accepted, then stop the thread. Queries go on working, ingest raises."""
        self._is_stopped = True
        self._queue.stop()
        self.backend.close()

    def drain(self) -> None:
        """Store every tick accepted so far before returning, with or without the background thread."""
        self._queue.drain()

    def catch_up(self) -> None:
        """Make visible every tick that was accepted before this call; what a query does first."""
        self._queue.catch_up()

    # ---- ingest ------------------------------------------------------------------------------------------------

    def ingest(
        self, symbol: int | str, price: int, volume: int, timestamp: int | None = None, *, table: str = DEFAULT_TABLE
    ) -> None:
        """Accept one tick (timestamp in ns since the epoch, UTC; None: its time of arrival).

        The tick is visible to every query that begins after this call returns. Raises InvalidTypeError or
        InvalidInputError for values that do not fit, and PipelineStoppedError after `stop()`.
        """
        self._queue.put(symbol, price, volume, timestamp, table=table)

    def ingest_batch(
        self,
        symbols: object,
        prices: object,
        volumes: object,
        timestamps: object = None,
        table_name: str = DEFAULT_TABLE,
        *,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
    ) -> int:
        """Store rows, all or none, visible when the call returns; returns how many.

        Each argument is a 1-d numpy array, list, pandas or polars Series or Arrow array, all of one length. Values of
        int64 columns are `value * scale`, rounded to nearest; one that is not within max(1e-6, 2 ulp) of an integer
        raises LossyConversionError and nothing is stored. timestamps: ns or datetimes, None: the time of arrival.
        """
        self._require_running()
        table = self.catalog.get(table_name)
        batch = trades_batch(
            table.schema,
            symbols,
            prices,
            volumes,
            timestamps,
            price_scale=price_scale,
            volume_scale=volume_scale,
            table=table.name,
        )
        return self._store(table, batch)

    def ingest_good_rows(
        self,
        symbols: object,
        prices: object,
        volumes: object,
        timestamps: object = None,
        table_name: str = DEFAULT_TABLE,
        *,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        stop_at_first: bool = False,
    ) -> IngestedRows:
        """`ingest_batch` that leaves out bad rows (those that it would refuse one by one) and says which they are.

        With `stop_at_first` only the rows before the first bad one are stored. What is no matter of single rows
        (columns of different lengths or of a wrong type, an unknown table) raises as in `ingest_batch`.
        """
        self._require_running()
        table = self.catalog.get(table_name)
        scales = {"price_scale": price_scale, "volume_scale": volume_scale}
        columns = (symbols, prices, volumes, timestamps)
        try:
            batch = trades_batch(table.schema, *columns, table=table.name, **scales)
        except (InvalidInputError, InvalidTypeError):
            sifted = sift_trades(table.schema, *columns, table=table.name, stop_at_first=stop_at_first, **scales)
        else:
            sifted = SiftedBatch(batch, np.zeros(0, dtype=np.int64))
        stored = self._store(table, sifted.batch)
        return IngestedRows(
            stored,
            sifted.bad_rows,
            lambda row: row_error(table.schema, *columns, row=row, table=table.name, **scales),
        )

    def ingest_float_batch(
        self,
        symbols: object,
        prices: object,
        volumes: object,
        timestamps: object = None,
        table_name: str = DEFAULT_TABLE,
        *,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
    ) -> int:
        """`ingest_batch` for floats: int64 columns take `value * scale`, rounded to nearest and never truncated."""
        return self.ingest_batch(
            symbols, prices, volumes, timestamps, table_name, price_scale=price_scale, volume_scale=volume_scale
        )

    def append(
        self,
        table_name: str,
        data: object,
        *,
        symbol_col: str | None = None,
        timestamp_col: str | None = None,
    ) -> int:
        """Store the rows of a DataFrame, an Arrow table, a dict of arrays or anything with `__arrow_c_stream__`.

        Columns are matched by name; a nullable column that is absent is NULL, an absent timestamp the time of
        arrival. A table that does not exist is created from the data's schema, with `symbol_col` and `timestamp_col`
        (by default columns called symbol and timestamp) in those roles. All rows or none; returns how many.
        """
        self._require_running()
        frame = read_frame(data)  # once: a stream cannot be read twice
        table = self.catalog.find(table_name)
        if table is None:
            schema = infer_schema(frame, symbol_col=symbol_col, timestamp_col=timestamp_col)
            batch = frame_batch(schema, frame, table=table_name)
            try:
                table = self.catalog.create(table_name, schema)
            except AlreadyExistsError:  # another thread was faster
                table = self.catalog.get(table_name)
                batch = frame_batch(
                    table.schema, frame, symbol_col=symbol_col, timestamp_col=timestamp_col, table=table.name
                )
        else:
            batch = frame_batch(
                table.schema, frame, symbol_col=symbol_col, timestamp_col=timestamp_col, table=table.name
            )
        return self._store(table, batch)

    def _require_running(self) -> None:
        if self._is_stopped:
            raise PipelineStoppedError("The pipeline has been stopped and takes no more rows; call start() first.")

    def _store(self, table: Table, batch: ColumnBatch) -> int:
        self._queue.catch_up()  # ticks that came first stand first
        rows = table.append(batch)
        with self._counter_lock:
            self._batch_rows += rows
        return rows

    # ---- direct queries ----------------------------------------------------------------------------------------

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
        value = self._aggregate(AggregateOp.COUNT_ROWS, symbol, (), table, from_ns, to_ns)
        return 0 if value is None else int(value)

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

    def get_column(self, symbol: int | str, name: str, table: str = DEFAULT_TABLE) -> npt.NDArray[np.generic]:
        """The values of one column of one symbol, in time order (ties by arrival), as a read-only view.

        No copy: the array lies in the table's own memory and stays valid and unchanged for as long as it is held,
        whatever is ingested later; `numpy.from_dlpack` and other consumers of DLPack 1.0 take it as it is, read-only.
        Empty for an unknown symbol. Strings come as int32 codes (`dictionary()`).
        Raises UnknownTableError and UnknownColumnError.
        """
        self._queue.catch_up()
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

        self._queue.catch_up()
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
        self._queue.catch_up()
        table = self.catalog.get(table_name)
        prepared = self._direct_plans.get((op, columns, table.name))
        if prepared is None or prepared[0] is not table.schema:
            prepared = table.schema, _direct_plan(op, columns, table)
            self._direct_plans[op, columns, table.name] = prepared
        segment = self._find_segment(table, symbol)
        if segment is None:
            self.record_query(0)
            return None
        with table.snapshot() as snapshot:
            ranges = self.backend.time_ranges(
                snapshot, np.array([segment], dtype=np.int64), from_ns=from_ns, to_ns=to_ns
            )
            result = self.backend.aggregate(AggregateScan(Scan(snapshot, ranges), prepared[1]))
        self.record_query(int(ranges.ends[0] - ranges.starts[0]))
        return _scalar(result.columns[0])

    # ---- SQL ---------------------------------------------------------------------------------------------------

    def execute(
        self,
        sql: str,
        params: Sequence[object] | Mapping[str, object] | None = None,
        timeout: float | None = None,
        *,
        timestamps: Literal["ns", "datetime"] = "ns",
        query_id: str | None = None,
    ) -> QueryResult:
        """Run SQL; never raises for bad SQL: `result.ok()` is False then and `result.error` says why.

        params: values for `?` (a sequence) or `$name` (a mapping). timestamps: int64 ns, or real datetimes.
        timeout: seconds after which the statement ends with an error; None: never.
        query_id: what `running_queries` and `cancel` shall know it by; None: a number.
        """
        if self._executor is None:
            from zeptodb.sql import QueryExecutor

            self._executor = QueryExecutor(self)
        return self._executor.execute(sql, params, timeout, timestamps=timestamps, query_id=query_id)

    def running_queries(self) -> tuple[RunningQuery, ...]:
        """The statements that run at this moment, first begun first: query_id, text, started and elapsed seconds."""
        return () if self._executor is None else self._executor.running()

    def cancel(self, query_id: str) -> bool:
        """End a running statement from any thread; its result is an error. False when no such statement runs."""
        return self._executor is not None and self._executor.cancel(query_id)

    # ---- statistics --------------------------------------------------------------------------------------------

    def record_query(self, rows_scanned: int) -> None:
        """Count a query that looked at so many rows."""
        with self._counter_lock:
            self._queries += 1
            self._rows_scanned += rows_scanned

    def stats(self) -> PipelineStats:
        """Counters since the Pipeline was made."""
        queue = self._queue.stats()
        with self._counter_lock:
            return PipelineStats(
                ticks_ingested=queue.ticks_ingested + self._batch_rows,
                ticks_stored=queue.ticks_stored + self._batch_rows,
                ticks_dropped=queue.ticks_dropped,
                queries_executed=self._queries,
                total_rows_scanned=self._rows_scanned,
                partitions_created=sum(table.segment_count for table in self.catalog.tables()),
                last_ingest_latency_ns=queue.last_ingest_latency_ns,
            )


_WARM_UP_LOCK = Lock()
os.register_at_fork(  # a child that is forked while a kernel compiles would wait for the compiler for ever
    before=_WARM_UP_LOCK.acquire,
    after_in_parent=_WARM_UP_LOCK.release,
    after_in_child=_WARM_UP_LOCK.release,
)
_warmed_backends: set[str] = set()


def _warm_up_in_background(pipeline: Pipeline) -> None:
    name = pipeline.backend.name
    if name not in _warmed_backends:
        _warmed_backends.add(name)
        Thread(target=pipeline.warm_up, name="zeptodb-warm-up", daemon=True).start()


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


def _symbols_in_words(table: Table) -> str:
    return "-" if table.schema.symbol is None else f"{table.segment_count:,}"


def _scalar(vector: Vector) -> int | float | None:
    if len(vector.values) == 0 or (vector.validity is not None and not vector.validity[0]):
        return None
    value = vector.values[0]
    return float(value) if isinstance(value, np.floating) else int(value)


def _make_backend(name: str, config: PipelineConfig) -> Backend:
    if name in {"auto", "cpu"}:
        from zeptodb.backends.cpu.backend import CpuBackend

        return CpuBackend(threads=config.num_threads, summaries=config.summaries)
    if name == "cuda":
        from zeptodb.backends.cuda import missing_parts

        raise BackendUnavailableError(f'backend="cuda" cannot be used: {missing_parts()} Use backend="cpu" here.')
    raise ConfigError(f'backend is {name!r}; allowed: "auto", "cpu", "cuda".')
