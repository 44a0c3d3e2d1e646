"""What goes over the wire beside tables: parameters as text, and errors of the server as exceptions."""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zeptodb.errors import (
    AccessDeniedError,
    AuthenticationError,
    InvalidTypeError,
    RemoteQueryError,
    RemoteTableError,
    RequestTimeoutError,
    RequestTooLargeError,
    ServerBusyError,
    ServerError,
)

if TYPE_CHECKING:
    import pyarrow as pa

_BY_NAME: dict[str, type[ServerError]] = {
    "UNKNOWN_TABLE": RemoteTableError,
    "AUTHENTICATION_FAILED": AuthenticationError,
    "REQUIRED_PASSWORD": AuthenticationError,
    "ACCESS_DENIED": AccessDeniedError,
    "READONLY": AccessDeniedError,
    "TIMEOUT_EXCEEDED": RequestTimeoutError,
    "SOCKET_TIMEOUT": RequestTimeoutError,
    "TOO_MANY_ROWS_OR_BYTES": RequestTooLargeError,
    "QUERY_IS_TOO_LARGE": RequestTooLargeError,
}
_BY_STATUS: dict[int, type[ServerError]] = {
    400: RemoteQueryError,
    404: RemoteQueryError,
    408: RequestTimeoutError,
    413: RequestTooLargeError,
    429: ServerBusyError,
    501: RemoteQueryError,
    503: ServerBusyError,
}

_TEXT = re.compile(
    r"^Code: (?P<code>\d+)\. DB::Exception: (?P<message>.*?) \((?P<name>[A-Z_]+)\) \(version [^\n]*\)\s*$", re.DOTALL
)


def error_of(status: int, headers: Mapping[str, str], text: str) -> ServerError:
    """The exception for an answer that is an error, with the server's code, name and message."""
    found = _TEXT.match(text)
    if found is None:
        kind = _BY_STATUS.get(status, ServerError)
        code = int(headers.get("X-ClickHouse-Exception-Code") or 0)
        return kind(text.strip()[:2000] or f"HTTP status {status} without a message.", code=code, status=status)
    name = found["name"]
    kind = _BY_NAME.get(name) or _BY_STATUS.get(status, ServerError)
    return kind(found["message"], code=int(found["code"]), name=name, status=status)


class _Parts(io.RawIOBase):
    """Keeps what is written to it, without a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Any] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = data if isinstance(data, bytes) else memoryview(data).cast("B")  # type: ignore[arg-type]
        self.parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position


def stream_parts(table: pa.Table) -> list[Any]:
    """A table as an Arrow IPC stream: pieces of bytes, those of columns still where the columns are."""
    import pyarrow as pa

    sink = _Parts()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.parts


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "'": "\\'"})


def parameter_text(name: str, value: object, *, is_inner: bool = False) -> str:
    """A value as the text of a query parameter.

    >>> parameter_text("symbols", ["A", "B"])
    "['A','B']"
    """
    if value is None:
        return "NULL" if is_inner else "\\N"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(dt.UTC).replace(tzinfo=None)
        return _quoted(value.isoformat(sep=" "), is_inner=is_inner)
    if isinstance(value, dt.date):
        return _quoted(value.isoformat(), is_inner=is_inner)
    if isinstance(value, str):
        return _quoted(value.translate(_ESCAPES), is_inner=is_inner)
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ",".join(parameter_text(name, item, is_inner=True) for item in value) + "]"
    if hasattr(value, "item"):  # a numpy scalar
        return parameter_text(name, value.item(), is_inner=is_inner)
    if isinstance(value, (int, float)):
        return repr(value)
    raise InvalidTypeError(
        f"Parameter {name!r} is a {type(value).__name__}; give a number, string, bool, date, datetime, None, or a list."
    )


def _quoted(text: str, *, is_inner: bool) -> str:
    return f"'{text}'" if is_inner else text
