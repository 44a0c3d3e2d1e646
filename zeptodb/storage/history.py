"""Which visible rows of a table have moved: what was derived from rows finds out here whether they still lie there.

Appending never moves a visible row; merging late rows does, from the first displaced row of a segment to its end.
"""

from __future__ import annotations

from dataclasses import field

import numpy as np
import numpy.typing as npt

from zeptodb.record import record

Int64Array = npt.NDArray[np.int64]

_FEW_MOVES = 4096


class Origin:
    """Identity of a table's contents; `Table.replace()` makes another one. Weak references to it end with them."""

    __slots__ = ("__weakref__",)


@record
class _Moves:
    """Row `first_rows[i]` of segment `segments[i]` and those behind it moved in merge number `merges[i]`."""

    merges: Int64Array
    segments: Int64Array
    first_rows: Int64Array

    def joined(self, other: _Moves) -> _Moves:
        return _Moves(
            np.concatenate([self.merges, other.merges]),
            np.concatenate([self.segments, other.segments]),
            np.concatenate([self.first_rows, other.first_rows]),
        )

    def one_per_segment(self) -> _Moves:
        """The earliest row and the latest merge of each segment: claims no less than what it stands for."""
        segments, places = np.unique(self.segments, return_inverse=True)
        merges, first_rows = np.zeros(len(segments), np.int64), np.full(len(segments), np.iinfo(np.int64).max)
        np.maximum.at(merges, places, self.merges)
        np.minimum.at(first_rows, places, self.first_rows)
        return _Moves(merges, segments, first_rows)


@record
class History:
    """The merges of late rows that a table's contents have seen; immutable, so that snapshots can share it.

    Attributes:
        origin: whose history it is.
        merges: how many merges there were.
    """

    origin: Origin = field(default_factory=Origin)
    merges: int = 0
    _parts: tuple[_Moves, ...] = ()
    _limit: int = _FEW_MOVES

    def with_merge(self, segments: Int64Array, first_rows: Int64Array) -> History:
        """The history after one more merge, which displaced rows from `first_rows[i]` of `segments[i]` on."""
        number = self.merges + 1
        parts = [*self._parts, _Moves(np.full(len(segments), number), segments.copy(), first_rows.copy())]
        # Parts of like size are joined, so that there are few of them and each move is copied few times.
        while len(parts) > 1 and len(parts[-2].merges) <= 2 * len(parts[-1].merges):
            last = parts.pop()
            parts[-1] = parts[-1].joined(last)
        limit = self._limit
        if sum(len(part.merges) for part in parts) > limit:
            whole = parts[0]
            for part in parts[1:]:
                whole = whole.joined(part)
            parts = [whole.one_per_segment()]
            limit = max(_FEW_MOVES, 2 * len(parts[0].merges))
        return History(self.origin, number, tuple(parts), limit)

    def moved_since(self, merges: int) -> tuple[Int64Array, Int64Array]:
        """Segments and first rows of what moved after the first `merges` merges; a segment may occur repeatedly.

        When there were very many moves since, it may name rows that moved earlier, but never too few.
        """
        found = [(part.segments[part.merges > merges], part.first_rows[part.merges > merges]) for part in self._parts]
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate([segments for segments, _ in found]), np.concatenate([rows for _, rows in found])
