"""Moments and durations given as Python values (parameters), and the words for units that differ in length."""

from __future__ import annotations

import datetime as dt

import numpy as np

from zeptodb.errors import QueryError
from zeptodb.sql.constants import UNIT_NS, timestamp_ns
from zeptodb.types import INT64_MAX, INT64_MIN

_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()

_CALENDAR_UNITS = frozenset(
    ("mon", "mons", "month", "months", "quarter", "quarters", "y", "yr", "yrs", "year", "years")
)

_NUMPY_UNITS = {
    "W": UNIT_NS["week"],
    "D": UNIT_NS["day"],
    "h": UNIT_NS["hour"],
    "m": UNIT_NS["min"],
    "s": UNIT_NS["s"],
    "ms": UNIT_NS["ms"],
    "us": UNIT_NS["us"],
    "ns": 1,
}


def is_calendar_unit(unit: str) -> bool:
    """Whether the unit is a month or more, which do not all last as long."""
    return unit.strip().lower() in _CALENDAR_UNITS


def required_timestamp_ns(text: str) -> int:
    """Nanoseconds since the epoch of an ISO timestamp; a text that is none raises QueryError."""
    ns = timestamp_ns(text)
    if ns is None:
        raise QueryError(
            f"'{text}' is not a timestamp between 1677 and 2262; write it as '2024-01-31 09:30:00.123456789' (UTC, or "
            "with an offset), or give nanoseconds since the epoch."
        )
    return ns


def moment_ns(value: object) -> int | None:
    """Nanoseconds since the epoch of a Python date, datetime, pandas Timestamp or numpy datetime64; None for others.

    Naive ones are UTC. Raises QueryError for one that int64 nanoseconds cannot hold.
    """
    if isinstance(value, np.datetime64):
        return _numpy_moment_ns(value)
    if isinstance(value, dt.datetime):
        moment = value if value.tzinfo is None else value.astimezone(dt.UTC)
        seconds = (moment.toordinal() - _EPOCH_DAY) * 86_400 + moment.hour * 3_600 + moment.minute * 60 + moment.second
        return _in_range(seconds * UNIT_NS["s"] + moment.microsecond * 1_000 + getattr(moment, "nanosecond", 0), value)
    if isinstance(value, dt.date):
        return _in_range((value.toordinal() - _EPOCH_DAY) * UNIT_NS["day"], value)
    return None


def _numpy_moment_ns(value: np.datetime64) -> int | None:
    if np.isnat(value):
        return None
    if np.datetime_data(value.dtype)[0] in ("Y", "M"):
        value = value.astype("datetime64[D]")
    unit, count = np.datetime_data(value.dtype)
    return _in_range(int(value.astype(np.int64)) * count * _NUMPY_UNITS[unit], value)


def duration_ns(value: object) -> int | None:
    """Nanoseconds of a timedelta (Python, pandas) or numpy timedelta64 of fixed length; None for others."""
    if isinstance(value, np.timedelta64):
        unit, count = np.datetime_data(value.dtype)
        width = _NUMPY_UNITS.get(unit)
        return None if np.isnat(value) or width is None else int(value.astype(np.int64)) * count * width
    if isinstance(value, dt.timedelta):
        microseconds = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
        return microseconds * 1_000 + int(getattr(value, "nanoseconds", 0))
    return None


def _in_range(ns: int, given: object) -> int:
    if not INT64_MIN <= ns <= INT64_MAX:
        raise QueryError(f"{given} lies outside the years 1677 to 2262 that nanosecond timestamps can hold.")
    return ns
