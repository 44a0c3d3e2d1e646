"""The backends that every conformance test runs over, and the gaps that they declare."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.emulator.build import CannotBuildError
from tests.emulator.driver import EmuDriver
from zeptodb.backends.base import Backend
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cuda import missing_parts, open_device
from zeptodb.backends.cuda.backend import CudaBackend


def _cpu() -> Backend:
    return CpuBackend(threads=2, row_threshold=1)


def _cpu_single() -> Backend:
    return CpuBackend(threads=1)


def _emu() -> Backend:
    try:
        return CudaBackend(EmuDriver(), CpuBackend(threads=2, row_threshold=1))
    except CannotBuildError as error:
        pytest.skip(str(error))


def _cuda() -> Backend:
    return CudaBackend(open_device(), CpuBackend(threads=2, row_threshold=1))


BACKENDS: dict[str, Callable[[], Backend]] = {"cpu": _cpu, "cpu-single": _cpu_single, "emu": _emu}
"""How each backend is made; "cpu" shares even the smallest work with a second thread, "emu" is an emulated GPU, and
"cuda" is there on a machine with a device."""
if not missing_parts():
    BACKENDS["cuda"] = _cuda

GAPS: dict[str, frozenset[str]] = {name: frozenset() for name in BACKENDS}
"""Per backend the names of test functions that are known to fail; one that passes fails until it leaves the list."""


@pytest.fixture(scope="session", params=list(BACKENDS))
def any_backend(request: pytest.FixtureRequest) -> Iterator[tuple[str, Backend]]:
    made = BACKENDS[request.param]()
    yield request.param, made
    made.close()


@pytest.fixture
def backend(any_backend: tuple[str, Backend], request: pytest.FixtureRequest) -> Backend:
    name, made = any_backend
    if getattr(request.node, "originalname", request.node.name) in GAPS[name]:
        request.node.add_marker(pytest.mark.xfail(strict=True, reason=f"declared gap of {name}"))
    return made
