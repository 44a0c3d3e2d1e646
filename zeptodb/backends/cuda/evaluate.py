"""Row-wise results on the device: which rows, and the values of expressions in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import Vector
from zeptodb.backends.cuda.batch import ResultBuffer
from zeptodb.backends.cuda.columns import DeviceColumns
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.cuda.operands import Operands
from zeptodb.backends.expression import Expression, Kind
from zeptodb.backends.program import may_be_null
from zeptodb.backends.results import nullable_columns, result_type
from zeptodb.storage.snapshot import Snapshot

Int64Array = npt.NDArray[np.int64]

MAX_THREADS = 1 << 22
"""Threads that are launched for rows at most; each takes several then."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a snapshot on the device.

    Attributes:
        total: how many.
        first: the place of the first one.
        segments: of each part, or of each row when there are no bounds; -1: NULL in every output.
        starts: first row of each part; None when the rows are listed.
        bounds: part k has the places bounds[k] to bounds[k + 1]; None: each row is a part.
        listed: the row of each place (-1: NULL in every output); None when rows follow one another.
    """

    total: int
    segments: DeviceArray
    starts: DeviceArray | None
    bounds: DeviceArray | None
    listed: DeviceArray | None
    first: int = 0


class Outputs:
    """Expressions of one snapshot's rows, written into a result buffer."""

    def __init__(
        self,
        buffer: ResultBuffer,
        snapshot: Snapshot,
        expressions: tuple[Expression, ...],
        total: int,
        *,
        has_missing: bool,
        as_words: bool = False,
    ) -> None:
        """Ask the buffer for room; with `has_missing` a row may be -1 or without a segment.

        as_words: values are int64 or float64 whatever their type.
        """
        self._buffer = buffer
        self._snapshot = snapshot
        self._expressions = expressions
        nullable = nullable_columns(snapshot)
        self._dtypes = [_word_type(e) if as_words else result_type(e).dtype for e in expressions]
        self._values = [buffer.add(total, dtype) for dtype in self._dtypes]
        self._validity = [
            buffer.add(total, np.bool_) if has_missing or may_be_null(e, nullable) else None for e in expressions
        ]

    def write(self, driver: Driver, columns: DeviceColumns, rows: Rows, flags: DeviceArray) -> None:
        """Compute every expression for every row."""
        if rows.total == 0 or not self._expressions:
            return
        operands = Operands(self._snapshot.schema.symbol_index)
        places = [operands.place(e) for e in self._expressions]
        program = operands.finish()
        columns.require(self._snapshot, operands.columns)
        table = np.zeros((len(places), 7), dtype=np.int64)
        table[:, :4] = program.operands[places]
        for k in range(len(self._expressions)):
            validity = self._validity[k]
            table[k, 4] = self._dtypes[k].itemsize
            table[k, 5] = self._buffer.device(self._values[k]).address
            table[k, 6] = 0 if validity is None else self._buffer.device(validity).address
        words, *_, outputs = program.upload(driver, table)
        driver.launch(
            "evaluate_rows",
            min(rows.total, MAX_THREADS),
            (columns.words, words, outputs, len(places), rows.segments, rows.starts, rows.bounds,
             0 if rows.bounds is None else len(rows.bounds) - 1, rows.listed, rows.first, rows.total, flags),
        )  # fmt: skip

    def arrays(self, number: int) -> tuple[DeviceArray, DeviceArray | None]:
        """One expression's values and validity on the device."""
        validity = self._validity[number]
        return self._buffer.device(self._values[number]), None if validity is None else self._buffer.device(validity)

    def vectors(self) -> tuple[Vector, ...]:
        """The columns, after the buffer has been fetched."""
        found = []
        for expression, values, validity in zip(self._expressions, self._values, self._validity, strict=True):
            valid = None if validity is None else self._buffer.host(validity).view(np.bool_)
            kept = None if valid is None or valid.all() else valid
            found.append(Vector(self._buffer.host(values), kept, result_type(expression)))
        return tuple(found)


def _word_type(expression: Expression) -> np.dtype[np.generic]:
    return np.dtype(np.float64 if expression.kind is Kind.FLOAT else np.int64)
