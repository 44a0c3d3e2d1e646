"""Much data into a Pipeline, batch by batch, with an eye on bad rows and on progress."""

from __future__ import annotations

import sys
import time
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, cast

from zepto_py.imports import (
    DEFAULT_TIMESTAMP,
    ColumnNames,
    TickColumns,
    arrow_columns,
    arrow_reader,
    pandas_columns,
    polars_columns,
)
from zepto_py.mappings import Ticks
from zepto_py.protocol import SiftingSink
from zeptodb.errors import InvalidInputError, InvalidTypeError, ZeptoError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from tqdm.auto import tqdm

ErrorMode = Literal["skip", "raise", "warn"]
FEW_ROWS = 512
"""Dicts that are held at once: few enough to stay in the processor's cache, and no matter to the garbage collector."""

SHOWN_WARNINGS = 100
"""So many bad rows of a batch are described one by one; the others are counted."""


@dataclass(frozen=True, slots=True)
class StreamingStats:
    """What a StreamingSession has done so far.

    Attributes:
        rows_ingested: rows stored.
        rows_skipped: bad rows left out (in the modes "skip" and "warn").
        batches: batches stored.
        elapsed_sec: seconds spent in ingest calls.
        throughput: rows stored per second.
    """

    rows_ingested: int
    rows_skipped: int
    batches: int
    elapsed_sec: float
    throughput: float


class StreamingSession:
    """Ingests frames and iterators of dicts in batches; each batch can be queried as soon as it is stored.

    A bad row (a missing key, None, a NaN price, not a number, out of int64, one that the scale does not make whole) is
    left out ("skip"), described on stderr and left out ("warn"), or raised with its position, counted from 0, and the
    reason ("raise": the rows before it are stored). It never costs a good one. A column of a wrong type (strings as
    prices, say) is no matter of single rows and always raises, as a column that is not there does.

    >>> import zeptodb
    >>> pipeline = zeptodb.Pipeline(backend="cpu")
    >>> session = StreamingSession(pipeline)
    >>> session.ingest_iter([{"symbol": 1, "price": 15000, "volume": 100}, {"symbol": 1, "price": None, "volume": 1}])
    1
    >>> session.stats().rows_skipped
    1
    """

    def __init__(self, pipeline: SiftingSink, batch_size: int = 50_000, error_mode: ErrorMode = "skip") -> None:
        if not hasattr(pipeline, "ingest_good_rows"):
            raise InvalidTypeError(f"pipeline is of type {type(pipeline).__name__}; give a zeptodb.Pipeline.")
        if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or batch_size < 1:
            raise InvalidInputError(f"batch_size is {batch_size!r}; give a positive number of rows such as 50_000.")
        if error_mode not in ("skip", "raise", "warn"):
            raise InvalidInputError(f'error_mode is {error_mode!r}; allowed: "skip", "raise" or "warn".')
        self._pipeline = pipeline
        self._batch_size = int(batch_size)
        self._error_mode = error_mode
        self._rows = self._skipped = self._batches = 0
        self._elapsed_s = 0.0

    def stats(self) -> StreamingStats:
        """Counters over all calls so far."""
        throughput = self._rows / self._elapsed_s if self._elapsed_s > 0 else 0.0
        return StreamingStats(self._rows, self._skipped, self._batches, self._elapsed_s, throughput)

    # ---- sources -----------------------------------------------------------------------------------------------

    def ingest_pandas(
        self,
        df: pd.DataFrame,
        *,
        show_progress: bool = False,
        symbol_col: str = "symbol",
        price_col: str = "price",
        volume_col: str = "volume",
        timestamp_col: str | None = DEFAULT_TIMESTAMP,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        table_name: str = "trades",
    ) -> int:
        """Store the ticks of a pandas DataFrame; returns how many. Columns and scales are those of `from_pandas`."""
        columns = pandas_columns(df, ColumnNames(symbol_col, price_col, volume_col, timestamp_col))
        columns = cast(TickColumns, tuple(c if c is None or hasattr(c, "iloc") else c.to_series() for c in columns))
        pieces = self._cut(columns, len(df), lambda column, first, end: column.iloc[first:end])
        target = _Target(table_name, price_scale, volume_scale)
        return self._run(pieces, target, total=len(df), show_progress=show_progress)

    def ingest_polars(
        self,
        df: pl.DataFrame,
        *,
        show_progress: bool = False,
        symbol_col: str = "symbol",
        price_col: str = "price",
        volume_col: str = "volume",
        timestamp_col: str | None = DEFAULT_TIMESTAMP,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        table_name: str = "trades",
    ) -> int:
        """Store the ticks of a polars DataFrame; returns how many. Columns and scales are those of `from_polars`."""
        columns = polars_columns(df, ColumnNames(symbol_col, price_col, volume_col, timestamp_col))
        pieces = self._cut(columns, df.height, lambda column, first, end: column.slice(first, end - first))
        target = _Target(table_name, price_scale, volume_scale)
        return self._run(pieces, target, total=df.height, show_progress=show_progress)

    def ingest_arrow(
        self,
        table: pa.Table | pa.RecordBatchReader,
        *,
        show_progress: bool = False,
        symbol_col: str = "symbol",
        price_col: str = "price",
        volume_col: str = "volume",
        timestamp_col: str | None = DEFAULT_TIMESTAMP,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        table_name: str = "trades",
    ) -> int:
        """Store the ticks of an Arrow table, reader or anything with `__arrow_c_stream__`; returns how many.

        A stream is read as it is stored: of one that breaks, what came before is kept, and its error raised.
        """
        names = ColumnNames(symbol_col, price_col, volume_col, timestamp_col)
        rows = getattr(table, "num_rows", None)
        reader = arrow_reader(table)
        names.found_in(reader.schema.names)
        target = _Target(table_name, price_scale, volume_scale)
        return self._run(self._arrow_pieces(reader, names), target, total=rows, show_progress=show_progress)

    def ingest_iter(
        self,
        rows: Iterable[Mapping[str, object]],
        *,
        show_progress: bool = False,
        total: int | None = None,
        symbol_col: str = "symbol",
        price_col: str = "price",
        volume_col: str = "volume",
        timestamp_col: str | None = DEFAULT_TIMESTAMP,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        table_name: str = "trades",
    ) -> int:
        """Store ticks from an iterator of dicts; returns how many. `total` is what the progress bar expects.

        When the iterator raises, what came before is stored and counted, and its error raised. Rows without the key
        `timestamp_col="timestamp"` get the time of arrival.
        """
        names = ColumnNames(symbol_col, price_col, volume_col, timestamp_col)
        target = _Target(table_name, price_scale, volume_scale)
        return self._run(self._mapping_pieces(rows, names), target, total=total, show_progress=show_progress)

    # ---- pieces ------------------------------------------------------------------------------------------------

    def _cut(self, columns: TickColumns, rows: int, slice_column: Callable[[Any, int, int], Any]) -> Iterator[_Piece]:
        for first in range(0, rows, self._batch_size):
            end = min(first + self._batch_size, rows)
            yield _Piece(tuple(None if c is None else slice_column(c, first, end) for c in columns), first, end - first)

    def _arrow_pieces(self, reader: pa.RecordBatchReader, names: ColumnNames) -> Iterator[_Piece]:
        first = 0
        for table in _tables_of(reader, self._batch_size):
            columns = arrow_columns(table, names)
            for piece in self._cut(
                columns, table.num_rows, lambda column, start, end: column.slice(start, end - start)
            ):
                yield _Piece(piece.columns, first + piece.first, piece.rows)
            first += table.num_rows

    def _mapping_pieces(self, rows: Iterable[Mapping[str, object]], names: ColumnNames) -> Iterator[_Piece]:
        if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
            raise InvalidTypeError(f"rows is of type {type(rows).__name__}; give an iterable of dicts, one per tick.")
        iterator = iter(rows)
        first = 0
        failure: BaseException | None = None
        goes_on = True
        while goes_on:
            ticks = Ticks(names)
            while ticks.rows < self._batch_size and goes_on:
                few: list[Any] = []
                wanted = min(FEW_ROWS, self._batch_size - ticks.rows)
                try:
                    few.extend(islice(iterator, wanted))
                except BaseException as error:  # noqa: BLE001 - raised again when what came before is stored
                    failure = error
                ticks.add(few)
                goes_on = len(few) == wanted and failure is None
            if ticks.rows:
                yield _Piece(ticks.columns(), first, ticks.rows, ticks.bad, ticks.kept)
            first += ticks.rows
        if failure is not None:
            raise failure

    # ---- storing -----------------------------------------------------------------------------------------------

    def _run(self, pieces: Iterable[_Piece], target: _Target, *, total: int | None, show_progress: bool) -> int:
        rows_before, skipped_before, began = self._rows, self._skipped, time.perf_counter()
        try:
            with _progress(total, is_shown=show_progress) as bar:
                for piece in pieces:
                    self._store(piece, target, bar.warn)
                    bar.advance(piece.rows)
        finally:
            elapsed_s = time.perf_counter() - began
            self._elapsed_s += elapsed_s
        stored, skipped = self._rows - rows_before, self._skipped - skipped_before
        if show_progress:
            sys.stdout.write(_closing_line(stored, skipped, elapsed_s) + "\n")
        return stored

    def _store(self, piece: _Piece, target: _Target, warn: Callable[[str], None]) -> None:
        raises = self._error_mode == "raise"
        columns = piece.columns
        if piece.bad and raises:
            before = piece.position_of(min(piece.bad))
            columns = tuple(c if c is None else c[:before] for c in columns)
        symbols, prices, volumes, timestamps = columns
        done = self._pipeline.ingest_good_rows(
            symbols,
            prices,
            volumes,
            timestamps,
            target.table_name,
            price_scale=target.price_scale,
            volume_scale=target.volume_scale,
            stop_at_first=raises,
        )
        self._rows += done.stored
        self._batches += done.stored > 0
        positions = {piece.row_of(position): position for position in done.bad_rows.tolist()}
        bad = sorted([*positions, *piece.bad])
        if not bad:
            return

        def problem(row: int) -> ZeptoError:
            return InvalidInputError(piece.bad[row]) if row in piece.bad else done.error_of(positions[row])

        if raises:
            error = problem(bad[0])
            raise type(error)(f"Row {piece.first + bad[0]}: {error}") from error
        self._skipped += len(bad)
        if self._error_mode == "warn":
            for row in bad[:SHOWN_WARNINGS]:
                warn(f"row {piece.first + row} left out: {problem(row)}")
            if len(bad) > SHOWN_WARNINGS:
                rest = len(bad) - SHOWN_WARNINGS
                warn(f"{rest:,} more rows left out, the last one is row {piece.first + bad[-1]}.")


@dataclass(frozen=True, slots=True)
class _Target:
    table_name: str
    price_scale: float
    volume_scale: float


@dataclass(frozen=True, slots=True)
class _Piece:
    """Columns of one batch.

    Attributes:
        columns: symbols, prices, volumes, timestamps or None, without the rows in `bad`.
        first: position of its first row in the whole.
        rows: how many rows it has, those in `bad` included.
        bad: what is wrong with rows that have not even got all values, by row.
        kept: the rows in the columns; None for all.
    """

    columns: tuple[Any, ...]
    first: int
    rows: int
    bad: Mapping[int, str] = field(default_factory=dict)
    kept: Sequence[int] | None = None

    def row_of(self, position: int) -> int:
        """The row that stands at a position of the columns."""
        return position if self.kept is None else self.kept[position]

    def position_of(self, row: int) -> int:
        """How many rows of the columns come before `row`."""
        return row if self.kept is None else bisect_left(self.kept, row)


def _tables_of(reader: pa.RecordBatchReader, rows: int) -> Iterator[pa.Table]:
    """The batches of a stream, small ones put together until there are at least so many rows."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    failure: BaseException | None = None
    goes_on = True
    while goes_on:
        try:
            held.append(reader.read_next_batch())
        except StopIteration:
            goes_on = False
        except BaseException as error:  # noqa: BLE001 - raised again when what came before is stored
            failure, goes_on = error, False
        if held and (not goes_on or sum(batch.num_rows for batch in held) >= rows):
            yield pa.Table.from_batches(held)
            held = []
    if isinstance(failure, (pa.ArrowException, OSError)):
        raise InvalidInputError(
            f"The Arrow stream broke: {failure}. What came before is stored; see stats()."
        ) from failure
    if failure is not None:
        raise failure


# ---- progress ------------------------------------------------------------------------------------------------------


class _Progress:
    """Shows nothing; warnings go to stderr."""

    def advance(self, rows: int) -> None:
        """So many rows are done."""

    def warn(self, text: str) -> None:
        """Write a line to stderr."""
        sys.stderr.write(f"StreamingSession: {text}\n")


class _Bar(_Progress):
    """A tqdm bar, in a notebook or a terminal."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def advance(self, rows: int) -> None:
        """Move the bar."""
        self._bar.update(rows)

    def warn(self, text: str) -> None:
        """Write a line to stderr above the bar."""
        self._bar.write(f"StreamingSession: {text}", file=sys.stderr)


@contextmanager
def _progress(total: int | None, *, is_shown: bool) -> Iterator[_Progress]:
    if not is_shown:
        yield _Progress()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets gets the bar of terminals
        from tqdm.auto import tqdm
    with tqdm(total=total, unit=" rows", unit_scale=True) as bar:
        yield _Bar(bar)


def _closing_line(stored: int, skipped: int, elapsed_s: float) -> str:
    rate = stored / elapsed_s if elapsed_s > 0 else 0.0
    line = f"Ingested {stored:,} rows in {elapsed_s:.2f}s ({rate:,.0f} rows/sec)"
    return f"{line}; left out {skipped:,} bad rows" if skipped else line
