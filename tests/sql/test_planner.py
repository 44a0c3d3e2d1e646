"""What becomes a native plan, what does not, and why."""

from __future__ import annotations

import pytest

from tests.sql.fallback_host import QUOTES, field
from tests.sql.tables_to_compare import TICKS
from zeptodb.backends.base import AggregateOp, AggregateScan, AsofJoin, Capabilities, SelectScan, TimeBucket
from zeptodb.backends.cpu.memory import AnonymousMemory
from zeptodb.sql.dialect import parse
from zeptodb.sql.plan import AggregatePlan, JoinedPlan, JoinPlan, Plan, Planned, SelectPlan, TableScan
from zeptodb.sql.planner import plan
from zeptodb.sql.source_text import line_and_column
from zeptodb.storage.catalog import Catalog
from zeptodb.types import TRADES, ColumnType, Schema

EVERYTHING = Capabilities(frozenset(AggregateOp), frozenset({AggregateScan, SelectScan, AsofJoin}))
DAY_NS = 86_400_000_000_000
FIRST_DAY_NS = 1_704_067_200_000_000_000
NUMBERS = Schema(
    (field("symbol", ColumnType.INT64), field("timestamp", ColumnType.TIMESTAMP_NS), field("price", ColumnType.INT64)),
    symbol="symbol",
    timestamp="timestamp",
)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    made = Catalog(AnonymousMemory(), arena_size=1 << 20)
    made.create("trades", TRADES)
    made.create("numbers", NUMBERS)
    made.create("quotes", QUOTES)
    made.create("ticks", TICKS)
    return made


def planned(text: str, catalog: Catalog, capabilities: Capabilities = EVERYTHING) -> Planned:
    (statement,) = parse(text)
    return plan(statement, text, catalog, capabilities)


def native(text: str, catalog: Catalog) -> Plan:
    result = planned(text, catalog)
    assert result.plan is not None, result.reasons
    return result.plan


def scan_of(condition: str, catalog: Catalog, table: str = "numbers") -> TableScan:
    found = native(f"SELECT count(*) FROM {table} WHERE {condition}", catalog)
    assert isinstance(found, AggregatePlan)
    return found.scan


@pytest.mark.parametrize(
    ("condition", "symbols"),
    [
        ("symbol = 1", (1,)),
        ("1 = symbol", (1,)),
        ("symbol IN (3, 1, 3)", (1, 3)),
        ("symbol = 1 OR symbol = 5 OR symbol IN (2)", (1, 2, 5)),
        ("symbol IN (1, 2, 3) AND symbol IN (3, 4) AND price >= -9", (3,)),
        ("symbol = 1 AND symbol = 2", ()),
    ],
)
def test_symbol_conditions_become_lookups(condition: str, symbols: tuple[int, ...], catalog: Catalog) -> None:
    scan = scan_of(condition, catalog)
    assert scan.symbols == symbols
    assert scan.symbol_filter is None
    assert scan.is_empty == (symbols == ())


def test_string_symbols_become_lookups(catalog: Catalog) -> None:
    assert scan_of("symbol = 'IBM' OR symbol IN ('AIG')", catalog, "ticks").symbols == ("AIG", "IBM")


def test_other_conditions_on_the_symbol_are_decided_per_segment(catalog: Catalog) -> None:
    scan = scan_of("symbol > 3 AND symbol != 7", catalog)
    assert scan.symbol_filter is not None
    assert scan.predicate is None


@pytest.mark.parametrize(
    ("condition", "from_ns", "to_ns"),
    [
        ("timestamp >= 5", 5, None),
        ("timestamp > 5 AND 9 >= timestamp", 6, 10),
        ("timestamp BETWEEN 5 AND 9", 5, 10),
        ("timestamp = 5", 5, 6),
        ("timestamp < 5.5", None, 6),
        ("timestamp >= '2024-01-01'", FIRST_DAY_NS, None),
        ("timestamp < TIMESTAMP '2024-01-01 00:00:00.000000007'", None, FIRST_DAY_NS + 7),
        ("timestamp < '2024-01-02T01:00:00+01:00'", None, FIRST_DAY_NS + DAY_NS),
        ("timestamp < TIMESTAMP '2024-01-01' + INTERVAL '1 day'", None, FIRST_DAY_NS + DAY_NS),
        ("timestamp < DATE '2024-01-02' - INTERVAL 1 DAY", None, FIRST_DAY_NS),
    ],
)
def test_time_conditions_become_ranges(
    condition: str, from_ns: int | None, to_ns: int | None, catalog: Catalog
) -> None:
    scan = scan_of(condition, catalog)
    assert (scan.from_ns, scan.to_ns, scan.predicate) == (from_ns, to_ns, None)


@pytest.mark.parametrize("condition", ["timestamp < 5 AND timestamp > 7", "1 = 2", "price = 1 AND false"])
def test_conditions_that_are_never_true_read_nothing(condition: str, catalog: Catalog) -> None:
    assert scan_of(condition, catalog).is_empty


def test_now_is_folded_and_makes_the_plan_volatile(catalog: Catalog) -> None:
    result = planned("SELECT price FROM numbers WHERE timestamp > now() - INTERVAL '5 minutes'", catalog)
    assert result.is_volatile
    assert isinstance(result.plan, SelectPlan)
    assert result.plan.scan.from_ns is not None


@pytest.mark.parametrize(
    ("key", "bucket"),
    [
        ("xbar(timestamp, 60000000000)", TimeBucket(60_000_000_000)),
        ("xbar(timestamp, INTERVAL '5 minutes')", TimeBucket(300_000_000_000)),
        ("xbar(timestamp, INTERVAL '5m')", TimeBucket(300_000_000_000)),
        ("date_trunc('day', timestamp)", TimeBucket(DAY_NS)),
        ("date_trunc('week', timestamp)", TimeBucket(7 * DAY_NS, -3 * DAY_NS)),
    ],
)
@pytest.mark.parametrize("by", ["{key}, symbol", "bar, symbol", "1, 2"])
def test_bars_by_expression_alias_and_position(key: str, bucket: TimeBucket, by: str, catalog: Catalog) -> None:
    sql = f"SELECT {key} AS bar, symbol, first(price) FROM numbers GROUP BY {by.format(key=key)}"
    found = native(sql, catalog)
    assert isinstance(found, AggregatePlan)
    assert found.by_symbol
    assert found.bucket == bucket


def test_an_aggregate_that_occurs_twice_is_computed_once(catalog: Catalog) -> None:
    sql = "SELECT sum(price), sum(price) / count(*) FROM numbers HAVING sum(price) > 3 ORDER BY count(*)"
    found = native(sql, catalog)
    assert isinstance(found, AggregatePlan)
    assert [a.op for a in found.aggregates] == [AggregateOp.SUM, AggregateOp.COUNT_ROWS]


@pytest.mark.parametrize(
    ("order", "storage_order"),
    [
        ("WHERE symbol = 1 ORDER BY timestamp", "ascending"),
        ("WHERE symbol = 1 ORDER BY timestamp DESC", "descending"),
        ("ORDER BY symbol, timestamp", "ascending"),
        ("ORDER BY timestamp", None),
        ("ORDER BY symbol DESC", None),
        ("WHERE symbol = 1 ORDER BY price", None),
    ],
)
def test_the_order_of_storage_is_recognised(order: str, storage_order: str | None, catalog: Catalog) -> None:
    found = native(f"SELECT * FROM numbers {order} LIMIT 3", catalog)
    assert isinstance(found, SelectPlan)
    assert found.storage_order == storage_order


@pytest.mark.parametrize(
    ("on", "op"),
    [
        ("ON t.symbol = q.symbol AND t.timestamp >= q.timestamp", ">="),
        ("ON q.timestamp < t.timestamp AND q.symbol = t.symbol", ">"),
        ("ON t.symbol = q.symbol AND (t.timestamp <= q.timestamp)", "<="),
        ("ON t.symbol = q.symbol AND t.timestamp < q.timestamp", "<"),
        ("USING (symbol, timestamp)", ">="),
    ],
)
def test_asof_joins_are_native(on: str, op: str, catalog: Catalog) -> None:
    found = native(
        f"SELECT price, bid FROM numbers t ASOF LEFT JOIN quotes q {on} WHERE price > 3 AND bid > 1", catalog
    )
    assert isinstance(found, JoinPlan)
    assert found.op == op
    assert found.keep_unmatched
    assert found.left.predicate is not None
    assert found.finish.predicate is not None


def test_aggregates_over_an_asof_join_are_finished_by_duckdb(catalog: Catalog) -> None:
    sql = (
        "SELECT t.symbol, avg(CASE WHEN price BETWEEN bid AND ask THEN 1 ELSE 0 END) FROM numbers t "
        "ASOF JOIN quotes q USING (symbol, timestamp) WHERE t.symbol = 1 GROUP BY t.symbol"
    )
    found = native(sql, catalog)
    assert isinstance(found, JoinedPlan)
    assert found.join.left.symbols == (1,)
    assert '"avg(CASE  WHEN ((price BETWEEN bid AND ask)) THEN (1) ELSE 0 END)"' in found.sql


@pytest.mark.parametrize(
    ("sql", "message", "column"),
    [
        ("SELECT median(price) FROM numbers", "function median", 8),
        ("SELECT lower('x') FROM numbers", "function lower", 8),
        ("SELECT price FROM numbers QUALIFY true", "QUALIFY", None),
        ("SELECT count(DISTINCT price) FROM numbers", "DISTINCT", 23),
        ("SELECT price * 1.5 FROM numbers", "DECIMAL", 8),
        ("SELECT size + 1 FROM ticks", "INT32", 8),
        ("SELECT ratio * 2 FROM ticks", "FLOAT32", 8),
        ("SELECT price / price FROM numbers", "may be 0", 8),
        ("SELECT min(side) FROM ticks", "function min of VARCHAR", 12),
        ("SELECT price FROM numbers WHERE side < 'x' AND price > 1", 'no column "side"', 33),
        ("SELECT symbol FROM ticks WHERE side < 'x'", "strings are native in", 32),
        ("SELECT price AS symbol FROM numbers WHERE symbol = 1", "alias of something else", 43),
        ("SELECT 1 FROM numbers", "constant", 8),
        ("SELECT price FROM numbers LIMIT 2 + 1", "LIMIT", 33),
        ("SELECT ratio FROM ticks GROUP BY ratio", "GROUP BY of a FLOAT", 34),
        ("SELECT price FROM numbers GROUP BY symbol", "neither a key", 8),
        ("SELECT a.price FROM numbers a JOIN quotes b USING (symbol)", "only ASOF", 36),
        ("SELECT price FROM nothing", "is no table", 19),
        ("SELECT price FROM (SELECT * FROM numbers)", "something else than a table", 27),
        ("SELECT timestamp FROM numbers a ASOF JOIN quotes b ON a.symbol = b.symbol AND a.timestamp > b.timestamp",
         "ambiguous", 8),
    ],
)  # fmt: skip
def test_reasons_name_the_obstacle_and_its_place(sql: str, message: str, column: int | None, catalog: Catalog) -> None:
    result = planned(sql, catalog)
    assert result.plan is None
    found = next((r for r in result.reasons if message in r.message), None)
    assert found is not None, result.reasons
    assert (None if found.offset is None else line_and_column(sql, found.offset)[1]) == column


def test_every_reason_is_collected(catalog: Catalog) -> None:
    sql = "SELECT median(price), lower(nosuch) FROM numbers WHERE upper(price) = 'X' ORDER BY sqrt(price) LIMIT 1.5"
    messages = " ".join(reason.message for reason in planned(sql, catalog).reasons)
    assert all(part in messages for part in ("median", "lower", "upper", "sqrt", "LIMIT"))


def test_what_a_backend_cannot_run_is_a_reason(catalog: Catalog) -> None:
    nothing = Capabilities(frozenset(), frozenset())
    result = planned("SELECT vwap(price, price) FROM numbers", catalog, nothing)
    assert [r.message for r in result.reasons] == ["the backend cannot aggregate", "the backend does not compute vwap"]
