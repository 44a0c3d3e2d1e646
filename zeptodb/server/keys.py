"""Keys: made once, shown once, kept only as hashes in a file that nobody else can read."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from zeptodb.errors import ConfigError, InvalidInputError, UnknownNameError
from zeptodb.record import record
from zeptodb.server.access import ROLES, Grant, Role

PREFIX = "zepto_"
_KEY = re.compile(rf"{PREFIX}[0-9a-f]{{64}}")
_DURATION = re.compile(r"(\d+)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_FORMAT = 1


@record
class StoredKey:
    """What is kept of a key.

    Attributes:
        name: by which it is listed and revoked.
        sha256: of the key, in hex. Keys are 256 random bits, so that no slower hash is needed.
        role: what it may do.
        tables: the only tables that it may touch; None: all.
        created, expires: in UTC; None: never.
    """

    name: str
    sha256: str
    role: Role
    tables: tuple[str, ...] | None
    created: dt.datetime
    expires: dt.datetime | None

    def is_expired(self, now: dt.datetime) -> bool:
        """Whether it is no longer valid."""
        return self.expires is not None and now >= self.expires

    @property
    def grant(self) -> Grant:
        """Its rights."""
        tables = None if self.tables is None else frozenset(table.lower() for table in self.tables)
        return Grant(self.name, self.role, tables)


def create_key(
    path: Path, *, role: str, name: str | None = None, tables: Sequence[str] | None = None, expires: str | None = None
) -> str:
    """Make a key, add its hash to the file, and return it: it cannot be shown again.

    expires: a duration such as 90d or 12h, or a date or time in UTC. Raises InvalidInputError and ConfigError.
    """
    if role not in ROLES:
        raise InvalidInputError(f"role is {role!r}; allowed: {', '.join(ROLES)}.")
    if tables is not None and (role == "admin" or not tables):
        raise InvalidInputError("tables are for the roles writer and reader, and at least one; an admin has all.")
    known = read_keys(path) if path.exists() else []
    chosen = name or f"{role}-{secrets.token_hex(4)}"
    if any(key.name == chosen for key in known):
        raise InvalidInputError(f"There is a key called {chosen!r} already; give another name, or revoke that one.")
    now = dt.datetime.now(dt.UTC)
    secret = PREFIX + secrets.token_hex(32)
    stored = StoredKey(
        chosen, _hash(secret), role, None if tables is None else tuple(tables), now, _moment(expires, now)
    )
    _write_keys(path, [*known, stored])
    return secret


def revoke_key(path: Path, name: str) -> None:
    """Remove a key from the file; raises UnknownNameError."""
    known = read_keys(path)
    rest = [key for key in known if key.name != name]
    if len(rest) == len(known):
        raise UnknownNameError(f"There is no key called {name!r}. Known: {', '.join(key.name for key in known)}.")
    _write_keys(path, rest)


def read_keys(path: Path) -> list[StoredKey]:
    """The keys of a file; raises ConfigError when it is missing, broken, or readable by others."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"The key file {str(path)!r} cannot be read: {error.strerror}. `zeptodb keys create` makes one."
        ) from error
    if mode & 0o077:
        raise ConfigError(
            f"Others may read or write the key file {str(path)!r} (mode {mode & 0o777:o}); run: chmod 600 {path}"
        )
    try:
        return [_stored(entry) for entry in json.loads(text)["keys"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"The key file {str(path)!r} is broken; restore it, or make new keys.") from error


class KeyFile:
    """The keys of a file, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: list[StoredKey] = []
        self._refresh()

    def find(self, secret: str) -> StoredKey | None:
        """The key that a secret is, expired ones too. Every stored hash is compared, each in constant time."""
        self._refresh()
        given = _hash(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, given):
                found = key
        return found

    def _refresh(self) -> None:
        status = self._path.stat() if self._path.exists() else None
        stamp = None if status is None else (status.st_mtime_ns, status.st_ino)
        if stamp is None or stamp != self._stamp:
            with self._lock:
                self._keys = read_keys(self._path)
                self._stamp = stamp


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _moment(expires: str | None, now: dt.datetime) -> dt.datetime | None:
    if expires is None:
        return None
    duration = _DURATION.fullmatch(expires.strip())
    if duration is not None:
        return now + dt.timedelta(seconds=int(duration[1]) * _SECONDS[duration[2]])
    try:
        moment = dt.datetime.fromisoformat(expires)
    except ValueError as error:
        raise InvalidInputError(
            f"expires is {expires!r}; give a duration such as 90d or 12h, or a date such as 2030-01-31."
        ) from error
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def _stored(entry: dict[str, object]) -> StoredKey:
    role, tables, expires = entry["role"], entry["tables"], entry["expires"]
    if role not in ROLES or not (tables is None or isinstance(tables, list)):
        raise ValueError(role)
    return StoredKey(
        str(entry["name"]),
        str(entry["sha256"]),
        role,
        None if tables is None else tuple(str(table) for table in tables),
        dt.datetime.fromisoformat(str(entry["created"])),
        None if expires is None else dt.datetime.fromisoformat(str(expires)),
    )


def _write_keys(path: Path, keys: Sequence[StoredKey]) -> None:
    """Replace the file in one step, readable by its owner alone from the first byte on."""
    entries = [
        {
            "name": key.name,
            "sha256": key.sha256,
            "role": key.role,
            "tables": None if key.tables is None else list(key.tables),
            "created": key.created.isoformat(),
            "expires": None if key.expires is None else key.expires.isoformat(),
        }
        for key in keys
    ]
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "keys": entries}, file, indent=2)
        Path(temporary).replace(path)
    except OSError as error:
        raise ConfigError(f"The key file {str(path)!r} cannot be written: {error.strerror}.") from error
