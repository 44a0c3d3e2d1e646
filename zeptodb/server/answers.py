"""Answers to requests: headers, bodies in pieces, and errors before and within a body."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Iterator
from concurrent.futures import Executor

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from zeptodb.errors import ServerError, ZeptoError
from zeptodb.server.codes import Code, failure, failure_of
from zeptodb.server.compression import chosen_encoding, compressed, framed
from zeptodb.server.formats.answer import Answer
from zeptodb.server.formats.arrow_output import Piece, arrow_bytes
from zeptodb.server.logs import log
from zeptodb.server.protocol import abort_of
from zeptodb.server.requests import Options
from zeptodb.server.service import Outcome
from zeptodb.server.system_tables import DISPLAY_NAME, TIMEZONE, VERSION

WHOLE_BYTES = 256 * 1024
"""Answers of a table up to this size are encoded at once and sent with their length."""

TAKEN_BYTES = 1 << 22
"""So much of an answer is made at a time; the socket takes it before there is more."""

SHORT_BYTES = 1 << 17
"""Shorter pieces are copied together: handing one to the socket costs more than copying it."""


def common_headers(options: Options) -> dict[str, str]:
    """The headers that every answer has."""
    return {
        "X-ClickHouse-Query-Id": options.query_id,
        "X-ClickHouse-Server-Display-Name": DISPLAY_NAME,
        "X-ClickHouse-Timezone": TIMEZONE,
    }


def error_text(error: ServerError) -> str:
    """An error as ClickHouse writes it."""
    message = str(error).rstrip()
    return f"Code: {error.code}. DB::Exception: {message} ({error.name}) (version {VERSION} (official build))\n"


def error_answer(error: ServerError, options: Options) -> Response:
    """An error in place of an answer."""
    headers = common_headers(options)
    headers["X-ClickHouse-Exception-Code"] = str(error.code)
    headers["Content-Type"] = "text/plain; charset=UTF-8"
    if error.status in (429, 503):
        headers["Retry-After"] = "1"
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="zeptodb"'
    return Response(error_text(error).encode("utf-8", "replace"), error.status, headers)


class Prepared:
    """The answer to a statement, as far as a worker thread makes it: headers, and a body or pieces of one."""

    def __init__(self, outcome: Outcome, options: Options, accepted: str) -> None:
        self.headers = common_headers(options)
        self.headers["X-ClickHouse-Summary"] = _summary(outcome)
        self.body: bytes | None = b""
        self.pieces: Iterator[Piece] = iter(())
        answer, chosen = outcome.answer, outcome.format
        if answer is None or chosen is None:
            return
        self.headers["X-ClickHouse-Format"] = chosen.name
        self.headers["Content-Type"] = chosen.media_type
        is_whole = _is_whole(answer)
        pieces = chosen.write(answer)
        if not is_whole:
            tag = secrets.token_hex(8)
            self.headers["X-ClickHouse-Exception-Tag"] = tag
            pieces = _told(pieces, tag)
        self.pieces = _encoded(pieces, options, accepted, self.headers)
        self.body = b"".join(self.pieces) if is_whole else None
        length = arrow_bytes(answer, chosen.name) if self.body is None else None
        if length is not None and "Content-Encoding" not in self.headers and not options.flag("compress"):
            self.headers["Content-Length"] = str(length)


def _is_whole(answer: Answer) -> bool:
    return answer.size_bytes <= WHOLE_BYTES


def _encoded(pieces: Iterator[Piece], options: Options, accepted: str, headers: dict[str, str]) -> Iterator[Piece]:
    if options.flag("compress"):
        return framed(pieces)
    encoding = chosen_encoding(accepted) if options.flag("enable_http_compression") else None
    if encoding is None:
        return pieces
    headers["Content-Encoding"] = encoding
    return compressed(pieces, encoding)


def _summary(outcome: Outcome) -> str:
    answer = outcome.answer
    numbers = {
        "read_rows": outcome.rows_read,
        "read_bytes": outcome.bytes_read,
        "written_rows": outcome.rows_written,
        "written_bytes": outcome.bytes_written,
        "total_rows_to_read": outcome.rows_read,
        "result_rows": 0 if answer is None else answer.rows,
        "result_bytes": 0 if answer is None else answer.size_bytes,
        "elapsed_ns": int(outcome.elapsed_seconds * 1e9),
    }
    return json.dumps({name: str(value) for name, value in numbers.items()})


class StreamedAnswer(Response):
    """Sends a body some pieces at a time: the next are made when the socket has taken the ones before.

    An error midway is told in the body, as ClickHouse does, and the connection ends. A client that takes nothing for
    `timeout_seconds`, or goes away, frees the answer.
    """

    def __init__(self, prepared: Prepared, executor: Executor, *, timeout_seconds: float) -> None:
        super().__init__(None, 200, prepared.headers)
        if "Content-Length" not in prepared.headers:
            del self.headers["content-length"]
        self._pieces = prepared.pieces
        self._executor = executor
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        request = Request(scope, receive)
        loop = asyncio.get_running_loop()
        making = loop.run_in_executor(self._executor, _next_pieces, self._pieces)
        try:
            while pieces := await making:
                making = loop.run_in_executor(self._executor, _next_pieces, self._pieces)  # while these are sent
                for piece in pieces:
                    async with asyncio.timeout(self._timeout_seconds):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                if await request.is_disconnected():
                    return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log(logging.INFO, "a client took nothing of its answer any more", seconds=self._timeout_seconds)
            abort_of(scope)()
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            making.cancel()
            self._pieces = iter(())


def _next_pieces(pieces: Iterator[Piece]) -> list[Piece]:
    """As many of the pieces as are worth a change of thread, short ones joined; none at the end."""
    taken: list[Piece] = []
    short: list[Piece] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if len(piece) < SHORT_BYTES:
            short.append(piece)
        else:
            taken += [b"".join(short), piece] if short else [piece]
            short = []
        if size >= TAKEN_BYTES:
            break
    if short:
        taken.append(b"".join(short))
    return taken


def _told(pieces: Iterator[Piece], tag: str) -> Iterator[Piece]:
    """The pieces; an error among them becomes the last one, as ClickHouse writes it behind what was sent."""
    try:
        yield from pieces
        return
    except ZeptoError as error:
        reason = failure_of(error)
    except Exception as error:  # noqa: BLE001 - the status has been sent: all that is left is the body
        log(logging.ERROR, "an answer failed midway", error=f"{type(error).__name__}: {error}")
        reason = failure(Code.LOGICAL_ERROR, f"The answer failed midway: {type(error).__name__}.")
    text = error_text(reason).encode("utf-8", "replace")
    mark = tag.encode()
    yield b"\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n" % (mark, text, len(text), mark)
