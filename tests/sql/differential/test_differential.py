"""Random statements give the answers of DuckDB on tables of its own, whichever engine runs them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.sql.differential.compare import difference, scale_of
from tests.sql.differential.statements import Generator, Relation
from tests.sql.differential.tables import random_host
from tests.sql.fallback_host import Host
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.sql import QueryExecutor
from zeptodb.sql.result import QueryResult

STATEMENTS_PER_TABLE = 25
MIN_NATIVE_SHARE = 0.5
MOST_ROWS = 60


def truth_of(host: Host, statement: Relation) -> QueryResult | str:
    """DuckDB's own answer, or its error."""
    try:
        return QueryResult.from_arrow(host.oracle.sql(statement.plain).to_arrow_table())
    except duckdb.Error as error:
        return str(error)


def check(host: Host, executor: QueryExecutor, statement: Relation, scale: float) -> str:
    """Compare one statement; which engine ran it."""
    result = executor.execute(statement.ours)
    truth = truth_of(host, statement)
    if isinstance(truth, str):
        assert not result.ok(), f"DuckDB fails: {truth}\n{statement.ours}\n{statement.plain}\n{result.plan}"
        return "error"
    assert result.ok(), f"{result.error}\n{statement.ours}\n{statement.plain}"
    found = difference(result, truth, is_ordered=statement.is_ordered, scale=scale)
    assert not found, f"{found}\n{statement.ours}\n{statement.plain}\n{result.plan}"
    return result.engine


def test_random_statements_agree_with_duckdb(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    wanted, first_seed = request.config.getoption("statements"), request.config.getoption("statement_seed")
    backend: Any = CpuBackend(threads=2)
    engines: Counter[str] = Counter()

    @seed(first_seed)
    @settings(
        max_examples=-(-wanted // STATEMENTS_PER_TABLE),
        deadline=None,
        database=None,
        phases=(Phase.generate,),  # shrinking 25 statements takes minutes and the message has the one that differs
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.integers(0, 2**32),
        st.integers(0, MOST_ROWS),
        st.lists(st.randoms(), min_size=STATEMENTS_PER_TABLE, max_size=STATEMENTS_PER_TABLE),
    )
    def compare(table_seed: int, rows: int, chances: list[random.Random]) -> None:
        host = random_host(table_seed, rows, backend)
        executor, scale = QueryExecutor(host), scale_of(host)
        for chance in chances:
            engines[check(host, executor, Generator(chance).statement(), scale)] += 1

    compare()
    total = sum(engines.values())
    native = sum(count for engine, count in engines.items() if engine.startswith("native:"))
    summary = f"{total:,} statements, {native / total:.0%} native in whole or in part, failures 0: {dict(engines)}"
    record_property("differential", summary)
    assert native >= MIN_NATIVE_SHARE * total
