"""AJ0, WINDOW, UNION and PLUS JOIN: their columns, keys and NULLs; `test_tick_words` has them in every position."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.sql import tick_tables as tables
from tests.sql.tick_tables import answer, as_set
from zeptodb import Pipeline

TICKS, QUOTES = tables.make_ticks(), tables.make_quotes()
ON_TIME = "ON t.symbol = q.symbol AND t.timestamp >= q.timestamp"
IN_WINDOW = "ON t.symbol = q.symbol AND q.timestamp BETWEEN t.timestamp - 3000000000 AND t.timestamp + 2000000000"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    made = tables.make_pipeline(TICKS, QUOTES)
    answer(made, "CREATE TABLE a (k INT64, n INT64, f FLOAT64, s STRING)")
    answer(made, "INSERT INTO a VALUES (1, 10, 0.5, 'x'), (1, 11, NULL, 'y'), (2, NULL, 1.5, 'z'), (3, 30, 2.5, NULL)")
    answer(made, "CREATE TABLE b (k INT64, n INT64, g FLOAT64, s STRING)")
    answer(made, "INSERT INTO b VALUES (1, 100, 7.0, 'p'), (1, 200, NULL, 'q'), (2, 5, NULL, 'r'), (9, 9, 9.0, 's')")
    return made


def _rows(pipeline: Pipeline, text: str) -> list[tuple[Any, ...]]:
    return as_set(answer(pipeline, text).rows)


# ---- AJ0 ------------------------------------------------------------------------------------------------------------


def test_aj0_is_asof_left_with_the_time_of_the_right(pipeline: Pipeline) -> None:
    left = answer(pipeline, f"SELECT * FROM ticks t ASOF LEFT JOIN quotes q {ON_TIME}")
    aj0 = answer(pipeline, f"SELECT * FROM ticks t AJ0 JOIN quotes q {ON_TIME}")
    time, right = 4, 6
    assert aj0.column_names == left.column_names[:right] + left.column_names[right + 1 :]
    expected = [[*row[:time], row[right], row[right - 1], *row[right + 1 :]] for row in left.rows]
    assert as_set(aj0.rows) == as_set(expected)


def test_aj0_equals_polars(pipeline: Pipeline) -> None:
    ours = answer(pipeline, f"SELECT id, t.timestamp AS at, bid FROM ticks t AJ0 quotes q {ON_TIME}").rows
    ticks = pl.DataFrame(TICKS, infer_schema_length=None).sort("timestamp", maintain_order=True)
    quotes = pl.DataFrame(QUOTES, infer_schema_length=None).sort("timestamp", maintain_order=True)
    quotes = quotes.with_columns(at=pl.col("timestamp")).unique(["symbol", "at"], keep="last", maintain_order=True)
    joined = ticks.join_asof(quotes, on="timestamp", by="symbol", strategy="backward", check_sortedness=False)
    assert as_set(ours) == as_set(joined.select("id", "at", "bid").rows())


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT ticks.id, ticks.timestamp FROM ticks AJ0 JOIN quotes {ON_TIME}".replace("t.", "ticks.").replace(
            "q.", "quotes."
        ),
        "SELECT id, timestamp FROM ticks AJ0 JOIN quotes USING (symbol, timestamp)",
        f"SELECT t.id, t.timestamp FROM ticks AS t aj0 join quotes AS q {ON_TIME}",
        f"SELECT id, timestamp FROM (SELECT t.* FROM ticks t AJ0 JOIN quotes q {ON_TIME}) AS d",
        f"SELECT t.id, t.timestamp FROM ticks t AJ0 JOIN (SELECT * FROM quotes) q {ON_TIME}",
    ],
)
def test_aj0_in_every_spelling(pipeline: Pipeline, statement: str) -> None:
    expected = [(row["id"], row["v"]) for row in tables.right_times(TICKS, QUOTES)]
    assert _rows(pipeline, statement) == as_set(expected)


def test_aj0_looks_forward_too(pipeline: Pipeline) -> None:
    statement = f"SELECT id, t.timestamp FROM ticks t AJ0 JOIN quotes q {ON_TIME.replace('>=', '<')}"
    expected = []
    for t in TICKS:
        later = [q["timestamp"] for q in QUOTES if q["symbol"] == t["symbol"] and q["timestamp"] > t["timestamp"]]
        expected.append((t["id"], min(later, default=None)))
    assert _rows(pipeline, statement) == as_set(expected)


# ---- WINDOW ---------------------------------------------------------------------------------------------------------


def test_window_join_keeps_every_left_row_once(pipeline: Pipeline) -> None:
    result = answer(pipeline, f"SELECT *, wj_count(*) AS n FROM ticks t WINDOW JOIN quotes q {IN_WINDOW}")
    assert result.column_names == ["symbol", "id", "price", "volume", "timestamp", "n"]
    expected = [(*row.values(), len(tables.window_of(row, QUOTES))) for row in TICKS]
    assert as_set(result.rows) == as_set(expected)
    plain = answer(pipeline, f"SELECT * FROM ticks t WINDOW JOIN quotes q {IN_WINDOW}")
    assert as_set(plain.rows) == as_set([tuple(row.values()) for row in TICKS])


@pytest.mark.parametrize(
    "right", ["quotes q", "(SELECT * FROM quotes) q", "(SELECT symbol, timestamp, bid, size FROM quotes) AS q"]
)
def test_window_join_takes_several_aggregates_of_expressions(pipeline: Pipeline, right: str) -> None:
    rows = answer(
        pipeline,
        f"SELECT id, wj_sum(q.size * 2), wj_max(q.bid - t.price), wj_count(q.bid) FROM ticks t WINDOW JOIN {right} "
        f"{IN_WINDOW} WHERE wj_count(q.bid) > 0 AND t.symbol = 'A' ORDER BY wj_count(q.bid), id",
    ).rows
    expected = []
    for t in TICKS:
        own = tables.window_of(t, QUOTES)
        bids = [q["bid"] for q in own if q["bid"] is not None]
        if bids and t["symbol"] == "A":
            gap = None if t["price"] is None else max(bids) - t["price"]
            expected.append((t["id"], 2 * sum(q["size"] for q in own), gap, len(bids)))
    assert as_set(rows) == as_set(expected)
    assert [row[3] for row in rows] == sorted(row[3] for row in rows)


def test_window_join_groups_and_meets_other_joins(pipeline: Pipeline) -> None:
    grouped = answer(
        pipeline,
        f"SELECT t.symbol, sum(wj_count(q.bid)) AS n FROM ticks t WINDOW JOIN quotes q {IN_WINDOW} GROUP BY t.symbol",
    ).rows
    counts = tables.window_joined(TICKS, QUOTES, "wj_count")
    assert as_set(grouped) == as_set([(s, sum(r["v"] for r in counts if r["symbol"] == s)) for s in "ABC"])
    joined = answer(
        pipeline,
        f"SELECT t.id, wj_count(q.bid) FROM ticks u JOIN ticks t ON u.id = t.id WINDOW JOIN quotes q {IN_WINDOW}",
    ).rows
    assert as_set(joined) == as_set([(row["id"], row["v"]) for row in counts])


# ---- UNION ----------------------------------------------------------------------------------------------------------


def test_union_join_has_the_columns_of_both(pipeline: Pipeline) -> None:
    result = answer(pipeline, "SELECT * FROM a UNION JOIN b")
    assert result.column_names == ["k", "n", "f", "s", "g"]
    of_a = [(1, 10, 0.5, "x", None), (1, 11, None, "y", None), (2, None, 1.5, "z", None), (3, 30, 2.5, None, None)]
    of_b = [(1, 100, None, "p", 7.0), (1, 200, None, "q", None), (2, 5, None, "r", None), (9, 9, None, "s", 9.0)]
    assert as_set(result.rows) == as_set([*of_a, *of_b])


def test_union_join_goes_on_with_other_clauses(pipeline: Pipeline) -> None:
    rows = answer(
        pipeline,
        "SELECT x.k, count(*), sum(y.g), max(c.id) FROM a x UNION JOIN b AS y UNION JOIN ticks c "
        "WHERE x.k IS NOT NULL GROUP BY x.k ORDER BY x.k",
    ).rows
    assert rows == [[1, 4, 7.0, None], [2, 2, None, None], [3, 1, None, None], [9, 1, 9.0, None]]
    last = answer(pipeline, "SELECT symbol, last(bid) FROM ticks UNION JOIN quotes GROUP BY 1 ORDER BY 1").rows
    assert [row[0] for row in last] == ["A", "B", "C", "D"]


# ---- PLUS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["ON x.k = y.k", "ON y.k = x.k", "USING (k)"])
def test_plus_join_adds_the_numbers_of_matching_rows(pipeline: Pipeline, condition: str) -> None:
    result = answer(pipeline, f"SELECT * FROM a x PLUS JOIN b y {condition} ORDER BY k, n NULLS FIRST")
    assert result.column_names == ["k", "n", "f", "s", "g"]
    assert result.rows == [
        [1, 310, 0.5, "x", 7.0],
        [1, 311, None, "y", 7.0],
        [2, 5, 1.5, "z", None],
        [3, 30, 2.5, None, None],
    ]


def test_plus_join_of_subqueries_and_by_either_name(pipeline: Pipeline) -> None:
    rows = answer(
        pipeline,
        "SELECT l.k, r.n, l.n + 1 FROM (SELECT k, n FROM a WHERE k > 1) l PLUS JOIN (SELECT k, n FROM b) r USING (k) "
        "JOIN a z ON z.k = l.k ORDER BY 1",
    ).rows
    assert rows == [[2, 5, 6], [3, 30, 31]]


def test_plus_join_wants_to_know_what_is_a_number(pipeline: Pipeline) -> None:
    error = pipeline.execute("SELECT * FROM a PLUS JOIN (SELECT k, trim(s) AS n FROM b) c USING (k)").error
    assert 'cannot tell whether column "n" is a number; CAST it' in error


@pytest.mark.parametrize("origin", [0, -500, 2**63 - 1_001, -(2**63)])
@pytest.mark.parametrize(("low", "high"), [(-7, 12), (0, 0), (5, 40), (-90, -20), (-100, 90), (3, -3)])
def test_windows_of_any_width_agree_with_plain_python(origin: int, low: int, high: int) -> None:
    random = np.random.default_rng(low + 1000)
    left_times, right_times = (np.sort(random.integers(100, 900, 60)) + origin for _ in range(2))
    left_symbols, right_symbols = random.integers(0, 3, 60), random.integers(0, 3, 60)
    pipeline = Pipeline()
    pipeline.append("l", {"symbol": left_symbols, "timestamp": left_times, "id": np.arange(60)})
    pipeline.append("r", {"symbol": right_symbols, "timestamp": right_times, "v": np.arange(60)})
    expected = []
    for row, (symbol, time) in enumerate(zip(left_symbols.tolist(), left_times.tolist(), strict=True)):
        found = [
            v
            for v, (s, r) in enumerate(zip(right_symbols.tolist(), right_times.tolist(), strict=True))
            if s == symbol and time + low <= r <= time + high
        ]
        expected.append([row, len(found), sum(found) if found else None, found[0] if found else None])
    result = pipeline.execute(
        f"SELECT id, wj_count(v), wj_sum(v), wj_first(v) FROM l WINDOW JOIN r ON l.symbol = r.symbol "
        f"AND r.timestamp BETWEEN l.timestamp + ({low}) AND l.timestamp + ({high}) ORDER BY id"
    )
    assert result.raise_for_error().rows == expected


def test_a_window_join_does_not_compare_every_pair_of_a_symbol() -> None:
    rows = 400_000
    times = np.arange(rows) * 1000
    pipeline = Pipeline()
    for name in ("l", "r"):
        pipeline.append(name, {"symbol": np.ones(rows, np.int64), "timestamp": times, "v": np.arange(rows)})
    on = "l.symbol = r.symbol AND r.timestamp BETWEEN l.timestamp - 1000 AND l.timestamp + 1000"
    result = pipeline.execute(f"SELECT sum(wj_count(r.v)) FROM l WINDOW JOIN r ON {on}", timeout=60)
    assert result.raise_for_error().rows == [[3 * rows - 2]]
