"""What goes over the wire beside tables: parameters as text, and errors of the server as exceptions."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping

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
