"""Keys of GROUP BY: their values into places of a dense table, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateResult,
    AggregateScan,
    Scan,
    TooManyGroupsError,
    Vector,
)
from zeptodb.backends.expression import Bucket, ColumnRef, Expression, Kind
from zeptodb.backends.program import may_be_null
from zeptodb.backends.results import nullable_columns, result_type
from zeptodb.record import record
from zeptodb.types import ColumnType

Int64Array = npt.NDArray[np.int64]

MAX_GROUPS = 1 << 17
"""Most places of the dense table."""


@record
class Key:
    """One key and the places of its values: (value - least) // width, NULL after all others.

    Attributes:
        expression: the key.
        least, width: as above.
        count: how many places there are, NULL's included if there may be one.
        has_null: whether there may be one.
        stride: how far apart two neighbours of this key lie, in groups.
    """

    expression: Expression
    least: int
    width: int
    count: int
    has_null: bool
    stride: int = 1


def groups_of(operation: AggregateScan, keys: list[Key]) -> tuple[int, int]:
    """Groups of one range, and ranges that have groups of their own; raises TooManyGroupsError."""
    groups = max(1, keys[0].stride * keys[0].count)
    ranges = len(operation.scan.ranges.segments) if operation.by_symbol else 1
    if groups * max(ranges, 1) > MAX_GROUPS:
        raise TooManyGroupsError(
            f"The keys span {groups * ranges:,} groups; at most {MAX_GROUPS:,} have a place in the dense table."
        )
    return groups, ranges


def find_keys(operation: AggregateScan, aggregate: Callable[[AggregateScan], AggregateResult]) -> list[Key]:
    """The bucket, if any, and the keys, with the places of their values; the last one varies fastest."""
    scan = operation.scan
    expressions = list(operation.keys)
    if operation.bucket is not None:
        stamp = ColumnRef(scan.snapshot.schema.timestamp_index, ColumnType.TIMESTAMP_NS)
        expressions.insert(0, Bucket(stamp, operation.bucket.width_ns, operation.bucket.origin_ns))
    nullable = nullable_columns(scan.snapshot)
    spans = _spans(aggregate, scan, expressions)
    keys: list[Key] = []
    stride = 1
    for expression, (least, greatest) in reversed(list(zip(expressions, spans, strict=True))):
        width = expression.width if isinstance(expression, Bucket) else 1
        has_null = may_be_null(expression, nullable)
        count = max(0, (greatest - least) // width + 1) + has_null
        keys.insert(0, Key(expression, least, width, count, has_null, stride))
        stride *= max(count, 1)
    return keys


def _spans(
    aggregate: Callable[[AggregateScan], AggregateResult], scan: Scan, expressions: list[Expression]
) -> list[tuple[int, int]]:
    """Least and greatest value of each key over the rows in range, the predicate left aside; (0, -1) of no value."""
    known = {e: _known_span(scan, e) for e in expressions}
    unknown = [e for e, span in known.items() if span is None]
    if unknown:
        # Buckets ascend with their argument, which is cheaper to look at.
        arguments = [e.argument if isinstance(e, Bucket) else e for e in unknown]
        items = tuple(Aggregate(op, (a,)) for a in arguments for op in (AggregateOp.MIN, AggregateOp.MAX))
        columns = aggregate(AggregateScan(replace(scan, predicate=None), items)).columns
        for i, expression in enumerate(unknown):
            low, high = columns[2 * i], columns[2 * i + 1]
            if low.validity is not None and not low.validity[0]:
                known[expression] = (0, -1)
                continue
            span = (int(low.values[0]), int(high.values[0]))
            if isinstance(expression, Bucket):
                span = (_floor(span[0], expression), _floor(span[1], expression))
            known[expression] = span
    return [known[e] or (0, -1) for e in expressions]


def _known_span(scan: Scan, expression: Expression) -> tuple[int, int] | None:
    """The span of a key that needs no look at the rows."""
    if expression.kind is Kind.BOOL:
        return 0, 1
    if not isinstance(expression, ColumnRef):
        return None
    if expression.index == scan.snapshot.schema.symbol_index:
        symbols = scan.snapshot.symbols[scan.ranges.segments]
        return (int(symbols.min()), int(symbols.max())) if len(symbols) else (0, -1)
    dictionary = scan.snapshot.dictionaries[expression.index]
    return (0, len(dictionary) - 1) if expression.type is ColumnType.STRING and dictionary is not None else None


def _floor(value: int, bucket: Bucket) -> int:
    return bucket.origin + (value - bucket.origin) // bucket.width * bucket.width


def key_values(key: Key, groups: Int64Array) -> Vector:
    """The key's values in the given groups."""
    places = groups // key.stride % max(key.count, 1)
    kind = result_type(key.expression)
    is_valid = places < key.count - 1 if key.has_null else np.ones(len(places), dtype=np.bool_)
    values = np.where(is_valid, places, 0) * key.width + key.least
    return Vector(values.astype(kind.dtype), None if is_valid.all() else is_valid, kind)
