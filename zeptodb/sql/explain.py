"""Says in words how a statement runs: the native plan operator by operator, or why DuckDB runs it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    TimeBucket,
    Vector,
    WindowFunction,
    WindowOp,
    can_be_summarized,
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
    Logical,
    Not,
    ToFloat,
)
from zeptodb.sql.bound import StringCode, StringCodeList
from zeptodb.sql.duckdb_plan import DuckdbPlan, TableRead
from zeptodb.sql.plan import AggregatePlan, JoinedPlan, JoinPlan, Plan, Reason, SelectPlan, TableScan, WindowPlan
from zeptodb.sql.source_text import line_and_column
from zeptodb.storage.dictionary import Dictionary
from zeptodb.types import ColumnType, Schema

_SHOWN_SYMBOLS = 8


def native_plan(
    plan: Plan,
    engine_name: str,
    *,
    summarized: frozenset[AggregateOp] = frozenset(),
    summarized_rows: int | None = None,
    place: Sequence[str] = (),
) -> str:
    """The lines that describe a native plan, the first operator to run last.

    summarized: functions that the backend answers from summaries of blocks. summarized_rows: for how many rows they did
    answer; None: it has not run. place: lines that say where it runs.
    """
    if isinstance(plan, JoinedPlan):
        lines = native_plan(plan.join, engine_name, place=place).splitlines()
        return "\n".join([f"{lines[0]}+duckdb", f"duckdb: {plan.sql}", *lines[1:]])
    lines = [f"engine: {engine_name}", *_finish(plan)]
    if isinstance(plan, AggregatePlan):
        schema = plan.scan.schema
        lines.append(_aggregate(plan, schema))
        if not plan.keys and can_be_summarized(plan.aggregates, plan.scan.predicate, summarized):
            lines.append(_summaries(summarized_rows))
        lines.append(_scan(plan.scan, schema))
    elif isinstance(plan, SelectPlan):
        schema = plan.scan.schema
        lines.append("select " + ", ".join(_text(e, schema) for e in plan.columns))
        lines.append(_scan(plan.scan, schema))
    elif isinstance(plan, WindowPlan):
        schema = plan.scan.schema
        plain = [_text(c, schema) for c in plan.columns if not isinstance(c, WindowFunction)]
        windows = [_window(c, schema) for c in plan.columns if isinstance(c, WindowFunction)]
        lines += (
            [f"windows by symbol {', '.join(windows)}", f"select {', '.join(plain)}"]
            if plain
            else [f"windows by symbol {', '.join(windows)}"]
        )
        lines.append(_scan(plan.scan, schema))
    else:
        schema = plan.left.schema
        kind = "as-of left join" if plan.keep_unmatched else "as-of join"
        lines.append(f"{kind} on symbol and {plan.left.table}.time {plan.op} {plan.right.table}.time")
        lines.append(_scan(plan.left, schema))
        lines.append(f"scan {plan.right.table}: the symbols of the left side")
    return "\n".join([*lines, *place])


def fallback_plan(
    reasons: tuple[Reason, ...],
    text: str,
    duckdb: DuckdbPlan | None = None,
    engine_name: str = "",
    places: Sequence[Sequence[str]] = (),
) -> str:
    """The lines that name DuckDB, every reason against a native plan, and the parts that are native all the same.

    places: per part the lines that say where it runs, or nothing at all.
    """
    leaves = () if duckdb is None else duckdb.leaves
    lines = [f"engine: {engine_name}+duckdb" if leaves else "engine: duckdb"]
    lines += [f"not native: {reason.message}{_place(reason.offset, text)}" for reason in reasons]
    if duckdb is None:
        return "\n".join(lines)
    if leaves:
        lines.append(f"duckdb: {duckdb.sql}")
    for leaf, place in zip(leaves, places or [()] * len(leaves), strict=True):
        lines.append(f"{leaf.name}{_place(leaf.offset, text)}: {engine_name}")
        lines += [f"  {line}" for line in native_plan(leaf.plan, engine_name, place=place).splitlines()[1:]]
    lines += [_read(read) for read in duckdb.reads]
    return "\n".join(lines)


def _place(offset: int | None, text: str) -> str:
    if offset is None:
        return ""
    line, column = line_and_column(text, offset)
    return f" (line {line}, column {column})"


def _read(read: TableRead) -> str:
    """What DuckDB reads of a table, and what is left out before."""
    bounds, names = read.bounds, [read.schema.fields[c].name for c in read.columns]
    parts = [f"columns {', '.join(names)}"]
    if bounds.symbols is not None:
        shown = [repr(s) for s in sorted(bounds.symbols, key=str)[:_SHOWN_SYMBOLS]]
        more = f", ... ({len(bounds.symbols)} in all)" if len(bounds.symbols) > _SHOWN_SYMBOLS else ""
        parts.append(f"symbols {', '.join(shown)}{more} by lookup")
    if bounds.from_ns is not None or bounds.to_ns is not None:
        parts.append(_times(bounds.from_ns, bounds.to_ns))
    name = read.view if read.view == read.table else f"{read.view} ({read.table})"
    return f"duckdb reads {name}: {'; '.join(parts)}"


def text_column(name: str, lines: list[str]) -> tuple[str, Vector, Dictionary]:
    """A result column of strings."""
    dictionary = Dictionary()
    codes = np.fromiter((dictionary.code(line) for line in lines), np.int32, len(lines))
    return name, Vector(codes, None, ColumnType.STRING), dictionary


def _finish(plan: AggregatePlan | SelectPlan | WindowPlan | JoinPlan) -> list[str]:
    finish = plan.finish
    lines = []
    if finish.limit is not None or finish.offset:
        lines.append(f"limit {finish.limit if finish.limit is not None else 'all'} offset {finish.offset}")
    if finish.order:
        how = f"sort by {len(finish.order)} keys"
        if isinstance(plan, (SelectPlan, WindowPlan)) and plan.storage_order == "ascending":
            how = "order by: as stored"
        elif isinstance(plan, AggregatePlan) and plan.comes_sorted:
            how = "order by: as grouped"
        lines.append(how)
    if finish.predicate is not None:
        lines.append("having" if isinstance(plan, AggregatePlan) else "filter the joined rows")
    return lines


def _aggregate(plan: AggregatePlan, schema: Schema) -> str:
    keys = ["symbol"] if plan.by_symbol else []
    if plan.bucket is not None:
        keys.append(_bucket(plan.bucket))
    keys += [_text(key, schema) for key in plan.keys]
    calls = ", ".join(_call(a, schema) for a in plan.aggregates)
    return f"aggregate {calls}" + (f" by {', '.join(keys)}" if keys else "")


def _summaries(rows: int | None) -> str:
    if rows is None:
        return "summaries: blocks of rows whose partial results are known are not scanned"
    return f"summaries: answered for {rows:,} rows, which were not scanned"


def _bucket(bucket: TimeBucket) -> str:
    return f"time buckets of {bucket.width_ns:,} ns" + (f" from {bucket.origin_ns} ns" if bucket.origin_ns else "")


def _call(aggregate: Aggregate, schema: Schema) -> str:
    arguments = ", ".join(_text(e, schema) for e in aggregate.arguments)
    call = aggregate.op.value if not aggregate.arguments else f"{aggregate.op.value}({arguments})"
    return call if aggregate.condition is None else f"{call} where {_text(aggregate.condition, schema)}"


def _window(function: WindowFunction, schema: Schema) -> str:
    argument = _text(function.argument, schema)
    if function.op is WindowOp.EMA:
        return f"ema({argument}) with alpha {function.alpha:g}"
    return f"{function.op.value}({argument}) over {'all rows' if function.rows is None else f'{function.rows:,} rows'}"


def _scan(scan: TableScan, schema: Schema) -> str:
    parts = []
    if scan.is_empty:
        parts.append("nothing, the condition is never true")
    if scan.symbols is not None:
        more = f", ... ({len(scan.symbols)} in all)" if len(scan.symbols) > _SHOWN_SYMBOLS else ""
        parts.append(f"symbols {', '.join(repr(s) for s in scan.symbols[:_SHOWN_SYMBOLS])}{more} by lookup")
    if scan.symbol_filter is not None:
        parts.append(f"symbols where {_text(scan.symbol_filter, schema)}")
    if scan.from_ns is not None or scan.to_ns is not None:
        parts.append(_times(scan.from_ns, scan.to_ns))
    if scan.predicate is not None:
        parts.append(f"rows where {_text(scan.predicate, schema)}")
    return f"scan {scan.table}: " + ("; ".join(parts) if parts else "all rows")


def _times(from_ns: int | None, to_ns: int | None) -> str:
    return f"time from {_moment(from_ns, 'the beginning')} to before {_moment(to_ns, 'the end')} by binary search"


def _moment(ns: int | None, end: str) -> str:
    if ns is None:
        return end
    moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{ns % 1_000_000_000:09d}"


def _text(node: Expression, schema: Schema) -> str:
    """An expression in SQL-like words."""
    if isinstance(node, ColumnRef):
        return schema.fields[node.index].name
    if isinstance(node, StringCode):
        return repr(node.text)
    if isinstance(node, Constant):
        return (
            "NULL"
            if node.value is None
            else str(node.value).lower()
            if isinstance(node.value, bool)
            else str(node.value)
        )
    if isinstance(node, (Arithmetic, Comparison, Logical)):
        return f"({_text(node.left, schema)} {node.op} {_text(node.right, schema)})"
    if isinstance(node, InList):
        items = node.texts if isinstance(node, StringCodeList) else node.values
        return f"{_text(node.argument, schema)} in {len(items)} values"
    if isinstance(node, IsNull):
        return f"{_text(node.argument, schema)} is null"
    if isinstance(node, Not):
        return f"not {_text(node.argument, schema)}"
    if isinstance(node, Bucket):
        return f"bucket({_text(node.argument, schema)}, {node.width})"
    assert isinstance(node, ToFloat)
    return _text(node.argument, schema)
