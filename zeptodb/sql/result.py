"""The answer to a statement: columns inside, every other shape only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Vector
from zeptodb.errors import BackendUnavailableError, InvalidInputError, QueryError, ZeptoError
from zeptodb.sql.plain_columns import distinct_names, numpy_values, python_values
from zeptodb.storage.dictionary import Dictionary
from zeptodb.types import ColumnType

if TYPE_CHECKING:
    import cudf
    import pandas as pd
    import plotly.graph_objects as go
    import polars as pl
    import pyarrow as pa

    from zeptodb.plotting import ChartKind

Timestamps = Literal["ns", "datetime"]
ResultColumn = tuple[str, Vector, Dictionary | None]

_SHOWN_ROWS = 10


class QueryResult:
    """Columns of an answer, with what it took to get them; or, when `error` is not empty, why there is none.

    Integers stay int64 (a sum beyond int64 is decimal128(38, 0) in Arrow and a Python int in `rows`), floats float64,
    strings strings. Timestamps are int64 nanoseconds, or datetimes in UTC with `timestamps="datetime"`. NULL is None
    in `rows`, a real null in Arrow and polars, NaN, NaT or None in pandas and numpy; an integer column with NULL is
    float64 there when that is exact, else pandas' nullable Int64 (objects in numpy).

    Attributes:
        execution_time_us: microseconds from the statement's text to its columns.
        rows_scanned: rows of tables that were read for it.
        engine: which engine ran it: "cpu", "cuda", "duckdb", ...; empty for an error.
        error: empty if all went well, else the message.
        error_type: which kind of error it is (see zeptodb.errors); None if all went well.
    """

    def __init__(
        self,
        columns: Sequence[ResultColumn] = (),
        *,
        execution_time_us: float = 0.0,
        rows_scanned: int = 0,
        bytes_scanned: int | Callable[[], int] = 0,
        engine: str = "",
        plan: str | Callable[[], str] = "",
        error: str = "",
        error_type: type[ZeptoError] | None = None,
        timestamps: Timestamps = "ns",
    ) -> None:
        if timestamps not in ("ns", "datetime"):
            raise InvalidInputError(f'timestamps is {timestamps!r}; allowed: "ns" or "datetime".')
        self._vectors: tuple[ResultColumn, ...] | None = tuple(columns)
        self._table: pa.Table | None = None
        self._is_encoded = False
        self._timestamp_columns = frozenset(
            [i for i, (_, vector, _) in enumerate(columns) if vector.type is ColumnType.TIMESTAMP_NS]
        )
        self._timestamps = timestamps
        self.execution_time_us = execution_time_us
        self.rows_scanned = rows_scanned
        self._bytes_scanned = bytes_scanned
        self.engine = engine
        self._plan = plan
        self.error = error
        self.error_type = QueryError if error and error_type is None else error_type

    @classmethod
    def from_arrow(
        cls,
        table: pa.Table,
        *,
        timestamp_columns: frozenset[int] = frozenset(),
        execution_time_us: float = 0.0,
        rows_scanned: int = 0,
        bytes_scanned: int | Callable[[], int] = 0,
        engine: str = "duckdb",
        plan: str | Callable[[], str] = "",
        timestamps: Timestamps = "ns",
    ) -> QueryResult:
        """A result over an Arrow table, as DuckDB returns it; `timestamp_columns` are those of int64 nanoseconds.

        Sums of type decimal128(38, 0) become int64 when they fit; dictionary columns become plain strings.
        """
        from zeptodb.sql import arrow_columns

        result = cls(
            execution_time_us=execution_time_us,
            rows_scanned=rows_scanned,
            bytes_scanned=bytes_scanned,
            engine=engine,
            plan=plan,
            timestamps=timestamps,
        )
        result._vectors = None
        result._timestamp_columns = timestamp_columns
        columns = [arrow_columns.narrowed(arrow_columns.undictionaried(column)) for column in table.columns]
        result._table = arrow_columns.table_of(columns, table.column_names)
        return result

    @classmethod
    def over_stored_rows(
        cls,
        table: pa.Table,
        *,
        timestamp_columns: frozenset[int],
        rows_scanned: int,
        bytes_scanned: int | Callable[[], int],
        engine: str,
        plan: str | Callable[[], str],
        timestamps: Timestamps,
    ) -> QueryResult:
        """A result over columns that lie in the tables' own memory; they may be dictionary-coded."""
        result = cls(
            rows_scanned=rows_scanned, bytes_scanned=bytes_scanned, engine=engine, plan=plan, timestamps=timestamps
        )
        result._vectors = None
        result._timestamp_columns = timestamp_columns
        result._table, result._is_encoded = table, True
        return result

    @property
    def bytes_scanned(self) -> int:
        """Bytes of the columns that were read, as they are stored; counted when first asked for."""
        if not isinstance(self._bytes_scanned, int):
            self._bytes_scanned = self._bytes_scanned()
        return self._bytes_scanned

    @property
    def plan(self) -> str:
        """How the statement ran, and why not otherwise; made when first asked for."""
        if not isinstance(self._plan, str):
            self._plan = self._plan()
        return self._plan

    # ---- the reference's fields ----------------------------------------------------------------------------------

    @property
    def timestamp_columns(self) -> frozenset[int]:
        """Indexes of the columns that hold timestamps: int64 nanoseconds unless datetimes were asked for."""
        return self._timestamp_columns

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order; they may repeat."""
        if self._vectors is not None:
            return [name for name, _, _ in self._vectors]
        return list(self._arrow.column_names)

    @cached_property
    def rows(self) -> list[list[Any]]:
        """Rows as lists of plain Python values: ints exact, NULL None. Built when first asked for."""
        if self._vectors is not None and not self._has_datetimes:
            columns = [python_values(vector, dictionary) for _, vector, dictionary in self._vectors]
        else:
            from zeptodb.sql import arrow_columns

            columns = [arrow_columns.python_values(column) for column in self.to_arrow().columns]
        return [list(row) for row in zip(*columns, strict=True)]

    def ok(self) -> bool:
        """Whether the statement ran."""
        return not self.error

    def raise_for_error(self) -> QueryResult:
        """This result; raises QueryError with the message when the statement failed.

        QueryCancelledError, QueryTimeoutError and MemoryLimitError are QueryErrors.
        """
        if self.error_type is not None:
            raise (self.error_type if issubclass(self.error_type, QueryError) else QueryError)(self.error)
        return self

    def __len__(self) -> int:
        """How many rows there are."""
        if self._vectors is not None:
            return len(self._vectors[0][1].values) if self._vectors else 0
        return int(self._arrow.num_rows)

    def __iter__(self) -> Iterator[list[Any]]:
        """The rows."""
        return iter(self.rows)

    @property
    def _has_datetimes(self) -> bool:
        return self._timestamps == "datetime" and bool(self._timestamp_columns)

    # ---- other shapes --------------------------------------------------------------------------------------------

    @cached_property
    def _arrow(self) -> pa.Table:
        """The columns with timestamps as int64."""
        from zeptodb.sql import arrow_columns

        if self._vectors is None:
            return arrow_columns.decoded_table(self._table) if self._is_encoded else self._table
        columns = [arrow_columns.vector_to_arrow(vector, dictionary) for _, vector, dictionary in self._vectors]
        return arrow_columns.table_of(columns, [name for name, _, _ in self._vectors])

    @cached_property
    def _typed_arrow(self) -> pa.Table:
        from zeptodb.sql import arrow_columns

        return arrow_columns.with_datetimes(self._arrow, self._datetime_columns)

    @property
    def _datetime_columns(self) -> frozenset[int]:
        """The columns that come out as datetimes."""
        return self._timestamp_columns if self._timestamps == "datetime" else frozenset()

    def to_arrow(self) -> pa.Table:
        """The columns as an Arrow table; numbers share memory with the result. Repeated names stay repeated."""
        return self._typed_arrow

    def to_encoded_arrow(self) -> pa.Table:
        """The columns as they lie: as `to_arrow()`, but of runs of stored rows, if `shares_memory` was asked for, many
        chunks over the tables' own memory, symbols and strings dictionary-coded.

        Such memory stays as it is, whatever is written later, and is kept for as long as the table lives.
        """
        from zeptodb.sql import arrow_columns

        if self._is_encoded:
            return arrow_columns.with_datetimes(self._table, self._datetime_columns)
        return self.to_arrow()

    def to_pandas(self) -> pd.DataFrame:
        """The columns as a pandas DataFrame; repeated names get a counter (a, a_1)."""
        arrays = self._plain_arrays()
        if arrays is not None:
            import pandas as pd

            return pd.DataFrame(arrays)  # a copy: pandas brings columns of one type together
        from zeptodb.sql import arrow_columns

        return arrow_columns.pandas_frame(self.to_arrow())

    def _plain_arrays(self) -> dict[str, npt.NDArray[Any]] | None:
        """The columns as arrays over the result's memory; None when some have to be converted."""
        if not self._vectors or self._has_datetimes:
            return None
        arrays = [numpy_values(vector) for _, vector, _ in self._vectors]
        plain = [array for array in arrays if array is not None]
        if len(plain) < len(arrays):
            return None
        return dict(zip(distinct_names([name for name, _, _ in self._vectors]), plain, strict=True))

    def to_polars(self) -> pl.DataFrame:
        """The columns as a polars DataFrame; repeated names get a counter (a, a_1)."""
        import polars as pl

        from zeptodb.sql import arrow_columns

        table = self.to_arrow()
        if not table.column_names:
            return pl.DataFrame()
        columns = [arrow_columns.without_intervals(column) for column in table.columns]
        return pl.DataFrame(arrow_columns.table_of(columns, distinct_names(table.column_names)))

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """The columns as numpy arrays by name; repeated names get a counter (a, a_1).

        Numbers without NULL share memory with the result and are read-only then; see the class for NULL.
        """
        plain = self._plain_arrays()
        if plain is not None:
            return {name: _read_only(array) for name, array in plain.items()}
        from zeptodb.sql import arrow_columns

        table = self.to_arrow()
        names = distinct_names(table.column_names)
        arrays = {name: arrow_columns.numpy_values(column) for name, column in zip(names, table.columns, strict=True)}
        return {name: _read_only(array) for name, array in arrays.items()}

    def to_cudf(self) -> cudf.DataFrame:
        """The columns as a cuDF DataFrame; raises BackendUnavailableError without cuDF."""
        try:
            import cudf
        except ImportError as error:
            raise BackendUnavailableError(
                "to_cudf() needs cuDF and an NVIDIA GPU, but cudf cannot be imported; install cudf-cu12 or cudf-cu13, "
                "or use to_arrow(), to_pandas() or to_polars()."
            ) from error

        table = self.to_arrow()
        return cudf.DataFrame.from_arrow(table.rename_columns(distinct_names(table.column_names)))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The Arrow PyCapsule stream, through which polars, DuckDB, pandas and others read the columns."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        """The Arrow PyCapsule schema."""
        return self.to_arrow().schema.__arrow_c_schema__()

    # ---- display -------------------------------------------------------------------------------------------------

    def plot(
        self,
        kind: ChartKind | None = None,
        *,
        x: str | None = None,
        y: str | Sequence[str] | None = None,
        by: str | None = None,
        title: str | None = None,
    ) -> go.Figure:
        """A plotly figure: "candles" of columns open, high, low, close (and volume), else "lines" of all numbers.

        x: the horizontal axis, by default the first timestamps (in UTC), else the first column. y: which columns are
        drawn as lines, by default all numbers. by: one line (or choice of candles) per value, by default the symbol or
        the first strings; the 12 with most rows are shown. Lines leave gaps at NULL.

        Raises QueryError if the statement failed, UnknownColumnError, InvalidInputError if there is nothing to draw or
        more than 1,000,000 points, and BackendUnavailableError without plotly (the extra `plot`).
        """
        from zeptodb import plotting
        from zeptodb.sql import arrow_columns

        table = self.raise_for_error()._arrow
        columns = [
            arrow_columns.as_datetimes(column) if i in self._timestamp_columns else column
            for i, column in enumerate(table.columns)
        ]
        chosen = plotting.ChartColumns(x, (y,) if isinstance(y, str) else y, by)
        named = arrow_columns.table_of(columns, distinct_names(table.column_names))
        return plotting.chart(named, kind, columns=chosen, title=title)

    def __repr__(self) -> str:
        """One line: size, engine and time, or the error."""
        if self.error:
            return f"QueryResult(error={self.error!r})"
        return (
            f"QueryResult({len(self):,} rows x {len(self.column_names)} columns, engine={self.engine!r}, "
            f"{self.execution_time_us / 1000:.3f} ms)"
        )

    def _repr_html_(self) -> str:
        """A table of the first and last rows, for notebooks."""
        import html

        if self.error:
            return f"<pre>{html.escape(self.error)}</pre>"
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.column_names)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row) + "</tr>"
            for row in self._shown_rows()
        )
        note = f"{len(self):,} rows, {html.escape(self.engine)}, {self.execution_time_us / 1000:.3f} ms"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{note}</p>"

    def _shown_rows(self) -> list[list[Any]]:
        from zeptodb.sql import arrow_columns

        table = self.to_arrow()
        if table.num_rows <= 2 * _SHOWN_ROWS:
            return [list(row) for row in arrow_columns.row_tuples(table)]
        first = arrow_columns.row_tuples(table.slice(0, _SHOWN_ROWS))
        last = arrow_columns.row_tuples(table.slice(table.num_rows - _SHOWN_ROWS))
        gap = ["…"] * table.num_columns
        return [*map(list, first), gap, *map(list, last)]


def _cell(value: object) -> str:
    return "NULL" if value is None else str(value)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype != np.object_:
        array.flags.writeable = False
    return array
