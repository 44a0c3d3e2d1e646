"""The rows that a demo runs on: generated, or read from Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zeptodb.errors import InvalidInputError, InvalidTypeError, did_you_mean
from zeptodb.record import record

if TYPE_CHECKING:
    import pyarrow as pa

TRADE_COLUMNS = ("timestamp", "symbol", "price", "size")
QUOTE_COLUMNS = ("timestamp", "symbol", "bid", "ask")
QUOTES_PER_TRADE = 2


@record
class Ticks:
    """Trades (timestamp, symbol, price, size) and, unless None, quotes (timestamp, symbol, bid, ask) as Arrow tables.

    `origin` says in words where they come from. Timestamps are int64 ns UTC and ascend.
    """

    trades: pa.Table
    quotes: pa.Table | None
    origin: str


def generated(*, rows: int, symbols: int) -> Ticks:
    """Ticks of realistic shape: `rows` trades and twice as many quotes."""
    from zeptodb.demo.generator import generate_ticks

    trades, quotes = generate_ticks(rows, quotes=QUOTES_PER_TRADE * rows, symbols=symbols)
    origin = "generated ticks of realistic shape (invented prices; give --trades and --quotes for real ones)"
    return Ticks(trades, quotes.select(list(QUOTE_COLUMNS)), origin)


def read_files(trades: Path, quotes: Path | None) -> Ticks:
    """Ticks of Parquet files; other columns than those needed are not read.

    Raises InvalidInputError for a file that is missing or lacks a column, InvalidTypeError for one of a wrong type.
    """
    read = [_read(trades, TRADE_COLUMNS), None if quotes is None else _read(quotes, QUOTE_COLUMNS)]
    names = " and ".join(str(path) for path in (trades, quotes) if path is not None)
    return Ticks(read[0], read[1], f"the ticks of {names}")


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InvalidInputError(f"There is no file {path}; give the path of a Parquet file.")
    try:
        present = pq.read_schema(path).names
        for column in columns:
            if column not in present:
                raise InvalidInputError(
                    f'{path} has no column "{column}"; needed are {", ".join(columns)}.{did_you_mean(column, present)}'
                )
        table = pq.read_table(path, columns=list(columns))
    except pa.ArrowException as error:
        raise InvalidInputError(f"{path} cannot be read as Parquet: {error}") from error
    if table.num_rows == 0:
        raise InvalidInputError(f"{path} has no rows; give a file with some.")
    return _in_time_order(_typed(table, path))


def _typed(table: pa.Table, path: Path) -> pa.Table:
    """The table with timestamps as int64 ns and the other columns checked."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in table.column_names:
        kind = table.schema.field(name).type
        if name == "timestamp":
            good = pa.types.is_int64(kind) or pa.types.is_timestamp(kind)
            wanted = "int64 nanoseconds since the epoch or a timestamp"
        elif name == "symbol":
            good = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
            wanted = "strings or integers"
        else:
            good = pa.types.is_floating(kind) or pa.types.is_integer(kind)
            wanted = "numbers"
        if not good:
            raise InvalidTypeError(f'Column "{name}" of {path} is {kind}; it must hold {wanted}.')
        if name in {"timestamp", "symbol"} and table[name].null_count:
            raise InvalidInputError(f'Column "{name}" of {path} has {table[name].null_count:,} nulls; remove them.')
    if pa.types.is_timestamp(table.schema.field("timestamp").type):
        place = table.column_names.index("timestamp")
        stamps = pc.cast(pc.cast(table["timestamp"], pa.timestamp("ns")), pa.int64())
        table = table.set_column(place, "timestamp", stamps)
    return table


def _in_time_order(table: pa.Table) -> pa.Table:
    """The rows by ascending timestamp, ties as they came; DuckDB and polars are given them so."""
    import numpy as np

    stamps = table["timestamp"].to_numpy()
    if bool(np.all(stamps[1:] >= stamps[:-1])):
        return table
    return table.take(np.argsort(stamps, kind="stable"))
