"""As-of joins against polars: the same rows joined by `join_asof`, whatever engine ran ours."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.sql.differential.tables import random_host
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.sql import QueryExecutor

STRATEGIES = {">=": ("backward", True), ">": ("backward", False), "<=": ("forward", True), "<": ("forward", False)}
EXAMPLES = 12


@pytest.fixture(scope="module")
def backend() -> Any:
    return CpuBackend(threads=2)


@pytest.mark.parametrize("op", STRATEGIES)
@pytest.mark.parametrize("kind", ["ASOF JOIN", "ASOF LEFT JOIN"])
def test_as_of_joins_agree_with_polars(backend: Any, op: str, kind: str) -> None:
    strategy, allow_exact = STRATEGIES[op]

    @seed(1)
    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(st.integers(0, 2**32), st.integers(0, 60))
    def compare(table_seed: int, rows: int) -> None:
        host = random_host(table_seed, rows, backend)
        result = QueryExecutor(host).execute(
            f"SELECT t.symbol AS s, t.timestamp AS ts, t.size AS size, q.timestamp AS qts, q.bid AS bid FROM ticks t "
            f"{kind} quotes q ON t.symbol = q.symbol AND t.timestamp {op} q.timestamp"
        )
        assert result.engine == "native:cpu"
        left = host.oracle.sql("SELECT symbol AS s, timestamp AS ts, size FROM ticks ORDER BY timestamp, arrival").pl()
        right = host.oracle.sql(
            # of quotes with one time the last arrived counts, for polars as for us
            "SELECT symbol AS s, timestamp AS qts, bid FROM quotes "
            "QUALIFY row_number() OVER (PARTITION BY symbol, timestamp ORDER BY arrival DESC) = 1 ORDER BY timestamp"
        ).pl()
        joined = left.join_asof(
            right, left_on="ts", right_on="qts", by="s", strategy=strategy, allow_exact_matches=allow_exact,
            coalesce=False, check_sortedness=False,
        )  # fmt: skip
        if kind == "ASOF JOIN":
            joined = joined.filter(pl.col("qts").is_not_null())
        expected = sorted(joined.select("s", "ts", "size", "qts", "bid").rows(), key=repr)
        assert sorted((tuple(row) for row in result.rows), key=repr) == expected

    compare()
