"""UPDATE and DELETE: DuckDB finds the rows and computes new values; the contents are swapped in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sqlglot import exp

from zeptodb.backends.base import Backend, Ranges, Scan, SelectScan
from zeptodb.backends.expression import ColumnRef
from zeptodb.errors import NotSupportedError, QueryError, unknown_column
from zeptodb.sql.engine import Engine
from zeptodb.sql.fallback import run_fallback, snapshots_of
from zeptodb.sql.insert_rows import arrow_batch
from zeptodb.sql.parameters import Parameters
from zeptodb.sql.register import Lease
from zeptodb.sql.tick_words import ROW_NUMBER
from zeptodb.storage.batch import ColumnBatch, Strings
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.types import ColumnType, Field, Schema

Int64Array = npt.NDArray[np.int64]


def delete(engine: Engine, table: Table, node: exp.Expr, params: Parameters, *, text: str) -> int:
    """Run DELETE; the number of rows that went."""
    _reject(node, ("using", "returning", "limit", "with_"))
    where = node.args.get("where")
    if where is None:
        return empty(table)
    query = _query_of_rows(node, where)

    def compute(answer: pa.Table, contents: ColumnBatch) -> ColumnBatch:
        kept = np.ones(contents.rows, np.bool_)
        kept[_positions(answer)] = False
        return _taken(contents, np.flatnonzero(kept))

    return _change(engine, table, query, params, text, compute)


def empty(table: Table) -> int:
    """Remove all rows; how many there were."""
    removed = 0

    def compute(snapshot: Snapshot) -> ColumnBatch:
        nonlocal removed
        removed = snapshot.rows
        columns = tuple(_empty_column(field) for field in snapshot.schema.fields)
        return ColumnBatch(columns, (None,) * len(columns), 0)

    table.change(compute)
    return removed


def update(engine: Engine, table: Table, node: exp.Expr, params: Parameters, *, text: str) -> int:
    """Run UPDATE; the number of rows that changed."""
    _reject(node, ("from_", "returning", "limit", "with_"))
    assigned: list[Field] = []
    values: list[exp.Expr] = []
    schema = table.schema
    for assignment in node.expressions:
        if not isinstance(assignment, exp.EQ) or not isinstance(assignment.this, exp.Column):
            raise QueryError(f"UPDATE sets a column to a value; {assignment.sql('duckdb')} does not.")
        name = assignment.this.name
        if name.lower() not in (known.lower() for known in schema.names):
            raise unknown_column(name, table.name, schema.names)
        assigned.append(schema.field(name))
        values.append(assignment.expression)
    if len(set(assigned)) != len(assigned):
        raise QueryError("UPDATE sets a column twice.")
    query = _query_of_rows(node, node.args.get("where"), values)

    def compute(answer: pa.Table, contents: ColumnBatch) -> ColumnBatch:
        # As a table of its own in which nothing has a role, so that a missing timestamp is an error here.
        settled = [table.schema.field(field.name) for field in assigned]
        narrow = Schema(tuple(settled))
        new = arrow_batch(narrow, narrow.fields, answer.select(range(1, answer.num_columns)), table=table.name)
        indexes = [table.schema.index(field.name) for field in settled]
        return _with_values(contents, _positions(answer), indexes, new)

    return _change(engine, table, query, params, text, compute)


def _reject(node: exp.Expr, parts: Sequence[str]) -> None:
    for part in parts:
        if node.args.get(part):
            word = part.rstrip("_").upper()
            raise NotSupportedError(f"{node.key.upper()} with {word} is not supported in this version; use a subquery.")


def _query_of_rows(node: exp.Expr, where: exp.Expr | None, values: Sequence[exp.Expr] = ()) -> exp.Select:
    """SELECT position, value, ... FROM the table WHERE ..."""
    items = [exp.Anonymous(this=ROW_NUMBER, expressions=[]), *(value.copy() for value in values)]
    named = [exp.Alias(this=item, alias=exp.to_identifier(f"value_{i}")) for i, item in enumerate(items)]
    query = exp.Select(expressions=named, from_=exp.From(this=node.this.copy()))
    if where is not None:
        query.set("where", where.copy())
    return query


def _change(
    engine: Engine,
    table: Table,
    query: exp.Select,
    params: Parameters,
    text: str,
    compute: Callable[[pa.Table, ColumnBatch], ColumnBatch],
) -> int:
    changed = 0
    # Other tables first: while writers of this one wait, no other lock may be asked for.
    leases = snapshots_of(engine, query)

    def contents(snapshot: Snapshot) -> ColumnBatch:
        nonlocal changed
        stale = leases.pop(table.name.lower(), None)
        if stale is not None:
            stale.close()
        leases[table.name.lower()] = Lease(replace(snapshot, release=_nothing))
        answer = run_fallback(engine, query, params, within=text, leases=leases).table
        changed = answer.num_rows
        return compute(answer, contents_of(snapshot, engine.backend))

    try:
        table.change(contents)
    finally:
        for lease in leases.values():
            lease.close()
    return changed


def _nothing() -> None:
    """The table itself closes the snapshot."""


def _positions(answer: pa.Table) -> Int64Array:
    return np.asarray(answer.column(0).to_numpy(), dtype=np.int64)


def contents_of(snapshot: Snapshot, backend: Backend, ranges: Ranges | None = None) -> ColumnBatch:
    """The rows of a snapshot, all or those of `ranges`, as a batch, segment by segment."""
    schema = snapshot.schema
    if ranges is None:
        segments = np.arange(len(snapshot.lengths), dtype=np.int64)
        ranges = Ranges(segments, np.zeros(len(segments), np.int64), snapshot.lengths)
    outputs = tuple(ColumnRef(i, field.type) for i, field in enumerate(schema.fields))
    vectors = backend.select(SelectScan(Scan(snapshot, ranges), outputs))
    columns: list[npt.NDArray[np.generic] | Strings | None] = []
    for field, vector, dictionary in zip(schema.fields, vectors, snapshot.dictionaries, strict=True):
        if field.type is ColumnType.STRING and dictionary is not None:
            columns.append(Strings(vector.values.astype(np.int32, copy=False), dictionary.values))
        else:
            columns.append(vector.values.astype(field.type.dtype, copy=False))
    return ColumnBatch(tuple(columns), tuple(vector.validity for vector in vectors), ranges.rows)


def _empty_column(field: Field) -> npt.NDArray[np.generic] | Strings:
    if field.type is ColumnType.STRING:
        return Strings(np.zeros(0, np.int32), [])
    return np.zeros(0, field.type.dtype)


def _taken(batch: ColumnBatch, rows: npt.NDArray[np.intp]) -> ColumnBatch:
    """These rows of a batch."""
    columns = tuple(
        replace(c, codes=c.codes[rows]) if isinstance(c, Strings) else None if c is None else c[rows]
        for c in batch.columns
    )
    return ColumnBatch(columns, tuple(None if v is None else v[rows] for v in batch.validity), len(rows))


def _with_values(batch: ColumnBatch, positions: Int64Array, indexes: list[int], new: ColumnBatch) -> ColumnBatch:
    """The batch with the columns at `indexes` replaced, in the rows at `positions`, by the columns of `new`."""
    columns, validity = list(batch.columns), list(batch.validity)
    for i, index in enumerate(indexes):
        columns[index] = _merged(columns[index], new.columns[i], positions)
        before, after = validity[index], new.validity[i]
        if before is not None or after is not None:
            present = np.ones(batch.rows, np.bool_) if before is None else before.copy()
            present[positions] = True if after is None else after
            validity[index] = present
    return ColumnBatch(tuple(columns), tuple(validity), batch.rows)


def _merged(
    old: npt.NDArray[np.generic] | Strings | None,
    new: npt.NDArray[np.generic] | Strings | None,
    positions: Int64Array,
) -> npt.NDArray[np.generic] | Strings:
    if isinstance(old, Strings) and isinstance(new, Strings):
        codes = old.codes.copy()
        codes[positions] = np.where(new.codes >= 0, new.codes + np.int32(len(old.values)), np.int32(-1))
        return Strings(codes, [*old.values, *new.values])
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        values = old.copy()
        values[positions] = new
        return values
    raise AssertionError("a column changed its kind")
