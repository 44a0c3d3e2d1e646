"""Running the application on a socket: in the foreground for the console command, in a thread for notebooks."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import uvicorn

from zeptodb.config import PipelineConfig
from zeptodb.errors import ConfigError
from zeptodb.pipeline import Pipeline
from zeptodb.server.app import make_app
from zeptodb.server.protocol import AbortableProtocol
from zeptodb.server.settings import ServerSettings


def make_pipeline(settings: ServerSettings) -> Pipeline:
    """The Pipeline that a server of these settings serves."""
    config = PipelineConfig(memory_limit=settings.memory_limit, allowed_directories=settings.allowed_directories)
    return Pipeline(config, backend=settings.backend)


def make_server(pipeline: Pipeline, settings: ServerSettings) -> uvicorn.Server:
    """A uvicorn server, not running yet."""
    config = uvicorn.Config(
        make_app(pipeline, settings),
        host=settings.host,
        port=settings.port,
        http=AbortableProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    return uvicorn.Server(config)


class BackgroundServer:
    """A server in a thread of its own; a context manager.

        with BackgroundServer(ServerSettings(port=0)) as server:
            db = zeptodb.connect(port=server.port)

    Leaving it finishes the requests in flight, drains the queue and stops the Pipeline.
    """

    def __init__(self, settings: ServerSettings | None = None, *, pipeline: Pipeline | None = None) -> None:
        self.settings = settings or ServerSettings(port=0)
        self.pipeline = pipeline or make_pipeline(self.settings)
        self._server = make_server(self.pipeline, self.settings)
        self._socket = self._server.config.bind_socket()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zeptodb-server", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"{'https' if self.settings.tls_key else 'http'}://{self.settings.host}:{self.port}"

    def __enter__(self) -> Self:
        """Start; returns when requests are answered."""
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.005)
            if not self._thread.is_alive():
                raise ConfigError("The server could not be started; its log says why.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """Finish what is in flight and stop; returns when that is done."""
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])
