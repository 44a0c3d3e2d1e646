"""Statements in parts: which parts run natively, and that the answer is that of DuckDB over the same rows."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.sql.statements_to_compare import Statement
from tests.sql.tables_to_compare import make_host
from tests.sql.test_native_equals_duckdb import assert_same
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.pipeline import Pipeline
from zeptodb.sql.dialect import parse
from zeptodb.sql.executor import QueryExecutor
from zeptodb.sql.fallback import run_fallback
from zeptodb.sql.result import QueryResult

BARS = (
    "SELECT symbol, xbar(timestamp, 60000000000) AS bar, last(price) AS c, sum(volume) AS v FROM trades GROUP BY 1, 2"
)
QUOTED = (
    "SELECT t.symbol, t.price - q.bid AS edge, t.timestamp AS ts FROM trades t ASOF JOIN quotes q "
    "ON t.symbol = q.symbol AND t.timestamp >= q.timestamp"
)

IN_PARTS = {
    "cte": (
        f"WITH b AS ({BARS}) SELECT symbol, bar, rank() OVER (PARTITION BY symbol ORDER BY v DESC, bar) r FROM b",
        1,
    ),
    "chained ctes": (f"WITH b AS ({BARS}), m AS (SELECT symbol, max(v) AS v FROM b GROUP BY 1) SELECT * FROM m", 1),
    "cte used twice": (
        f"WITH b AS ({BARS}) SELECT a.symbol, sum(a.v * b.v) s FROM b a JOIN b USING (bar) GROUP BY 1",
        1,
    ),
    "derived table": (f"SELECT symbol, median(v) AS m FROM ({BARS}) b GROUP BY symbol", 1),
    "scalar subquery": ("SELECT price, volume FROM trades WHERE price > (SELECT avg(price) FROM trades)", 1),
    "in subquery": (
        "SELECT price FROM trades WHERE symbol IN (SELECT symbol FROM trades GROUP BY symbol HAVING sum(volume) > 300)",
        1,
    ),
    "exists": (
        "SELECT symbol, price FROM trades t WHERE EXISTS (SELECT max(bid) FROM quotes GROUP BY symbol) AND price > 50",
        1,
    ),
    "union": (
        (
            "SELECT symbol, max(price) AS m FROM trades GROUP BY 1 UNION ALL SELECT symbol, min(price) FROM "
            "trades GROUP BY 1"
        ),
        2,
    ),
    "except": ("SELECT symbol FROM trades GROUP BY symbol EXCEPT SELECT symbol FROM quotes GROUP BY symbol", 2),
    "join of leaves": (
        (
            "SELECT a.symbol, m, n FROM (SELECT symbol, max(price) m FROM trades GROUP BY 1) a "
            "LEFT JOIN (SELECT symbol, count(bid) n FROM quotes GROUP BY 1) b USING (symbol)"
        ),
        2,
    ),
    "leaf beside a table": (
        (
            "SELECT t.symbol, t.price - a.mean AS above FROM trades t JOIN "
            "(SELECT symbol, avg(price) AS mean FROM trades GROUP BY symbol) a USING (symbol) WHERE t.symbol = 2"
        ),
        1,
    ),
    "as-of join inside": (
        f"SELECT symbol, count(*) AS n, round(sum(edge), 3) AS s FROM ({QUOTED}) j GROUP BY symbol",
        1,
    ),
    "grouped as-of join inside": (
        (
            "SELECT max(n) AS m FROM (SELECT t.symbol, count(*) AS n, median(q.bid) AS b FROM trades t "
            "ASOF JOIN quotes q ON t.symbol = q.symbol AND t.timestamp >= q.timestamp GROUP BY t.symbol) j"
        ),
        1,
    ),
    "functions of aggregates": (
        "SELECT symbol, round(avg(price), 2), ln(1 + sum(volume)) FROM trades GROUP BY symbol",
        1,
    ),
    "window over groups": (
        "SELECT symbol, sum(volume) AS v, rank() OVER (ORDER BY sum(volume) DESC) AS r FROM trades GROUP BY 1",
        1,
    ),
    "window function of groups": (
        "SELECT symbol, sum(sum(volume)) OVER (ORDER BY symbol) AS running FROM trades GROUP BY 1",
        1,
    ),
    "qualify": (
        (
            "SELECT symbol, max(price) AS m FROM trades GROUP BY 1 QUALIFY row_number() OVER (ORDER BY "
            "max(price), symbol) = 1"
        ),
        1,
    ),
    "having on a function": (
        "SELECT symbol, sum(volume) v FROM trades GROUP BY 1 HAVING abs(sum(volume)) > 100 AND v > 2",
        1,
    ),
    "big sums": (
        "SELECT sum(v) // 7 * 100000000000000000 AS s FROM (SELECT sum(volume) AS v FROM trades GROUP BY symbol)",
        1,
    ),
    "strings": (
        "SELECT upper(side) AS s, n FROM (SELECT side, count(*) AS n FROM ticks GROUP BY side) WHERE side LIKE '%'",
        1,
    ),
    "top rows": (
        "SELECT avg(price) AS a FROM (SELECT price FROM trades ORDER BY price DESC, volume, timestamp LIMIT 5)",
        1,
    ),
    "times": (
        f"SELECT date_trunc('hour', bar) AS hour, sum(v) AS v FROM ({BARS}) b WHERE bar > '2020-01-01' GROUP BY 1",
        1,
    ),
}
NATIVE_AFTER_ALL = {
    "merged cte": "WITH t AS (SELECT * FROM trades WHERE symbol = 1) SELECT max(price) AS m FROM t WHERE volume > 3",
    "merged derived table": (
        "SELECT s, sum(p2) FROM (SELECT symbol AS s, price * 2 AS p2 FROM trades WHERE volume > 2) t GROUP BY s"
    ),
    "merged twice": (
        "WITH a AS (SELECT symbol, price FROM trades), b AS (SELECT price AS p FROM a WHERE symbol = 2) SELECT p FROM b"
    ),
    "group by all": "SELECT symbol, xbar(timestamp, 60000000000) AS bar, count(*) AS n FROM trades GROUP BY ALL",
    "star over a cte": "WITH t AS (SELECT price, volume FROM trades WHERE price > 5) SELECT * FROM t WHERE volume < 9",
}
NOT_IN_PARTS = {
    "a name that means something else": (
        "WITH trades AS (SELECT * FROM trades WHERE price > 20) SELECT count(*) AS n FROM trades"
    ),
    "median": "SELECT symbol, median(price) AS m FROM trades GROUP BY symbol",
    "correlated": "SELECT price FROM trades t WHERE price > (SELECT avg(bid) FROM quotes q WHERE q.symbol = t.symbol)",
    "plain rows": "SELECT symbol, price FROM trades WHERE price > 3 UNION SELECT symbol, volume FROM trades",
    "limit inside": (
        "SELECT max(price) AS m FROM (SELECT DISTINCT price FROM trades WHERE price % 2 = 0 ORDER BY 1 LIMIT 3) t"
    ),
}


@pytest.fixture(scope="module")
def host() -> Any:
    return make_host(CpuBackend(threads=2), 300, 5)


def answer(host: Any, sql: str) -> QueryResult:
    """The answer, after comparing it with that of DuckDB alone."""
    result = QueryExecutor(host).execute(sql)
    assert result.ok(), result.error
    (expression,) = parse(sql)
    truth = QueryResult.from_arrow(run_fallback(host, expression, text=sql).table)
    assert_same(native=result, truth=truth, statement=Statement(sql, "ORDER BY 1" in sql, is_plain=False))
    return result


@pytest.mark.parametrize("name", IN_PARTS)
def test_native_parts_run_first(host: Any, name: str) -> None:
    sql, leaves = IN_PARTS[name]
    result = answer(host, sql)
    assert result.engine == "native:cpu+duckdb", result.plan
    heads = [line for line in result.plan.splitlines() if line.startswith("native_rows_")]
    assert len(heads) == leaves, result.plan
    assert all(head.endswith(": native:cpu") for head in heads)


@pytest.mark.parametrize("name", NATIVE_AFTER_ALL)
def test_rewritten_statements_are_native(host: Any, name: str) -> None:
    assert answer(host, NATIVE_AFTER_ALL[name]).engine == "native:cpu"


@pytest.mark.parametrize("name", NOT_IN_PARTS)
def test_what_has_no_native_part_is_duckdbs(host: Any, name: str) -> None:
    assert answer(host, NOT_IN_PARTS[name]).engine in {"duckdb", "native:cpu+duckdb"}
    if name != "limit inside":
        assert answer(host, NOT_IN_PARTS[name]).engine == "duckdb"


def test_parameters_reach_every_part(host: Any) -> None:
    sql = "SELECT n * $factor AS n FROM (SELECT count(*) AS n FROM trades WHERE price > $low) t"
    result = QueryExecutor(host).execute(sql, {"factor": 3, "low": 10})
    (expected,) = host.oracle.sql("SELECT count(*) * 3 FROM trades WHERE price > 10").fetchall()
    assert result.rows == [list(expected)]
    assert result.engine == "native:cpu+duckdb"


def test_a_repeated_statement_sees_new_rows() -> None:
    with Pipeline() as pipeline:
        sql = "SELECT symbol, round(avg(price), 1) AS a FROM trades GROUP BY symbol ORDER BY symbol"
        for k in range(1, 4):
            pipeline.ingest_batch([k], [k * 10], [1], [k])
            assert pipeline.execute(sql).rows == [[s, s * 10.0] for s in range(1, k + 1)]
        assert pipeline.execute(sql).engine == "native:cpu+duckdb"


def test_all_parts_see_one_moment() -> None:
    sql = (
        "SELECT (SELECT count(*) FROM trades) - (SELECT sum(n) FROM (SELECT count(*) AS n FROM trades GROUP "
        "BY symbol)) AS d"
    )
    with Pipeline() as pipeline:
        pipeline.ingest_batch([0], [0], [0], [0])
        stop = threading.Event()

        def ingest() -> None:
            k = 1
            while not stop.is_set():
                pipeline.ingest_batch([k % 5], [k], [1], [k])
                k += 1

        writer = threading.Thread(target=ingest)
        writer.start()
        try:
            results = [pipeline.execute(sql) for _ in range(60)]
        finally:
            stop.set()
            writer.join()
    assert {tuple(r.rows[0]) for r in results} == {(0,)}
    assert results[0].engine == "native:cpu+duckdb"


def test_explain_analyze_tells_what_each_operator_took(host: Any) -> None:
    sql = "SELECT symbol, median(v) AS m FROM (SELECT symbol, sum(volume) AS v FROM trades GROUP BY symbol) GROUP BY 1"
    lines = [line for (line,) in QueryExecutor(host).execute(f"EXPLAIN ANALYZE {sql}").rows]
    ran = [line.split(" us")[0].rsplit(", ", 1)[0] for line in lines if line.startswith("ran ")]
    assert ran == [
        "ran aggregate on native:cpu (2 threads): 4 rows",
        "ran expressions, order and limit over its rows on numpy: 4 rows",
        "ran the rest on duckdb: 4 rows",
    ]
    join = "SELECT a.price, b.volume FROM trades a JOIN trades b USING (symbol) WHERE b.symbol = 2 AND a.symbol = 2"
    lines = [line for (line,) in QueryExecutor(host).execute(f"EXPLAIN ANALYZE {join}").rows]
    assert sum(line.startswith("ran read ") for line in lines) == 1


def test_a_column_of_nothing_but_null_strings_is_sorted() -> None:
    with Pipeline() as pipeline:
        pipeline.execute("CREATE TABLE notes (symbol STRING, timestamp TIMESTAMP_NS, note STRING, size INT64)")
        pipeline.execute("INSERT INTO notes VALUES ('a', 1, NULL, 2), ('b', 2, NULL, 3)")
        result = pipeline.execute("SELECT symbol, note, sum(size) AS s FROM notes GROUP BY symbol, note")
        assert result.rows == [["a", None, 2], ["b", None, 3]]
        assert result.engine == "native:cpu"
