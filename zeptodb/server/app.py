"""The routes of the server, as a Starlette application around one Pipeline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from zeptodb.errors import ServerError, ZeptoError
from zeptodb.pipeline import Pipeline
from zeptodb.server.access import OPEN
from zeptodb.server.codes import failure_of
from zeptodb.server.compression import chosen_encoding, compressed, framed
from zeptodb.server.requests import Options, options_of, read_body, statement_bytes
from zeptodb.server.running import RunningStatement, RunningStatements
from zeptodb.server.service import Outcome, Service
from zeptodb.server.settings import ServerSettings
from zeptodb.server.system_tables import DISPLAY_NAME, TIMEZONE, VERSION

SMALL_ROWS = 4_096


def make_app(pipeline: Pipeline, settings: ServerSettings) -> Starlette:
    """The application; its lifespan starts the Pipeline and, at the end, drains and stops it."""
    state = _Server(pipeline, settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        pipeline.start()
        yield
        await asyncio.to_thread(pipeline.stop)
        state.threads.shutdown()

    routes = [
        Route("/", state.statement, methods=["GET", "POST"]),
        Route("/ping", state.ping, methods=["GET"]),
        Route("/insert/arrow", state.insert_arrow, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class _Server:
    def __init__(self, pipeline: Pipeline, settings: ServerSettings) -> None:
        self.settings = settings
        self.running = RunningStatements()
        self.service = Service(pipeline, settings, self.running)
        self.threads = ThreadPoolExecutor(settings.max_concurrent_statements, thread_name_prefix="zeptodb-statement")

    async def ping(self, _: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def statement(self, request: Request) -> Response:
        options = options_of(request)
        try:
            body = await read_body(
                request, limit_bytes=self.settings.max_body_bytes, timeout_seconds=self.settings.body_timeout_seconds
            )
            if body.form:
                options = options_of(request, body.form)
            data = statement_bytes(options, body)
            if request.method == "GET" and not data.strip():
                return PlainTextResponse("Ok.\n")
            entry = RunningStatement(options.query_id, "", "default", request.client.host if request.client else "")
            loop = asyncio.get_running_loop()
            outcome = await loop.run_in_executor(self.threads, self.service.run, data, options, OPEN, entry)
            return self._answer(outcome, options, request)
        except ZeptoError as error:
            return self._error(failure_of(error), options)

    async def insert_arrow(self, request: Request) -> Response:
        options = options_of(request)
        try:
            body = await read_body(
                request, limit_bytes=self.settings.max_body_bytes, timeout_seconds=self.settings.body_timeout_seconds
            )
            loop = asyncio.get_running_loop()
            stored = await loop.run_in_executor(self.threads, self.service.insert_arrow, body.data, options, OPEN)
        except ZeptoError as error:
            return self._error(failure_of(error), options)
        return JSONResponse({"rows": stored}, headers=_headers(options))

    def _answer(self, outcome: Outcome, options: Options, request: Request) -> Response:
        headers = _headers(options)
        headers["X-ClickHouse-Summary"] = _summary(outcome)
        if outcome.answer is None or outcome.format is None:
            return Response(b"", headers=headers)
        headers["X-ClickHouse-Format"] = outcome.format.name
        headers["Content-Type"] = outcome.format.media_type
        pieces = outcome.format.write(outcome.answer)
        if options.flag("compress"):
            pieces = framed(pieces)
        elif options.flag("enable_http_compression"):
            encoding = chosen_encoding(request.headers.get("accept-encoding", ""))
            if encoding is not None:
                headers["Content-Encoding"] = encoding
                pieces = compressed(pieces, encoding)
        if outcome.answer.table.num_rows <= SMALL_ROWS:
            return Response(b"".join(pieces), headers=headers)
        return StreamingResponse(pieces, headers=headers)

    def _error(self, error: ServerError, options: Options) -> Response:
        headers = _headers(options)
        headers["X-ClickHouse-Exception-Code"] = str(error.code)
        message = str(error).rstrip()
        text = f"Code: {error.code}. DB::Exception: {message} ({error.name}) (version {VERSION} (official build))\n"
        return PlainTextResponse(text, status_code=error.status, headers=headers)


def _headers(options: Options) -> dict[str, str]:
    return {
        "X-ClickHouse-Query-Id": options.query_id,
        "X-ClickHouse-Server-Display-Name": DISPLAY_NAME,
        "X-ClickHouse-Timezone": TIMEZONE,
    }


def _summary(outcome: Outcome) -> str:
    answer = outcome.answer
    numbers = {
        "read_rows": outcome.rows_read,
        "read_bytes": 0,
        "written_rows": outcome.rows_written,
        "written_bytes": 0,
        "total_rows_to_read": outcome.rows_read,
        "result_rows": 0 if answer is None else answer.table.num_rows,
        "result_bytes": 0 if answer is None else answer.table.nbytes,
        "elapsed_ns": int(outcome.elapsed_seconds * 1e9),
    }
    return json.dumps({name: str(value) for name, value in numbers.items()})
