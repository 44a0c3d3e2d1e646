"""Configuration of a Pipeline, checked when it is made."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Literal

from zeptodb.errors import ConfigError, NotSupportedError
from zeptodb.record import record

MIN_ARENA_BYTES = 64 * 1024


class StorageMode(Enum):
    """Where rows live."""

    PURE_IN_MEMORY = "pure_in_memory"
    TIERED = "tiered"
    PURE_ON_DISK = "pure_on_disk"


_ONLY_VALUES = {"storage_mode": StorageMode.PURE_IN_MEMORY, "data_dir": None, "wal_sync": "off"}
"""Of settings of features that are not there yet."""


@record(kw_only=True)
class PipelineConfig:
    """Settings of a Pipeline; every field is checked, none is accepted and ignored.

    Attributes:
        arena_size: bytes of one host arena; a larger block gets a mapping of its own.
        drain_batch_size: most ticks that the drain thread appends at once.
        storage_mode: only PURE_IN_MEMORY so far.
        queue_capacity: most ticks waiting in the queue.
        overflow: what a full queue does: "block" makes the caller drain a batch itself, "drop" drops and counts.
        data_dir: folder of the write-ahead log; not available yet.
        wal_sync: when the log reaches the disk; not available yet.
        num_threads: worker threads of the CPU kernels; None takes one per core that this process may use.
        memory_limit: bytes that the rows of one statement may take in native operators, and that DuckDB may use in
            all; more is an error. None: no limit, and DuckDB's own default.
        allowed_directories: the only folders in which SQL may read and write files, () for none; the settings of
            DuckDB and its extensions are locked then as well. None: any file that the process may touch.
        summaries: keep partial results of blocks of rows, at most a sixteenth of the data, and answer from them.
        device: which GPU of the machine, counted from 0; None: the first one.
        device_memory_limit: bytes of device memory that rows may take there, at least arena_size; None: four fifths of
            what is free. What has not been used for longest goes first; a query that needs more runs on the CPU. Arrays
            of `get_column(device=True)` that are held keep their memory, also beyond the limit.

    Raises ConfigError for a value that makes no sense and NotSupportedError for a feature that is not there yet.
    """

    arena_size: int = 32 * 1024 * 1024
    drain_batch_size: int = 256
    storage_mode: StorageMode = StorageMode.PURE_IN_MEMORY
    queue_capacity: int = 65_536
    overflow: Literal["block", "drop"] = "block"
    data_dir: str | Path | None = None
    wal_sync: Literal["always", "interval", "off"] = "off"
    num_threads: int | None = None
    memory_limit: int | None = None
    allowed_directories: tuple[str | Path, ...] | None = None
    summaries: bool = True
    device: int | None = None
    device_memory_limit: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        _require_int("arena_size", self.arena_size, minimum=MIN_ARENA_BYTES)
        _require_int("drain_batch_size", self.drain_batch_size, minimum=1)
        _require_int("queue_capacity", self.queue_capacity, minimum=1)
        for name in ("num_threads", "memory_limit"):
            value = getattr(self, name)
            if value is not None:
                _require_int(name, value, minimum=1)
        if self.allowed_directories is not None:
            _require_directories(self.allowed_directories)
        if not isinstance(self.summaries, bool):
            raise ConfigError(f"summaries is {self.summaries!r}; give True or False.")
        if not isinstance(self.storage_mode, StorageMode):
            raise ConfigError(f"storage_mode is {self.storage_mode!r}; give a zeptodb.StorageMode.")
        _require_choice("overflow", self.overflow, ("block", "drop"))
        _require_choice("wal_sync", self.wal_sync, ("always", "interval", "off"))
        if self.device is not None:
            _require_int("device", self.device, minimum=0)
        if self.device_memory_limit is not None:
            _require_int("device_memory_limit", self.device_memory_limit, minimum=1)
            if self.device_memory_limit < self.arena_size:
                raise ConfigError(
                    f"device_memory_limit is {self.device_memory_limit}; it must be at least arena_size, which is "
                    f"{self.arena_size}."
                )
        for name, default in _ONLY_VALUES.items():
            if getattr(self, name) != default:
                raise NotSupportedError(
                    f"{name}={getattr(self, name)!r} is not available in this version; leave {name} at {default!r}."
                )


def _require_int(name: str, value: object, *, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; give a whole number of at least {minimum}.")
    if value < minimum:
        raise ConfigError(f"{name} is {value}; it must be at least {minimum}.")


def _require_directories(value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(item, (str, Path)) for item in value):
        raise ConfigError(f"allowed_directories is {value!r}; give a tuple of paths, or None.")
    for item in value:
        if not Path(item).is_dir():
            raise ConfigError(f"allowed_directories has {str(item)!r}, and there is no such folder.")


def _require_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}.")
