"""Every tick word, wherever it may stand, against plain Python; ema also against polars and pandas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pandas as pd
import polars as pl
import pytest

from tests.sql import tick_tables as tables
from tests.sql.tick_tables import Row, answer, as_set
from zeptodb import Pipeline

TICKS, QUOTES = tables.make_ticks(), tables.make_quotes()
OVER = "OVER (PARTITION BY symbol ORDER BY timestamp)"
ASOF = "ON t.symbol = q.symbol AND t.timestamp >= q.timestamp"
WINDOW = (
    "FROM ticks t WINDOW JOIN quotes q ON t.symbol = q.symbol "
    "AND q.timestamp BETWEEN t.timestamp - INTERVAL '3s' AND t.timestamp + 2000000000"
)

WORDS: dict[str, tuple[str, Callable[[], list[Row]]]] = {
    "ema": (f"SELECT symbol, id, ema(price, 5) {OVER} AS v FROM ticks", lambda: tables.emas(TICKS)),
    "ema by default order": (
        "SELECT symbol, id, ema(price, 5) OVER (PARTITION BY symbol) AS v FROM ticks",
        lambda: tables.emas(TICKS),
    ),
    "ema in an order of its own": (
        "SELECT symbol, id, ema(price, 5) OVER (PARTITION BY symbol ORDER BY timestamp, id) AS v FROM ticks",
        lambda: tables.emas(TICKS),
    ),
    "delta": (f"SELECT symbol, id, delta(price) {OVER} AS v FROM ticks", lambda: tables.deltas(TICKS)),
    "ratio": (f"SELECT symbol, id, ratio(price) {OVER} AS v FROM ticks", lambda: tables.ratios(TICKS)),
    "wavg": (
        f"SELECT symbol, id, wavg(price, volume) {OVER[:-1]} ROWS 4 PRECEDING) AS v FROM ticks",
        lambda: tables.weighted_averages(TICKS),
    ),
    "aj0": (
        f"SELECT t.symbol, id, t.timestamp AS v FROM ticks t AJ0 JOIN quotes q {ASOF}",
        lambda: tables.right_times(TICKS, QUOTES),
    ),
    **{
        name: (
            f"SELECT t.symbol, id, {name}(q.bid) AS v {WINDOW}",
            lambda name=name: tables.window_joined(TICKS, QUOTES, name),
        )
        for name in tables.WINDOW_AGGREGATES
    },
    "union join": (
        "SELECT symbol, t.id, q.bid AS v FROM ticks t UNION JOIN quotes q",
        lambda: tables.united(TICKS, QUOTES),
    ),
    "plus join": (
        "SELECT t.symbol, id, t.volume AS v FROM ticks t PLUS JOIN quotes q ON t.symbol = q.symbol",
        lambda: tables.added(TICKS, QUOTES),
    ),
}

POSITIONS = {
    "top level": "{q}",
    "grouped CTE": "WITH c AS ({q}) SELECT symbol, count(*), count(v), max(v) FROM c WHERE id > 9 GROUP BY 1",
    "chained CTEs": "WITH a AS ({q}), b AS (SELECT symbol, min(v) AS m FROM a GROUP BY symbol) SELECT * FROM b",
    "derived table": "SELECT max(v), count(*) FROM ({q}) AS d WHERE symbol <> 'C'",
    "scalar subquery": "SELECT (SELECT max(v) FROM ({q}) AS d) AS top",
    "IN": "SELECT count(*) FROM ({q}) AS d WHERE id IN (SELECT id FROM ({q}) AS e WHERE v > 1)",
    "correlated EXISTS": (
        "SELECT count(*) FROM (VALUES ('A'), ('B'), ('Z')) AS s(name) "
        "WHERE EXISTS (SELECT 1 FROM ({q}) AS d WHERE d.symbol = s.name AND v > 0)"
    ),
    "UNION ALL": "{q} UNION ALL {q}",
    "INTERSECT": "SELECT id, v IS NULL FROM ({q}) AS d INTERSECT SELECT id, v IS NULL FROM ({q}) AS d",
    "EXCEPT": "SELECT id, v IS NULL FROM ({q}) AS d EXCEPT SELECT id, v IS NULL FROM ({q}) AS d WHERE id > 50",
    "join": "SELECT a.id, a.v FROM ({q}) AS a JOIN ({q}) AS b ON a.id = b.id",
}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return tables.make_pipeline(TICKS, QUOTES)


EVERYWHERE = [word for word in WORDS if word not in ("wj_sum", "wj_min", "wj_max", "wj_first")]


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("word", EVERYWHERE)
def test_a_tick_word_gives_the_right_answer_wherever_it_stands(pipeline: Pipeline, word: str, position: str) -> None:
    statement, make_expected = WORDS[word]
    template = POSITIONS[position]
    expected = tables.oracle(make_expected()).sql(template.replace("{q}", "SELECT symbol, id, v FROM expected"))
    assert as_set(answer(pipeline, template.replace("{q}", statement)).rows) == as_set(expected.fetchall())


@pytest.mark.parametrize("word", WORDS)
def test_a_tick_word_fills_tables(pipeline: Pipeline, word: str) -> None:
    statement, make_expected = WORDS[word]
    expected = as_set([list(row.values()) for row in make_expected()])
    answer(pipeline, f"CREATE OR REPLACE TABLE filled AS {statement}")
    assert as_set(answer(pipeline, "SELECT * FROM filled").rows) == expected
    answer(pipeline, "DELETE FROM filled")
    answer(pipeline, f"INSERT INTO filled {statement}")
    assert as_set(answer(pipeline, "SELECT * FROM filled").rows) == expected


# ---- ema ------------------------------------------------------------------------------------------------------------


def _numbers(values: Iterable[float | None]) -> list[float]:
    """With NaN for NULL."""
    return [math.nan if value is None else value for value in values]


def _column(pipeline: Pipeline, expression: str, source: str = "ticks") -> list[float | None]:
    rows = answer(pipeline, f"SELECT {expression} AS e, symbol, timestamp, id FROM {source}").rows
    return [row[0] for row in sorted(rows, key=lambda row: (row[1], row[2], row[3]))]


@pytest.mark.parametrize("order", ["timestamp", "timestamp, id"])
@pytest.mark.parametrize(("argument", "alpha"), [("5", 2 / 6), ("1", 1.0), ("200", 2 / 201), ("0.01", 0.01)])
def test_ema_equals_polars_and_pandas(pipeline: Pipeline, argument: str, alpha: float, order: str) -> None:
    ordered = tables.in_order(TICKS)
    ours = _column(pipeline, f"ema(price, {argument}) OVER (PARTITION BY symbol ORDER BY {order})")
    frame = pl.DataFrame(ordered, infer_schema_length=None)
    polars = frame.select(
        pl.col("price").ewm_mean(alpha=alpha, adjust=False, ignore_nulls=True).over("symbol")
    ).to_series()
    assert _numbers(ours) == pytest.approx(_numbers(polars.to_list()), rel=1e-12, nan_ok=True)
    pandas = (
        pd.DataFrame(ordered)
        .groupby("symbol")["price"]
        .transform(lambda prices: prices.ewm(alpha=alpha, adjust=False, ignore_na=True).mean().where(prices.notna()))
    )
    assert _numbers(ours) == pytest.approx(pandas.tolist(), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("source", ["t", "(SELECT * FROM t) AS s"])
@pytest.mark.parametrize("argument", ["3", "0.999", "5000"])
def test_ema_holds_over_many_rows_and_far_values(argument: str, source: str) -> None:
    values = [float(10 ** (i % 9)) * (-1) ** (i // 7) for i in range(5_000)]
    pipeline = Pipeline(backend="cpu")
    answer(pipeline, "CREATE TABLE t (timestamp TIMESTAMP_NS, x FLOAT64)")
    pipeline.append("t", {"timestamp": list(range(5_000)), "x": values})
    rows = answer(pipeline, f"SELECT timestamp, ema(x, {argument}) OVER (ORDER BY timestamp) AS e FROM {source}").rows
    alpha = float(argument) if float(argument) < 1 else 2 / (float(argument) + 1)
    sizes = tables.ema([abs(v) for v in values], alpha)
    for (_, ours), expected, size in zip(sorted(map(tuple, rows)), tables.ema(values, alpha), sizes, strict=True):
        assert ours == pytest.approx(expected, abs=1e-12 * float(size or 0))


@pytest.mark.parametrize("source", ["t", "(SELECT * FROM t) AS s"])
def test_ema_keeps_infinity_and_nan_from_there_on(source: str) -> None:
    pipeline = Pipeline(backend="cpu")
    answer(pipeline, "CREATE TABLE t (timestamp TIMESTAMP_NS, g INT64, x FLOAT64)")
    given = [1.0, float("inf"), 2.0, float("-inf"), 3.0]
    pipeline.append("t", {"timestamp": list(range(5)), "g": [1] * 5, "x": given})
    rows = answer(pipeline, f"SELECT ema(x, 3) OVER (ORDER BY timestamp) AS e FROM {source} ORDER BY timestamp").rows
    assert str([row[0] for row in rows]) == "[1.0, inf, inf, nan, nan]"


MIDDLE = tables.START + 60 * tables.SECOND

FILTERS: dict[str, Callable[[Row], bool]] = {
    "symbol = 'A'": lambda r: r["symbol"] == "A",
    "symbol LIKE '%B' OR symbol = 'C'": lambda r: r["symbol"] in "BC",
    f"timestamp >= {MIDDLE}": lambda r: r["timestamp"] >= MIDDLE,
    f"timestamp > {MIDDLE} AND symbol IN ('A', 'C')": lambda r: r["timestamp"] > MIDDLE and r["symbol"] in "AC",
    f"timestamp BETWEEN {MIDDLE} AND {MIDDLE} + 30000000000": lambda r: 0 <= r["timestamp"] - MIDDLE <= 30_000_000_000,
    f"{MIDDLE} > timestamp": lambda r: r["timestamp"] < MIDDLE,
    f"timestamp <> {MIDDLE}": lambda r: r["timestamp"] != MIDDLE,
    "price > 100": lambda r: r["price"] is not None and r["price"] > 100,
    "symbol = 'A' AND volume % 2 = 0": lambda r: r["symbol"] == "A" and r["volume"] % 2 == 0,
    "id IN (SELECT id FROM ticks WHERE volume > 20)": lambda r: r["volume"] > 20,
}


@pytest.mark.parametrize("condition", FILTERS)
def test_ema_sees_the_rows_that_where_lets_through(pipeline: Pipeline, condition: str) -> None:
    kept = [row for row in TICKS if FILTERS[condition](row)]
    statement = f"SELECT *, ema(price, 5) {OVER} AS e, ema(price, 9) {OVER} AS f FROM ticks WHERE {condition}"
    frame = answer(pipeline, statement).to_polars().sort("symbol", "timestamp", "id")
    assert frame.columns == ["symbol", "id", "price", "volume", "timestamp", "e", "f"]
    assert _numbers(frame["e"].to_list()) == pytest.approx(_numbers(r["v"] for r in tables.emas(kept)), nan_ok=True)
    assert frame["e"].to_list() != frame["f"].to_list()


def test_ema_of_a_sample_is_that_of_its_rows(pipeline: Pipeline) -> None:
    rows = answer(pipeline, f"SELECT id, ema(price, 5) {OVER} AS e FROM ticks SAMPLE 0.4").rows
    kept = {row[0] for row in rows}
    expected = {row["id"]: row["v"] for row in tables.emas([row for row in TICKS if row["id"] in kept])}
    assert _numbers(dict(rows).values()) == pytest.approx(_numbers(expected[i] for i, _ in rows), nan_ok=True)


FAST_AND_SLOW = (
    "ema(price, 5) OVER w AS fast, ema(price, 9) OVER w AS slow FROM ticks WINDOW w AS (PARTITION BY symbol)"
)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT *, ema(price, 5) OVER w AS e FROM ticks WINDOW w AS (PARTITION BY symbol ORDER BY timestamp)",
        "SELECT *, ema(price, 5) OVER (PARTITION BY symbol) AS e FROM ticks ORDER BY e",
        "SELECT t.*, ema(price, ?) OVER (PARTITION BY symbol) AS e FROM ticks AS t",
        f"SELECT *, slow - slow + fast AS e FROM (SELECT *, {FAST_AND_SLOW})",
        f"SELECT *, fast - slow + slow AS e FROM (SELECT *, {FAST_AND_SLOW})",
        f"SELECT *, {FAST_AND_SLOW.replace(' FROM', ', fast - slow + slow AS e FROM')}",
        "SELECT *, CASE WHEN id >= 0 THEN ema(price, 5) OVER (PARTITION BY symbol) END AS e FROM ticks",
        "SELECT DISTINCT *, ema(price, 5) OVER (PARTITION BY symbol) AS e FROM ticks QUALIFY row_number() OVER () > 0",
    ],
)
def test_ema_combines_with_the_clauses_of_a_select(pipeline: Pipeline, statement: str) -> None:
    frame = answer(pipeline, statement, [5] if "?" in statement else None).to_polars()
    ours = frame.sort("symbol", "timestamp", "id")["e"].to_list()
    assert frame.columns[:5] == ["symbol", "id", "price", "volume", "timestamp"]
    assert _numbers(ours) == pytest.approx(_numbers(r["v"] for r in tables.emas(TICKS)), rel=1e-12, nan_ok=True)


def test_ema_of_bars(pipeline: Pipeline) -> None:
    rows = answer(
        pipeline,
        "SELECT symbol, xbar(timestamp, INTERVAL '10s') AS bar, sum(volume) AS v, "
        "ema(sum(volume), 3) OVER (PARTITION BY symbol ORDER BY bar) AS e FROM ticks GROUP BY 1, bar "
        "HAVING sum(volume) > 20 ORDER BY symbol, bar",
    ).rows
    for symbol in "ABC":
        own = [row for row in rows if row[0] == symbol]
        assert [row[3] for row in own] == pytest.approx(tables.ema([float(row[2]) for row in own], 0.5))


def test_qualify_filters_by_ema(pipeline: Pipeline) -> None:
    rows = answer(pipeline, f"SELECT id, ema(price, 5) {OVER} AS e FROM ticks QUALIFY e > 100 ORDER BY id LIMIT 5").rows
    expected = sorted((row["id"], row["v"]) for row in tables.emas(TICKS) if row["v"] is not None and row["v"] > 100)
    assert [tuple(row) for row in rows] == [(i, pytest.approx(v)) for i, v in expected[:5]]


# ---- SAMPLE ---------------------------------------------------------------------------------------------------------


def _ids(pipeline: Pipeline, source: str, where: str = "") -> set[int]:
    return {row[0] for row in answer(pipeline, f"SELECT id FROM {source} {where}").rows}


def test_a_sample_is_the_same_rows_however_the_statement_looks(pipeline: Pipeline) -> None:
    sample = _ids(pipeline, "ticks SAMPLE 0.3")
    assert 60 < len(sample) < 180
    assert _ids(pipeline, "ticks t SAMPLE 0.3") == sample
    assert _ids(pipeline, "ticks AS t sample 0.3", "WHERE t.id IS NOT NULL ORDER BY price") == sample
    own = {row["id"] for row in TICKS if row["symbol"] == "B" and row["timestamp"] >= START_OF_SAMPLE}
    where = f"WHERE symbol = 'B' AND timestamp >= {START_OF_SAMPLE}"
    assert _ids(pipeline, "ticks SAMPLE 0.3", where) == sample & own
    assert _ids(pipeline, "(SELECT * FROM ticks SAMPLE 0.3) AS d JOIN quotes USING (symbol)") == {
        i for i in sample if TICKS[i]["symbol"] in "AB"
    }


START_OF_SAMPLE = tables.START + 50 * tables.SECOND


def test_a_smaller_sample_is_part_of_a_larger_one(pipeline: Pipeline) -> None:
    samples = [_ids(pipeline, f"ticks SAMPLE {f}") for f in ("0.05", "0.3", "0.9", "1")]
    assert samples[0] < samples[1] < samples[2] < samples[3] == {row["id"] for row in TICKS}


def test_appending_leaves_the_sampled_rows_as_they_are() -> None:
    pipeline = tables.make_pipeline(TICKS, QUOTES)
    before = _ids(pipeline, "ticks SAMPLE 0.3")
    later = [{**row, "id": row["id"] + 1_000, "timestamp": row["timestamp"] + 1_000 * tables.SECOND} for row in TICKS]
    pipeline.append("ticks", pl.DataFrame(later, infer_schema_length=None).to_arrow())
    assert {i for i in _ids(pipeline, "ticks SAMPLE 0.3") if i < 1_000} == before


@pytest.mark.parametrize(
    "source",
    [
        "(SELECT * FROM ticks) SAMPLE 0.5",
        "(SELECT * FROM ticks) AS d SAMPLE 0.5",
        "(SELECT * FROM ticks ORDER BY price) SAMPLE 0.5",
    ],
)
def test_a_subquery_is_sampled_by_the_contents_of_its_rows(pipeline: Pipeline, source: str) -> None:
    sample = _ids(pipeline, source)
    assert 100 < len(sample) < 300
    assert sample == _ids(pipeline, "(SELECT * FROM ticks) SAMPLE 0.5")
    from_cte = answer(pipeline, "WITH c AS (SELECT * FROM ticks) SELECT id FROM c SAMPLE 0.5").rows
    assert {row[0] for row in from_cte} == sample


def test_the_fraction_may_be_a_parameter(pipeline: Pipeline) -> None:
    assert (
        answer(pipeline, "SELECT id FROM ticks SAMPLE ?", [0.3]).rows
        == answer(pipeline, "SELECT id FROM ticks SAMPLE 0.3").rows
    )


@pytest.mark.parametrize("fraction", ["0", "-0.1", "1.01", "1e9"])
def test_a_fraction_outside_0_to_1_is_an_error(pipeline: Pipeline, fraction: str) -> None:
    result = pipeline.execute(f"SELECT * FROM ticks SAMPLE {fraction}")
    assert "SAMPLE takes a fraction above 0 and up to 1" in result.error


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT ema(price, 5) FROM ticks", "needs a window: ema(x, n) OVER (PARTITION BY symbol ORDER BY timestamp)"),
        ("SELECT ema(price) OVER () FROM ticks", "ema(x, n) takes 2 arguments, 1 were given"),
        ("SELECT ema(price, 0) OVER () FROM ticks", "ema(x, n) needs a number above 0, got 0"),
        ("SELECT ema(price, volume) OVER () FROM ticks", "ema(x, n) needs a number above 0, got volume"),
        ("SELECT ema(price, 5) OVER (ROWS 3 PRECEDING) FROM ticks", "takes no frame"),
        ("SELECT ema(sum(price), 5) OVER () FROM ticks GROUP BY symbol", "needs ORDER BY here"),
        ("SELECT id FROM ticks WHERE ema(price, 5) OVER (ORDER BY id) > 1", "computed after WHERE: write QUALIFY"),
        ("SELECT ema(price, 5) OVER () AS e FROM ticks WHERE e > 1", "e is an ema, which is computed after WHERE"),
        ("SELECT ema(delta(price) OVER (), 5) OVER () FROM ticks", "cannot stand inside each other"),
        ("SELECT ema(pric, 5) OVER () FROM ticks", 'Did you mean "price"'),
        ("SELECT delta(price) FROM ticks", "delta(x) depends on the rows before and needs a window"),
        ("SELECT ratio(price, 2) OVER () FROM ticks", "ratio(x) takes 1 argument, 2 were given"),
        ("SELECT wavg(price) FROM ticks", "wavg(x, weight) takes 2 argument(s), 1 were given"),
    ],
)
def test_a_misused_word_says_what_it_wants(pipeline: Pipeline, statement: str, message: str) -> None:
    assert message in pipeline.execute(statement).error
