"""What a server is told when it starts: on the command line, in a TOML file, or as arguments."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Literal

from zeptodb.errors import ConfigError, did_you_mean
from zeptodb.record import record

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


@record(kw_only=True)
class ServerSettings:
    """Settings of a server; every one is checked.

    Attributes:
        host: address to listen on; anything but loopback needs `require_auth`, or `allow_open_bind`.
        port: TCP port; 0 takes a free one.
        backend: backend of the Pipeline.
        require_auth: refuse requests without a valid key.
        keys: file of keys, as `zeptodb keys create` writes it.
        allow_open_bind: listen on other addresses than loopback although no keys are required.
        tls_certificate, tls_key: PEM files; both or none.
        allowed_directories: where SQL may read and write files; empty: nowhere.
        max_body_bytes: longest request body, also after decompression.
        max_result_rows: most rows of an answer; 0: no limit.
        max_execution_seconds: longest time of one statement.
        max_concurrent_statements: statements that run at once; others wait.
        max_waiting_statements: statements that wait; more are refused with 429.
        memory_limit: bytes of one statement; None: no limit.
        body_timeout_seconds: longest silence while a body is being received.
        send_timeout_seconds: longest time that a client may take nothing of an answer.
        grace_seconds: how long a stopping server waits for requests in flight.
        log_level: least level of what is logged.
    """

    host: str = "127.0.0.1"
    port: int = 8123
    backend: Literal["auto", "cpu", "cuda"] = "auto"
    require_auth: bool = False
    keys: Path | None = None
    allow_open_bind: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    allowed_directories: tuple[Path, ...] = ()
    max_body_bytes: int = 2 * GIBIBYTE
    max_result_rows: int = 0
    max_execution_seconds: float = 300.0
    max_concurrent_statements: int = 8
    max_waiting_statements: int = 512
    memory_limit: int | None = None
    body_timeout_seconds: float = 60.0
    send_timeout_seconds: float = 300.0
    grace_seconds: float = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        """Check every field, and what they are together."""
        _check_numbers(self)
        if self.backend not in ("auto", "cpu", "cuda"):
            raise ConfigError(f'backend is {self.backend!r}; allowed: "auto", "cpu", "cuda".')
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise ConfigError(f'log_level is {self.log_level!r}; allowed: "debug", "info", "warning", "error".')
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("Only one of tls_certificate and tls_key is given; give both, or none for plain HTTP.")
        for name in ("tls_certificate", "tls_key"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ConfigError(f"{name} is {str(path)!r}, and there is no such file; give a PEM file.")
        for directory in self.allowed_directories:
            if not directory.is_dir():
                raise ConfigError(f"allowed_directories has {str(directory)!r}, and there is no such directory.")
        if self.require_auth and self.keys is None:
            raise ConfigError("require_auth needs keys; give a file that `zeptodb keys create` wrote.")
        if not self.require_auth and not self.allow_open_bind and not _is_loopback(self.host):
            raise ConfigError(
                f"host is {self.host!r}, which others can reach, and no keys are required; use require_auth with keys, "
                "or allow_open_bind if everybody on that network may read and write."
            )


def load_settings(path: Path | None, given: Mapping[str, object]) -> ServerSettings:
    """Settings of a TOML file (none: the defaults) with those `given` on top; raises ConfigError."""
    values: dict[str, object] = {} if path is None else _read_toml(path)
    known = {field.name for field in fields(ServerSettings)}
    for name in [*values, *given]:
        if name not in known:
            raise ConfigError(f'There is no setting "{name}".{did_you_mean(name, sorted(known))}')
    values.update(given)
    for name in ("keys", "tls_certificate", "tls_key"):
        value = values.get(name)
        if isinstance(value, str):
            values[name] = Path(value)
    directories = values.get("allowed_directories")
    if isinstance(directories, (list, tuple)):
        values["allowed_directories"] = tuple(Path(str(directory)) for directory in directories)
    return ServerSettings(**values)  # type: ignore[arg-type]  # checked in __post_init__


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {str(path)!r} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration {str(path)!r} is no TOML: {error}.") from error


_WHOLE = ("port", "max_body_bytes", "max_result_rows", "max_concurrent_statements", "max_waiting_statements")
_SECONDS = ("max_execution_seconds", "body_timeout_seconds", "send_timeout_seconds", "grace_seconds")
_FLAGS = ("require_auth", "allow_open_bind")
_PATHS = ("keys", "tls_certificate", "tls_key")
_MAY_BE_ZERO = ("port", "max_result_rows", "max_waiting_statements", "grace_seconds")


def _check_numbers(settings: ServerSettings) -> None:
    if not settings.host:
        raise ConfigError(f"host is {settings.host!r}; give an address or a name.")
    for name in _FLAGS:
        if not isinstance(getattr(settings, name), bool):
            raise ConfigError(f"{name} is {getattr(settings, name)!r}; give true or false.")
    for name in _PATHS:
        if not isinstance(getattr(settings, name), (Path, type(None))):
            raise ConfigError(f"{name} is {getattr(settings, name)!r}; give a path.")
    if not isinstance(settings.allowed_directories, tuple):
        raise ConfigError(f"allowed_directories is {settings.allowed_directories!r}; give a list of paths.")
    for name in (*_WHOLE, *_SECONDS, "memory_limit"):
        value = getattr(settings, name)
        if name == "memory_limit" and value is None:
            continue
        kinds = (int, float) if name in _SECONDS else int
        least = 0 if name in _MAY_BE_ZERO else 1
        if isinstance(value, bool) or not isinstance(value, kinds) or (value < least and name not in _SECONDS):
            raise ConfigError(f"{name} is {value!r}; give a whole number of at least {least}.")
        if name in _SECONDS and not (value > 0 or (value == 0 and name in _MAY_BE_ZERO)):
            raise ConfigError(f"{name} is {value!r}; give a positive number of seconds.")
    if settings.port > 65_535:
        raise ConfigError(f"port is {settings.port}; the highest is 65535.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
