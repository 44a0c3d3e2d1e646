"""Shapes of statements that random ones seldom have: in parts and in DuckDB alone the answers are the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.differential.compare import difference
from tests.sql.differential.tables import random_host
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.sql import QueryExecutor
from zeptodb.sql.dialect import parse
from zeptodb.sql.fallback import run_fallback
from zeptodb.sql.result import QueryResult

SHAPES = """
SELECT t.* FROM (SELECT symbol, max(price) AS m FROM ticks GROUP BY symbol) t;
SELECT "sum(size)" FROM (SELECT sum(size) FROM ticks);
SELECT a, b FROM (SELECT symbol, count(*) FROM ticks GROUP BY symbol) t(a, b);
WITH t(a, b) AS (SELECT symbol, count(*) FROM ticks GROUP BY symbol) SELECT a, b + 1 FROM t;
WITH t AS (SELECT symbol AS s, size FROM ticks WHERE size > 2), u AS (SELECT s, sum(size) AS v FROM t GROUP BY
  s) SELECT u.s, v, (SELECT count(*) FROM t WHERE t.s = u.s) AS n FROM u;
SELECT symbol, n FROM (SELECT symbol, count(*) AS n FROM ticks GROUP BY symbol) x WHERE n > (SELECT avg(c) FROM
  (SELECT count(*) AS c FROM quotes GROUP BY symbol));
SELECT l.symbol, k.m FROM (SELECT DISTINCT symbol FROM ticks) l, LATERAL (SELECT max(bid) AS m FROM quotes q
  WHERE q.symbol = l.symbol) k;
SELECT symbol, sum(size) AS size FROM ticks GROUP BY symbol HAVING size > 3;
SELECT symbol, sum(size) AS v FROM ticks GROUP BY symbol HAVING round(v) > 3 ORDER BY v + 1;
SELECT symbol, price FROM (SELECT symbol, price FROM ticks ORDER BY price DESC, size, timestamp LIMIT 4) ORDER
  BY price;
SELECT count(*) FROM (SELECT symbol FROM ticks WHERE size > 1 UNION SELECT symbol FROM quotes);
SELECT max(x) FROM (SELECT size * 2 AS x, size AS y FROM ticks) WHERE y > 3;
SELECT p, count(*) FROM (SELECT price AS p, timestamp FROM ticks) GROUP BY p ORDER BY p NULLS FIRST;
SELECT x.price FROM (SELECT price FROM ticks WHERE size = 3) AS x WHERE x.price > 2;
SELECT first(p) FROM (SELECT price AS p, symbol, timestamp FROM ticks) GROUP BY symbol;
WITH a AS (SELECT symbol, size FROM ticks), b AS (SELECT symbol, max(size) AS m FROM a GROUP BY symbol) SELECT
  a.symbol, a.size FROM a JOIN b ON a.symbol = b.symbol AND a.size = b.m;
SELECT symbol, ln(1 + sum(size) + 20), sum(size) / count(*) FROM ticks GROUP BY ALL;
SELECT xbar(timestamp, 60000000000) + 1 AS b, count(*) FROM ticks GROUP BY 1;
SELECT date_trunc('hour', xbar(timestamp, 60000000000)) AS h, round(avg(price), 3) FROM ticks GROUP BY h;
SELECT year(bar), n FROM (SELECT xbar(timestamp, 60000000000) AS bar, count(*) AS n FROM ticks GROUP BY bar);
SELECT bar, n FROM (SELECT xbar(timestamp, 60000000000) AS bar, count(*) AS n FROM ticks GROUP BY bar) WHERE bar
  > '2023-01-01' AND bar < now();
SELECT count(*) FILTER (WHERE timestamp > now() - INTERVAL '5 minutes') AS n, round(sum(price)) FROM ticks;
SELECT symbol, sum(sum(size)) OVER (ORDER BY symbol ROWS UNBOUNDED PRECEDING) AS r FROM ticks GROUP BY symbol;
SELECT symbol, count(*) FROM ticks GROUP BY symbol ORDER BY row_number() OVER (ORDER BY max(price) DESC,
  symbol);
SELECT symbol, max(price) OVER (PARTITION BY symbol) FROM ticks ORDER BY ALL LIMIT 7;
SELECT DISTINCT round(avg(price)) FROM ticks GROUP BY symbol;
SELECT CASE WHEN count(*) > 10 THEN 'many' ELSE symbol END AS k FROM ticks GROUP BY symbol;
SELECT coalesce(max(side), 'none'), symbol FROM ticks GROUP BY symbol;
SELECT * FROM (SELECT symbol, avg(price) AS p FROM ticks GROUP BY symbol) PIVOT (max(p) FOR symbol IN ('IBM',
  'AIG'));
SELECT (SELECT max(size) FROM ticks) + (SELECT min(depth) FROM quotes) AS s;
SELECT EXISTS (SELECT symbol FROM ticks GROUP BY symbol HAVING count(*) > 1000) AS e;
SELECT symbol IN (SELECT symbol FROM quotes GROUP BY symbol) AS q, count(*) FROM ticks GROUP BY ALL;
SELECT array_agg(n ORDER BY n) FROM (SELECT count(*) AS n FROM ticks GROUP BY symbol);
SELECT a.symbol FROM (SELECT symbol FROM ticks GROUP BY symbol) a ANTI JOIN (SELECT symbol FROM quotes GROUP BY
  symbol) b USING (symbol);
SELECT t.symbol, t.price - a.m AS d FROM ticks t JOIN (SELECT symbol, avg(price) AS m FROM ticks GROUP BY
  symbol) a ON a.symbol = t.symbol WHERE t.symbol = 'IBM';
WITH RECURSIVE r AS (SELECT max(size) AS n FROM ticks UNION ALL SELECT n - 1 FROM r WHERE n > 0) SELECT count(*)
  FROM r;
SELECT s FROM (SELECT symbol AS s FROM ticks LIMIT 0);
SELECT "Symbol" FROM (SELECT symbol AS "Symbol", count(*) c FROM ticks GROUP BY 1);
SELECT sum(v) OVER (ORDER BY s) FROM (SELECT symbol s, sum(big % 1000) v FROM ticks GROUP BY s);
SELECT min(timestamp), to_timestamp(0) FROM ticks;
SELECT symbol, max(timestamp) - min(timestamp) AS span, (max(timestamp) - min(timestamp)) / INTERVAL '1 minute'
  AS m FROM ticks GROUP BY symbol;
SELECT strftime(max(timestamp), '%Y') FROM ticks;
SELECT symbol || '!' AS s, sum(size) FROM ticks GROUP BY symbol;
SELECT symbol || '!' AS s, sum(size) FROM ticks GROUP BY s;
SELECT symbol, count(*) AS "COUNT" FROM ticks GROUP BY symbol ORDER BY count DESC, symbol;
SELECT side, any_value(symbol) IS NULL, sum(size) FROM ticks GROUP BY side;
SELECT symbol, sum(size) FROM ticks GROUP BY ROLLUP (symbol);
SELECT symbol, sum(size) FROM ticks GROUP BY GROUPING SETS ((symbol), ());
SELECT count(*) FROM ticks t1, (SELECT symbol FROM ticks GROUP BY symbol) t2 WHERE t1.symbol = t2.symbol;
"""


@pytest.fixture(scope="module")
def host() -> Any:
    return random_host(5, 60, CpuBackend(threads=2))


@pytest.mark.parametrize("sql", [" ".join(s.split()) for s in SHAPES.split(";") if s.strip()])
def test_a_shape_gives_the_answer_of_duckdb_alone(host: Any, sql: str) -> None:
    result = QueryExecutor(host).execute(sql)
    assert result.ok(), result.error
    (expression,) = parse(sql)
    truth = QueryResult.from_arrow(run_fallback(host, expression, text=sql).table)
    found = difference(result, truth, is_ordered=False, scale=1e5)
    assert not found, f"{found}\n{result.plan}"
