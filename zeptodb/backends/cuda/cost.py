"""What an operator takes on the CPU and on the device: bytes that it has to move, over what the machine moves a second.

The model is coarse on purpose. It knows five rates of a machine (`calibrate.py` measures them) and, per operator, how
many bytes it reads, how often it goes over them and about how many bytes come back. Times of the CPU are those of the
scans in `docs/performance.md` relative to a plain sum; those of the device are the bytes of its kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from zeptodb.backends.base import (
    AggregateOp,
    AggregateScan,
    AsofJoin,
    Operation,
    Scan,
    SelectScan,
    TopScan,
    WindowFunction,
    WindowScan,
)
from zeptodb.backends.expression import (
    Arithmetic,
    Bucket,
    Comparison,
    Expression,
    InList,
    IsNull,
    Logical,
    Not,
    ToFloat,
)
from zeptodb.backends.program import columns_in
from zeptodb.backends.results import nullable_columns, result_type
from zeptodb.storage.snapshot import Snapshot

_HOST_CALL_SECONDS = 30e-6
"""What a call on the CPU takes however few the rows."""

_PASSING_SHARE = 0.25
"""How many rows are thought to pass a predicate that nothing is known of."""

_KEY_GROUPS = 1_024
"""How many groups keys are thought to make."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one machine can do.

    Attributes:
        host_bytes: per second that the CPU reads in a scan.
        device_bytes: per second that the device moves within its memory.
        pinned_bytes: per second that come to the device from page-locked memory, and back.
        pageable_bytes: per second that come from memory that has to be page-locked or staged first.
        launch_seconds: from the launch of a kernel to its result on the host.
    """

    host_bytes: float
    device_bytes: float
    pinned_bytes: float
    pageable_bytes: float
    launch_seconds: float


CAUTIOUS = Rates(
    host_bytes=20e9, device_bytes=500e9, pinned_bytes=12e9, pageable_bytes=3e9, launch_seconds=20e-6
)  # fmt: skip
"""Of a machine that nothing has been measured on: a fast CPU beside a slow device."""


@dataclass(frozen=True, slots=True)
class Passes:
    """How often an operator goes over what it reads on the CPU and on the device, and how many kernels it launches."""

    host: float
    device: float
    launches: int


_PLAIN = Passes(host=1, device=1.2, launches=4)
_BARS = Passes(host=4, device=1.5, launches=8)
_BY_KEY = Passes(host=4, device=12, launches=16)  # the device sorts
_SELECT = Passes(host=2, device=1.5, launches=6)
_TOP = Passes(host=1, device=1.5, launches=16)
_WINDOW = Passes(host=10, device=3, launches=12)
_ASOF = Passes(host=10, device=2, launches=10)


@dataclass(frozen=True, slots=True)
class Work:
    """What an operator has to do.

    Attributes:
        reads: per snapshot the columns it reads.
        rows: that it has to look at.
        read_bytes: of these rows.
        computed: expressions per row that are no columns, conditions on columns aside.
        result_bytes: that it leaves, about.
        passes: how often it goes over them.
    """

    reads: tuple[tuple[Snapshot, frozenset[int]], ...]
    rows: int
    read_bytes: int
    computed: int
    result_bytes: int
    passes: Passes


def host_seconds(work: Work, rates: Rates, *, known_share: float = 0.0) -> float:
    """What it takes on the CPU; of `known_share` of the rows summaries know the answer."""
    scanned = work.read_bytes * work.passes.host + 8 * work.rows * work.computed
    return _HOST_CALL_SECONDS + (scanned * (1 - known_share) + work.result_bytes) / rates.host_bytes


def device_seconds(work: Work, rates: Rates, *, pinned_bytes: int = 0, pageable_bytes: int = 0) -> float:
    """What it takes on the device, to which so many bytes have to be brought before."""
    upload = pinned_bytes / rates.pinned_bytes + pageable_bytes / rates.pageable_bytes
    scan = work.read_bytes * work.passes.device / rates.device_bytes
    return rates.launch_seconds * work.passes.launches + upload + scan + work.result_bytes / rates.pinned_bytes


def work_of(operation: Operation) -> Work:
    """What an operation has to do."""
    return _WORKS[type(operation)](operation)


def is_known(kind: type) -> bool:
    """Whether the model knows operators of a class."""
    return kind in _WORKS


# ---- operators ---------------------------------------------------------------------------------------------------


def _aggregate(operation: AggregateScan) -> Work:
    scan, bucket = operation.scan, operation.bucket
    expressions = [scan.predicate, *operation.keys]
    for item in operation.aggregates:
        expressions += [*item.arguments, item.condition]
    columns = _columns(expressions)
    time = scan.snapshot.schema.timestamp_index
    has_ends = any(item.op in (AggregateOp.FIRST, AggregateOp.LAST) for item in operation.aggregates)
    if bucket is not None or (has_ends and time >= 0 and not operation.by_symbol):
        columns |= {time}
    rows = scan.ranges.rows
    groups = len(scan.ranges.segments) if operation.by_symbol else 1
    if bucket is not None:
        groups *= _buckets(scan, bucket.width_ns)
    if operation.keys:
        groups *= _KEY_GROUPS
    width = 8 * (len(operation.aggregates) + len(operation.keys) + operation.by_symbol + (bucket is not None))
    passes = _BY_KEY if operation.keys else _PLAIN if bucket is None else _BARS
    return _work([(scan.snapshot, columns, rows)], expressions, max(1, min(groups, rows)) * width, passes)


def _select(operation: SelectScan) -> Work:
    scan = operation.scan
    found = scan.ranges.rows if scan.predicate is None else int(scan.ranges.rows * _PASSING_SHARE)
    rows = scan.ranges.rows
    if operation.limit is not None:
        wanted = operation.offset + operation.limit
        found = min(found, wanted)
        rows = min(rows, wanted if scan.predicate is None else int(wanted / _PASSING_SHARE))
    expressions = [scan.predicate, *operation.outputs]
    columns = _columns(expressions)
    return _work([(scan.snapshot, columns, rows)], expressions, found * _width(operation.outputs), _SELECT)


def _top(operation: TopScan) -> Work:
    scan = operation.scan
    expressions = [scan.predicate, operation.key]
    columns = _columns(expressions)
    work = _work(
        [(scan.snapshot, columns, scan.ranges.rows)], expressions, operation.limit * _width(operation.outputs), _TOP
    )
    reads = ((scan.snapshot, _stored(scan.snapshot, columns | _columns(operation.outputs))),)
    return replace(work, reads=reads)


def _window(operation: WindowScan) -> Work:
    scan = operation.scan
    arguments = [o.argument if isinstance(o, WindowFunction) else o for o in operation.outputs]
    expressions = [scan.predicate, *arguments]
    found = scan.ranges.rows if scan.predicate is None else int(scan.ranges.rows * _PASSING_SHARE)
    columns = _columns(expressions)
    return _work([(scan.snapshot, columns, scan.ranges.rows)], expressions, found * 8 * len(arguments), _WINDOW)


def _asof(operation: AsofJoin) -> Work:
    left, right = operation.left, operation.right
    rows = left.ranges.rows
    found = rows if left.predicate is None else int(rows * _PASSING_SHARE)
    outputs = (*operation.left_outputs, *operation.right_outputs)
    left_columns = _columns([left.predicate, *operation.left_outputs]) | {left.snapshot.schema.timestamp_index}
    right_time = frozenset({right.snapshot.schema.timestamp_index})
    read = [(left.snapshot, left_columns, rows), (right.snapshot, right_time, right.ranges.rows)]
    work = _work(read, [left.predicate, *outputs], found * _width(outputs), _ASOF)
    right_columns = _stored(right.snapshot, right_time | _columns(operation.right_outputs))
    left_columns = _stored(left.snapshot, left_columns)
    reads: tuple[tuple[Snapshot, frozenset[int]], ...] = (
        (left.snapshot, left_columns),
        (right.snapshot, right_columns),
    )
    if left.snapshot is right.snapshot:
        reads = ((left.snapshot, left_columns | right_columns),)
    return replace(work, reads=reads)


_WORKS: dict[type, Callable[..., Work]] = {
    AggregateScan: _aggregate,
    SelectScan: _select,
    TopScan: _top,
    WindowScan: _window,
    AsofJoin: _asof,
}


# ---- what they have in common ------------------------------------------------------------------------------------


def _work(
    read: Iterable[tuple[Snapshot, frozenset[int], int]],
    expressions: Iterable[Expression | None],
    result_bytes: int,
    passes: Passes,
) -> Work:
    """The work over rows of snapshots, of which each expression is computed once."""
    parts = [(snapshot, _stored(snapshot, columns), rows) for snapshot, columns, rows in read]
    return Work(
        tuple((snapshot, columns) for snapshot, columns, _ in parts),
        sum(rows for _, _, rows in parts),
        sum(rows * _row_bytes(snapshot, columns) for snapshot, columns, rows in parts),
        sum(_computed(e) for e in set(expressions) if e is not None),
        result_bytes,
        passes,
    )


def _columns(expressions: Iterable[Expression | None]) -> frozenset[int]:
    return frozenset().union(*(columns_in(e) for e in expressions if e is not None))


def _stored(snapshot: Snapshot, columns: frozenset[int]) -> frozenset[int]:
    return columns - {snapshot.schema.symbol_index}


def _row_bytes(snapshot: Snapshot, columns: frozenset[int]) -> int:
    nullable = nullable_columns(snapshot)
    return sum(snapshot.schema.fields[c].type.dtype.itemsize + (c in nullable) for c in columns)


def _width(outputs: Iterable[Expression]) -> int:
    return sum(result_type(e).dtype.itemsize for e in outputs)


def _computed(node: Expression) -> int:
    """Operations per row; a comparison of a column with a constant comes with reading the column."""
    match node:
        case Arithmetic():
            return 1 + _computed(node.left) + _computed(node.right)
        case Comparison() | Logical():
            return _computed(node.left) + _computed(node.right)
        case ToFloat() | Bucket():
            return 1 + _computed(node.argument)
        case Not() | IsNull() | InList():
            return _computed(node.argument)
    return 0


def _buckets(scan: Scan, width_ns: int) -> int:
    """How many buckets the longest range has, from its first and last time."""
    ranges, snapshot = scan.ranges, scan.snapshot
    if not len(ranges.segments):
        return 0
    longest = int((ranges.ends - ranges.starts).argmax())
    first, after = int(ranges.starts[longest]), int(ranges.ends[longest])
    address = int(snapshot.addresses[snapshot.schema.timestamp_index, int(ranges.segments[longest])])
    if after <= first or address == 0:
        return 1
    times = [ctypes.c_int64.from_address(address + 8 * row).value for row in (first, after - 1)]
    return min(after - first, (times[1] - times[0]) // width_ns + 1)
