"""One HTTP request to `/`, taken apart: parameters of URL, headers and form, the statement, the data behind it."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from dataclasses import field

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

from zeptodb.record import record
from zeptodb.server.codes import Code, failure
from zeptodb.server.compression import decompressed, too_large, unframed

_QUERY_ID = re.compile(r"[^\x20-\x7e]")
_LONGEST_ID = 200

UNFINISHED = b"INTERNAL EXCEPTION WHILE SERIALIZING"
"""What clickhouse-connect appends to an insert that it cannot finish."""


@record
class Options:
    """What a request asks for beside its statement.

    Attributes:
        parameters: of the URL and of a form, by name.
        query_id: the client's, or one of ours.
        database: the default database.
        default_format: the format without a FORMAT clause.
        read_only: whether the method forbids writing.
    """

    parameters: Mapping[str, str]
    query_id: str
    database: str
    default_format: str
    read_only: bool

    def flag(self, name: str) -> bool:
        """Whether a parameter is set to something that means yes."""
        return self.parameters.get(name, "0").lower() not in ("", "0", "false")

    def number(self, name: str) -> int:
        """A parameter that is a whole number; 0 without one. Raises BAD_ARGUMENTS."""
        text = self.parameters.get(name, "") or "0"
        try:
            return int(float(text))
        except (ValueError, OverflowError) as error:
            raise failure(Code.BAD_ARGUMENTS, f"{name} is {text[:40]!r}; give a whole number.") from error

    @property
    def query_parameters(self) -> dict[str, str]:
        """Values for `{name:Type}`."""
        return {name[6:]: value for name, value in self.parameters.items() if name.startswith("param_")}


def options_of(request: Request, form: Mapping[str, str] | None = None, *, query_id: str = "") -> Options:
    """The options of a request."""
    parameters = {**dict(request.query_params), **(form or {})}
    headers = request.headers
    given = parameters.get("query_id") or headers.get("x-clickhouse-query-id") or query_id
    return Options(
        parameters=parameters,
        query_id=_QUERY_ID.sub("", given)[:_LONGEST_ID] or str(uuid.uuid4()),
        database=parameters.get("database") or headers.get("x-clickhouse-database") or "",
        default_format=parameters.get("default_format") or headers.get("x-clickhouse-format") or "",
        read_only=request.method in ("GET", "HEAD") or parameters.get("readonly", "0") not in ("", "0"),
    )


@record(frozen=False)
class Body:
    """What came with a request: bytes, or a form."""

    data: bytes = b""
    form: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def is_form(request: Request) -> bool:
    """Whether parameters, perhaps the key among them, come in the body."""
    return request.headers.get("content-type", "").startswith("multipart/form-data")


async def read_body(request: Request, *, limit_bytes: int, timeout_seconds: float) -> Body:
    """The body, decompressed and, if it is a form, taken apart.

    Raises for a body that is longer than the limit, before or after decompression, broken, or silent for too long.
    """
    length = request.headers.get("content-length")
    if length is not None and (not length.isdecimal() or int(length) > limit_bytes):
        raise too_large(limit_bytes)
    data = await _read_bytes(request, limit_bytes, timeout_seconds)
    encoding = request.headers.get("content-encoding", "")
    if encoding:
        data = await asyncio.to_thread(decompressed, data, encoding, limit_bytes)
    if request.query_params.get("decompress", "0") not in ("", "0"):
        data = await asyncio.to_thread(unframed, data, limit_bytes)
    return await _read_form(request, data, limit_bytes) if is_form(request) else Body(data)


async def _read_bytes(request: Request, limit_bytes: int, timeout_seconds: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(timeout_seconds) as patience:
            extended = clock()
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise failure(Code.CANNOT_READ_ALL_DATA, "The client went away before its body ended.")
                part = message.get("body", b"")
                size += len(part)
                if size > limit_bytes:
                    raise too_large(limit_bytes)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts) if len(parts) != 1 else parts[0]
                now = clock()
                if part and now > extended + timeout_seconds / 8:
                    patience.reschedule(now + timeout_seconds)
                    extended = now
    except TimeoutError as error:
        raise failure(
            Code.SOCKET_TIMEOUT, f"Nothing of the body arrived for {timeout_seconds:g} s; nothing was stored."
        ) from error


async def _read_form(request: Request, data: bytes, limit_bytes: int) -> Body:
    async def receive() -> Message:
        return {"type": "http.request", "body": data, "more_body": False}

    body = Body()
    try:
        async with Request(request.scope, receive).form(
            max_fields=1_000, max_files=100, max_part_size=min(limit_bytes, 1 << 26)
        ) as form:
            for name, value in form.multi_items():
                if isinstance(value, str):
                    body.form[name] = value
                else:
                    body.files[name] = await value.read()
    except (HTTPException, MultiPartException, UnicodeDecodeError) as error:
        reason = getattr(error, "detail", None) or getattr(error, "message", error)
        raise failure(Code.BAD_ARGUMENTS, f"The multipart form is broken: {reason}.") from error
    return body


def statement_bytes(options: Options, body: Body) -> bytes:
    """The statement: ?query= and the body, with a newline between them when both are there."""
    query = options.parameters.get("query", "").encode()
    if body.form or body.files:
        return query
    if query and body.data:
        return query + b"\n" + body.data
    return query or body.data


def as_text(data: bytes) -> str:
    """A statement as text; raises for invalid UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise failure(
            Code.CANNOT_PARSE_TEXT, f"The statement is not valid UTF-8 at byte {error.start}; send it as UTF-8."
        ) from error
