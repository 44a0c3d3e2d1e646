"""Logs as lines of JSON on stderr; no line ever has a key, a password, a URL's parameters, or data."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys

LOGGER = logging.getLogger("zeptodb.server")
_FIELDS = "fields"


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, message, and the fields that were given."""
        line: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, _FIELDS, {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logs(level: str) -> None:
    """Send the server's and uvicorn's log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("zeptodb", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False


def log(level: int, message: str, **fields: object) -> None:
    """One line with fields."""
    LOGGER.log(level, message, extra={_FIELDS: fields})
