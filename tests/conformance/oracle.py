"""Every operator in slow plain Python: exact integers and fractions, one row at a time, None for NULL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateScan,
    AsofJoin,
    Scan,
    SelectScan,
    WindowFunction,
    WindowOp,
    WindowScan,
)
from zeptodb.backends.expression import (
    Arithmetic,
    Bucket,
    ColumnRef,
    Comparison,
    Constant,
    Expression,
    InList,
    IsNull,
    Kind,
    Logical,
    Not,
    ToFloat,
)
from zeptodb.types import INT64_MAX, INT64_MIN

from .build import Table

Value = Any


class Int64ArithmeticError(Exception):
    """Integer arithmetic left int64 or divided by zero."""


def cell(table: Table, segment: int, row: int, column: int) -> Value:
    """One stored value as a Python object."""
    if column == table.schema.symbol_index:
        return table.segments[segment].symbol
    valid = table.segments[segment].validity[column]
    if valid is not None and not valid[row]:
        return None
    values = table.segments[segment].values[column]
    assert values is not None
    return values[row].item()


def is_above(left: Value, right: Value) -> bool:
    """left > right with NaN above all numbers."""
    if isinstance(left, float) and math.isnan(left):
        return not math.isnan(right)
    return bool(left > right)


def is_equal(left: Value, right: Value) -> bool:
    """left = right with NaN equal to NaN."""
    return not is_above(left, right) and not is_above(right, left)


_COMPARISONS: dict[str, Callable[[Value, Value], bool]] = {
    "=": is_equal,
    "!=": lambda a, b: not is_equal(a, b),
    "<": lambda a, b: is_above(b, a),
    "<=": lambda a, b: not is_above(a, b),
    ">": is_above,
    ">=": lambda a, b: not is_above(b, a),
}


def _truncated(left: int, right: int) -> tuple[int, int]:
    quotient = abs(left) // abs(right)
    quotient = quotient if (left < 0) == (right < 0) else -quotient
    return quotient, left - quotient * right


def _checked(value: int) -> int:
    if not INT64_MIN <= value <= INT64_MAX:
        raise Int64ArithmeticError
    return value


def _float_quotient(left: float, right: float) -> float:
    with np.errstate(all="ignore"):
        return float(np.float64(left) / np.float64(right))


def _arithmetic(op: str, kind: Kind, left: Value, right: Value) -> Value:
    """As DuckDB: float division by zero follows IEEE 754, integer division by zero is an error."""
    if op == "/":
        return _float_quotient(left, right)
    if op in {"//", "%"}:
        if right == 0 or (left, right) == (INT64_MIN, -1):
            raise Int64ArithmeticError
        return _truncated(left, right)[op == "%"]
    result = {"+": lambda: left + right, "-": lambda: left - right, "*": lambda: left * right}[op]()
    return _checked(result) if kind is Kind.INT else result


def evaluate(table: Table, segment: int, row: int, expression: Expression) -> Value:
    """The value of an expression in one row."""

    def go(node: Expression) -> Value:  # noqa: PLR0911 - one return per class of node
        match node:
            case ColumnRef():
                return cell(table, segment, row, node.index)
            case Constant():
                return float(node.value) if node.kind is Kind.FLOAT and node.value is not None else node.value
            case ToFloat():
                value = go(node.argument)
                return None if value is None else float(value)
            case Bucket():
                value = go(node.argument)
                if value is None:
                    return None
                return _checked(node.origin + (value - node.origin) // node.width * node.width)
            case Arithmetic():
                left, right = go(node.left), go(node.right)
                return None if left is None or right is None else _arithmetic(node.op, node.kind, left, right)
            case Comparison():
                left, right = go(node.left), go(node.right)
                return None if left is None or right is None else _COMPARISONS[node.op](left, right)
            case InList():
                value = go(node.argument)
                return None if value is None else any(is_equal(value, v) for v in node.values)
            case Logical():
                both = (go(node.left), go(node.right))
                decisive = node.op == "or"
                if decisive in both:
                    return decisive
                return None if None in both else not decisive
            case Not():
                value = go(node.argument)
                return None if value is None else not value
            case IsNull():
                return go(node.argument) is None
        raise AssertionError(node)

    return go(expression)


def rows_of(table: Table, scan: Scan) -> Iterator[tuple[int, int]]:
    """(segment, row) of a scan, in its order."""
    spans = zip(scan.ranges.segments.tolist(), scan.ranges.starts.tolist(), scan.ranges.ends.tolist(), strict=True)
    for segment, start, end in spans:
        for row in range(start, end):
            if scan.predicate is None or evaluate(table, segment, row, scan.predicate) is True:
                yield segment, row


def select(table: Table, operation: SelectScan) -> list[list[Value]]:
    """One list per output."""
    rows = list(rows_of(table, operation.scan))
    stop = None if operation.limit is None else operation.offset + operation.limit
    rows = rows[operation.offset : stop]
    return [[evaluate(table, s, r, e) for s, r in rows] for e in operation.outputs]


def exact_sum(values: Sequence[Value]) -> Value:
    """The sum rounded once; infinities and NaN as IEEE has them."""
    if all(isinstance(v, int) for v in values):
        return sum(values)
    if all(math.isfinite(v) for v in values):
        return float(sum(map(Fraction, values), Fraction(0)))
    total = 0.0
    for v in values:
        total += v
    return total


def _extreme(values: Sequence[Value], *, greatest: bool) -> Value:
    best = values[0]
    for value in values[1:]:
        if is_above(value, best) if greatest else is_above(best, value):
            best = value
    return best


def _variance(values: Sequence[Value], *, is_sample: bool) -> Value:
    freedom = len(values) - 1 if is_sample else len(values)
    if freedom <= 0:
        return None
    floats = [float(v) for v in values]
    if not all(map(math.isfinite, floats)):
        return math.nan
    exact = [Fraction(v) for v in floats]
    mean = sum(exact, Fraction(0)) / len(exact)
    return float(sum(((v - mean) ** 2 for v in exact), Fraction(0)) / freedom)


def _vwap(pairs: Sequence[tuple[Value, Value]]) -> Value:
    flat = [float(v) for pair in pairs for v in pair]
    if not all(map(math.isfinite, flat)):
        volume = sum(float(v) for _, v in pairs)
        return None if volume == 0 else sum(float(p) * float(v) for p, v in pairs) / volume
    volume = sum((Fraction(v) for _, v in pairs), Fraction(0))
    if volume == 0:
        return None
    return float(sum((Fraction(p) * Fraction(v) for p, v in pairs), Fraction(0)) / volume)


def _root(value: Value) -> Value:
    return None if value is None else math.sqrt(value)


_FOLDS: dict[AggregateOp, Callable[[list[Value]], Value]] = {
    AggregateOp.SUM: exact_sum,
    AggregateOp.AVG: lambda v: (
        float(Fraction(sum(v), len(v))) if all(isinstance(x, int) for x in v) else exact_sum(v) / len(v)
    ),
    AggregateOp.MIN: lambda v: _extreme(v, greatest=False),
    AggregateOp.MAX: lambda v: _extreme(v, greatest=True),
    AggregateOp.VARIANCE_SAMP: lambda v: _variance(v, is_sample=True),
    AggregateOp.VARIANCE_POP: lambda v: _variance(v, is_sample=False),
    AggregateOp.STDDEV_SAMP: lambda v: _root(_variance(v, is_sample=True)),
    AggregateOp.STDDEV_POP: lambda v: _root(_variance(v, is_sample=False)),
}


def fold(table: Table, item: Aggregate, rows: Sequence[tuple[int, int]]) -> Value:
    """One aggregate over (segment, row) pairs in the order of ranges."""
    if item.condition is not None:
        rows = [(s, r) for s, r in rows if evaluate(table, s, r, item.condition) is True]
    if item.op is AggregateOp.COUNT_ROWS:
        return len(rows)
    if item.op in {AggregateOp.FIRST, AggregateOp.LAST}:
        if not rows:
            return None
        stamp = table.schema.timestamp_index
        times = [0 if stamp < 0 else cell(table, s, r, stamp) for s, r in rows]
        order = sorted(range(len(rows)), key=lambda k: (times[k], k))
        chosen = order[0] if item.op is AggregateOp.FIRST else order[-1]
        return evaluate(table, *rows[chosen], item.arguments[0])
    arguments = [tuple(evaluate(table, s, r, a) for a in item.arguments) for s, r in rows]
    present = [a for a in arguments if None not in a]
    if item.op is AggregateOp.COUNT:
        return len(present)
    if not present:
        return None
    return _vwap(present) if item.op is AggregateOp.VWAP else _FOLDS[item.op]([a[0] for a in present])


def scale(table: Table, item: Aggregate, rows: Sequence[tuple[int, int]]) -> float:
    """What an error of the aggregate is measured against: the sum of its absolute terms."""
    if item.op not in {AggregateOp.SUM, AggregateOp.AVG, AggregateOp.VWAP}:
        return 0.0
    terms, volumes = [], []
    for s, r in rows:
        values = [evaluate(table, s, r, a) for a in item.arguments]
        if None in values or not all(math.isfinite(v) for v in values):
            continue
        terms.append(math.prod(Fraction(v) for v in values))
        volumes.append(Fraction(values[-1]))
    total = sum(map(abs, terms), Fraction(0))
    if item.op is AggregateOp.VWAP:
        return float(total / (abs(sum(volumes, Fraction(0))) or 1))
    return float(total)


@dataclass
class Expected:
    """What an AggregateScan should return; `scales` as the errors of `columns` are measured."""

    segments: list[int]
    buckets: list[int]
    columns: list[list[Value]]
    scales: list[list[float]]


def aggregate(table: Table, operation: AggregateScan) -> Expected:
    """Segments and buckets are empty when not asked for."""
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    stamp, bucket = table.schema.timestamp_index, operation.bucket
    place = {s: k for k, s in enumerate(operation.scan.ranges.segments.tolist())}
    for segment, row in rows_of(table, operation.scan):
        start = 0
        if bucket is not None:
            time = cell(table, segment, row, stamp)
            start = bucket.origin_ns + (time - bucket.origin_ns) // bucket.width_ns * bucket.width_ns
        groups.setdefault((segment if operation.by_symbol else -1, start), []).append((segment, row))
    if not operation.by_symbol and bucket is None and not groups:
        groups[-1, 0] = []
    keys = sorted(groups, key=lambda key: (place.get(key[0], 0), key[1]))
    columns = [[fold(table, item, groups[key]) for key in keys] for item in operation.aggregates]
    return Expected(
        [key[0] for key in keys] if operation.by_symbol else [],
        [key[1] for key in keys] if bucket is not None else [],
        columns,
        [[scale(table, item, groups[key]) for key in keys] for item in operation.aggregates],
    )


def asof_join(left: Table, right: Table, operation: AsofJoin) -> list[list[Value]]:
    """One list per left output, then per right output."""
    owner = dict(zip(operation.left.ranges.segments.tolist(), operation.right_segments.tolist(), strict=True))
    left_time, right_time = left.schema.timestamp_index, right.schema.timestamp_index
    out: list[list[Value]] = [[] for _ in range(len(operation.left_outputs) + len(operation.right_outputs))]
    for segment, row in rows_of(left, operation.left):
        time, other = cell(left, segment, row, left_time), owner[segment]
        rows = range(right.segments[other].rows) if other >= 0 else range(0)
        stamps = [(cell(right, other, r, right_time), r) for r in rows]
        best = {
            ">=": lambda c, t=time: max((x for x in c if x[0] <= t), default=None),
            ">": lambda c, t=time: max((x for x in c if x[0] < t), default=None),
            "<=": lambda c, t=time: min((x for x in c if x[0] >= t), key=lambda x: (x[0], -x[1]), default=None),
            "<": lambda c, t=time: min((x for x in c if x[0] > t), key=lambda x: (x[0], -x[1]), default=None),
        }[operation.op](stamps)
        if best is not None and operation.tolerance_ns is not None and abs(best[0] - time) > operation.tolerance_ns:
            best = None
        if best is None and not operation.keep_unmatched:
            continue
        values = [evaluate(left, segment, row, e) for e in operation.left_outputs]
        values += [None if best is None else evaluate(right, other, best[1], e) for e in operation.right_outputs]
        for column, value in zip(out, values, strict=True):
            column.append(value)
    return out


def smoothed(values: Sequence[Value], alpha: float) -> tuple[list[Value], list[float]]:
    """EMA of one range, and of the absolute values."""
    averages: list[Value] = []
    scales: list[float] = []
    average: Value = None
    scale = Fraction(0)
    for value in values:
        if value is None:
            averages.append(None)
            scales.append(0.0)
            continue
        x = float(value)
        if average is None or alpha >= 1:
            average, scale = x, abs(Fraction(x)) if math.isfinite(x) else Fraction(0)
        else:
            average = alpha * x + (1 - alpha) * average
            if math.isfinite(x):
                scale = Fraction(float(Fraction(alpha) * abs(Fraction(x)) + Fraction(1 - alpha) * scale))
        averages.append(average)
        scales.append(float(scale))
    return averages, scales


def framed(function: WindowFunction, values: Sequence[Value]) -> tuple[list[Value], list[float]]:
    """An aggregate of each frame of one range, and what its error is measured against."""
    results: list[Value] = []
    scales: list[float] = []
    op = AggregateOp[function.op.name]
    for end in range(1, len(values) + 1):
        start = 0 if function.rows is None else max(0, end - function.rows)
        present = [v for v in values[start:end] if v is not None]
        if op is AggregateOp.COUNT:
            results.append(len(present))
        elif len(present) == 1 and op in {AggregateOp.VARIANCE_POP, AggregateOp.STDDEV_POP}:
            results.append(0.0)  # also of NaN, in DuckDB
        else:
            results.append(_FOLDS[op](present) if present else None)
        is_sum = op in {AggregateOp.SUM, AggregateOp.AVG}
        scales.append(math.fsum(abs(float(v)) for v in present if math.isfinite(v)) if is_sum else 0.0)
    return results, scales


def window(table: Table, operation: WindowScan) -> tuple[list[list[Value]], list[list[float]]]:
    """One list per output, and what errors are measured against."""
    rows: dict[int, list[tuple[int, int]]] = {segment: [] for segment in operation.scan.ranges.segments.tolist()}
    for segment, row in rows_of(table, operation.scan):
        rows[segment].append((segment, row))
    columns: list[list[Value]] = []
    scales: list[list[float]] = []
    for output in operation.outputs:
        columns.append([])
        scales.append([])
        for places in rows.values():
            of = output.argument if isinstance(output, WindowFunction) else output
            values = [evaluate(table, s, r, of) for s, r in places]
            sizes = [0.0] * len(values)
            if isinstance(output, WindowFunction):
                is_ema = output.op is WindowOp.EMA
                values, sizes = smoothed(values, output.alpha) if is_ema else framed(output, values)
            columns[-1] += values
            scales[-1] += sizes
    return columns, scales
