"""Arrow in and out of an in-process Pipeline, and DuckDB and polars over the engine's own memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from zepto_py.imports import DEFAULT_TIMESTAMP, from_arrow
from zepto_py.protocol import ArrowSource, Timestamps
from zeptodb.errors import InvalidInputError, InvalidTypeError
from zeptodb.types import ColumnType, Schema

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa

BATCH_ROWS = 65_536


class ArrowSession:
    """Arrow tables, batches and columns into a Pipeline and out of it.

    Exports are of one moment, in time order within each symbol, and stay as they are whatever is ingested later. They
    share the engine's memory: the Arrow buffers of numbers lie where `pipeline.get_column()` shows them. Copied are
    only scaled columns, BOOL columns, the bitmaps of NULLs, the symbols of an export of all symbols, and the columns
    of such an export when the symbols have fewer than 4,096 rows on average.

    >>> import pyarrow as pa, zeptodb
    >>> pipeline = zeptodb.Pipeline(backend="cpu")
    >>> session = ArrowSession(pipeline)
    >>> session.ingest_arrow(pa.table({"symbol": [1, 1], "price": [15000, 15010], "volume": [100, 50]}))
    2
    >>> session.to_arrow(symbol=1).column("price").to_pylist()
    [15000, 15010]
    """

    def __init__(self, pipeline: ArrowSource) -> None:
        if not (hasattr(pipeline, "to_arrow") and hasattr(pipeline, "ingest_batch")):
            raise InvalidTypeError(f"pipeline is of type {type(pipeline).__name__}; give a zeptodb.Pipeline.")
        self._pipeline = pipeline

    # ---- in ----------------------------------------------------------------------------------------------------

    def ingest_arrow(
        self,
        table: pa.Table,
        symbol_col: str = "symbol",
        price_col: str = "price",
        volume_col: str = "volume",
        timestamp_col: str | None = DEFAULT_TIMESTAMP,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        table_name: str = "trades",
    ) -> int:
        """Store the ticks of an Arrow Table, or of anything with `__arrow_c_stream__`; see `from_arrow`."""
        return from_arrow(
            table,
            self._pipeline,
            symbol_col,
            price_col,
            volume_col,
            timestamp_col,
            price_scale,
            volume_scale,
            table_name,
        )

    def ingest_record_batch(
        self,
        batch: pa.RecordBatch,
        symbol_col: str = "symbol",
        price_col: str = "price",
        volume_col: str = "volume",
        timestamp_col: str | None = DEFAULT_TIMESTAMP,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        table_name: str = "trades",
    ) -> int:
        """Store the ticks of an Arrow RecordBatch, or of anything with `__arrow_c_array__`; see `from_arrow`."""
        return self.ingest_arrow(
            batch, symbol_col, price_col, volume_col, timestamp_col, price_scale, volume_scale, table_name
        )

    def ingest_arrow_columnar(
        self,
        symbols: pa.Array,
        prices: pa.Array,
        volumes: pa.Array,
        timestamps: pa.Array | None = None,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        table_name: str = "trades",
    ) -> int:
        """Store columns of ticks, all of one length, all rows or none; returns how many. See `from_arrow`."""
        return self._pipeline.ingest_batch(
            symbols, prices, volumes, timestamps, table_name, price_scale=price_scale, volume_scale=volume_scale
        )

    # ---- out ---------------------------------------------------------------------------------------------------

    def to_arrow(
        self,
        symbol: int | str | None = None,
        table_name: str = "trades",
        *,
        price_scale: float | None = None,
        volume_scale: float | None = None,
        timestamps: Timestamps = "ns",
    ) -> pa.Table:
        """The rows of one symbol (timestamp, then the other columns, without the symbol), or of all (every column).

        With `price_scale` (`volume_scale`) the column price (volume) comes as float64, divided by it; with
        `timestamps="datetime"` the timestamps as UTC. Strings are dictionary-coded, NULL is null. An unknown symbol
        gives no rows. Raises UnknownTableError, and InvalidTypeError for a symbol of the wrong kind.
        """
        if timestamps not in ("ns", "datetime"):
            raise InvalidInputError(f'timestamps is {timestamps!r}; allowed: "ns" or "datetime".')
        schema = self._pipeline.schema(table_name)
        table = self._pipeline.to_arrow(table_name, symbol)
        for name, scale in (("price", price_scale), ("volume", volume_scale)):
            if scale is not None:
                table = _divided(table, schema, name, scale, table_name)
        return _with_datetimes(table, schema) if timestamps == "datetime" else table

    def to_record_batch_reader(
        self,
        symbol: int | str | None = None,
        table_name: str = "trades",
        *,
        batch_rows: int = BATCH_ROWS,
        price_scale: float | None = None,
        volume_scale: float | None = None,
        timestamps: Timestamps = "ns",
    ) -> pa.RecordBatchReader:
        """The rows of `to_arrow` in batches of at most `batch_rows`, which are cut as they are read, without a copy."""
        if not batch_rows > 0:
            raise InvalidInputError(f"batch_rows is {batch_rows!r}; give a positive number of rows.")
        table = self.to_arrow(
            symbol, table_name, price_scale=price_scale, volume_scale=volume_scale, timestamps=timestamps
        )
        return table.to_reader(max_chunksize=batch_rows)

    def to_polars_zero_copy(
        self,
        symbol: int | str | None = None,
        table_name: str = "trades",
        *,
        price_scale: float | None = None,
        volume_scale: float | None = None,
        timestamps: Timestamps = "ns",
    ) -> pl.DataFrame:
        """The rows of `to_arrow` as a polars DataFrame over the same buffers; strings come as Categorical."""
        import polars as pl

        table = self.to_arrow(
            symbol, table_name, price_scale=price_scale, volume_scale=volume_scale, timestamps=timestamps
        )
        return cast("pl.DataFrame", pl.from_arrow(table, rechunk=False))

    def to_duckdb(
        self,
        symbol: int | str | None = None,
        table_name: str = "trades",
        *,
        name: str | None = None,
        connection: duckdb.DuckDBPyConnection | None = None,
        price_scale: float | None = None,
        volume_scale: float | None = None,
        timestamps: Timestamps = "ns",
    ) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with the rows of `to_arrow` registered as a view, without a copy.

        The view is called `name`, by default as the table; the connection is a new one in memory, or the one given,
        so that several tables can be joined. The view shows the rows of this moment for as long as it exists.

        >>> import zeptodb
        >>> pipeline = zeptodb.Pipeline(backend="cpu")
        >>> pipeline.ingest(symbol=1, price=15000, volume=100)
        >>> ArrowSession(pipeline).to_duckdb(symbol=1).execute("SELECT max(price) FROM trades").fetchall()
        [(15000,)]
        """
        import duckdb

        table = self.to_arrow(
            symbol, table_name, price_scale=price_scale, volume_scale=volume_scale, timestamps=timestamps
        )
        opened = duckdb.connect(":memory:") if connection is None else connection
        return opened.register(table_name if name is None else name, table)

    def get_schema(self, table_name: str = "trades") -> pa.Schema:
        """The Arrow schema of a table: what `to_arrow(table_name=...)` has for all symbols."""
        return zeptodb_schema_to_arrow(self._pipeline.schema(table_name))


def zeptodb_schema_to_arrow(columns: Sequence[str] | Schema) -> pa.Schema:
    """The Arrow schema of columns: of a table's schema, or of names alone, which stand for int64 as in `trades`.

    >>> zeptodb_schema_to_arrow(["timestamp", "price"])
    timestamp: int64
    price: int64
    """
    import pyarrow as pa

    if isinstance(columns, Schema):
        return pa.schema([(field.name, _arrow_type(field.type)) for field in columns.fields])
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise InvalidTypeError(f"columns is {columns!r:.80}; give a list of column names, or a pipeline.schema().")
    return pa.schema([(name, pa.int64()) for name in columns])


zepto_schema_to_arrow = zeptodb_schema_to_arrow


def _arrow_type(column_type: ColumnType) -> pa.DataType:
    import pyarrow as pa

    if column_type is ColumnType.STRING:
        return pa.dictionary(pa.int32(), pa.string())
    return pa.from_numpy_dtype(column_type.dtype)


def _divided(table: pa.Table, schema: Schema, name: str, scale: float, table_name: str) -> pa.Table:
    """The column as float64, divided by `scale`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    field = schema.field(name, table=table_name)
    if not field.type.is_numeric:
        raise InvalidTypeError(
            f'Column "{field.name}" of table "{table_name}" is {field.type.value}: leave its scale out.'
        )
    if not 0 < scale < float("inf"):
        raise InvalidInputError(f"{name}_scale is {scale!r}; give a positive number such as 100.")
    index = table.column_names.index(field.name)
    values = pc.divide(table.column(index).cast(pa.float64(), safe=False), float(scale))
    return table.set_column(index, field.name, values)


def _with_datetimes(table: pa.Table, schema: Schema) -> pa.Table:
    """Timestamps as UTC, over the same buffers."""
    import pyarrow as pa

    kind = pa.timestamp("ns", tz="UTC")
    for field in schema.fields:
        if field.type is ColumnType.TIMESTAMP_NS and field.name in table.column_names:
            index = table.column_names.index(field.name)
            column: Any = table.column(index)
            chunks = [chunk.view(kind) for chunk in column.chunks]
            table = table.set_column(index, field.name, pa.chunked_array(chunks, kind))
    return table
