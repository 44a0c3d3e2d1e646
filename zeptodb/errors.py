"""One tree of errors; each says what was given, what is allowed and what to do.

    ZeptoError
    ├── InvalidInputError (ValueError)         an argument or a value in the data is not allowed
    │   ├── LossyConversionError               a value would not survive the conversion to its column's type
    │   └── ConfigError                        a field of the configuration is unknown or makes no sense
    ├── InvalidTypeError (TypeError)           an argument or a column has the wrong type
    ├── UnknownNameError (KeyError)            nothing has that name
    │   ├── UnknownTableError
    │   └── UnknownColumnError
    ├── AlreadyExistsError (ValueError)        a table of that name is there already
    ├── QueryError (ValueError)                a statement cannot be run
    │   ├── QueryCancelledError                a statement was cancelled
    │   ├── QueryTimeoutError (TimeoutError)   a statement ran longer than it may
    │   └── MemoryLimitError (MemoryError)     a statement needs more memory than it may use
    ├── NotSupportedError (NotImplementedError) the feature does not exist (yet)
    ├── BackendUnavailableError (RuntimeError) the device or its libraries are missing
    ├── PipelineStoppedError (RuntimeError)    ingest after stop()
    ├── ServerUnreachableError (ConnectionError) no server answers, or the connection broke
    └── ServerError                            a server refused a request or failed; has its code, name and status
        ├── AuthenticationError (PermissionError) no key, or one that is wrong or expired
        ├── AccessDeniedError (PermissionError) the key may not do that
        ├── ServerBusyError                    too many requests, or the server is stopping: try again later
        ├── RequestTimeoutError (TimeoutError) the statement ran longer than it may
        ├── RequestTooLargeError (ValueError)  more bytes or rows than the server takes or gives
        └── RemoteQueryError (QueryError)      the statement or the data is wrong
            └── RemoteTableError (UnknownTableError)

User mistakes also inherit the built-in exception that a Python programmer would catch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZeptoError(Exception):
    """Root of all errors raised by ZeptoDB."""

    def __str__(self) -> str:
        """The message as given (KeyError alone would print its repr)."""
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class InvalidInputError(ZeptoError, ValueError):
    """An argument or a value in the data is not allowed."""


class LossyConversionError(InvalidInputError):
    """A value would not survive the conversion to its column's type."""


class ConfigError(InvalidInputError):
    """A field of the configuration is unknown or makes no sense."""


class InvalidTypeError(ZeptoError, TypeError):
    """An argument or a column has the wrong type."""


class UnknownNameError(ZeptoError, KeyError):
    """Nothing has that name."""


class UnknownTableError(UnknownNameError):
    """No table has that name."""


class UnknownColumnError(UnknownNameError):
    """No column of the table has that name."""


class AlreadyExistsError(ZeptoError, ValueError):
    """A table of that name is there already."""


class QueryError(ZeptoError, ValueError):
    """A statement cannot be run."""


class QueryCancelledError(QueryError):
    """A statement was cancelled while it ran."""


class QueryTimeoutError(QueryError, TimeoutError):
    """A statement ran longer than its timeout."""


class MemoryLimitError(QueryError, MemoryError):
    """A statement needs more memory than the configuration allows it."""


class NotSupportedError(ZeptoError, NotImplementedError):
    """The feature does not exist."""


class BackendUnavailableError(ZeptoError, RuntimeError):
    """The device or its libraries are missing."""


class PipelineStoppedError(ZeptoError, RuntimeError):
    """Ticks were given to a pipeline that has been stopped."""


class ServerUnreachableError(ZeptoError, ConnectionError):
    """No server answers at that address, or the connection broke."""


class ServerError(ZeptoError):
    """A server refused a request, or failed.

    Attributes:
        code: the server's number for it, ClickHouse's where there is one.
        name: the name that goes with it, such as UNKNOWN_TABLE.
        status: HTTP status.
    """

    def __init__(self, message: str, *, code: int = 0, name: str = "", status: int = 500) -> None:
        super().__init__(message)
        self.code = code
        self.name = name
        self.status = status


class AuthenticationError(ServerError, PermissionError):
    """No key was given, or one that is wrong or expired."""


class AccessDeniedError(ServerError, PermissionError):
    """The key does not give the right to do that."""


class ServerBusyError(ServerError):
    """The server has too many requests, or is stopping: try again later."""


class RequestTimeoutError(ServerError, TimeoutError):
    """A statement ran longer than the server lets it."""


class RequestTooLargeError(ServerError, ValueError):
    """More bytes or rows than the server takes or gives."""


class RemoteQueryError(ServerError, QueryError):
    """A server cannot run a statement, or cannot take the data."""


class RemoteTableError(RemoteQueryError, UnknownTableError):
    """The server has no table of that name."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of an error message that names the nearest known name and all of them.

    >>> did_you_mean("pric", ["price", "volume"])
    ' Did you mean "price"? Known: price, volume.'
    """
    names = list(known)
    if not names:
        return " There is none yet."
    lower = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    hint = f' Did you mean "{lower[close[0]]}"?' if close else ""
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"{hint} Known: {shown}."


def unknown_table(name: str, known: Iterable[str]) -> UnknownTableError:
    """The error for a table that nobody created."""
    return UnknownTableError(f'There is no table "{name}".{did_you_mean(name, known)}')


def unknown_column(name: str, table: str, known: Iterable[str]) -> UnknownColumnError:
    """The error for a column that the table does not have."""
    return UnknownColumnError(f'Table "{table}" has no column "{name}".{did_you_mean(name, known)}')
