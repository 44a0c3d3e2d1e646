"""Engines on an emulated device, and records in memory's reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import operations, opponents
from bench.gpu.clock import HostClock
from bench.gpu.engines import Engines, engines_on
from bench.gpu.record import Record, read_record
from tests.emulator.build import CannotBuildError
from tests.emulator.driver import EmuDriver


@pytest.fixture(autouse=True)
def short_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (operations, opponents):
        monkeypatch.setattr(module, "_LEAST_RUNS", 1)
        monkeypatch.setattr(module, "_ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(operations, "_LAP_RUNS", 1)


@pytest.fixture
def make_engines() -> Iterator[Callable[..., Engines]]:
    made = []

    def make(**limits: int) -> Engines:
        try:
            driver = EmuDriver(**{"memory_limit": 64 << 20, **limits})
        except CannotBuildError as error:
            pytest.skip(str(error))
        made.append(engines_on(driver, HostClock(driver), nominal=2e9, threads=1))
        return made[-1]

    yield make
    for engines in made:
        engines.device.close()


@pytest.fixture
def engines(make_engines: Callable[..., Engines]) -> Engines:
    return make_engines()


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "record", 60.0)


@pytest.fixture
def found(record: Record) -> Callable[[str], list[dict[str, Any]]]:
    return lambda what: [entry for entry in read_record(record.path)[0] if entry["what"] == what]


@pytest.fixture
def skipped(record: Record) -> Callable[[], dict[str, str]]:
    return lambda: {entry["skipped"]: entry["reason"] for entry in read_record(record.path)[1]}
