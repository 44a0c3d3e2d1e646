"""Rates are measured by a clock that the machine itself moves, kept on disk, and not measured twice."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.cuda.conftest import emulated
from tests.emulator.driver import EmuDriver
from zeptodb.backends.base import AggregateScan
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cuda.calibrate import MachineRates, measure
from zeptodb.backends.cuda.cost import CAUTIOUS, Rates
from zeptodb.backends.cuda.driver import OutOfDeviceMemoryError

TRUE = Rates(
    host_bytes=7e9, device_bytes=3e12, pinned_bytes=25e9, pageable_bytes=4e9, launch_seconds=15e-6
)  # fmt: skip


class Machine:
    """A device and a CPU whose work moves the clock at known rates."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.driver = emulated(rates=None)
        self.host = CpuBackend(threads=1)
        self._after(monkeypatch, self.driver, "on_device", lambda _, __, size: 2 * size / TRUE.device_bytes)
        self._after(monkeypatch, self.driver, "to_device", lambda _, __, size: size / TRUE.pinned_bytes)
        self._after(monkeypatch, self.driver, "launch", lambda *_: TRUE.launch_seconds)
        first = 1 / TRUE.pageable_bytes - 1 / TRUE.pinned_bytes
        self._after(monkeypatch, self.driver, "register", lambda _, size: size * first)
        self._after(monkeypatch, self.host, "aggregate", self._host_seconds)
        self.measured = 0

    def clock(self) -> float:
        self.measured += 1
        return self.now

    def _after(self, monkeypatch: pytest.MonkeyPatch, of: object, name: str, seconds) -> None:
        inner = getattr(of, name)

        def moved(*arguments):
            answer = inner(*arguments)
            self.now += seconds(*arguments)
            return answer

        monkeypatch.setattr(of, name, moved)

    def _host_seconds(self, operation: AggregateScan) -> float:
        return 16 * operation.scan.ranges.rows / TRUE.host_bytes


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_measured_rates_are_the_machines(machine: Machine) -> None:
    found = asdict(measure(machine.driver, machine.host, machine.clock))
    assert found == pytest.approx(asdict(TRUE), rel=1e-6)
    assert not machine.driver.registered


def test_rates_are_measured_once_per_machine(machine: Machine, tmp_path: Path) -> None:
    rates = MachineRates(machine.driver, machine.host, folder=tmp_path)
    assert rates() == CAUTIOUS
    assert rates.are_assumed
    rates.calibrate(machine.clock)
    assert asdict(rates()) == pytest.approx(asdict(TRUE), rel=1e-6)
    measured = machine.measured
    again = MachineRates(machine.driver, machine.host, folder=tmp_path)
    again.calibrate(machine.clock)
    assert (again(), again.are_assumed, machine.measured) == (rates(), False, measured)


@pytest.mark.parametrize("name", ["device", "versions", "threads"])
def test_another_machine_has_rates_of_its_own(machine: Machine, tmp_path: Path, name: str) -> None:
    rates = MachineRates(machine.driver, machine.host, folder=tmp_path)
    rates.calibrate(machine.clock)
    if name == "threads":
        machine.host.configure_threads(2)
    else:
        setattr(machine.driver, name, "another")
    assert MachineRates(machine.driver, machine.host, folder=tmp_path)() == CAUTIOUS


@pytest.mark.parametrize("text", ["", "{}", "[1]", json.dumps(asdict(replace(TRUE, host_bytes=0)))])
def test_a_damaged_file_counts_as_none(tmp_path: Path, text: str) -> None:
    driver, host = emulated(rates=None), CpuBackend(threads=1)
    path = MachineRates(driver, host, folder=tmp_path).path
    assert path is not None
    path.write_text(text)
    assert MachineRates(driver, host, folder=tmp_path)() == CAUTIOUS


def test_a_folder_that_cannot_be_written_keeps_rates_in_memory(machine: Machine, tmp_path: Path) -> None:
    rates = MachineRates(machine.driver, machine.host, folder=tmp_path / "none")
    rates.calibrate(machine.clock)
    assert rates() != CAUTIOUS


def test_a_device_without_room_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = emulated(rates=None)

    def refuse(*_: object) -> None:
        raise OutOfDeviceMemoryError("no room")

    monkeypatch.setattr(driver, "allocate", refuse)
    rates = MachineRates(driver, CpuBackend(threads=1), folder=tmp_path)
    rates.calibrate()
    assert rates() == CAUTIOUS
    assert not list(tmp_path.iterdir())


def test_given_rates_are_not_measured(driver: EmuDriver, tmp_path: Path) -> None:
    rates = MachineRates(driver, CpuBackend(threads=1), folder=tmp_path)
    rates.calibrate()
    assert (rates(), rates.are_assumed) == (driver.rates, False)
    assert driver.copies == 0
