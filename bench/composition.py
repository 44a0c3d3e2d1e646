"""A CTE over a native leaf, and what a long statement costs before a row is read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import zeptodb
from bench.data import Trades
from bench.harness import Benchmark, ran_on
from zeptodb.demo.comparison import Answer, Contender
from zeptodb.demo.contenders import ZEPTODB, duckdb_sql, zeptodb_sql

FIVE_MINUTES_NS = 300_000_000_000
RANKED = (
    "WITH bars AS (SELECT symbol, {bar} AS bar, {first} AS open, {last} AS close, sum(volume) AS volume "
    "FROM trades GROUP BY symbol, bar) "
    "SELECT symbol, bar, close - open AS move, rank() OVER (PARTITION BY symbol ORDER BY volume DESC, bar) AS place "
    "FROM bars QUALIFY place <= 3"
)
SQL = RANKED.format(bar=f"xbar(timestamp, {FIVE_MINUTES_NS})", first="first(price)", last="last(price)")
DUCKDB_SQL = RANKED.format(
    bar=f"timestamp // {FIVE_MINUTES_NS} * {FIVE_MINUTES_NS}",
    first="arg_min(price, rowid)",
    last="arg_max(price, rowid)",
)
LINES = 200
CONDITIONS = 30
CALLS = 50
CALLED = ("sum", "avg", "min", "max", "first", "last", "stddev", "variance", "count")


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """Bars per symbol natively and their rank in DuckDB; a statement of 200 lines, new and known."""
    yield Benchmark(
        "CTE: 5-minute bars by symbol, then their rank",
        (zeptodb_sql(trades.pipeline, SQL), duckdb_sql(trades.connection, DUCKDB_SQL)),
        keys=("symbol", "bar"),
        rows=trades.rows,
        ran_on=ran_on(trades.pipeline, SQL),
    )
    numbers = itertools.count()
    with zeptodb.Pipeline() as pipeline:
        for what, statement, calls in (
            ("new", lambda: long_statement(next(numbers)), 1),
            ("known", lambda: long_statement(0), CALLS),
        ):
            yield Benchmark(
                f"a statement of {LINES} lines over no rows, {what}",
                (Contender(ZEPTODB, asked(pipeline, statement, calls)),),
                ran_on=ran_on(pipeline, long_statement(0)),
                calls=calls,
            )


def long_statement(number: int) -> str:
    """Aggregates, symbols and conditions, one a line; `number`, in an aggregate, makes it another statement."""
    items = ["count(*) AS ticks", f"sum(price + {number}) AS s"]
    items += [f"{call}({column}) AS {call}_{column}" for call in CALLED for column in ("price", "volume")]
    conditions = [f"price <> {i}" for i in range(CONDITIONS)]
    symbols = [str(i) for i in range(LINES - len(items) - len(conditions) - 7)]
    return (
        "SELECT\n  symbol,\n  "
        + ",\n  ".join(items)
        + "\nFROM trades\nWHERE symbol IN (\n  "
        + ",\n  ".join(symbols)
        + "\n)\n  AND "
        + "\n  AND ".join(conditions)
        + "\nGROUP BY symbol\nORDER BY symbol"
    )


def asked(pipeline: zeptodb.Pipeline, statement: Callable[[], str], calls: int) -> Callable[[], Answer]:
    """Ask `calls` times; the first count of the last answer, which is the same whatever the number."""
    texts = [statement() for _ in range(calls)] if calls > 1 else None

    def run() -> Answer:
        result = None
        for call in range(calls):
            result = pipeline.execute(texts[call] if texts is not None else statement()).raise_for_error()
        assert result is not None
        return result.to_arrow().select(["ticks"])

    return run
