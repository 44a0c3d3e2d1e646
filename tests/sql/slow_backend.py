"""A backend in plain Python: every operator as its definition reads, for tests of what lies above backends."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateResult,
    AggregateScan,
    AsofJoin,
    Capabilities,
    Ranges,
    Scan,
    SelectScan,
    TopScan,
    Vector,
    WindowFunction,
    WindowOp,
    WindowScan,
)
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.sql.evaluate import evaluate
from zeptodb.storage.workers import CallerAlone
from zeptodb.types import ColumnType


def segment_columns(snapshot, segment: int, start: int, end: int) -> list[Vector]:
    """The rows [start, end) of a segment, column by column."""
    columns = []
    for index, field in enumerate(snapshot.schema.fields):
        if index == snapshot.schema.symbol_index:
            columns.append(Vector(np.full(end - start, snapshot.symbols[segment]), None, ColumnType.INT64))
            continue
        dtype = field.type.dtype
        columns.append(
            Vector(
                _read(int(snapshot.addresses[index, segment]), dtype, start, end),
                _validity(int(snapshot.validity[index, segment]), start, end),
                field.type,
            )
        )
    return columns


def _read(address: int, dtype: np.dtype, start: int, end: int) -> np.ndarray:
    size = (end - start) * dtype.itemsize
    raw = ctypes.string_at(address + start * dtype.itemsize, size) if size else b""
    return np.frombuffer(raw, dtype).copy()


def _validity(address: int, start: int, end: int) -> np.ndarray | None:
    return _read(address, np.dtype(np.uint8), start, end).astype(bool) if address else None


class SlowBackend:
    name = "slow"
    device = "plain Python"
    reason = ""
    accelerator = None
    capabilities = Capabilities(
        frozenset(AggregateOp),
        frozenset({AggregateScan, SelectScan, TopScan, AsofJoin, WindowScan}),
        windows=frozenset(WindowOp),
    )

    def __init__(self, memory) -> None:
        self.memory = memory
        self.threads: tuple[Any, ...] = ()
        self.workers = CallerAlone()

    def time_ranges(self, snapshot, segments, *, from_ns=None, to_ns=None) -> Ranges:
        starts, ends = [], []
        for segment in segments:
            length = int(snapshot.lengths[segment])
            times = segment_columns(snapshot, segment, 0, length)[snapshot.schema.timestamp_index].values
            starts.append(0 if from_ns is None else int(np.searchsorted(times, from_ns, "left")))
            ends.append(length if to_ns is None else int(np.searchsorted(times, to_ns, "left")))
        starts_array = np.array(starts, np.int64)
        return Ranges(np.asarray(segments, np.int64), starts_array, np.maximum(starts_array, np.array(ends, np.int64)))

    def aggregate(self, operation: AggregateScan) -> AggregateResult:
        groups: dict[tuple[Any, ...], list[tuple[list[Vector], int]]] = {}
        for position, _, columns, rows in _kept(operation.scan):
            times = columns[operation.scan.snapshot.schema.timestamp_index].values
            keys = [_output(key, columns) for key in operation.keys]
            for row in rows:
                bucket = 0
                if operation.bucket is not None:
                    width, origin = operation.bucket.width_ns, operation.bucket.origin_ns
                    bucket = (int(times[row]) - origin) // width * width + origin
                # A key's value behind whether it is NULL, so that NULLs sort last.
                values = tuple((False, int(k.values[row].item())) if _is_valid(k, row) else (True, 0) for k in keys)
                groups.setdefault((position if operation.by_symbol else 0, bucket, *values), []).append((columns, row))
        if not operation.by_symbol and operation.bucket is None and not operation.keys and not groups:
            groups[0, 0] = []
        time = operation.scan.snapshot.schema.timestamp_index
        for rows_of_group in groups.values():
            rows_of_group.sort(key=lambda place: place[0][time].values[place[1]])
        keys = sorted(groups)
        segments = operation.scan.ranges.segments
        return AggregateResult(
            np.array([segments[k[0]] for k in keys], np.int64) if operation.by_symbol else None,
            np.array([k[1] for k in keys], np.int64) if operation.bucket is not None else None,
            tuple(_vector([_aggregate(a, groups[k]) for k in keys], _type(a)) for a in operation.aggregates),
            tuple(_key_vector([k[2 + i] for k in keys], e) for i, e in enumerate(operation.keys)),
        )

    def select(self, operation: SelectScan) -> tuple[Vector, ...]:
        parts: list[list[Vector]] = [[] for _ in operation.outputs]
        for _, _, columns, rows in _kept(operation.scan):
            for i, output in enumerate(operation.outputs):
                parts[i].append(_take(_output(output, columns), rows))
        window = slice(operation.offset, None if operation.limit is None else operation.offset + operation.limit)
        return tuple(_concatenate(p, o, window) for p, o in zip(parts, operation.outputs, strict=True))

    def top(self, operation: TopScan) -> tuple[Vector, ...]:
        return self.select(SelectScan(operation.scan, operation.outputs))

    def asof_join(self, operation: AsofJoin) -> tuple[Vector, ...]:
        outputs = operation.left_outputs + operation.right_outputs
        parts: list[list[Vector]] = [[] for _ in outputs]
        right, right_time = operation.right.snapshot, operation.right.snapshot.schema.timestamp_index
        left_time = operation.left.snapshot.schema.timestamp_index
        for position, _, columns, rows in _kept(operation.left):
            segment = int(operation.right_segments[position])
            length = int(right.lengths[segment]) if segment >= 0 else 0
            other = segment_columns(right, max(segment, 0), 0, length) if len(right.lengths) else []
            times = other[right_time].values if length else np.zeros(0, np.int64)
            matches = [_match(int(columns[left_time].values[row]), times, operation.op) for row in rows]
            kept = [i for i, m in enumerate(matches) if m >= 0 or operation.keep_unmatched]
            for i, output in enumerate(operation.left_outputs):
                parts[i].append(_take(_output(output, columns), [rows[k] for k in kept]))
            for i, output in enumerate(operation.right_outputs):
                found = [matches[k] for k in kept]
                parts[len(operation.left_outputs) + i].append(_take_or_null(output, other, found))
        return tuple(_concatenate(p, o, slice(None)) for p, o in zip(parts, outputs, strict=True))

    def window(self, operation: WindowScan) -> tuple[Vector, ...]:
        parts: list[list[Vector]] = [[] for _ in operation.outputs]
        for _, _, columns, rows in _kept(operation.scan):
            for i, output in enumerate(operation.outputs):
                of = output.argument if isinstance(output, WindowFunction) else output
                values = _take(_output(of, columns), rows)
                parts[i].append(_windows(output, values) if isinstance(output, WindowFunction) else values)
        types = [o.argument if isinstance(o, WindowFunction) else o for o in operation.outputs]
        return tuple(_concatenate(p, t, slice(None)) for p, t in zip(parts, types, strict=True))

    def configure_threads(self, threads, *, row_threshold=None) -> None:
        self.threads = (threads, row_threshold)

    def begin_warm_up(self) -> None: ...

    def warm_up(self) -> None: ...

    def close(self) -> None: ...


def _key_vector(places: list[tuple[bool, int]], expression: Expression) -> Vector:
    kind = expression.type if isinstance(expression, ColumnRef) else ColumnType.INT64
    values = np.array([value for _, value in places], np.int64).astype(kind.dtype)
    return Vector(values, ~np.array([missing for missing, _ in places], bool), kind)


def _kept(scan: Scan) -> Iterator[tuple[int, int, list[Vector], list[int]]]:
    ranges = scan.ranges
    for position, (segment, start, end) in enumerate(zip(ranges.segments, ranges.starts, ranges.ends, strict=True)):
        columns = segment_columns(scan.snapshot, int(segment), int(start), int(end))
        rows = list(range(int(end - start)))
        if scan.predicate is not None:
            condition = evaluate(scan.predicate, columns, len(rows))
            rows = [r for r in rows if condition.values[r] and _is_valid(condition, r)]
        yield position, int(segment), columns, rows


def _output(expression: Expression, columns: list[Vector]) -> Vector:
    if isinstance(expression, ColumnRef):
        return columns[expression.index]
    return evaluate(expression, columns, len(columns[0].values))


def _is_valid(vector: Vector, row: int) -> bool:
    return vector.validity is None or bool(vector.validity[row])


def _take(vector: Vector, rows: list[int]) -> Vector:
    index = np.array(rows, np.int64)
    return Vector(vector.values[index], None if vector.validity is None else vector.validity[index], vector.type)


def _take_or_null(expression: Expression, columns: list[Vector], rows: list[int]) -> Vector:
    found = np.array([r >= 0 for r in rows], bool)
    if not columns or not len(columns[0].values):
        dtype = expression.type.dtype if isinstance(expression, ColumnRef) else np.dtype(np.int64)
        return Vector(np.zeros(len(rows), dtype), np.zeros(len(rows), bool), ColumnType.INT64)
    taken = _take(_output(expression, columns), [max(r, 0) for r in rows])
    return Vector(taken.values, found if taken.validity is None else found & taken.validity, taken.type)


def _concatenate(parts: list[Vector], expression: Expression, window: slice) -> Vector:
    if not parts:
        dtype = expression.type.dtype if isinstance(expression, ColumnRef) else np.dtype(np.int64)
        return Vector(np.zeros(0, dtype), None, ColumnType.INT64)
    values = np.concatenate([p.values for p in parts])[window]
    masks = [np.ones(len(p.values), bool) if p.validity is None else p.validity for p in parts]
    return Vector(values, np.concatenate(masks)[window], parts[0].type)


def _windows(function: WindowFunction, argument: Vector) -> Vector:
    values = [v if _is_valid(argument, i) else None for i, v in enumerate(argument.values.tolist())]
    compute = _smoothed if function.op is WindowOp.EMA else _framed
    found = compute(function, values)
    kept = function.op in (WindowOp.SUM, WindowOp.MIN, WindowOp.MAX) and not argument.type.is_float
    kind = ColumnType.HUGEINT if kept or function.op is WindowOp.COUNT else ColumnType.FLOAT64
    return _vector(found, kind)


def _smoothed(function: WindowFunction, values: list[Any]) -> list[Any]:
    found: list[Any] = []
    average = None
    for value in values:
        if value is not None:
            is_first = average is None or function.alpha >= 1
            average = float(value) if is_first else function.alpha * value + (1 - function.alpha) * average
        found.append(None if value is None else average)
    return found


def _framed(function: WindowFunction, values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for end in range(1, len(values) + 1):
        frame = values[0 if function.rows is None else max(0, end - function.rows) : end]
        items = [(v,) for v in frame if v is not None]
        if function.op is WindowOp.COUNT:
            found.append(len(items))
        elif len(items) == 1 and function.op.name.startswith(("VARIANCE", "STDDEV")):
            found.append(0.0 if function.op.name.endswith("POP") else None)  # also of NaN, in DuckDB
        else:
            found.append(_numeric(AggregateOp[function.op.name], items) if items else None)
    return found


def _match(moment: int, times: np.ndarray, op: str) -> int:
    if op in (">=", ">"):
        return int(np.searchsorted(times, moment, "right" if op == ">=" else "left")) - 1
    index = int(np.searchsorted(times, moment, "left" if op == "<=" else "right"))
    return int(np.searchsorted(times, times[index], "right")) - 1 if index < len(times) else -1


def _aggregate(aggregate: Aggregate, rows: list[tuple[list[Vector], int]]) -> Any:
    cache: dict[tuple[int, Expression], Vector] = {}

    def value(expression: Expression, columns: list[Vector], row: int) -> Any:
        key = (id(columns), expression)
        if key not in cache:
            cache[key] = evaluate(expression, columns, len(columns[0].values))
        vector = cache[key]
        return vector.values[row].item() if _is_valid(vector, row) else None

    kept = [(c, r) for c, r in rows if aggregate.condition is None or value(aggregate.condition, c, r)]
    if aggregate.op is AggregateOp.COUNT_ROWS:
        return len(kept)
    items = [tuple(value(e, c, r) for e in aggregate.arguments) for c, r in kept]
    if aggregate.op is AggregateOp.FIRST:
        return items[0][0] if items else None
    if aggregate.op is AggregateOp.LAST:
        return items[-1][0] if items else None
    items = [item for item in items if None not in item]
    if aggregate.op is AggregateOp.COUNT:
        return len(items)
    return _numeric(aggregate.op, items) if items else None


def _numeric(op: AggregateOp, items: list[tuple[Any, ...]]) -> Any:
    values = [item[0] for item in items]
    if op in (AggregateOp.MIN, AggregateOp.MAX):
        return (min if op is AggregateOp.MIN else max)(values, key=_nan_last)
    if any(isinstance(v, float) and not math.isfinite(v) for item in items for v in item):
        return float(np.sum(values)) if op in (AggregateOp.SUM, AggregateOp.AVG) else math.nan
    if op is AggregateOp.SUM:
        return sum(values) if isinstance(values[0], int) else float(sum(map(Fraction, values)))
    if op is AggregateOp.VWAP:
        volume = sum(Fraction(v) for _, v in items)
        return float(sum(Fraction(p) * Fraction(v) for p, v in items) / volume) if volume else None
    mean = Fraction(sum(map(Fraction, values)), len(values))
    if op is AggregateOp.AVG:
        return float(mean)
    squares = sum((Fraction(v) - mean) ** 2 for v in values)
    count = len(values) - (op in (AggregateOp.VARIANCE_SAMP, AggregateOp.STDDEV_SAMP))
    if count == 0:
        return None
    variance = float(squares / count)
    return math.sqrt(variance) if op in (AggregateOp.STDDEV_SAMP, AggregateOp.STDDEV_POP) else variance


def _nan_last(value: Any) -> tuple[bool, Any]:
    return isinstance(value, float) and math.isnan(value), value


def _type(aggregate: Aggregate) -> ColumnType:
    if aggregate.op in (AggregateOp.COUNT, AggregateOp.COUNT_ROWS):
        return ColumnType.INT64
    if aggregate.op in (AggregateOp.SUM, AggregateOp.MIN, AggregateOp.MAX, AggregateOp.FIRST, AggregateOp.LAST):
        argument = aggregate.arguments[0]
        if argument.kind.value == "float64":
            return ColumnType.FLOAT64
        return ColumnType.BOOL if argument.kind.value.startswith("three") else ColumnType.HUGEINT
    return ColumnType.FLOAT64


def _vector(values: list[Any], column_type: ColumnType) -> Vector:
    validity = np.array([v is not None for v in values], bool)
    filled = [0 if v is None else v for v in values]
    if column_type is ColumnType.HUGEINT and all(-(2**63) <= v < 2**63 for v in filled):
        return Vector(np.array(filled, np.int64), validity, ColumnType.INT64)
    dtype = object if column_type is ColumnType.HUGEINT else column_type.dtype
    return Vector(np.array(filled, dtype), validity, column_type)
