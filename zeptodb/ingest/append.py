"""Whole columns and frames to batches of a table's schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeptodb.errors import InvalidInputError, UnknownColumnError, ZeptoError, did_you_mean, unknown_column
from zeptodb.ingest.fit import Column, empty_column, fit, fit_symbol
from zeptodb.ingest.frame import read_frame, require_same_length
from zeptodb.ingest.infer import index_columns, require_no_unnamed_time_index
from zeptodb.ingest.read import read
from zeptodb.ingest.scaling import UNSCALED, Scaling
from zeptodb.ingest.values import Validity, Values, nulls
from zeptodb.storage.batch import ColumnBatch
from zeptodb.types import Field, Schema


def trades_batch(
    schema: Schema,
    symbols: object,
    prices: object,
    volumes: object,
    timestamps: object = None,
    *,
    price_scale: float = 1.0,
    volume_scale: float = 1.0,
    table: str = "trades",
) -> ColumnBatch:
    """Columns of ticks as a batch for a table that has columns price and volume.

    Each argument is a 1-d column of any library, all of one length. Prices and volumes are multiplied by their scale;
    floats for INT64 columns are rounded to nearest where that loses nothing, else LossyConversionError. Without
    `timestamps` rows get the time of arrival. Columns that the call does not give are NULL, or an error where the
    table does not allow NULL. int64 columns that are contiguous are not copied.
    """
    ticks = _ticks(symbols, prices, volumes, timestamps)
    values = {name: read(data, _argument(name)) for name, data in ticks.items()}
    require_same_length({name: column.rows for name, column in values.items()})
    names = _tick_fields(schema, ticks, table)
    scalings = {
        names["prices"]: Scaling(price_scale, "price_scale"),
        names["volumes"]: Scaling(volume_scale, "volume_scale"),
    }
    by_name = {names[argument]: column for argument, column in values.items()}
    return _batch(schema, by_name, values["symbols"].rows, table, scalings)


class SiftedBatch(NamedTuple):
    """What `sift_trades` makes of rows.

    Attributes:
        batch: the good rows, in their order.
        bad_rows: int64 positions of the others, ascending.
    """

    batch: ColumnBatch
    bad_rows: npt.NDArray[np.int64]


def sift_trades(
    schema: Schema,
    symbols: object,
    prices: object,
    volumes: object,
    timestamps: object = None,
    *,
    price_scale: float = 1.0,
    volume_scale: float = 1.0,
    table: str = "trades",
    stop_at_first: bool = False,
) -> SiftedBatch:
    """The same as `trades_batch` for columns in which some rows may be bad: those that it would refuse one by one.

    With `stop_at_first` only the rows before the first bad one count as good. Raises for what is no matter of single
    rows: columns of different lengths or of a wrong type, a table that takes no ticks.
    """
    from zeptodb.ingest.sift import Target, rows_of, sift_column

    ticks = _ticks(symbols, prices, volumes, timestamps)
    names = _tick_fields(schema, ticks, table)
    scalings = {"prices": Scaling(price_scale, "price_scale"), "volumes": Scaling(volume_scale, "volume_scale")}
    targets = {}
    for argument in ticks:
        field = schema.field(names[argument])
        targets[argument] = Target(
            field,
            _label(field, table),
            scalings.get(argument, UNSCALED),
            is_symbol=argument == "symbols",
            is_required=not field.is_nullable or argument == "timestamps",
        )
    require_same_length({argument: rows_of(data, _argument(argument)) for argument, data in ticks.items()})
    sifted = {argument: sift_column(data, targets[argument]) for argument, data in ticks.items()}
    bad = np.logical_or.reduce([marks for marks, _ in sifted.values()])
    bad_rows = np.flatnonzero(bad)
    good = ~bad
    if stop_at_first and len(bad_rows):
        good[bad_rows[0] :] = False
    values = {names[argument]: values_of(good) for argument, (_, values_of) in sifted.items()}
    return SiftedBatch(_batch(schema, values, int(good.sum()), table, {}), bad_rows)


def row_error(
    schema: Schema,
    symbols: object,
    prices: object,
    volumes: object,
    timestamps: object = None,
    *,
    row: int,
    price_scale: float = 1.0,
    volume_scale: float = 1.0,
    table: str = "trades",
) -> ZeptoError:
    """What is wrong with one of the rows, in the words of `trades_batch` without the row."""
    from zeptodb.ingest.sift import slice_of

    columns = [None if c is None else slice_of(c, row, row + 1) for c in (symbols, prices, volumes, timestamps)]
    try:
        trades_batch(schema, *columns, price_scale=price_scale, volume_scale=volume_scale, table=table)
    except ZeptoError as error:
        return type(error)(str(error).replace(", row 0", "", 1))
    return InvalidInputError("The value does not go with those of the rows before it.")


def _ticks(symbols: object, prices: object, volumes: object, timestamps: object) -> dict[str, object]:
    given = {"symbols": symbols, "prices": prices, "volumes": volumes}
    return given if timestamps is None else given | {"timestamps": timestamps}


def _argument(name: str) -> str:
    return f'Argument "{name}"'


def _label(field: Field, table: str) -> str:
    return f'Column "{field.name}" of table "{table}"'


def _tick_fields(schema: Schema, ticks: Iterable[str], table: str) -> dict[str, str]:
    """The table's column, in lower case, for each argument of ticks."""
    names = {
        "symbols": schema.symbol,
        "prices": schema.field("price", table=table).name,
        "volumes": schema.field("volume", table=table).name,
        "timestamps": schema.timestamp,
    }
    for argument, role in (("symbols", "symbol"), ("timestamps", "timestamp")):
        if argument in ticks and names[argument] is None:
            raise InvalidInputError(
                f'Table "{table}" has no {role} column, so it takes no {argument}; use append("{table}", data).'
            )
    return {argument: name.lower() for argument, name in names.items() if name is not None}


def frame_batch(
    schema: Schema,
    data: object,
    *,
    symbol_col: str | None = None,
    timestamp_col: str | None = None,
    table: str = "table",
) -> ColumnBatch:
    """A frame (anything that `read_frame` takes) as a batch, its columns matched by name in any case and order.

    `symbol_col` and `timestamp_col` name the columns of the data that go into the table's symbol and timestamp, where
    those are called differently. A column that the data lacks is NULL, or an error where the table does not allow NULL;
    a missing timestamp is the time of arrival. A column that the table lacks raises UnknownColumnError. Levels of a
    pandas index count as columns where the table has a column of that name.
    """
    frame = read_frame(data)
    roles = {symbol_col: schema.symbol, timestamp_col: schema.timestamp}
    renamed = {given.lower(): role.lower() for given, role in roles.items() if given is not None and role is not None}
    known = {name.lower() for name in schema.names}
    found = frame.columns | index_columns(frame, known | set(renamed))
    for given in renamed:
        if given not in {name.lower() for name in found}:
            raise unknown_column(given, "(data)", found)
    columns: dict[str, Values] = {}
    for name, values in found.items():
        column = renamed.get(name.lower(), name.lower())
        if column not in known:
            raise UnknownColumnError(
                f'The data has a column "{name}", which table "{table}" does not have.'
                f"{did_you_mean(name, schema.names)} Drop or rename it, or add the column to the table first."
            )
        if column in columns:
            raise InvalidInputError(f'The data has two columns for column "{column}" of table "{table}"; drop one.')
        columns[column] = values
    if schema.timestamp is not None and schema.timestamp.lower() not in columns:
        require_no_unnamed_time_index(frame, schema.timestamp)
    return _batch(schema, columns, frame.rows, table, {})


def _batch(
    schema: Schema, values: dict[str, Values], rows: int, table: str, scalings: dict[str, Scaling]
) -> ColumnBatch:
    columns: list[Column | None] = []
    validities: list[Validity] = []
    for position, field in enumerate(schema.fields):
        given = values.get(field.name.lower())
        if given is not None and not rows:
            given = nulls(0)  # without rows there is nothing that could be of a wrong type
        label = _label(field, table)
        column: Column | None
        validity: Validity = None
        if given is None and position == schema.timestamp_index:
            column = None
        elif given is None:
            if rows and (not field.is_nullable or position == schema.symbol_index):
                raise InvalidInputError(
                    f"{label} must not be NULL, and the data has no such column. It has: "
                    f"{', '.join(values) or 'none'}. Add the column, or rename the one that it is."
                )
            validity = nulls(rows).validity if rows else None
            column = empty_column(rows, field.type)
        elif position == schema.symbol_index:
            column = fit_symbol(given, field, label)
        else:
            is_required = not field.is_nullable or position == schema.timestamp_index
            scaling = scalings.get(field.name.lower(), UNSCALED)
            column, validity = fit(given, field, label, is_required=is_required, scaling=scaling)
        columns.append(column)
        validities.append(validity)
    return ColumnBatch(tuple(columns), tuple(validities), rows)
