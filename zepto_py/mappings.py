"""Dicts, one per tick, taken apart into columns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from zepto_py.imports import DEFAULT_TIMESTAMP, ColumnNames, TickColumns
from zeptodb.errors import did_you_mean

_NOT_GIVEN = object()
_WRONG_ROW = (LookupError, TypeError, ValueError, AttributeError)
"""What looking up a key raises where there is no such key, or where the row is no mapping at all."""


class Ticks:
    """Columns that grow by dicts.

    Attributes:
        rows: dicts seen so far.
        bad: what is wrong with those that lack a key, by row.
        kept: the rows that are in the columns; None while they are all there.
    """

    def __init__(self, names: ColumnNames) -> None:
        self._keys = [names.symbol_col, names.price_col, names.volume_col]
        self._timestamp = names.timestamp_col
        self._is_optional = names.timestamp_col == DEFAULT_TIMESTAMP
        if names.timestamp_col is not None and not self._is_optional:
            self._keys.append(names.timestamp_col)
        self._columns: list[list[Any]] = [[] for _ in self._keys]
        self._moments: list[Any] = []
        self.rows = 0
        self.bad: dict[int, str] = {}
        self.kept: list[int] | None = None

    def add(self, rows: Sequence[Any]) -> None:
        """Take these dicts apart."""
        try:
            values = [[row[key] for row in rows] for key in self._keys]
            moments = _optional(rows, self._timestamp) if self._is_optional else []
        except _WRONG_ROW:
            self._add_one_by_one(rows)
            return
        for column, more in zip(self._columns, values, strict=True):
            column.extend(more)
        self._moments.extend(moments)
        if self.kept is not None:
            self.kept.extend(range(self.rows, self.rows + len(rows)))
        self.rows += len(rows)

    def _add_one_by_one(self, rows: Sequence[Any]) -> None:
        if self.kept is None:
            self.kept = list(range(self.rows))
        for row in rows:
            try:
                values = [row[key] for key in self._keys]
                moment = row.get(self._timestamp, _NOT_GIVEN) if self._is_optional else None
            except _WRONG_ROW:
                self.bad[self.rows] = self._what_is_wrong(row)
            else:
                for column, value in zip(self._columns, values, strict=True):
                    column.append(value)
                if self._is_optional:
                    self._moments.append(moment)
                self.kept.append(self.rows)
            self.rows += 1

    def _what_is_wrong(self, row: object) -> str:
        if not isinstance(row, Mapping):
            shown = repr(row)
            return (
                f"{shown if len(shown) <= 60 else shown[:57] + '...'} is of type {type(row).__name__}; give dicts with "
                f"the keys {', '.join(self._keys)}."
            )
        missing = next((key for key in self._keys if key not in row), self._keys[0])
        return f'The key "{missing}" is missing.{did_you_mean(missing, map(str, row))}'

    def columns(self) -> TickColumns:
        """Symbols, prices, volumes and timestamps; None for timestamps where no dict has one."""
        symbols, prices, volumes = self._columns[:3]
        if not self._is_optional:
            return symbols, prices, volumes, self._columns[3] if len(self._columns) > 3 else None
        absent = self._moments.count(_NOT_GIVEN)
        if absent == len(self._moments):
            return symbols, prices, volumes, None
        if absent:
            now_ns = time.time_ns()
            moments = [now_ns if moment is _NOT_GIVEN else moment for moment in self._moments]
            return symbols, prices, volumes, moments
        return symbols, prices, volumes, self._moments


def _optional(rows: Sequence[Any], key: str | None) -> list[Any]:
    """The values of a key that dicts may lack."""
    try:
        return [row[key] for row in rows]
    except LookupError:
        return [row.get(key, _NOT_GIVEN) for row in rows]
