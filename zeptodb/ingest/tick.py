"""One tick: what a table takes, and the way from ticks to a batch of columns."""

from __future__ import annotations

import datetime as dt
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from zeptodb.errors import InvalidInputError, InvalidTypeError, LossyConversionError
from zeptodb.storage.batch import ColumnBatch, Receipt, Strings, null_column
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType, Schema


class TickTable(Protocol):
    """What the queue needs of a table."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def schema(self) -> Schema:
        """Its columns now; a SYMBOL becomes INT64 or STRING with the first data."""
        ...

    def append(self, batch: ColumnBatch) -> int:
        """Append all rows or none, return their number; raises ZeptoError when they do not fit."""
        ...


class TickTarget:
    """What a tick must be to fit into one table.

    `price_type`, `volume_type` and `symbol_type` are the exact Python types that need no further look; None sends every
    value through the careful checks.
    """

    __slots__ = ("price_type", "schema", "symbol_type", "table", "version", "volume_type")

    def __init__(self, table: TickTable) -> None:
        """Raises InvalidInputError for a table that cannot take ticks, UnknownColumnError without price or volume."""
        self.table = table
        self.version = -1  # of the catalog when it was last looked up
        self.schema = table.schema
        self.price_type = self._number_type("price")
        self.volume_type = self._number_type("volume")
        if self.schema.symbol is None:
            raise InvalidInputError(
                f'Table "{table.name}" has no symbol column, so it takes no single ticks; use '
                f'append("{table.name}", data).'
            )
        ours = {"price", "volume", self.schema.symbol.lower(), (self.schema.timestamp or "").lower()}
        for field in self.schema.fields:
            if field.name.lower() not in ours and not field.is_nullable:
                raise InvalidInputError(
                    f'Column "{field.name}" of table "{table.name}" must not be NULL and ticks have no such value; use '
                    f'append("{table.name}", data).'
                )
        settled = {ColumnType.INT64: int, ColumnType.STRING: str}
        self.symbol_type: type | None = settled.get(self.schema.field(self.schema.symbol).type)
        if self.schema.timestamp is None:
            self.price_type = None

    def _number_type(self, name: str) -> type | None:
        field = self.schema.field(name, table=self.table.name)
        if not field.type.is_numeric:
            raise InvalidTypeError(
                f'Column "{name}" of table "{self.table.name}" is {field.type.value}, so it takes no single ticks; use '
                f'append("{self.table.name}", data).'
            )
        return {ColumnType.INT64: int, ColumnType.FLOAT64: float}.get(field.type)


Tick = tuple[TickTarget, int | str, float, float, int | None]
"""Target, symbol, price, volume, timestamp (None: time of arrival)."""

FLOAT32_MAX = float(np.finfo(np.float32).max)

TICK_WIDTH = 5
"""Values of one tick."""


def checked_tick(target: TickTarget, symbol: object, price: object, volume: object, timestamp: object) -> Tick:
    """The tick with plain Python values; raises InvalidInputError or InvalidTypeError for what does not fit."""
    numbers = [_number(value, name, target) for name, value in (("price", price), ("volume", volume))]
    moment = None if timestamp is None else _moment(timestamp)
    if moment is not None and target.schema.timestamp is None:
        raise InvalidInputError(f'Table "{target.table.name}" has no timestamp column; leave timestamp out.')
    return (target, _symbol(symbol, target), numbers[0], numbers[1], moment)


def _symbol(symbol: object, target: TickTarget) -> int | str:
    value: int | str
    if isinstance(symbol, str):
        value = str(symbol)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"symbol is {symbol!r}, which cannot be encoded as UTF-8.") from error
    elif isinstance(symbol, (int, np.integer)) and not isinstance(symbol, bool):
        value = _in_int64(int(symbol), "symbol")
    else:
        raise InvalidTypeError(f"symbol is {symbol!r} of type {type(symbol).__name__}; give an int or a str.")
    if target.symbol_type is None:
        # The first tick settles the kind for those behind it, unless other data has settled it meanwhile.
        fields = target.table.schema
        settled = {ColumnType.INT64: int, ColumnType.STRING: str}
        target.symbol_type = settled.get(fields.field(fields.symbol or "").type, type(value))
    if type(value) is not target.symbol_type:
        kind, other = ("string", "a str") if target.symbol_type is str else ("integer", "an int")
        raise InvalidTypeError(f'symbol is {symbol!r}; table "{target.table.name}" has {kind} symbols: give {other}.')
    return value


def _number(value: object, name: str, target: TickTarget) -> float:
    field = target.schema.field(name)
    if isinstance(value, (bool, np.bool_)) or not (
        isinstance(value, (float, np.floating)) or hasattr(value, "__index__")
    ):
        given = "missing (None)" if value is None else f"{value!r} of type {type(value).__name__}"
        raise InvalidTypeError(f"{name} is {given}; give an int{' or a float' if field.type.is_float else ''}.")
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if field.type is ColumnType.FLOAT64 else _narrowed(number, name, field.type)
    whole = operator.index(value)
    if field.type.is_float:
        limit_bits = 53 if field.type is ColumnType.FLOAT64 else 24
        if abs(whole) > 2**limit_bits:
            raise LossyConversionError(
                f"{name} is {whole}, beyond 2^{limit_bits}, up to which {field.type.value} holds every whole number."
            )
        return float(whole)
    if field.type is ColumnType.INT32 and not -(2**31) <= whole < 2**31:
        raise InvalidInputError(f"{name} is {whole}, which is out of INT32.")
    return _in_int64(whole, name)


def _narrowed(number: float, name: str, column_type: ColumnType) -> float:
    if column_type is ColumnType.FLOAT32:
        if math.isfinite(number) and abs(number) > FLOAT32_MAX:
            raise InvalidInputError(f"{name} is {number!r}, which is out of FLOAT32.")
        return number
    if not math.isfinite(number):
        raise InvalidInputError(f"{name} is {number}, which has no integer value; leave such ticks out.")
    nearest = round(number)
    tolerance = max(1e-6, 2 * math.ulp(number)) if nearest else 1e-9
    if abs(nearest) > 2**53 or abs(number - nearest) > tolerance:
        raise LossyConversionError(
            f"{name} is {number!r}, which is not a whole number{' up to 2^53' if abs(nearest) > 2**53 else ''}; scale "
            f"it first (say, int(round({name} * 100))), or use ingest_batch(..., {name}_scale=100)."
        )
    if column_type is ColumnType.INT32 and not -(2**31) <= nearest < 2**31:
        raise InvalidInputError(f"{name} is {nearest}, which is out of INT32.")
    return nearest


def _in_int64(whole: int, name: str) -> int:
    if not INT64_MIN <= whole <= INT64_MAX:
        raise InvalidInputError(f"{name} is {whole}, which is out of int64 ({INT64_MIN} to {INT64_MAX}).")
    return whole


def _moment(timestamp: object) -> int:
    if isinstance(timestamp, (dt.date, np.datetime64)):
        if timestamp != timestamp:  # noqa: PLR0124 - NaT
            raise InvalidInputError("timestamp is missing (NaT); leave it out for the time of arrival.")
        from zeptodb.ingest.read_objects import moment_ns

        return moment_ns(timestamp, "Argument timestamp", 0)
    if isinstance(timestamp, (bool, np.bool_)) or not hasattr(timestamp, "__index__"):
        raise InvalidTypeError(
            f"timestamp is {timestamp!r} of type {type(timestamp).__name__}; give int nanoseconds since 1970 (UTC), a "
            "datetime, or None for the time of arrival."
        )
    return _in_int64(operator.index(timestamp), "timestamp")


class TickColumns(NamedTuple):
    """Ticks that can be appended together: one target, and all or none with a timestamp.

    Attributes:
        target: where they go.
        values: symbols, prices, volumes and timestamps, each a sequence with one value per tick.
    """

    target: TickTarget
    values: tuple[Sequence[object], Sequence[object], Sequence[object], Sequence[object]]

    @property
    def rows(self) -> int:
        """How many ticks."""
        return len(self.values[0])

    def one_by_one(self) -> Iterator[TickColumns]:
        """The same ticks, each alone."""
        for symbol, price, volume, timestamp in zip(*self.values, strict=True):
            yield TickColumns(self.target, ([symbol], [price], [volume], [timestamp]))


def groups_of(flat: list[object]) -> list[TickColumns]:
    """Ticks that lie flat, the values of one after the other, grouped; each group in the order of arrival."""
    targets, *values = (flat[offset::TICK_WIDTH] for offset in range(TICK_WIDTH))
    timestamps = values[-1]
    if targets.count(targets[0]) == len(targets) and timestamps.count(None) in {0, len(timestamps)}:
        return [TickColumns(cast(TickTarget, targets[0]), (values[0], values[1], values[2], values[3]))]
    groups: dict[tuple[object, bool], list[tuple[object, ...]]] = {}
    for target, tick in zip(targets, zip(*values, strict=True), strict=True):
        groups.setdefault((target, tick[-1] is None), []).append(tick)
    return [
        TickColumns(cast(TickTarget, target), cast(tuple[Any, Any, Any, Any], tuple(zip(*ticks, strict=True))))
        for (target, _), ticks in groups.items()
    ]


def flattened(groups: Iterable[TickColumns]) -> list[object]:
    """The inverse of `groups_of`."""
    return [value for group in groups for tick in zip(*group.values, strict=True) for value in (group.target, *tick)]


def tick_batch(ticks: TickColumns, receipt: Receipt | None = None) -> ColumnBatch:
    """Ticks of one group as columns of their table; `receipt` is marked when they are stored."""
    schema = ticks.target.table.schema
    symbols, prices, volumes, timestamps = ticks.values
    given = {
        (schema.symbol or "").lower(): symbols,
        "price": prices,
        "volume": volumes,
        (schema.timestamp or "").lower(): timestamps,
    }
    columns: list[npt.NDArray[np.generic] | Strings | None] = []
    validities: list[npt.NDArray[np.bool_] | None] = []
    for position, field in enumerate(schema.fields):
        values = given.get(field.name.lower())
        validity = None
        column: npt.NDArray[np.generic] | Strings | None
        if values is None:
            validity = np.zeros(ticks.rows, np.bool_)
            column = null_column(ticks.rows, field.type)
        elif position == schema.timestamp_index and timestamps[0] is None:
            column = None
        elif position == schema.symbol_index and isinstance(symbols[0], str):
            column = _encoded(symbols)
        else:
            column = np.array(values, dtype=field.type.dtype)
        columns.append(column)
        validities.append(validity)
    return ColumnBatch(tuple(columns), tuple(validities), ticks.rows, receipt)


def _encoded(symbols: Sequence[object]) -> Strings:
    codes: dict[object, int] = {}
    coded = np.array([codes.setdefault(symbol, len(codes)) for symbol in symbols], dtype=np.int32)
    return Strings(coded, [str(symbol) for symbol in codes])
