"""Sessions: settings that `SET` leaves for later requests with the same session_id."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import field
from threading import Lock

from zeptodb.record import record
from zeptodb.server.codes import Code, failure
from zeptodb.server.statement import Token

MOST_SESSIONS = 10_000
DEFAULT_TIMEOUT_SECONDS = 60.0
LONGEST_TIMEOUT_SECONDS = 3_600.0


@record(frozen=False)
class _Session:
    settings: dict[str, str] = field(default_factory=dict)
    ends: float = 0.0


class Sessions:
    """Settings by user and session_id, forgotten after a while without use; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sessions: OrderedDict[tuple[str, str], _Session] = OrderedDict()

    def settings(self, user: str, session_id: str, *, timeout_seconds: float, must_exist: bool) -> dict[str, str]:
        """The settings of a session, which now lives that much longer; raises SESSION_NOT_FOUND if it must exist."""
        if not session_id:
            return {}
        now = time.monotonic()
        with self._lock:
            key = (user, session_id)
            session = self._sessions.get(key)
            if session is not None and session.ends < now:
                del self._sessions[key]
                session = None
            if session is None:
                if must_exist:
                    raise failure(Code.SESSION_NOT_FOUND, f"There is no session {session_id[:60]!r}, or it has ended.")
                session = self._sessions[key] = _Session()
            session.ends = now + min(timeout_seconds or DEFAULT_TIMEOUT_SECONDS, LONGEST_TIMEOUT_SECONDS)
            self._sessions.move_to_end(key)
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
            return dict(session.settings)

    def change(self, user: str, session_id: str, settings: dict[str, str]) -> None:
        """Keep settings for later requests of a session; without a session_id they have no effect."""
        with self._lock:
            session = self._sessions.get((user, session_id))
            if session is not None:
                session.settings.update(settings)


def assignments(found: list[Token]) -> dict[str, str]:
    """The settings of `SET a = 1, b = 'x'` or `USE name`; raises SYNTAX_ERROR."""
    if found[0].upper == "USE" and len(found) == 2:
        return {"database": found[1].text.strip('`"')}
    settings: dict[str, str] = {}
    position = 1
    while position + 2 < len(found) and found[position].kind == "word" and found[position + 1].text == "=":
        name = found[position].text
        position += 2
        sign = "-" if found[position].text == "-" else ""
        position += len(sign)
        if position >= len(found):
            break
        settings[name] = sign + found[position].text.strip("'")
        position += 1
        if position == len(found):
            return settings
        if found[position].text != ",":
            break
        position += 1
    raise failure(Code.SYNTAX_ERROR, "Syntax error: write SET name = value, or USE database.")
