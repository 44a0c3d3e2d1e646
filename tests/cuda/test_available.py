"""Which backend a Pipeline gets, on machines with a device and without; devices are emulated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cuda.conftest import emulated
from tests.emulator.driver import EmuDriver
from zeptodb import BackendUnavailableError, ConfigError, PipelineConfig
from zeptodb.backends import cuda
from zeptodb.installation import as_text, find_installation
from zeptodb.pipeline import Pipeline

DEVICES = 2


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[EmuDriver]:
    """A machine with two emulated devices; the drivers that were opened."""
    opened: list[EmuDriver] = []

    def open_device(number: int | None = None) -> EmuDriver:
        if number is not None and number >= DEVICES:
            raise ConfigError(f"device is {number}; this machine has {DEVICES} CUDA device(s), counted from 0.")
        opened.append(emulated(0 if number is None else number))
        return opened[-1]

    monkeypatch.setattr(cuda, "clearly_missing", str)
    monkeypatch.setattr(cuda, "open_device", open_device)
    return opened


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose driver is too old."""

    def open_device(number: int | None = None) -> Any:
        raise BackendUnavailableError("The NVIDIA driver knows CUDA 11.4; ZeptoDB needs 12 or newer.")

    monkeypatch.setattr(cuda, "clearly_missing", str)
    monkeypatch.setattr(cuda, "open_device", open_device)


def test_auto_takes_the_device_and_the_cpu_by_cost(machine: list[EmuDriver]) -> None:
    with Pipeline() as pipeline:
        assert pipeline.backend.name == "emu"
        threads = pipeline.backend.host.device
        assert repr(pipeline.backend) == f"emu (emulated GPU 0) or cpu ({threads}), by estimated cost"
        pipeline.ingest_batch([1, 1], [10, 20], [1, 3], [1, 2])
        assert pipeline.execute("SELECT vwap(price, volume) FROM trades").rows == [[17.5]]
        stats = pipeline.stats()
    assert (stats.backend_reason, stats.operators_on_device, stats.operators_off_device) == (
        "emulated GPU 0 is there", 0, 1
    )  # fmt: skip


def test_cuda_runs_everything_on_the_device(machine: list[EmuDriver]) -> None:
    with Pipeline(backend="cuda") as pipeline:
        assert repr(pipeline.backend) == "emu (emulated GPU 0)"
        pipeline.ingest_batch([1, 1], [10, 20], [1, 3], [1, 2])
        assert pipeline.execute("SELECT vwap(price, volume) FROM trades").engine == "native:emu"
        assert pipeline.stats().operators_on_device == 1


def test_a_device_is_chosen_by_its_number(machine: list[EmuDriver]) -> None:
    with Pipeline(PipelineConfig(device=1), backend="cuda") as pipeline:
        pipeline.ingest_batch([1, 1], [10, 20], [1, 3], [1, 2])
        assert pipeline.execute("SELECT vwap(price, volume) FROM trades").rows == [[17.5]]
        column = pipeline.get_column(1, "price", device=True)
        assert column.__dlpack_device__() == (2, 1)
    assert [driver.number for driver in machine] == [1]
    assert machine[0].launches > 0
    for backend in ("auto", "cuda"):
        with pytest.raises(ConfigError, match="device is 2; this machine has 2 CUDA"):
            Pipeline(PipelineConfig(device=2), backend=backend)


def test_the_limit_of_device_memory_holds(machine: list[EmuDriver]) -> None:
    config = PipelineConfig(arena_size=1 << 20, device_memory_limit=3 << 20)
    with Pipeline(config, backend="cuda") as pipeline:
        assert pipeline.backend.image.limit_bytes == 3 << 20
    with pytest.raises(ConfigError, match=r"device_memory_limit is .*; emulated GPU 0 has 8589934592 bytes"):
        Pipeline(PipelineConfig(device_memory_limit=1 << 40), backend="cuda")
    with Pipeline(backend="cuda") as pipeline:
        assert pipeline.backend.image.limit_bytes == int(0.8 * (8 << 30))


@pytest.mark.parametrize("name", ["device", "device_memory_limit"])
def test_settings_of_a_device_are_no_use_without_one(name: str) -> None:
    config = PipelineConfig(**{name: 1 << 30})
    with pytest.raises(ConfigError, match=f'{name} is .*, and backend="cpu" has no device; leave {name} out'):
        Pipeline(config, backend="cpu")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": -1}, "device is -1; it must be at least 0"),
        ({"device": "0"}, "device is '0'; give a whole number"),
        ({"device": True}, "device is True"),
        ({"device_memory_limit": 0}, "device_memory_limit is 0"),
        ({"device_memory_limit": 1.5e9}, "device_memory_limit is 1500000000.0; give a whole number"),
        ({"device_memory_limit": 1 << 20}, "device_memory_limit is 1048576; it must be at least arena_size"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PipelineConfig(**settings)


def test_a_device_that_cannot_be_used_leaves_the_cpu_and_the_reason(broken: None) -> None:
    with Pipeline() as pipeline:
        assert pipeline.backend.name == "cpu"
        assert pipeline.stats().backend_reason.startswith("The NVIDIA driver knows CUDA 11.4")
        with pytest.raises(BackendUnavailableError, match=r"knows CUDA 11\.4"):
            pipeline.get_column(1, "price", device=True)
    with pytest.raises(BackendUnavailableError, match=r'backend="cuda" cannot be used: The NVIDIA driver'):
        Pipeline(backend="cuda")


def test_without_cupy_the_reason_is_how_to_get_it() -> None:
    with Pipeline() as pipeline:
        assert pipeline.backend.name == "cpu"
        assert pipeline.stats().backend_reason.startswith("CuPy is not installed (pip install")
    with Pipeline(backend="cpu") as pipeline:
        assert pipeline.stats().backend_reason == ""
    assert "CuPy is not installed" in as_text(find_installation())


def test_without_a_driver_cupy_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "cupy.py").write_text("raise AssertionError('nobody asked for CuPy')")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from zeptodb.backends import cuda; cuda.DEVICE_FILES = ('/dev/no-such-device',)\n"
        "import zeptodb; pipeline = zeptodb.Pipeline(); print(pipeline.stats().backend_reason)\n"
        "zeptodb.Pipeline(backend='cpu')\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    expected = "No NVIDIA driver is loaded" if sys.platform == "linux" else ""
    assert ran.stdout.startswith(expected)


def test_a_cpu_pipeline_loads_nothing_of_the_device(tmp_path: Path) -> None:
    script = (
        "import sys, zeptodb; zeptodb.Pipeline().execute('SELECT count(*) FROM trades').raise_for_error()\n"
        "print(sorted(name for name in sys.modules if name.startswith(('cupy', 'zeptodb.backends.cuda.'))))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_every_setting_of_the_environment_is_heard(monkeypatch: pytest.MonkeyPatch, machine: list[EmuDriver]) -> None:
    seen = []
    for name in ("cpu", "cuda", "auto"):
        monkeypatch.setenv("ZEPTODB_BACKEND", name)
        with Pipeline() as pipeline:
            seen.append(repr(pipeline.backend).partition(" (")[0])
    assert seen == ["cpu", "emu", "emu"]
    assert len(machine) == 2
