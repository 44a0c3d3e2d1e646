"""Who sends a request: the key in its headers or parameters, and the rights that the key gives."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Mapping

from starlette.requests import Request

from zeptodb.server.access import OPEN, Grant
from zeptodb.server.codes import Code, failure
from zeptodb.server.keys import KeyFile


class Authentication:
    """Finds out the rights of a request."""

    def __init__(self, keys: KeyFile | None) -> None:
        """Without keys everybody may do everything."""
        self._keys = keys

    def grant_of(self, request: Request, form: Mapping[str, str] | None = None) -> Grant:
        """The rights of a request; raises REQUIRED_PASSWORD without a key and AUTHENTICATION_FAILED for a bad one."""
        if self._keys is None:
            return OPEN
        secret = _secret(request, form or {})
        if not secret:
            raise failure(
                Code.REQUIRED_PASSWORD,
                "A key is required: send it as Authorization: Bearer, as X-ClickHouse-Key, or as the password.",
            )
        key = self._keys.find(secret)
        if key is None:
            raise failure(Code.AUTHENTICATION_FAILED, "Authentication failed: the key is wrong, or was revoked.")
        if key.is_expired(dt.datetime.now(dt.UTC)):
            raise failure(Code.AUTHENTICATION_FAILED, f'Authentication failed: the key "{key.name}" has expired.')
        return key.grant


def _secret(request: Request, form: Mapping[str, str]) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    if scheme.lower() == "basic":
        password = _basic_password(value)
        if password:
            return password
    return request.headers.get("x-clickhouse-key") or request.query_params.get("password") or form.get("password") or ""


def _basic_password(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError) as error:
        raise failure(
            Code.AUTHENTICATION_FAILED, "The Authorization header is not valid Basic authentication."
        ) from error
