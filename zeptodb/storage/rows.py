"""Rows in the form in which segments take them: contiguous columns, not yet placed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zeptodb.record import record
from zeptodb.storage.batch import Receipt

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@record
class Rows:
    """Rows ready to be scattered.

    Attributes:
        keys: int64 symbols or codes; None for a table without symbols.
        times: int64 ns; None for a table without timestamps.
        values: per stored column a C-contiguous array.
        validity: per stored column None or a bool array.
        count: how many rows.
        receipt: marked when the rows are visible.
    """

    keys: Int64Array | None
    times: Int64Array | None
    values: tuple[npt.NDArray[np.generic], ...]
    validity: tuple[BoolArray | None, ...]
    count: int
    receipt: Receipt | None = None

    def take(self, index: npt.NDArray[np.integer]) -> Rows:
        """The rows at the positions `index`."""
        return Rows(
            None if self.keys is None else self.keys[index],
            None if self.times is None else self.times[index],
            tuple(column[index] for column in self.values),
            tuple(None if valid is None else valid[index] for valid in self.validity),
            len(index),
        )

    @property
    def columns_with_null(self) -> BoolArray:
        """Per stored column whether some row is NULL."""
        return np.array([valid is not None and not valid.all() for valid in self.validity], dtype=np.bool_)


def concatenate(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    first, count = parts[0], sum(part.count for part in parts)
    validity: list[BoolArray | None] = []
    for c in range(len(first.values)):
        marks = [part.validity[c] for part in parts]
        if all(mark is None for mark in marks):
            validity.append(None)
        else:
            filled = [np.ones(p.count, np.bool_) if m is None else m for p, m in zip(parts, marks, strict=True)]
            validity.append(np.concatenate(filled))
    return Rows(
        None if first.keys is None else np.concatenate([p.keys for p in parts if p.keys is not None]),
        None if first.times is None else np.concatenate([p.times for p in parts if p.times is not None]),
        tuple(np.concatenate([part.values[c] for part in parts]) for c in range(len(first.values))),
        tuple(validity),
        count,
    )
