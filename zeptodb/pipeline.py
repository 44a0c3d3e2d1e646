"""The Pipeline: lifecycle, ingest, direct queries and SQL over one set of tables on one backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Backend
from zeptodb.config import MIN_ARENA_BYTES, PipelineConfig
from zeptodb.direct import DirectQueries
from zeptodb.errors import (
    AlreadyExistsError,
    ConfigError,
    InvalidInputError,
    InvalidTypeError,
    NotSupportedError,
    PipelineStoppedError,
    ZeptoError,
)
from zeptodb.forks import at_fork
from zeptodb.imports import collections_kept_young
from zeptodb.ingest.append import SiftedBatch, frame_batch, row_error, sift_trades, trades_batch
from zeptodb.ingest.frame import read_frame
from zeptodb.ingest.infer import infer_schema
from zeptodb.ingest.queue import TickQueue
from zeptodb.record import record
from zeptodb.statistics import PipelineStats
from zeptodb.storage.batch import ColumnBatch
from zeptodb.storage.catalog import Catalog
from zeptodb.storage.table import Table
from zeptodb.types import DEFAULT_TABLE, TRADES

if TYPE_CHECKING:
    from zeptodb.sql import QueryExecutor
    from zeptodb.sql.result import QueryResult
    from zeptodb.sql.running import RunningQuery

BackendName = Literal["auto", "cpu", "cuda"]


@record
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


class Pipeline(DirectQueries):
    """Tables of ticks in memory and everything that is asked of them; safe to use from any number of threads.

    Usable at once; `start()` adds a background thread that drains single ticks. A context manager: leaving it stops.

    backend: "cpu"; "cuda" runs on a GPU whatever that can run; "auto" (the default unless $ZEPTODB_BACKEND says what)
    takes for each query what is expected to answer first, the GPU or the CPU, and the CPU alone where there is no GPU
    (`stats().backend_reason` says why).

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
        device = _make_backend(backend or os.environ.get("ZEPTODB_BACKEND", "auto"), self.config)
        catalog = Catalog(device.memory, arena_size=self.config.arena_size, workers=device.workers)
        catalog.create(DEFAULT_TABLE, TRADES)
        self._queue = TickQueue(
            catalog,
            capacity=self.config.queue_capacity,
            batch_size=self.config.drain_batch_size,
            overflow=self.config.overflow,
        )
        super().__init__(catalog, device, catch_up=self._queue.catch_up)
        if type(self).ingest is Pipeline.ingest:
            # The same signature without a frame of its own: a fifth of what the call takes.
            self.ingest = self._queue.put  # type: ignore[method-assign]
        self._is_stopped = False
        self._executor: QueryExecutor | None = None

    def __repr__(self) -> str:
        """Backend, tables and rows."""
        tables = ", ".join(f"{table.name}: {table.row_count:,} rows" for table in self.catalog.tables())
        return f"<zeptodb.Pipeline on {self.backend!r}; {tables}>"

    def _repr_html_(self) -> str:
        """The backend and a table of the tables, their rows and symbols, for notebooks."""
        from html import escape

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
        self._counters.add_batch(rows)
        return rows

    # ---- SQL ---------------------------------------------------------------------------------------------------

    def execute(
        self,
        sql: str,
        params: Sequence[object] | Mapping[str, object] | None = None,
        timeout: float | None = None,
        *,
        timestamps: Literal["ns", "datetime"] = "ns",
        query_id: str | None = None,
        shares_memory: bool = False,
    ) -> QueryResult:
        """Run SQL; never raises for bad SQL: `result.ok()` is False then and `result.error` says why.

        params: values for `?` (a sequence) or `$name` (a mapping). timestamps: int64 ns, or real datetimes.
        timeout: seconds after which the statement ends with an error; None: never.
        query_id: what `running_queries` and `cancel` shall know it by; None: a number.
        shares_memory: do not copy runs of stored rows; see `QueryResult.to_encoded_arrow`.
        """
        if self._executor is None:
            with collections_kept_young():
                from zeptodb.sql import QueryExecutor

            self._executor = QueryExecutor(self)
        return self._executor.execute(
            sql, params, timeout, timestamps=timestamps, query_id=query_id, shares_memory=shares_memory
        )

    def running_queries(self) -> tuple[RunningQuery, ...]:
        """The statements that run at this moment, first begun first: query_id, text, started and elapsed seconds."""
        return () if self._executor is None else self._executor.running()

    def cancel(self, query_id: str) -> bool:
        """End a running statement from any thread; its result is an error. False when no such statement runs."""
        return self._executor is not None and self._executor.cancel(query_id)

    # ---- statistics --------------------------------------------------------------------------------------------

    def record_query(self, rows_scanned: int) -> None:
        """Count a query that looked at so many rows."""
        self._counters.add_query(rows_scanned)

    def stats(self) -> PipelineStats:
        """Counters since the Pipeline was made."""
        partitions = sum(table.segment_count for table in self.catalog.tables())
        return self._counters.stats(self._queue.stats(), partitions=partitions, backend=self.backend)


_WARM_UP_LOCK = Lock()
at_fork(  # a child that is forked while a kernel compiles would wait for the compiler for ever
    before=_WARM_UP_LOCK.acquire,
    after_in_parent=_WARM_UP_LOCK.release,
    after_in_child=_WARM_UP_LOCK.release,
)
_warmed_backends: set[str] = set()


def _warm_up_in_background(pipeline: Pipeline) -> None:
    name = pipeline.backend.name
    if name not in _warmed_backends:
        _warmed_backends.add(name)
        Thread(target=_warm_up_quietly, args=[pipeline], name="zeptodb-warm-up", daemon=True).start()


def _warm_up_quietly(pipeline: Pipeline) -> None:
    with suppress(ZeptoError):  # the first query that needs what is missing says so
        pipeline.warm_up()


def _symbols_in_words(table: Table) -> str:
    return "-" if table.schema.symbol is None else f"{table.segment_count:,}"


def _make_backend(name: str, config: PipelineConfig) -> Backend:
    with collections_kept_young():
        from zeptodb.backends.available import make_backend  # and with it the kernels

    return make_backend(name, config)
