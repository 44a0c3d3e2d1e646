"""Which backend a Pipeline gets: the one that was asked for, or what this machine has."""

from __future__ import annotations

from zeptodb.backends import cuda
from zeptodb.backends.base import Backend
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.config import PipelineConfig
from zeptodb.errors import BackendUnavailableError, ConfigError


def make_backend(name: str, config: PipelineConfig) -> Backend:
    """The backend "cpu" or "cuda", or, for "auto", a device beside the CPU if there is one.

    Raises ConfigError for other names and settings that this machine does not have, and BackendUnavailableError when
    "cuda" is not there. CuPy is imported only where a device may be.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise ConfigError(f'backend is {name!r}; allowed: "auto", "cpu", "cuda".')
    host = CpuBackend(threads=config.num_threads, summaries=config.summaries)
    if name == "cpu":
        _require_no_device(config)
        return host
    if name == "cuda":
        try:
            return _with_device(host, config, is_forced=True)
        except BackendUnavailableError as error:
            raise BackendUnavailableError(f'backend="cuda" cannot be used: {error} Use backend="cpu" here.') from error
    host.reason = cuda.clearly_missing()
    if host.reason:
        return host
    try:
        return _with_device(host, config, is_forced=False)
    except BackendUnavailableError as error:
        host.reason = str(error)
        return host


def _with_device(host: CpuBackend, config: PipelineConfig, *, is_forced: bool) -> Backend:
    driver = cuda.open_device(config.device)
    from zeptodb.backends.cuda.backend import CudaBackend

    total, limit = driver.memory_bytes[1], config.device_memory_limit
    if limit is not None and limit > total:
        raise ConfigError(f"device_memory_limit is {limit}; {driver.device} has {total} bytes.")
    if is_forced:
        return CudaBackend(driver, host, device_memory_limit=limit)
    return CudaBackend(driver, host, policy="cost", reason=f"{driver.device} is there", device_memory_limit=limit)


def _require_no_device(config: PipelineConfig) -> None:
    for name in ("device", "device_memory_limit"):
        value = getattr(config, name)
        if value is not None:
            raise ConfigError(
                f'{name} is {value!r}, and backend="cpu" has no device; leave {name} out, or take backend="cuda" or '
                '"auto".'
            )
