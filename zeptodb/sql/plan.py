"""Native plans: what to scan, which operator to run, and what to do with its small result.

An operator of a plan leaves columns, called slots; `Finish` computes the answer's columns from them. Expressions of a
`Finish` refer to slots by `ColumnRef(index of the slot, type)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Literal, NamedTuple

from zeptodb.backends.base import Aggregate, TimeBucket, WindowFunction
from zeptodb.backends.expression import ColumnRef, Expression
from zeptodb.record import record
from zeptodb.types import ColumnType, Schema

if TYPE_CHECKING:
    from zeptodb.sql.duckdb_plan import DuckdbPlan
    from zeptodb.sql.template import Template

Symbol = int | str
Side = Literal["left", "right"]
StorageOrder = Literal["ascending", "descending"] | None


class Reason(NamedTuple):
    """Why a statement is not native, and where in its text (None: no place).

    `is_error` says that no engine can run it: should DuckDB fail too, this is the better message.
    """

    message: str
    offset: int | None = None
    is_error: bool = False


@record
class TableScan:
    """Which rows of a table to read.

    Attributes:
        table: its name.
        schema: the table's when the plan was made; another one at run time makes the plan stale.
        symbols: only these symbols, by lookup; None: all.
        symbol_filter: a condition on the symbol alone, decided once per segment.
        from_ns, to_ns: timestamps from (inclusive) and to (exclusive), by binary search; None: no bound.
        predicate: a condition on each row.
        is_empty: the condition is false whatever the row.
    """

    table: str
    schema: Schema = field(repr=False)
    symbols: tuple[Symbol, ...] | None = None
    symbol_filter: Expression | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    predicate: Expression | None = None
    is_empty: bool = False


class Slot(NamedTuple):
    """One column that an operator leaves.

    Attributes:
        type: of its values; HUGEINT for sums of integers, whatever they fit.
        dictionary: for STRING the column of the table whose dictionary holds the strings.
        side: of which table, in a join.
    """

    type: ColumnType
    dictionary: int | None = None
    side: Side = "left"


class Output(NamedTuple):
    """One column of the answer; `dictionary_slot` is the slot whose strings a STRING output shows."""

    name: str
    expression: Expression
    type: ColumnType
    dictionary_slot: int | None = None


class OrderKey(NamedTuple):
    """One key of ORDER BY over the slots; `dictionary_slot` as in Output."""

    expression: Expression
    is_descending: bool
    nulls_first: bool
    dictionary_slot: int | None = None


class Finish(NamedTuple):
    """Steps over the slots, in this order: keep rows where `predicate` is true, sort, skip `offset`, take `limit`."""

    outputs: tuple[Output, ...]
    predicate: Expression | None = None
    order: tuple[OrderKey, ...] = ()
    offset: int = 0
    limit: int | None = None


class SelectPlan(NamedTuple):
    """Values of `columns` (over the table) for the rows of a scan; they are the slots.

    `storage_order` says that the finish sorts as rows are stored: by symbol, then time ("descending": the time of one
    symbol backwards).
    """

    scan: TableScan
    columns: tuple[Expression, ...]
    slots: tuple[Slot, ...]
    finish: Finish
    storage_order: StorageOrder = None


class WindowPlan(NamedTuple):
    """As SelectPlan, with window functions among the columns: they see the rows of the scan, symbol by symbol."""

    scan: TableScan
    columns: tuple[Expression | WindowFunction, ...]
    slots: tuple[Slot, ...]
    finish: Finish
    storage_order: StorageOrder = None


class AggregatePlan(NamedTuple):
    """Aggregates of a scan; the slots are the symbol (if any), the bucket (if any), further keys, the aggregates."""

    scan: TableScan
    aggregates: tuple[Aggregate, ...]
    by_symbol: bool
    bucket: TimeBucket | None
    keys: tuple[Expression, ...]
    slots: tuple[Slot, ...]
    finish: Finish

    @property
    def comes_sorted(self) -> bool:
        """Whether groups come in the order that is asked for: by symbol, then by time bucket, ascending."""
        leading = int(self.by_symbol) + (self.bucket is not None)
        return len(self.finish.order) <= leading and all(
            isinstance(key.expression, ColumnRef) and key.expression.index == place and not key.is_descending
            for place, key in enumerate(self.finish.order)
        )


class JoinPlan(NamedTuple):
    """An as-of join on symbol and time; each slot takes the next of the columns of its side."""

    left: TableScan
    right: TableScan
    op: Literal[">=", ">", "<=", "<"]
    keep_unmatched: bool
    left_columns: tuple[ColumnRef, ...]
    right_columns: tuple[ColumnRef, ...]
    slots: tuple[Slot, ...]
    finish: Finish


class JoinedPlan(NamedTuple):
    """A join whose rows DuckDB finishes: it runs `sql` over them; `timestamp_columns` of its answer are ours."""

    join: JoinPlan
    sql: str
    timestamp_columns: frozenset[int]


Plan = SelectPlan | WindowPlan | AggregatePlan | JoinPlan | JoinedPlan


@record
class Planned:
    """What the planner makes of a SELECT.

    Attributes:
        plan: the native plan; None when there are reasons against it.
        reasons: every reason found.
        duckdb: what DuckDB runs when there is no native plan of the whole; None: not prepared.
        is_volatile: the plan holds the present moment and must not be kept.
        make_template: makes the plan a template for other literals; None where there are none to exchange.
    """

    plan: Plan | None
    reasons: tuple[Reason, ...] = ()
    is_volatile: bool = False
    make_template: Callable[[], Template] | None = field(default=None, repr=False, compare=False)
    duckdb: DuckdbPlan | None = None
