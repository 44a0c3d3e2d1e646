"""The routes of the server, as a Starlette application around one Pipeline."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from zeptodb import __version__
from zeptodb.errors import ConfigError, ZeptoError
from zeptodb.pipeline import Pipeline
from zeptodb.server.access import Grant
from zeptodb.server.admission import Admission
from zeptodb.server.answers import Prepared, StreamedAnswer, common_headers, error_answer
from zeptodb.server.authentication import Authentication
from zeptodb.server.codes import Code, failure, failure_of
from zeptodb.server.keys import KeyFile
from zeptodb.server.logs import log
from zeptodb.server.metrics import CONTENT_TYPE, Metrics
from zeptodb.server.requests import Body, Options, is_form, options_of, read_body, statement_bytes
from zeptodb.server.running import RunningStatement, RunningStatements
from zeptodb.server.service import Call, Service
from zeptodb.server.settings import ServerSettings

Result = TypeVar("Result")
Handler = Callable[[Request, Options], Awaitable[Response]]

AGAIN_SECONDS = 0.2
"""How often a statement that shall end is told so."""

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-ClickHouse-User, X-ClickHouse-Key",
    "Access-Control-Max-Age": "86400",
}


def make_app(pipeline: Pipeline, settings: ServerSettings) -> Starlette:
    """The application; its lifespan starts the Pipeline and, at the end, drains and stops it.

    Raises ConfigError for a Pipeline whose SQL may touch any file.
    """
    if pipeline.config.allowed_directories is None:
        raise ConfigError(
            "The SQL of this Pipeline may read and write any file, and over HTTP that is not safe; make it with "
            "PipelineConfig(allowed_directories=()), or name the folders that clients may use."
        )
    server = _Server(pipeline, settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        pipeline.start()
        log(logging.INFO, "serving", version=__version__, backend=pipeline.backend.name)
        yield
        await asyncio.to_thread(server.close)
        log(logging.INFO, "stopped", rows=sum(table.row_count for table in pipeline.catalog.tables()))

    methods = {
        "/": ("GET", "POST", "OPTIONS"),
        "/insert/arrow": ("POST",),
        "/queries/{query_id}": ("DELETE",),
    }
    routes = [
        Route(path, server.answering(path, handler), methods=list(methods.get(path, ("GET",))))
        for path, handler in server.handlers.items()
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: server.no_such_route})


class _Server:
    """What the routes share."""

    def __init__(self, pipeline: Pipeline, settings: ServerSettings) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.running = RunningStatements()
        self.service = Service(pipeline, settings, self.running)
        self.metrics = Metrics(pipeline)
        self.authentication = Authentication(
            KeyFile(settings.keys) if settings.require_auth and settings.keys is not None else None
        )
        self.admission = Admission(
            most_running=settings.max_concurrent_statements, most_waiting=settings.max_waiting_statements
        )
        self.threads = ThreadPoolExecutor(settings.max_concurrent_statements, thread_name_prefix="zeptodb-statement")
        self.encoders = ThreadPoolExecutor(2, thread_name_prefix="zeptodb-encoder")
        self.handlers: dict[str, Handler] = {
            "/": self.statement,
            "/ping": self.ping,
            "/health": self.health,
            "/ready": self.ready,
            "/stats": self.stats,
            "/metrics": self.prometheus,
            "/insert/arrow": self.insert_arrow,
            "/queries": self.queries,
            "/queries/{query_id}": self.kill,
        }

    def close(self) -> None:
        """Finish what runs, store what is queued, and stop."""
        self.threads.shutdown()
        self.encoders.shutdown()
        self.pipeline.stop()

    # ---- around every request --------------------------------------------------------------------------------------

    def answering(self, path: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A handler with what goes for all: errors become answers, and each request is counted and logged."""

        async def answer(request: Request) -> Response:
            began = time.perf_counter()
            options = options_of(request)
            try:
                response = await handler(request, options)
            except ZeptoError as error:
                reason = failure_of(error)
                self.metrics.errors.labels(reason.name).inc()
                response = error_answer(reason, options)
            except Exception as error:  # noqa: BLE001 - where a request begins
                log(logging.ERROR, "a request failed", error=f"{type(error).__name__}: {error}", path=path)
                self.metrics.errors.labels("LOGICAL_ERROR").inc()
                response = error_answer(
                    failure(Code.LOGICAL_ERROR, f"The server failed: {type(error).__name__}; its log says more."),
                    options,
                )
            seconds = time.perf_counter() - began
            self.metrics.requests.labels(path, request.method, str(response.status_code)).inc()
            self.metrics.seconds.labels(path).observe(seconds)
            log(
                logging.DEBUG if response.status_code < 400 else logging.INFO,
                "request",
                method=request.method,
                path=path,
                status=response.status_code,
                query_id=options.query_id,
                client=_address(request),
                ms=round(seconds * 1e3, 3),
            )
            return response

        return answer

    async def no_such_route(self, request: Request, error: Exception) -> Response:
        """An unknown path, or a method that a path does not have."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        known = ", ".join(self.handlers)
        reason = (
            failure(Code.UNSUPPORTED_METHOD, f"{request.method} is not for this path; see docs/server.md.")
            if status == 405
            else failure(Code.UNKNOWN_PATH, f"There is nothing at this path. Known: {known}.")
        )
        response = error_answer(reason, options_of(request))
        response.headers.update(getattr(error, "headers", None) or {})
        return response

    # ---- statements ------------------------------------------------------------------------------------------------

    async def statement(self, request: Request, options: Options) -> Response:
        """`/`: a statement in ?query=, in the body, or in both."""
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=CORS)
        if not is_form(request):  # who sends no key shall not send a body
            self.authentication.grant_of(request)
        body = await self._body(request)
        options = options_of(request, body.form, query_id=options.query_id)
        grant = self.authentication.grant_of(request, body.form)
        data = statement_bytes(options, body)
        if request.method in ("GET", "HEAD") and not data.strip():
            return PlainTextResponse("Ok.\n", headers=common_headers(options))
        entry = self._entry(request, options, grant)
        accepted = request.headers.get("accept-encoding", "")

        def work() -> Prepared:
            outcome = self.service.run(data, Call(options, grant, entry, body.files))
            self.metrics.rows_read.inc(outcome.rows_read)
            self.metrics.rows_written.inc(outcome.rows_written)
            return Prepared(outcome, options, accepted)

        prepared = await self._in_thread(request, entry, work)
        if prepared.body is not None:
            return Response(prepared.body, 200, prepared.headers)
        return StreamedAnswer(prepared, self.encoders, timeout_seconds=self.settings.send_timeout_seconds)

    async def insert_arrow(self, request: Request, options: Options) -> Response:
        """`/insert/arrow?table=`: an Arrow IPC stream or file into a table."""
        grant = self.authentication.grant_of(request)
        grant.require("write", read_only=options.read_only)
        body = await self._body(request)
        entry = self._entry(request, options, grant)
        entry.text = f"insert into {options.parameters.get('table', 'trades')[:100]}"
        stored = await self._in_thread(request, entry, lambda: self.service.insert_arrow(body.data, options, grant))
        self.metrics.rows_written.inc(stored)
        return JSONResponse({"rows": stored}, headers=common_headers(options))

    async def _body(self, request: Request) -> Body:
        body = await read_body(
            request, limit_bytes=self.settings.max_body_bytes, timeout_seconds=self.settings.body_timeout_seconds
        )
        self.metrics.body_bytes.inc(len(body.data))
        return body

    def _entry(self, request: Request, options: Options, grant: Grant) -> RunningStatement:
        return RunningStatement(options.query_id, "", grant.user, _address(request))

    async def _in_thread(self, request: Request, entry: RunningStatement, work: Callable[[], Result]) -> Result:
        """Run a statement when there is room; a client that goes away meanwhile ends it."""
        with self.running.listed(entry):
            async with self.admission.admitted():
                running: asyncio.Future[Result] = asyncio.get_running_loop().run_in_executor(self.threads, work)
                watching: asyncio.Future[None] = asyncio.ensure_future(_gone(request))
                try:
                    while not running.done():
                        waited_for = (running,) if watching.done() else (running, watching)
                        await asyncio.wait(waited_for, timeout=AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                        if watching.done() or entry.is_cancelled.is_set():
                            self.service.cancel(entry)  # again and again: it may not have begun yet
                    return await running
                finally:
                    watching.cancel()

    # ---- about the server ------------------------------------------------------------------------------------------

    async def ping(self, _: Request, options: Options) -> Response:
        """`/ping`: Ok."""
        return PlainTextResponse("Ok.\n", headers=common_headers(options))

    async def health(self, _: Request, options: Options) -> Response:
        """`/health`: the process answers."""
        del options
        return JSONResponse({"status": "ok", "version": __version__})

    async def ready(self, _: Request, options: Options) -> Response:
        """`/ready`: statements are taken; 503 when so many wait that the next one would be refused."""
        del options
        is_full = self.admission.waiting >= max(1, self.settings.max_waiting_statements)
        return JSONResponse({"status": "busy" if is_full else "ready"}, 503 if is_full else 200)

    async def stats(self, request: Request, options: Options) -> Response:
        """`/stats`: the counters of the Pipeline, and the tables that the key may see."""
        del options
        grant = self.authentication.grant_of(request)
        tables = [table for table in self.pipeline.catalog.tables() if grant.may_see(table.name)]
        return JSONResponse(
            {
                "version": __version__,
                "backend": self.pipeline.backend.name,
                **asdict(self.pipeline.stats()),
                "statements_running": self.admission.running,
                "statements_waiting": self.admission.waiting,
                "tables": {table.name: table.row_count for table in tables},
            }
        )

    async def prometheus(self, request: Request, options: Options) -> Response:
        """`/metrics`: figures for Prometheus."""
        del options
        grant = self.authentication.grant_of(request)
        if grant.tables is not None:
            raise failure(
                Code.ACCESS_DENIED, f'The key "{grant.user}" is for single tables and may not see all figures.'
            )
        self.metrics.running.set(self.admission.running)
        self.metrics.waiting.set(self.admission.waiting)
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def queries(self, request: Request, options: Options) -> Response:
        """`/queries`: what runs now; for admins."""
        del options
        self.authentication.grant_of(request).require("kill")
        return JSONResponse(
            [
                {
                    "query_id": entry.query_id,
                    "query": entry.text[:10_000],
                    "user": entry.user,
                    "client": entry.address,
                    "elapsed_seconds": round(entry.elapsed_seconds, 6),
                }
                for entry in self.running.entries()
            ]
        )

    async def kill(self, request: Request, options: Options) -> Response:
        """DELETE `/queries/{query_id}`: end a statement; for admins."""
        del options
        self.authentication.grant_of(request).require("kill")
        entry = self.running.find(request.path_params["query_id"])
        if entry is None:
            raise failure(Code.UNKNOWN_PATH, "No statement of that query_id runs.")
        self.service.cancel(entry)
        return JSONResponse({"query_id": entry.query_id, "status": "cancelled"})


async def _gone(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""
