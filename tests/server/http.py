"""Plain HTTP to a server under test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import urllib3


@dataclass(frozen=True)
class Http:
    pool: urllib3.PoolManager
    url: str

    def post(self, body: str | bytes, path: str = "/", headers: dict[str, str] | None = None, **options: object) -> Any:
        return self.request("POST", path, body=body, headers=headers, **options)

    def get(self, path: str = "/", headers: dict[str, str] | None = None, **options: object) -> Any:
        return self.request("GET", path, headers=headers, **options)

    def request(
        self,
        method: str,
        path: str = "/",
        *,
        body: str | bytes | None = None,
        headers: dict[str, str] | None = None,
        **options: object,
    ) -> Any:
        url = self.url + path + (f"?{urlencode(options)}" if options else "")
        data = body.encode() if isinstance(body, str) else body
        return self.pool.request(method, url, body=data, headers=headers, decode_content=False)

    def text(self, sql: str, **options: object) -> str:
        answer = self.post(sql, **options)
        assert answer.status == 200, answer.data
        return str(answer.data, "utf-8")
