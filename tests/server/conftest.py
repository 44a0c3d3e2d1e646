"""A server of its own for each module, on a free port of the loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import urllib3

from tests.server.http import Http
from zeptodb.server.serve import BackgroundServer
from zeptodb.server.settings import ServerSettings


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer(ServerSettings(port=0, backend="cpu")) as running:
        yield running


@pytest.fixture
def http(server: BackgroundServer) -> Iterator[Http]:
    with urllib3.PoolManager(retries=False) as pool:
        yield Http(pool, server.url)
