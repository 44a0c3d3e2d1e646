"""A table: a schema, the dictionaries of its string columns, and its segments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from threading import RLock
from weakref import WeakSet, ref

import numpy as np
import numpy.typing as npt

from zeptodb.errors import InvalidInputError, InvalidTypeError
from zeptodb.forks import at_fork
from zeptodb.storage.batch import ColumnBatch, Strings, null_column
from zeptodb.storage.dictionary import Dictionary
from zeptodb.storage.log import ChangeLog
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.rows import Rows
from zeptodb.storage.segments import Segments
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.workers import CallerAlone, Workers
from zeptodb.storage.writer import SegmentWriter
from zeptodb.types import ColumnType, Schema

Int64Array = npt.NDArray[np.int64]


_TABLES: WeakSet[Table] = WeakSet()
_FORK = ExitStack()


def _freeze_tables() -> None:
    """Wait until no other thread is inside a table: a fork copies locks as they are, and only the calling thread."""
    for table in sorted(_TABLES, key=lambda table: table.freeze_rank, reverse=True):
        _FORK.enter_context(table.frozen())


def _thaw_tables() -> None:
    _FORK.close()


at_fork(before=_freeze_tables, after_in_parent=_thaw_tables, after_in_child=_thaw_tables)


class Table:
    """Rows of one schema, parted by symbol, in time order within each; safe for any number of readers and writers.

    The symbol column is not stored: it is a fact of the segment. `schema` is replaced when the first rows settle
    whether a SYMBOL column holds integers or strings, and by `reshape()`.

    Attributes:
        freeze_rank: higher for one that, while locked, takes the locks of others.
        ttl_ns: rows older than this are to be removed from time to time; None: rows are kept.
        attributes: by column, what ALTER TABLE ... SET ATTRIBUTE has asked for.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        *,
        memory: HostMemory,
        arena_size: int,
        workers: Workers | None = None,
        log: ChangeLog | None = None,
    ) -> None:
        """Make an empty table. `workers` take part in large appends; None: nobody does."""
        self.name = name
        self.freeze_rank = 0
        self.ttl_ns: int | None = None
        self.attributes: dict[str, str] = {}
        self._memory = memory
        self._arena_size = arena_size
        self._workers = workers or CallerAlone()
        self._log = log
        self._write_lock = RLock()
        self._last_stamp = 0
        self._generation = 0
        self._latest: tuple[Segments, Snapshot] | None = None
        self._self = ref(self)
        self._become(schema, _dictionaries(schema), self._empty(schema))
        _TABLES.add(self)

    # ---- reading -----------------------------------------------------------------------------------------------

    @property
    def row_count(self) -> int:
        """Rows in the table."""
        return self._writer.segments.row_count

    @property
    def version(self) -> tuple[int, int]:
        """Changes with every change of the contents."""
        return self._generation, self._writer.segments.version

    @property
    def contents(self) -> Segments:
        """The segments that hold the rows now; others after `replace()`."""
        return self._writer.segments

    @property
    def mapped_bytes(self) -> int:
        """Bytes of address space that the table uses."""
        return self._writer.segments.mapped_bytes

    @property
    def segment_count(self) -> int:
        """How many symbols have rows."""
        return self._writer.segments.count

    def symbol_key(self, symbol: int | str) -> int | None:
        """The key of a symbol's segment: itself, or its code; None when no row can have it."""
        column = self.schema.symbol_index
        if column < 0:
            return 0
        kind = self.schema.fields[column].type
        if kind is ColumnType.STRING:
            dictionary = self.dictionaries[column]
            return dictionary.find(symbol) if isinstance(symbol, str) and dictionary is not None else None
        return int(symbol) if isinstance(symbol, (int, np.integer)) else None

    def find_segment(self, symbol: int | str) -> int | None:
        """The segment of a symbol, None when the table has no rows of it."""
        key = self.symbol_key(symbol)
        return None if key is None else self._writer.segments.find(key)

    def snapshot(self) -> Snapshot:
        """The rows as they are now, late ones merged; close it when done."""
        latest = self._latest
        schema, dictionaries, writer = self._shape
        segments = writer.segments
        if latest is not None and latest[0] is segments:
            pin = segments.pin(latest[1].version)
            if pin is not None:
                return latest[1].released_by(pin.release)
        read = segments.read()
        if read is None:
            with self._write_lock:
                schema, dictionaries, writer = self._shape
                segments = writer.segments
                writer.merge_late()
                read = segments.read()
        if read is None:
            raise AssertionError("late rows appeared under the write lock")
        version, pin, symbols, lengths, addresses, validity, history = read
        snapshot = Snapshot(
            name=self.name,
            schema=schema,
            symbols=symbols,
            lengths=lengths,
            addresses=_with_symbol_row(schema, addresses),
            validity=_with_symbol_row(schema, validity),
            dictionaries=dictionaries,
            version=version,
            history=history,
            release=pin.release,
            retake=partial(_retaken, self._self),
        )
        # The cached one holds no pin (a pin would keep retired blocks for ever); `pin(version)` revives it.
        self._latest = (segments, snapshot.released_by(_nothing))
        return snapshot

    def view(self, segment: int, column: int) -> npt.NDArray[np.generic]:
        """A read-only view of one stored column (index in the schema) of one segment, as it is now."""
        if self._writer.segments.has_late_rows:
            with self._write_lock:
                self._writer.merge_late()
        symbol = self.schema.symbol_index
        return self._writer.segments.view(segment, column - (0 <= symbol < column))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing in the table changes while this is held; for fork()."""
        with self._write_lock, self._writer.segments.frozen():
            yield

    # ---- writing -----------------------------------------------------------------------------------------------

    def append(self, batch: ColumnBatch) -> int:
        """Append rows, all or none, visible when the call returns; returns how many.

        A timestamp column of None is filled with the time of arrival, never less than that of earlier such rows.
        """
        if batch.rows == 0:
            return 0
        with self._write_lock:
            before = self._shape
            try:
                batch = self._widened(batch)
                self._settle_symbol_kind(batch)
                batch = self._stamped(batch)
                if self._log is not None:
                    self._log.before_append(self.name, self.schema, batch)
                self._writer.append(_rows(batch, self.schema, self.dictionaries))
            except BaseException:
                if not self._writer.segments.row_count:  # nothing has settled the kind of symbols after all
                    self._become(*before)
                raise
        return batch.rows

    def replace(self, batch: ColumnBatch) -> int:
        """Make these rows the table's whole contents, in one step; readers that began before see the old ones."""
        with self._write_lock:
            if batch.rows:
                self._settle_symbol_kind(batch)
            batch = self._stamped(batch)
            if self._log is not None:
                self._log.before_replace(self.name, self.schema, batch)
            writer = self._empty(self.schema)
            writer.append(_rows(batch, self.schema, self.dictionaries))
            self._generation += 1
            self._become(self.schema, self.dictionaries, writer)
        return batch.rows

    def change(self, compute: Callable[[Snapshot], ColumnBatch]) -> int:
        """Make what `compute` makes of the contents the contents, in one step; other writers wait meanwhile.

        `compute` must not take the lock of another table (by `snapshot()`, say): two such calls could wait for each
        other. When it raises, nothing has changed.
        """
        with self._write_lock:
            with self.snapshot() as snapshot:
                batch = compute(snapshot)
            return self.replace(batch)

    def reshape(self, schema: Schema, compute: Callable[[Snapshot], ColumnBatch]) -> int:
        """Give the table other columns: `schema`, and as contents what `compute` makes of the present ones.

        As in `change`; readers see the old columns or the new ones. Rows that writers prepared for the old columns are
        taken if columns have only been added since.
        """
        with self._write_lock:
            with Table.snapshot(self) as snapshot:
                batch = compute(snapshot)
            if self._log is not None:
                self._log.before_replace(self.name, schema, batch)
            dictionaries, writer = _dictionaries(schema), self._empty(schema)
            writer.append(_rows(batch, schema, dictionaries))
            self._generation += 1
            self._become(schema, dictionaries, writer)
        return batch.rows

    def rename(self, name: str) -> None:
        """Change the name; snapshots taken before keep the old one."""
        with self._write_lock:
            self.name = name
            self._latest = None

    def _become(self, schema: Schema, dictionaries: tuple[Dictionary | None, ...], writer: SegmentWriter) -> None:
        """Set what belongs together; readers without the lock take it from `_shape`."""
        self.schema = schema
        self.dictionaries = dictionaries
        self._writer = writer
        self._shape = schema, dictionaries, writer
        self._latest = None

    def _widened(self, batch: ColumnBatch) -> ColumnBatch:
        """A batch made before columns were added, with NULL in them."""
        fields = self.schema.fields
        given = len(batch.columns)
        if given == len(fields):
            return batch
        if given > len(fields) or not all(field.is_nullable for field in fields[given:]):
            raise InvalidInputError(f'The columns of table "{self.name}" changed meanwhile; read its schema and retry.')
        absent = tuple(null_column(batch.rows, field.type) for field in fields[given:])
        validity = tuple(np.zeros(batch.rows, np.bool_) for _ in absent)
        return replace(batch, columns=batch.columns + absent, validity=batch.validity + validity)

    def _empty(self, schema: Schema) -> SegmentWriter:
        symbol = schema.symbol_index
        stored = [i for i in range(len(schema.fields)) if i != symbol]
        timestamp = schema.timestamp_index
        segments = Segments(
            self._memory,
            workers=self._workers,
            arena_size=self._arena_size,
            dtypes=[schema.fields[i].type.dtype for i in stored],
            time_column=stored.index(timestamp) if timestamp >= 0 else -1,
        )
        return SegmentWriter(segments)

    def _settle_symbol_kind(self, batch: ColumnBatch) -> None:
        column = self.schema.symbol_index
        if column < 0:
            return
        given = ColumnType.STRING if isinstance(batch.columns[column], Strings) else ColumnType.INT64
        kind = self.schema.fields[column].type
        if kind is ColumnType.SYMBOL:
            fields = list(self.schema.fields)
            fields[column] = replace(fields[column], type=given)
            dictionaries = list(self.dictionaries)
            dictionaries[column] = Dictionary() if given is ColumnType.STRING else None
            self._become(replace(self.schema, fields=tuple(fields)), tuple(dictionaries), self._writer)
        elif (kind is ColumnType.STRING) != (given is ColumnType.STRING):
            words = {True: "strings", False: "integers"}
            raise InvalidTypeError(
                f'Symbols of table "{self.name}" are {words[kind is ColumnType.STRING]}, but '
                f"{words[given is ColumnType.STRING]} were given; use one kind, or create another table."
            )

    def _stamped(self, batch: ColumnBatch) -> ColumnBatch:
        column = self.schema.timestamp_index
        if column < 0 or batch.columns[column] is not None:
            return batch
        self._last_stamp = max(time.time_ns(), self._last_stamp)
        columns = list(batch.columns)
        columns[column] = np.full(batch.rows, self._last_stamp, dtype=np.int64)
        return replace(batch, columns=tuple(columns))


def _retaken(table: ref[Table]) -> Snapshot | None:
    found = table()
    return None if found is None else Table.snapshot(found)  # a view that computes itself anew is not asked to


def _rows(batch: ColumnBatch, schema: Schema, dictionaries: tuple[Dictionary | None, ...]) -> Rows:
    symbol, timestamp = schema.symbol_index, schema.timestamp_index
    physical = [_physical(i, batch, schema, dictionaries[i]) for i in range(len(schema.fields))]
    stored = [i for i in range(len(physical)) if i != symbol]
    return Rows(
        keys=physical[symbol].astype(np.int64, copy=False) if symbol >= 0 else None,
        times=physical[timestamp].view(np.int64) if timestamp >= 0 else None,
        values=tuple(physical[i] for i in stored),
        validity=tuple(batch.validity[i] for i in stored),
        count=batch.rows,
        receipt=batch.receipt,
    )


def _physical(index: int, batch: ColumnBatch, schema: Schema, dictionary: Dictionary | None) -> npt.NDArray[np.generic]:
    """One column of a batch as the segments store it; a mismatch is an error of the caller that checked it."""
    field, column = schema.fields[index], batch.columns[index]
    array = dictionary.translate(column) if dictionary is not None and isinstance(column, Strings) else column
    is_symbol = index == schema.symbol_index
    if not isinstance(array, np.ndarray) or (array.dtype != field.type.dtype and not is_symbol):
        raise InvalidTypeError(f'Column "{field.name}" wants {field.type.dtype}, got {array!r:.80}.')
    if array.shape != (batch.rows,):
        raise InvalidInputError(f'Column "{field.name}" has shape {array.shape}, the batch {batch.rows} rows.')
    return np.ascontiguousarray(array)


def _with_symbol_row(schema: Schema, stored: Int64Array) -> Int64Array:
    symbol = schema.symbol_index
    return stored if symbol < 0 else np.insert(stored, symbol, 0, axis=0)


def _dictionaries(schema: Schema) -> tuple[Dictionary | None, ...]:
    return tuple(Dictionary() if field.type is ColumnType.STRING else None for field in schema.fields)


def _nothing() -> None:
    """Release of a snapshot that holds no pin."""
