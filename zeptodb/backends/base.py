"""The contract between the engine and a device: operators, what they return, and what a backend can run.

Operators are frozen descriptions of work over the rows of a snapshot. A backend may answer from summaries, in any
number of threads and on any device; integers must be exact and floats within 1e-12 of exact arithmetic relative to the
sum of the absolute terms, the same on every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from enum import Enum
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.backends.placement import Placement
from zeptodb.errors import ZeptoError
from zeptodb.record import record
from zeptodb.storage.memory import HostMemory
from zeptodb.storage.snapshot import Snapshot
from zeptodb.storage.table import Table
from zeptodb.storage.workers import Workers
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]


class ArithmeticOverflowError(ZeptoError, ArithmeticError):
    """Integer arithmetic of an expression left int64."""


class TooManyGroupsError(ZeptoError):
    """The keys of an AggregateScan span more values than the backend has room for; another engine must group."""


class TooManyRowsError(ZeptoError):
    """A TopScan could not tell enough rows apart; another engine must sort."""


class AggregateOp(Enum):
    """Aggregate functions that kernels compute; the value is the SQL name."""

    COUNT_ROWS = "count(*)"
    COUNT = "count"
    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    VWAP = "vwap"
    VARIANCE_SAMP = "var_samp"
    VARIANCE_POP = "var_pop"
    STDDEV_SAMP = "stddev_samp"
    STDDEV_POP = "stddev_pop"

    __hash__ = object.__hash__  # in C; members are what they are


@record
class Aggregate:
    """One aggregate column.

    COUNT_ROWS has no argument, VWAP two (price, volume), all others one. NULLs are skipped, except by FIRST and LAST,
    which take the value of the first and last row in time order (ties by arrival; across segments: by segment order)
    even when it is NULL. `condition` is FILTER (WHERE ...): only rows where it is true count.
    Of no rows: counts 0, all others NULL; VWAP of zero volume NULL; *_SAMP of one row NULL.
    SUM of integers is exact; AVG is the exact sum divided once; MIN and MAX order NaN above all numbers.
    """

    op: AggregateOp
    arguments: tuple[Expression, ...] = ()
    condition: Expression | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Hash once: aggregates are looked up by each query."""
        object.__setattr__(self, "_hash", hash((self.op, self.arguments, self.condition)))

    def __hash__(self) -> int:
        """Hash of all fields."""
        return self._hash


@record
class TimeBucket:
    """Buckets of `width_ns` counted from `origin_ns`: floor also before the origin; empty buckets do not appear."""

    width_ns: int
    origin_ns: int = 0


@record
class Ranges:
    """Row ranges to scan: rows `starts[i]` (inclusive) to `ends[i]` (exclusive) of segment `segments[i]`.

    A segment occurs at most once. The order of the ranges is the order of results. `derived` keeps what has been worked
    out of them: those of a whole table serve all queries until it changes.
    """

    segments: Int64Array
    starts: Int64Array
    ends: Int64Array
    derived: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def rows(self) -> int:
        """Rows in all ranges."""
        if len(self.starts) == 1:
            return int(self.ends[0]) - int(self.starts[0])
        if "rows" not in self.derived:
            self.derived["rows"] = int((self.ends - self.starts).sum())
        return cast(int, self.derived["rows"])


@record
class Scan:
    """Rows of a snapshot: those in `ranges` for which `predicate` is true (None: all)."""

    snapshot: Snapshot
    ranges: Ranges
    predicate: Expression | None = None


@record
class AggregateScan:
    """Aggregates of a scan by symbol, by time bucket, by further keys, by several of these, or over everything.

    Rows of the result come in the order of `scan.ranges` (with `by_symbol`), then by ascending bucket, then by each
    key, ascending (strings by their codes), NULL last and a group like any other. Groups without a row that passes the
    predicate do not appear, except that the aggregate over everything always has one row.

    `keys` are INT or BOOL expressions over columns (STRING columns by their codes) whose values span a small range;
    a backend raises TooManyGroupsError when symbols x buckets x the spans of the keys are more than it has room for.
    """

    scan: Scan
    aggregates: tuple[Aggregate, ...]
    by_symbol: bool = False
    bucket: TimeBucket | None = None
    keys: tuple[Expression, ...] = ()


@record
class SelectScan:
    """The values of `outputs` for the rows of a scan, in the order of the ranges and of time within one.

    `offset` rows are left out and at most `limit` returned (None: all); a scan stops when it has enough.
    """

    scan: Scan
    outputs: tuple[Expression, ...]
    offset: int = 0
    limit: int | None = None


@record
class TopScan:
    """The values of `outputs` for those rows of a scan that can come first when sorted by `key`.

    The rows that have fewer than `limit` rows before them by `key` alone, equal ones among them: all of these, for a
    caller who sorts on by further keys; or with `is_only_key` at least the first of these in the scan's order. Rows of
    equal key keep the scan's order. NaN sorts above all numbers, NULL where `nulls_first` says; -0.0 equals 0.0.
    `key` is INT or FLOAT. Raises TooManyRowsError when more than `max_rows` rows would have to be returned.
    """

    scan: Scan
    key: Expression
    is_descending: bool
    nulls_first: bool
    is_only_key: bool
    outputs: tuple[Expression, ...]
    limit: int
    max_rows: int


@record
class AsofJoin:
    """Each row of `left` with the row of `right` of the same symbol that is nearest in time.

    Attributes:
        left, right: scans; their tables have timestamps. `right` has no predicate and its whole segments as ranges.
        right_segments: per range of `left` the segment of the right snapshot with that symbol, -1 when there is none.
        op: how the left timestamp compares to the right one that is sought: ">=" the nearest right row at or before,
            ">" strictly before, "<=" at or after, "<" strictly after; of ties the last arrived.
        keep_unmatched: keep left rows without a match, right outputs NULL (ASOF LEFT JOIN).
        left_outputs, right_outputs: expressions over the respective table.
        tolerance_ns: matches further away do not count; None: any distance.
    """

    left: Scan
    right: Scan
    right_segments: Int64Array
    op: Literal[">=", ">", "<=", "<"]
    keep_unmatched: bool
    left_outputs: tuple[Expression, ...]
    right_outputs: tuple[Expression, ...]
    tolerance_ns: int | None = None


class WindowOp(Enum):
    """Window functions that kernels compute; the value is the SQL name."""

    EMA = "ema"
    COUNT = "count"
    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    VARIANCE_SAMP = "var_samp"
    VARIANCE_POP = "var_pop"
    STDDEV_SAMP = "stddev_samp"
    STDDEV_POP = "stddev_pop"

    __hash__ = object.__hash__  # in C; members are what they are


@record
class WindowFunction:
    """A value per row, from the rows of a range up to it.

    EMA: e = alpha x + (1 - alpha) e before, from the first value on, which is e there; NULL where the argument is
    NULL, and such a row changes nothing. An infinite e stays so, NaN too; infinities of both signs make NaN. With
    alpha 1 it is the argument.

    All others are aggregates of the row and the `rows` - 1 rows before it in the range, with the rules of `Aggregate`.
    The error of floats is relative to the absolute terms within that frame, whatever stood before it.

    Attributes:
        op: the function.
        argument: INT or FLOAT.
        rows: of a frame, 1 or more; None: all from the first row of the range on. EMA has none.
        alpha: of EMA, above 0 and at most 1.
    """

    op: WindowOp
    argument: Expression
    rows: int | None = None
    alpha: float = 1.0


@record
class WindowScan:
    """The values of `outputs` for the rows of a scan, in the order of the ranges and of time within one.

    A window function sees those rows of its row's range that pass the predicate.
    """

    scan: Scan
    outputs: tuple[Expression | WindowFunction, ...]


@record
class Vector:
    """One column of a result.

    Attributes:
        values: int64, int32, float64, float32, bool or int32 codes; an object array of Python ints for HUGEINT.
        validity: None (no NULL) or True where there is a value.
        type: what the values mean; the caller knows the dictionary behind STRING codes.
    """

    values: npt.NDArray[np.generic]
    validity: npt.NDArray[np.bool_] | None
    type: ColumnType


def can_be_summarized(
    aggregates: tuple[Aggregate, ...], predicate: Expression | None, summarized: frozenset[AggregateOp]
) -> bool:
    """Whether summaries of `summarized` functions can answer: aggregates of columns over all rows of ranges."""
    return predicate is None and all(
        item.op in summarized
        and item.condition is None
        and all(isinstance(argument, ColumnRef) for argument in item.arguments)
        for item in aggregates
    )


@record
class AggregateResult:
    """What an AggregateScan returns.

    Attributes:
        segments: with `by_symbol` the segment of each result row, else None.
        buckets: with `bucket` the start of each result row's bucket in ns, else None.
        columns: one Vector per aggregate.
        keys: one Vector per key: a column's own type (codes of STRING), else INT64 or BOOL.
        summarized_rows: for how many of the scan's rows summaries answered.
    """

    segments: Int64Array | None
    buckets: Int64Array | None
    columns: tuple[Vector, ...]
    keys: tuple[Vector, ...] = ()
    summarized_rows: int = 0


@record
class Capabilities:
    """What a backend can run; the planner falls back to DuckDB for the rest and gives the reason.

    Attributes:
        aggregates: functions of AggregateScan.
        operators: operator classes.
        summarized: functions of columns over all rows of ranges that it can answer from summaries of blocks.
        windows: functions of WindowScan.
    """

    aggregates: frozenset[AggregateOp]
    operators: frozenset[type]
    summarized: frozenset[AggregateOp] = frozenset()
    windows: frozenset[WindowOp] = frozenset()


Operation = AggregateScan | SelectScan | TopScan | WindowScan | AsofJoin
"""What a backend is asked to run."""


class Accelerator(Protocol):
    """A device with memory of its own beside the CPU: what runs there, and arrays that lie there."""

    @property
    def placed(self) -> tuple[int, int]:
        """How many operators have run on the device, and how many on the CPU instead."""
        ...

    def placement(self, operation: Operation) -> Placement:
        """Where an operator would run now, and why; runs nothing."""
        ...

    def column(self, table: Table, segment: int, column: int) -> object:
        """A stored column of one segment on the device, as the device's array library has it; brought up if need be.

        It keeps the rows as they are, as views of host memory do. Raises OutOfDeviceMemoryError.
        """
        ...

    def copies(self, arrays: Sequence[npt.NDArray[np.generic]]) -> tuple[object, ...]:
        """Copies of one-dimensional arrays of numbers on the device, by one transfer; raises OutOfDeviceMemoryError."""
        ...


class Backend(Protocol):
    """One device: its host memory and its implementation of every operator it claims."""

    @property
    def reason(self) -> str:
        """Why a Pipeline has this backend, when it was not asked for by name; else empty."""
        ...

    @property
    def accelerator(self) -> Accelerator | None:
        """The device beside the CPU; None when there is none."""
        ...

    @property
    def name(self) -> str:
        """Short name: cpu, cuda or emu."""
        ...

    @property
    def device(self) -> str:
        """What it runs on, in words: "2 threads", "NVIDIA H200"."""
        ...

    @property
    def memory(self) -> HostMemory:
        """Supplies the memory of arenas."""
        ...

    @property
    def workers(self) -> Workers:
        """Threads of the host, for large batches on their way into segments and large answers on their way out."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can run."""
        ...

    def time_ranges(
        self, snapshot: Snapshot, segments: Int64Array, *, from_ns: int | None = None, to_ns: int | None = None
    ) -> Ranges:
        """The rows of `segments` with from_ns <= timestamp < to_ns (None: no bound), by binary search."""
        ...

    def aggregate(self, operation: AggregateScan) -> AggregateResult:
        """Run an AggregateScan."""
        ...

    def select(self, operation: SelectScan) -> tuple[Vector, ...]:
        """Run a SelectScan; one Vector per output."""
        ...

    def top(self, operation: TopScan) -> tuple[Vector, ...]:
        """Run a TopScan; one Vector per output."""
        ...

    def asof_join(self, operation: AsofJoin) -> tuple[Vector, ...]:
        """Run an AsofJoin; one Vector per left output, then per right output."""
        ...

    def window(self, operation: WindowScan) -> tuple[Vector, ...]:
        """Run a WindowScan; one Vector per output."""
        ...

    def configure_threads(self, threads: int | None, *, row_threshold: int | None = None) -> None:
        """Use at most `threads` workers from now on (None: one per core), over fewer than `row_threshold` rows one.

        row_threshold: None leaves it as it is.
        """
        ...

    def begin_warm_up(self) -> None:
        """Start what can be compiled beside this process; `warm_up` follows soon."""
        ...

    def warm_up(self) -> None:
        """Compile or load every kernel, so that the first query does not wait."""
        ...

    def close(self) -> None:
        """Stop worker threads; the backend can still run work in the caller's thread."""
        ...
