"""ZeptoDB: tick analytics in a Python process.

    import zeptodb
    pipeline = zeptodb.Pipeline()

Names are imported when they are first used, so that `import zeptodb` costs little more than `import numpy`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zeptodb.config import PipelineConfig, StorageMode
    from zeptodb.errors import (
        AlreadyExistsError,
        BackendUnavailableError,
        ConfigError,
        InvalidInputError,
        InvalidTypeError,
        LossyConversionError,
        NotSupportedError,
        PipelineStoppedError,
        QueryError,
        UnknownColumnError,
        UnknownNameError,
        UnknownTableError,
        ZeptoError,
    )
    from zeptodb.pipeline import Pipeline
    from zeptodb.sql import QueryExecutor
    from zeptodb.sql.result import QueryResult
    from zeptodb.statistics import PipelineStats

__version__ = "0.1.0"

_HOMES = {
    "Pipeline": "pipeline",
    "PipelineStats": "statistics",
    "PipelineConfig": "config",
    "StorageMode": "config",
    "QueryExecutor": "sql",
    "QueryResult": "sql.result",
}

__all__ = [
    "AlreadyExistsError",
    "BackendUnavailableError",
    "ConfigError",
    "InvalidInputError",
    "InvalidTypeError",
    "LossyConversionError",
    "NotSupportedError",
    "Pipeline",
    "PipelineConfig",
    "PipelineStats",
    "PipelineStoppedError",
    "QueryError",
    "QueryExecutor",
    "QueryResult",
    "StorageMode",
    "UnknownColumnError",
    "UnknownNameError",
    "UnknownTableError",
    "ZeptoError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import the module that defines a public name when the name is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'zeptodb' has no attribute {name!r}")
    value: object = getattr(import_module(f"zeptodb.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names."""
    return sorted(__all__)
