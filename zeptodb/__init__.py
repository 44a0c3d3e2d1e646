"""ZeptoDB: tick analytics in a Python process.

    import zeptodb
    pipeline = zeptodb.Pipeline()

Names are imported when they are first used, so that `import zeptodb` costs little more than `import numpy`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zepto_py.connection import ApexConnection
    from zeptodb.config import PipelineConfig, StorageMode
    from zeptodb.errors import (
        AccessDeniedError,
        AlreadyExistsError,
        AuthenticationError,
        BackendUnavailableError,
        ConfigError,
        InvalidInputError,
        InvalidTypeError,
        LossyConversionError,
        NotSupportedError,
        PipelineStoppedError,
        QueryError,
        RemoteQueryError,
        RemoteTableError,
        RequestTimeoutError,
        RequestTooLargeError,
        ServerBusyError,
        ServerError,
        ServerUnreachableError,
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
    "AccessDeniedError",
    "AlreadyExistsError",
    "AuthenticationError",
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
    "RemoteQueryError",
    "RemoteTableError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "ServerBusyError",
    "ServerError",
    "ServerUnreachableError",
    "StorageMode",
    "UnknownColumnError",
    "UnknownNameError",
    "UnknownTableError",
    "ZeptoError",
    "__version__",
    "connect",
]


def connect(
    host: str = "localhost",
    port: int = 8123,
    api_key: str | None = None,
    *,
    timeout: float = 60.0,
    secure: bool = False,
    ca_file: str | None = None,
    retries: int = 2,
) -> ApexConnection:
    """A connection to a running `zepto_server`; see `zepto_py.ApexConnection`."""
    from zepto_py import connection

    return connection.connect(host, port, api_key, timeout=timeout, secure=secure, ca_file=ca_file, retries=retries)


def __getattr__(name: str) -> object:
    """Import the module that defines a public name when the name is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'zeptodb' has no attribute {name!r}")
    from zeptodb.imports import collections_kept_young

    with collections_kept_young():
        value: object = getattr(import_module(f"zeptodb.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names."""
    return sorted(__all__)
