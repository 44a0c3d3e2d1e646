"""What this package uses of a `zeptodb.Pipeline`: public methods only, so that anything with them will do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from zeptodb.errors import ZeptoError
    from zeptodb.types import Schema

Timestamps = Literal["ns", "datetime"]
"""How timestamps come out: int64 nanoseconds since 1970 (UTC), or real datetimes in UTC."""


class TickSink(Protocol):
    """Takes columns of ticks."""

    def ingest_batch(
        self,
        symbols: object,
        prices: object,
        volumes: object,
        timestamps: object = None,
        table_name: str = "trades",
        *,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
    ) -> int:
        """Store rows, all or none, and return how many."""
        ...


class IngestedRows(Protocol):
    """What became of rows of which some may have been bad."""

    @property
    def stored(self) -> int:
        """How many were stored."""
        ...

    @property
    def bad_rows(self) -> npt.NDArray[np.int64]:
        """Positions of the bad ones, ascending."""
        ...

    @property
    def error_of(self) -> Callable[[int], ZeptoError]:
        """What is wrong at one of those positions."""
        ...


class SiftingSink(TickSink, Protocol):
    """Takes columns of ticks in which some rows may be bad."""

    def ingest_good_rows(
        self,
        symbols: object,
        prices: object,
        volumes: object,
        timestamps: object = None,
        table_name: str = "trades",
        *,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        stop_at_first: bool = False,
    ) -> IngestedRows:
        """Store the good rows (only those before the first bad one, if told so) and say which are bad."""
        ...


class ArrowSource(TickSink, Protocol):
    """Takes ticks, and gives tables as Arrow."""

    def schema(self, table: str = "trades") -> Schema:
        """The columns of a table and their roles."""
        ...

    def to_arrow(self, table: str = "trades", symbol: int | str | None = None) -> pa.Table:
        """The rows of a table, or of one symbol, at one moment."""
        ...


class Result(Protocol):
    """The answer to a statement."""

    def raise_for_error(self) -> object:
        """Raise QueryError when the statement did not run."""
        ...

    def to_pandas(self) -> pd.DataFrame:
        """The answer as a pandas DataFrame."""
        ...

    def to_polars(self) -> pl.DataFrame:
        """The answer as a polars DataFrame."""
        ...


class Queryable(Protocol):
    """Answers SQL."""

    def execute(self, sql: str, params: object = None, *, timestamps: Timestamps = "ns") -> Result:
        """Run SQL."""
        ...


class ColumnSource(Queryable, Protocol):
    """Gives columns of one symbol."""

    def schema(self, table: str = "trades") -> Schema:
        """The columns of a table and their roles."""
        ...

    def get_column(self, symbol: int | str, name: str, table: str = "trades") -> npt.NDArray[np.generic]:
        """One column of one symbol, in time order, as a read-only view."""
        ...
