"""The HTTP client: SQL to DataFrames, and DataFrames into tables of a running `zepto_server`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlencode

import urllib3

from zepto_py.frames import arrow_frame, expanded, numpy_arrays, pandas_frame, polars_frame
from zepto_py.imports import (
    DEFAULT_TIMESTAMP,
    ColumnNames,
    TickColumns,
    arrow_columns,
    arrow_reader,
    broken_stream,
    pandas_columns,
    polars_columns,
)
from zepto_py.remote import error_of, parameter_text, stream_parts
from zeptodb.errors import InvalidInputError, ServerUnreachableError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Timestamps = Literal["ns", "datetime"]
Parameters = Mapping[str, object]

DEFAULT_PORT = 8123
_READS = re.compile(
    r"\s*(SELECT|WITH|SHOW|DESCRIBE|DESC|EXISTS|EXPLAIN|FROM|VALUES)\b(?!.*\b(INSERT|UPDATE|DELETE)\b)",
    re.IGNORECASE | re.DOTALL,
)
_BUSY = (429, 503)
_PIECE_BYTES = 1 << 20
_TOLD_BYTES = 4096
_ENCODING = {"max_block_size": str(2**31 - 1), "arrow_runs": "1"}
"""All rows in one batch, so that columns lie in one piece as they arrive; symbols once per run of rows."""
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class ApexConnection:
    """A connection to a running `zepto_server`; safe to use from several threads. A context manager: leaving it closes.

        db = ApexConnection("localhost", 8123)
        df = db.query_pandas("SELECT symbol, avg(price) FROM trades GROUP BY symbol")

    api_key: what `zeptodb keys create` printed; sent as a Bearer token. timeout: seconds that an answer may take to
    begin, and that may pass between two pieces of it. secure: HTTPS, checked against the system's certificates or
    those of `ca_file`. retries: how often a request is repeated that could not be sent, that the server was too busy
    to begin, or, for statements that only read, whose connection broke. An insert whose connection broke is never
    repeated: it may have been stored.

    Raises ServerUnreachableError when nobody answers, and the kinds of ServerError, with the server's code and name.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = DEFAULT_PORT,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        secure: bool = False,
        ca_file: str | None = None,
        retries: int = 2,
    ) -> None:
        if timeout <= 0 or retries < 0:
            raise InvalidInputError(
                f"timeout is {timeout!r} and retries {retries!r}; give a positive and a whole number."
            )
        self._host, self._port, self._retries = host, port, retries
        self._headers = headers = {"User-Agent": "zepto_py", "X-ClickHouse-Database": "default"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        common = {
            "headers": headers,
            "timeout": urllib3.Timeout(connect=min(timeout, 10.0), read=timeout),
            "maxsize": 8,
        }
        self._pool = (
            urllib3.HTTPSConnectionPool(host, port, ca_certs=ca_file, cert_reqs="CERT_REQUIRED", **common)  # type: ignore[arg-type]
            if secure
            else urllib3.HTTPConnectionPool(host, port, **common)  # type: ignore[arg-type]
        )

    def __repr__(self) -> str:
        """The address; never the key."""
        return f"ApexConnection({self._host!r}, {self._port})"

    def __enter__(self) -> Self:
        """This connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the sockets; the connection can be used again, which opens new ones."""
        self._pool.close()

    # ---- questions -------------------------------------------------------------------------------------------------

    def ping(self) -> bool:
        """Whether a server answers."""
        try:
            response = self._request("GET", "/ping", {}, None, is_safe=True)
        except ServerUnreachableError:
            return False
        response.drain_conn()
        return response.status == 200

    def tables(self) -> list[str]:
        """Names of all tables that the key may see."""
        names: list[str] = self.query_arrow("SHOW TABLES").column("name").to_pylist()
        return names

    def query_arrow(self, sql: str, params: Parameters | None = None, *, timestamps: Timestamps = "ns") -> pa.Table:
        """The answer to a statement as an Arrow table.

        params: values for `{name:Type}` in the statement, such as `{symbol:Int64}`; they never pass through SQL text.
        timestamps: columns of time as int64 nanoseconds since 1970, or as datetimes in UTC.
        """
        return expanded(self._answer(sql, params, timestamps)[0])

    def _answer(self, sql: str, params: Parameters | None, timestamps: Timestamps) -> tuple[pa.Table, pa.Buffer]:
        """The answer, and the memory that its columns lie in, which nothing else uses."""
        import pyarrow as pa

        options = {"default_format": "ArrowStream", "timestamps": timestamps, **_ENCODING}
        response = self._statement(sql, params, options)
        try:
            if response.headers.get("X-ClickHouse-Format") is None:
                response.drain_conn()
                return pa.table({}), pa.py_buffer(b"")
            data = _whole_body(response)
            if data.slice(max(0, data.size - len(_END_OF_STREAM))).to_pybytes() != _END_OF_STREAM:
                raise pa.ArrowInvalid(_told_error(data.slice(max(0, data.size - _TOLD_BYTES)).to_pybytes()))
            with pa.ipc.open_stream(data) as reader:
                return reader.read_all(), data
        except (pa.ArrowException, OSError, urllib3.exceptions.HTTPError) as error:
            raise ServerUnreachableError(
                f"The answer of {self._host}:{self._port} broke off midway: {error}"
            ) from error
        finally:
            response.release_conn()

    def query_pandas(
        self, sql: str, params: Parameters | None = None, *, timestamps: Timestamps = "ns"
    ) -> pd.DataFrame:
        """The answer as a pandas DataFrame; NULL: NaN, NaT, None; integers with NULL: float64 if exact, else Int64."""
        table, memory = self._answer(sql, params, timestamps)
        return pandas_frame(table, memory=memory)

    def query_polars(
        self, sql: str, params: Parameters | None = None, *, timestamps: Timestamps = "ns"
    ) -> pl.DataFrame:
        """The answer as a polars DataFrame."""
        return polars_frame(self.query_arrow(sql, params, timestamps=timestamps))

    def query_numpy(
        self, sql: str, params: Parameters | None = None, *, timestamps: Timestamps = "ns"
    ) -> dict[str, npt.NDArray[np.generic]]:
        """The answer as numpy arrays by name; numbers with NULL are float64 with NaN if exact, else objects."""
        return numpy_arrays(self.query_arrow(sql, params, timestamps=timestamps))

    def execute(self, sql: str, params: Parameters | None = None) -> list[tuple[Any, ...]]:
        """Run any statement; its rows as plain Python values, an empty list for statements without an answer."""
        table = self.query_arrow(sql, params)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    # ---- rows into tables ------------------------------------------------------------------------------------------

    def ingest_pandas(
        self,
        df: pd.DataFrame,
        symbol_col: str = "symbol",
        price_col: str = "price",
        volume_col: str = "volume",
        timestamp_col: str | None = DEFAULT_TIMESTAMP,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        table_name: str = "trades",
    ) -> int:
        """Store the ticks of a pandas DataFrame, all or none, visible when the call returns; returns how many.

        The rules are those of `zepto_py.from_pandas`.
        """
        columns = pandas_columns(df, ColumnNames(symbol_col, price_col, volume_col, timestamp_col))
        return self._ingest(columns, table_name, price_scale, volume_scale)

    def ingest_polars(
        self,
        df: pl.DataFrame,
        symbol_col: str = "symbol",
        price_col: str = "price",
        volume_col: str = "volume",
        timestamp_col: str | None = DEFAULT_TIMESTAMP,
        price_scale: float = 1.0,
        volume_scale: float = 1.0,
        table_name: str = "trades",
    ) -> int:
        """Store the ticks of a polars DataFrame; otherwise as `ingest_pandas`."""
        columns = polars_columns(df, ColumnNames(symbol_col, price_col, volume_col, timestamp_col))
        return self._ingest(columns, table_name, price_scale, volume_scale)

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
        """Store the ticks of an Arrow Table, or anything with `__arrow_c_stream__`; otherwise as `ingest_pandas`."""
        names = ColumnNames(symbol_col, price_col, volume_col, timestamp_col)
        columns = arrow_columns(_read(table), names)
        return self._ingest(columns, table_name, price_scale, volume_scale)

    def append(self, table_name: str, data: object) -> int:
        """Store the rows of any DataFrame or Arrow table in a table of any schema, columns matched by name.

        A table that does not exist is created from the data's schema, if the key may do that.
        """
        return self._insert(arrow_frame(data), {"table": table_name})

    def _ingest(self, columns: TickColumns, table_name: str, price_scale: float, volume_scale: float) -> int:
        import pyarrow as pa

        from zepto_py.frames import arrow_column

        names = ("symbol", "price", "volume", "timestamp")
        given = {name: arrow_column(column) for name, column in zip(names, columns, strict=True) if column is not None}
        options = {"table": table_name, "price_scale": repr(price_scale), "volume_scale": repr(volume_scale)}
        return self._insert(pa.table(given), options)

    def _insert(self, table: pa.Table, options: Mapping[str, str]) -> int:
        parts = stream_parts(table)
        length = {"Content-Length": str(sum(map(len, parts)))}
        response = self._request("POST", "/insert/arrow", options, parts, is_safe=False, headers=length)
        self._require_ok(response)
        stored = response.json()["rows"]
        response.release_conn()
        return int(stored)

    # ---- requests --------------------------------------------------------------------------------------------------

    def _statement(self, sql: str, params: Parameters | None, options: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        values = {f"param_{name}": parameter_text(name, value) for name, value in (params or {}).items()}
        response = self._request(
            "POST", "/", {**options, **values}, sql.encode(), is_safe=_READS.match(sql) is not None
        )
        self._require_ok(response)
        return response

    def _require_ok(self, response: urllib3.BaseHTTPResponse) -> None:
        if response.status >= 400 or "X-ClickHouse-Exception-Code" in response.headers:
            text = response.read(decode_content=True).decode("utf-8", "replace")
            response.release_conn()
            raise error_of(response.status, response.headers, text)

    def _request(
        self,
        method: str,
        path: str,
        options: Mapping[str, str],
        body: bytes | list[bytes] | None,
        *,
        is_safe: bool,
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        url = f"{path}?{urlencode(options)}" if options else path
        retries = urllib3.Retry(
            total=self._retries,
            connect=self._retries,
            read=self._retries if is_safe else 0,
            status=self._retries,
            other=0,
            redirect=0,
            allowed_methods=None,
            status_forcelist=_BUSY,
            backoff_factor=0.1,
            raise_on_status=False,
        )
        try:
            return self._pool.urlopen(
                method,
                url,
                body=body,
                headers={**self._headers, **(headers or {})},
                retries=retries,
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ServerUnreachableError(
                f"{self._host}:{self._port} did not answer: {error}. Is zepto_server running there"
                + ("?" if is_safe else "? The request may have been carried out.")
            ) from error


ZeptoConnection = ApexConnection


def connect(
    host: str = "localhost",
    port: int = DEFAULT_PORT,
    api_key: str | None = None,
    *,
    timeout: float = 60.0,
    secure: bool = False,
    ca_file: str | None = None,
    retries: int = 2,
) -> ApexConnection:
    """A connection to the `zepto_server` at that address; see `ApexConnection`. Nothing is sent yet."""
    return ApexConnection(host, port, api_key, timeout=timeout, secure=secure, ca_file=ca_file, retries=retries)


def _whole_body(response: urllib3.BaseHTTPResponse) -> pa.Buffer:
    """A body in one piece of Arrow's memory, where columns then lie as they arrived."""
    import pyarrow as pa

    length = response.headers.get("Content-Length")
    if length is None:
        return pa.py_buffer(response.read(decode_content=False))
    buffer = pa.allocate_buffer(int(length))
    view = memoryview(buffer).cast("B")
    position = 0
    while position < len(view):
        count = response.readinto(view[position : position + _PIECE_BYTES])
        if not count:
            raise urllib3.exceptions.IncompleteRead(position, len(view) - position)
        position += count
    return buffer


def _told_error(data: bytes) -> str:
    """What the server wrote into an answer that it could not finish."""
    _, mark, told = data.rpartition(b"Code: ")
    return "Code: " + told.partition(b"\n")[0].decode("utf-8", "replace") if mark else "it has no end"


def _read(data: object) -> pa.Table:
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    try:
        return arrow_reader(data).read_all()
    except (pa.ArrowException, OSError, TypeError) as error:
        raise broken_stream(error) from error
