"""ALTER TABLE: columns come, go and get other names; tables get other names, a time to live and attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlglot import exp

from zeptodb.backends.base import Backend, Ranges, Scan, SelectScan
from zeptodb.backends.expression import ColumnRef
from zeptodb.errors import AlreadyExistsError, NotSupportedError, QueryError, unknown_column
from zeptodb.sql.change_rows import contents_of
from zeptodb.sql.constants import interval_ns, now_ns
from zeptodb.sql.create_table import field_of
from zeptodb.sql.dialect import SetAttribute, SetTimeToLive
from zeptodb.sql.engine import Engine
from zeptodb.sql.expiry import remove_older
from zeptodb.sql.insert_rows import DEFAULT_TABLE
from zeptodb.storage.batch import ColumnBatch, null_column
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.types import TRADES, ColumnType, Schema


def alter(engine: Engine, table: Table, node: exp.Expr) -> None:
    """Run ALTER TABLE; all of its actions or none."""
    actions = node.args.get("actions") or []
    if not actions:
        raise NotSupportedError(f"ALTER TABLE ... {ALLOWED}.")
    structural = [action for action in actions if isinstance(action, (exp.ColumnDef, exp.Drop, exp.RenameColumn))]
    if structural:
        if len(structural) != len(actions):
            raise NotSupportedError("ALTER TABLE changes either columns or the table's own settings at a time.")
        _change_columns(engine, table, structural)
        return
    for action in actions:
        handler = _SETTINGS.get(type(action))
        if handler is None:
            raise NotSupportedError(f"ALTER TABLE ... {ALLOWED}; {action.sql('duckdb')} is not supported.")
        handler(engine, table, action)


ALLOWED = (
    "takes ADD COLUMN, DROP COLUMN, RENAME COLUMN a TO b, RENAME TO, SET TTL 30 DAYS and "
    "SET ATTRIBUTE column SORTED, GROUPED or PARTED"
)


# ---- columns -------------------------------------------------------------------------------------------------------

_Places = list[int | None]
"""Of each new column, the place of the old one that it is; None: it has only NULLs."""


def _change_columns(engine: Engine, table: Table, actions: Sequence[exp.Expr]) -> None:
    schema = table.schema
    places: _Places = list(range(len(schema.fields)))
    for action in actions:
        schema, places = _COLUMN_ACTIONS[type(action)](table, schema, places, action)
    if schema == table.schema:
        return

    def contents(snapshot: Snapshot) -> ColumnBatch:
        if snapshot.schema.fields != before.fields:
            raise QueryError(f'Table "{table.name}" changed meanwhile; repeat the statement.')
        batch = contents_of(snapshot, engine.backend)
        absent = np.zeros(batch.rows, np.bool_)
        columns = [
            null_column(batch.rows, f.type) if place is None else batch.columns[place]
            for f, place in zip(schema.fields, places, strict=True)
        ]
        validity = [absent if place is None else batch.validity[place] for place in places]
        return ColumnBatch(tuple(columns), tuple(validity), batch.rows)

    before = table.schema
    table.reshape(schema, contents)
    kept = {name.lower() for name in schema.names}
    table.attributes = {name: attribute for name, attribute in table.attributes.items() if name.lower() in kept}
    engine.catalog.note_change()


def _add(table: Table, schema: Schema, places: _Places, action: exp.Expr) -> tuple[Schema, _Places]:
    field = field_of(action)
    if field.name.lower() in (name.lower() for name in schema.names):
        if action.args.get("exists"):
            return schema, places
        raise AlreadyExistsError(f'Table "{table.name}" has a column "{field.name}" already.')
    if not field.is_nullable:
        raise QueryError(f'Column "{field.name}" is added with NULL in every row; leave NOT NULL out.')
    if field.type is ColumnType.SYMBOL:
        field = replace(field, type=ColumnType.STRING)
    return replace(schema, fields=(*schema.fields, field)), [*places, None]


def _drop(table: Table, schema: Schema, places: _Places, action: exp.Expr) -> tuple[Schema, _Places]:
    if str(action.args.get("kind") or "").upper() != "COLUMN":
        raise NotSupportedError(f"ALTER TABLE ... {ALLOWED}.")
    for column in action.args.get("tables") or []:
        if column.name.lower() not in (name.lower() for name in schema.names):
            if action.args.get("exists"):
                continue
            raise unknown_column(column.name, table.name, schema.names)
        index = schema.index(column.name)
        _require_free_to_change(table, schema, index, "dropped")
        if len(schema.fields) == 1:
            raise QueryError(f'"{schema.names[0]}" is the only column of table "{table.name}"; DROP TABLE it instead.')
        schema = replace(schema, fields=schema.fields[:index] + schema.fields[index + 1 :])
        places = places[:index] + places[index + 1 :]
    return schema, places


def _rename_column(table: Table, schema: Schema, places: _Places, action: exp.Expr) -> tuple[Schema, _Places]:
    name, new_name = action.this.name, action.args["to"].name
    if name.lower() not in (known.lower() for known in schema.names):
        if action.args.get("exists"):
            return schema, places
        raise unknown_column(name, table.name, schema.names)
    index = schema.index(name)
    if new_name.lower() in (known.lower() for i, known in enumerate(schema.names) if i != index):
        raise AlreadyExistsError(f'Table "{table.name}" has a column "{new_name}" already.')
    if table.name.lower() == DEFAULT_TABLE:
        _require_free_to_change(table, schema, index, "renamed")
    old = schema.names[index]
    fields = tuple(replace(f, name=new_name) if i == index else f for i, f in enumerate(schema.fields))
    roles = {
        "symbol": new_name if schema.symbol == old else schema.symbol,
        "timestamp": new_name if schema.timestamp == old else schema.timestamp,
    }
    return Schema(fields, **roles), places


def _require_free_to_change(table: Table, schema: Schema, index: int, what: str) -> None:
    name = schema.names[index]
    is_of_trades = table.name.lower() == DEFAULT_TABLE and name.lower() in TRADES.names
    if is_of_trades or index in (schema.symbol_index, schema.timestamp_index):
        role = "one that every tick has" if is_of_trades else "what the rows are parted or ordered by"
        raise QueryError(f'Column "{name}" of table "{table.name}" is {role} and cannot be {what}.')


_COLUMN_ACTIONS: dict[type[exp.Expr], Callable[[Table, Schema, _Places, exp.Expr], tuple[Schema, _Places]]] = {
    exp.ColumnDef: _add,
    exp.Drop: _drop,
    exp.RenameColumn: _rename_column,
}


# ---- the table -----------------------------------------------------------------------------------------------------


def _rename_table(engine: Engine, table: Table, action: exp.Expr) -> None:
    if table.name.lower() == DEFAULT_TABLE:
        raise QueryError(f'"{table.name}" is the default table of every ingest call and keeps its name.')
    engine.catalog.rename(table.name, action.this.name)


def _set_time_to_live(engine: Engine, table: Table, action: exp.Expr) -> None:
    given = action.name
    if given.upper() == "NONE":
        table.ttl_ns = None
        return
    if table.schema.timestamp is None:
        raise QueryError(f'Table "{table.name}" has no timestamp column, so its rows have no age.')
    length = interval_ns(given)
    if length is None or length <= 0:
        raise QueryError(f"SET TTL takes a length of time such as 30 DAYS or 12 HOURS, or NONE; got {given}.")
    table.ttl_ns = length
    remove_older(engine, table, now_ns() - length)


def _set_attribute(engine: Engine, table: Table, action: exp.Expr) -> None:
    name, attribute = action.this.name, action.args["attribute"].name.upper()
    if name.lower() not in (known.lower() for known in table.schema.names):
        raise unknown_column(name, table.name, table.schema.names)
    if attribute not in _ATTRIBUTES:
        raise QueryError(f"SET ATTRIBUTE takes SORTED, GROUPED or PARTED, got {attribute}.")
    column = table.schema.names[table.schema.index(name)]
    _ATTRIBUTES[attribute](engine, table, column)
    table.attributes[column] = attribute


def _require_sorted(engine: Engine, table: Table, column: str) -> None:
    if not is_sorted(table, column, engine.backend):
        raise QueryError(
            f'Column "{column}" of table "{table.name}" is not SORTED: within a symbol, in the order of time, a value '
            "is followed by a smaller one or by NULL."
        )


def _require_symbol(engine: Engine, table: Table, column: str) -> None:  # noqa: ARG001
    if column != table.schema.symbol:
        raise NotSupportedError(
            f'"{column}" of table "{table.name}" cannot be GROUPED or PARTED: the symbol column is both (rows are '
            "stored by symbol, with a look-up), other columns have no index."
        )


_ATTRIBUTES: dict[str, Callable[[Engine, Table, str], None]] = {
    "SORTED": _require_sorted,
    "GROUPED": _require_symbol,
    "PARTED": _require_symbol,
}


def is_sorted(table: Table, column: str, backend: Backend) -> bool:
    """Whether the column never falls within a symbol, in the order of time; NULL comes last."""
    with table.snapshot() as snapshot:
        index = snapshot.schema.index(column)
        if index in (snapshot.schema.timestamp_index, snapshot.schema.symbol_index):
            return True
        segments = np.arange(len(snapshot.lengths), dtype=np.int64)
        field = snapshot.schema.fields[index]
        ranges = Ranges(segments, np.zeros(len(segments), np.int64), snapshot.lengths)
        (vector,) = backend.select(SelectScan(Scan(snapshot, ranges), (ColumnRef(index, field.type),)))
        values, valid = vector.values, vector.validity
        dictionary = snapshot.dictionaries[index]
        if dictionary is not None:
            values = _ranks(dictionary.values)[values]
        present = np.ones(len(values), np.bool_) if valid is None else valid
        starts = np.cumsum(snapshot.lengths)[:-1]
        parts = zip(np.split(values, starts), np.split(present, starts), strict=True)
        return all(_is_ascending(part, of_part) for part, of_part in parts)


def _ranks(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """The place of each text among all in order, and one more at the end for the code -1 of NULL."""
    ranks = np.zeros(len(texts) + 1, np.int64)
    ranks[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
    return ranks


def _is_ascending(values: npt.NDArray[Any], present: npt.NDArray[np.bool_]) -> bool:
    count = int(present.sum())
    return count == 0 or (bool(present[:count].all()) and bool((values[1:count] >= values[: count - 1]).all()))


def attributes_of(table: Table, backend: Backend) -> list[str]:
    """Per column its attribute, "" for none; SORTED is only said as long as it is true."""
    shown = dict(table.attributes)
    for column, attribute in table.attributes.items():
        if attribute == "SORTED" and not is_sorted(table, column, backend):
            del shown[column]
    return [shown.get(name, "") for name in table.schema.names]


_SETTINGS: dict[type[exp.Expr], Callable[[Engine, Table, exp.Expr], None]] = {
    exp.AlterRename: _rename_table,
    SetTimeToLive: _set_time_to_live,
    SetAttribute: _set_attribute,
}
