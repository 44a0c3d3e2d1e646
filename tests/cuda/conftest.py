"""Backends on emulated devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import zeptodb.pipeline
from tests.emulator.build import CannotBuildError
from tests.emulator.driver import EmuDriver
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cuda.backend import CudaBackend
from zeptodb.config import PipelineConfig
from zeptodb.pipeline import Pipeline


def emulated(number: int = 0, **settings: Any) -> EmuDriver:
    try:
        return EmuDriver(number=number, **settings)
    except CannotBuildError as error:
        pytest.skip(str(error))


@pytest.fixture
def driver() -> EmuDriver:
    return emulated()


@pytest.fixture
def make_pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pipeline]]:
    """Makes Pipelines on emulated devices; keyword arguments go to the backend, `config` to the Pipeline."""
    made = []

    def make(driver: EmuDriver, *, config: PipelineConfig | None = None, **settings: Any) -> Pipeline:
        backend = CudaBackend(driver, CpuBackend(threads=1), **settings)
        with monkeypatch.context() as patch:
            patch.setattr(zeptodb.pipeline, "_make_backend", lambda *_: backend)
            pipeline = Pipeline(config)
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        pipeline.stop()
