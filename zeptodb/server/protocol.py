"""uvicorn's HTTP protocol, with a way for the application to drop a connection whose client takes nothing any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "zeptodb.abort"


class AbortableProtocol(HttpToolsProtocol):
    """Hands each request the means to close its connection at once; closing waits for what was written already."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"abort": self.transport.abort}}


def abort_of(scope: Scope) -> Callable[[], None]:
    """What drops the connection of a request, with all that still waits to be sent; nothing under another server."""
    extension: dict[str, Any] = scope.get("extensions", {}).get(EXTENSION, {})
    return cast("Callable[[], None]", extension.get("abort", lambda: None))
