"""Values that a statement spells out: numbers, timestamps, intervals; read as DuckDB reads them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from decimal import Decimal

from zeptodb.sql.bound import BoundConstant, SqlType
from zeptodb.types import INT64_MAX, INT64_MIN, NANOSECONDS_PER_SECOND

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
HUGEINT_MAX = 2**127 - 1

# Patterns that `re` compiles for the first statement that needs them, and keeps.
_NUMBER = r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_ISO = (
    r"\s*(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?"
    r"\s*(Z|[+-]\d{2}(?::?\d{2})?)?\s*"
)
_INTERVAL_PART = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*([a-zA-Zµ]+)\s*,?")

UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": NANOSECONDS_PER_SECOND,
    "min": 60 * NANOSECONDS_PER_SECOND,
    "hour": 3_600 * NANOSECONDS_PER_SECOND,
    "day": 86_400 * NANOSECONDS_PER_SECOND,
    "week": 7 * 86_400 * NANOSECONDS_PER_SECOND,
}
"""Lengths of the units that always have the same length."""

_UNIT_NAMES = {
    "ns": ("ns", "nanosecond", "nanoseconds"),
    "us": ("us", "µs", "usec", "usecs", "microsecond", "microseconds"),
    "ms": ("ms", "msec", "msecs", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "min": ("m", "min", "mins", "minute", "minutes"),
    "hour": ("h", "hr", "hrs", "hour", "hours"),
    "day": ("d", "day", "days"),
    "week": ("w", "week", "weeks"),
}
_UNIT_OF = {name: unit for unit, names in _UNIT_NAMES.items() for name in names}

MONDAY_ORIGIN_NS = -3 * UNIT_NS["day"]
"""1969-12-29, the Monday that ISO weeks are counted from."""


def unit_ns(name: str) -> int | None:
    """Length of a unit by any of its names (case-insensitive); None for months, years and unknown words."""
    unit = _UNIT_OF.get(name.lower())
    return None if unit is None else UNIT_NS[unit]


_LONG_DIGITS = 40


def number(text: str) -> BoundConstant | None:
    """A numeric literal: INTEGER, BIGINT or HUGEINT by size, DECIMAL with a point, DOUBLE with an exponent."""
    if len(text) < _LONG_DIGITS and text.isdecimal() and text.isascii():
        return integer(int(text))
    if not re.fullmatch(_NUMBER, text):
        return None
    if "e" in text.lower():
        return BoundConstant(float(text), SqlType.DOUBLE)
    if "." in text:
        return BoundConstant(Decimal(text), SqlType.DECIMAL)
    return integer(int(text))


def integer(value: int) -> BoundConstant | None:
    """An integer literal; None when it is beyond HUGEINT."""
    if INT32_MIN <= value <= INT32_MAX:
        return BoundConstant(value, SqlType.INTEGER)
    if INT64_MIN <= value <= INT64_MAX:
        return BoundConstant(value, SqlType.BIGINT)
    return BoundConstant(value, SqlType.HUGEINT) if abs(value) <= HUGEINT_MAX else None


def timestamp_ns(text: str) -> int | None:
    """ns since the epoch of an ISO date or time (UTC unless it names an offset); None if it is none or beyond int64."""
    match = re.fullmatch(_ISO, text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        return None
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = delta.days * 86_400 + delta.seconds - _zone_seconds(zone)
    value = seconds * NANOSECONDS_PER_SECOND + int((fraction or "0").ljust(9, "0"))
    return value if INT64_MIN <= value <= INT64_MAX else None


def _zone_seconds(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    seconds = int(digits[:2]) * 3_600 + int(digits[2:] or 0) * 60
    return -seconds if zone[0] == "-" else seconds


def interval_ns(text: str, unit: str = "") -> int | None:
    """ns of an interval such as '5 minutes', '1 hour 30 minutes', '5m', or `text` of `unit`; None for months."""
    text = f"{text} {unit}" if unit else text
    total, position = Decimal(0), 0
    while position < len(text.rstrip()):
        match = _INTERVAL_PART.match(text, position)
        length = unit_ns(match.group(2)) if match else None
        if match is None or length is None:
            return None
        total += Decimal(match.group(1)) * length
        position = match.end()
    if total != int(total) or position == 0:
        return None
    return int(total) if INT64_MIN <= total <= INT64_MAX else None


def now_ns() -> int:
    """The present moment in ns since the epoch."""
    return time.time_ns()
