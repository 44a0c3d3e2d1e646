"""Error codes of ClickHouse, with the HTTP status of each, and which of them stands for which of our errors."""

from __future__ import annotations

import re
from enum import Enum

from zeptodb import errors
from zeptodb.errors import ServerError, ZeptoError


class Code(Enum):
    """What went wrong: ClickHouse's number for it, and the HTTP status."""

    UNSUPPORTED_METHOD = (1, 405)
    CANNOT_PARSE_TEXT = (6, 400)
    UNKNOWN_FORMAT_VERSION = (7, 400)
    NO_SUCH_COLUMN_IN_TABLE = (16, 404)
    CANNOT_PARSE_INPUT_ASSERTION_FAILED = (27, 400)
    CANNOT_READ_ALL_DATA = (33, 400)
    BAD_ARGUMENTS = (36, 400)
    UNKNOWN_FUNCTION = (46, 404)
    UNKNOWN_IDENTIFIER = (47, 404)
    NOT_IMPLEMENTED = (48, 501)
    LOGICAL_ERROR = (49, 500)
    UNKNOWN_TYPE = (50, 404)
    TYPE_MISMATCH = (53, 400)
    TABLE_ALREADY_EXISTS = (57, 400)
    UNKNOWN_TABLE = (60, 404)
    SYNTAX_ERROR = (62, 400)
    UNKNOWN_FORMAT = (73, 404)
    UNKNOWN_PATH = (79, 404)
    UNKNOWN_DATABASE = (81, 404)
    INCORRECT_DATA = (117, 400)
    UNKNOWN_COMPRESSION_METHOD = (89, 400)
    TIMEOUT_EXCEEDED = (159, 408)
    READONLY = (164, 403)
    REQUIRED_PASSWORD = (194, 401)
    TOO_MANY_SIMULTANEOUS_QUERIES = (202, 429)
    SOCKET_TIMEOUT = (209, 408)
    QUERY_IS_TOO_LARGE = (223, 413)
    MEMORY_LIMIT_EXCEEDED = (241, 500)
    CANNOT_DECOMPRESS = (271, 400)
    TOO_LARGE_SIZE_COMPRESSED = (299, 413)
    CHECKSUM_DOESNT_MATCH = (40, 400)
    ZLIB_INFLATE_FAILED = (354, 400)
    SESSION_NOT_FOUND = (372, 404)
    SESSION_IS_LOCKED = (373, 400)
    QUERY_WAS_CANCELLED = (394, 500)
    TOO_MANY_ROWS_OR_BYTES = (396, 413)
    CANNOT_SCHEDULE_TASK = (439, 503)
    UNKNOWN_QUERY_PARAMETER = (456, 400)
    BAD_QUERY_PARAMETER = (457, 400)
    ACCESS_DENIED = (497, 403)
    AUTHENTICATION_FAILED = (516, 403)

    @property
    def number(self) -> int:
        """ClickHouse's number."""
        return self.value[0]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value[1]


def failure(code: Code, message: str) -> ServerError:
    """An error to raise while a request is answered."""
    return ServerError(message, code=code.number, name=code.name, status=code.status)


_BY_TYPE: tuple[tuple[type[ZeptoError], Code], ...] = (
    (errors.QueryTimeoutError, Code.TIMEOUT_EXCEEDED),
    (errors.QueryCancelledError, Code.QUERY_WAS_CANCELLED),
    (errors.MemoryLimitError, Code.MEMORY_LIMIT_EXCEEDED),
    (errors.LossyConversionError, Code.CANNOT_PARSE_INPUT_ASSERTION_FAILED),
    (errors.InvalidInputError, Code.BAD_ARGUMENTS),
    (errors.InvalidTypeError, Code.TYPE_MISMATCH),
    (errors.UnknownTableError, Code.UNKNOWN_TABLE),
    (errors.UnknownColumnError, Code.UNKNOWN_IDENTIFIER),
    (errors.AlreadyExistsError, Code.TABLE_ALREADY_EXISTS),
    (errors.NotSupportedError, Code.NOT_IMPLEMENTED),
    (errors.PipelineStoppedError, Code.CANNOT_SCHEDULE_TASK),
)

_BY_MESSAGE: tuple[tuple[re.Pattern[str], Code], ...] = (
    (
        re.compile(r"^(Syntax error|Parser Error|The statement cannot be parsed|The statement is empty)"),
        Code.SYNTAX_ERROR,
    ),
    (re.compile(r'(?i)^There is no function "|function with name \S+ does not exist'), Code.UNKNOWN_FUNCTION),
    (re.compile(r'^There is no table "|Table with name \S+ does not exist'), Code.UNKNOWN_TABLE),
    (re.compile(r'^There is no column "|has no column "'), Code.UNKNOWN_IDENTIFIER),
    (re.compile(r"not (available|supported) in this version|^Not implemented Error"), Code.NOT_IMPLEMENTED),
    (re.compile(r"^Permission Error"), Code.ACCESS_DENIED),
    (re.compile(r"^(Conversion Error|Could not convert)|and cannot be read as one\."), Code.CANNOT_PARSE_TEXT),
    (re.compile(r"(?i)not enough memory|^Out of Memory"), Code.MEMORY_LIMIT_EXCEEDED),
)


def failure_of(error: ZeptoError) -> ServerError:
    """Any of our errors as one that a client of ClickHouse understands."""
    if isinstance(error, ServerError):
        return error
    message = str(error)
    for kind, code in _BY_TYPE:
        if isinstance(error, kind):
            return failure(code, message)
    return failure_of_message(message)


def failure_of_message(message: str) -> ServerError:
    """The message of a statement that could not be run, with the code that fits best."""
    code = next((code for pattern, code in _BY_MESSAGE if pattern.search(message)), Code.BAD_ARGUMENTS)
    return failure(code, message)
