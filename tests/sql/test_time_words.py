"""Time in every spelling, percentiles, geography and LIKE on numbers, against plain Python and DuckDB."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.sql.tick_tables import answer
from zeptodb import Pipeline
from zeptodb.sql.duckdb_session import EARTH_RADIUS_METRES

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def times() -> list[int]:
    rng = np.random.default_rng(3)
    around = rng.integers(-20 * DAY, 20 * DAY, 60)
    recent = 1_700_000_000 * SECOND + rng.integers(-400 * DAY, 400 * DAY, 60)
    return [*around.tolist(), *recent.tolist(), -1, 0, 1, -DAY, -4 * DAY]


@pytest.fixture(scope="module")
def pipeline(times: list[int]) -> Pipeline:
    made = Pipeline(backend="cpu")
    made.ingest_batch(np.arange(len(times)), np.arange(len(times)) * 7, np.arange(len(times)) % 5 + 1, times)
    return made


def _of_each(pipeline: Pipeline, expression: str, source: str = "trades") -> list[object]:
    return [row[0] for row in answer(pipeline, f"SELECT {expression} AS x, symbol FROM {source} ORDER BY symbol").rows]


def _ns(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1_000


def _moment(ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=ns // 1_000)


def _month_start(ns: int, *, every: int) -> int:
    moment = _moment(ns)
    return _ns(datetime(moment.year, (moment.month - 1) // every * every + 1, 1, tzinfo=UTC))


NANOSECONDS = {
    "xbar(timestamp, 7)": lambda t: t // 7 * 7,
    "xbar(timestamp, 60000000000)": lambda t: t // (60 * SECOND) * 60 * SECOND,
    "xbar(timestamp, INTERVAL '5m')": lambda t: t // (300 * SECOND) * 300 * SECOND,
    "xbar(timestamp, '5m')": lambda t: t // (300 * SECOND) * 300 * SECOND,
    "xbar(timestamp, 604800000000000)": lambda t: t // (7 * DAY) * 7 * DAY,
    "epoch_s(timestamp)": lambda t: t // SECOND,
    "EPOCH_MS(timestamp)": lambda t: t // 1_000_000,
    "date_trunc('ns', timestamp)": lambda t: t,
    "date_trunc('us', timestamp)": lambda t: t // 1_000 * 1_000,
    "date_trunc('ms', timestamp)": lambda t: t // 1_000_000 * 1_000_000,
    "date_trunc('s', timestamp)": lambda t: t // SECOND * SECOND,
    "date_trunc('min', timestamp)": lambda t: t // (60 * SECOND) * 60 * SECOND,
    "date_trunc('hour', timestamp)": lambda t: t // (3_600 * SECOND) * 3_600 * SECOND,
    "DATE_TRUNC('Day', timestamp)": lambda t: t // DAY * DAY,
    "date_trunc('week', timestamp)": lambda t: (t // DAY - (t // DAY + 3) % 7) * DAY,
    "date_trunc('month', timestamp)": lambda t: _month_start(t, every=1),
    "date_trunc('quarter', timestamp)": lambda t: _month_start(t, every=3),
    "date_trunc('year', timestamp)": lambda t: _month_start(t, every=12),
    "timestamp + INTERVAL '90 minutes'": lambda t: t + 5_400 * SECOND,
    "timestamp - INTERVAL '1h30m'": lambda t: t - 5_400 * SECOND,
    "timestamp + 5": lambda t: t + 5,
    "timestamp - '1970-01-01 00:00:01'": lambda t: t - SECOND,
    "timestamp - TIMESTAMP '1970-01-01 00:00:01'": lambda t: t - SECOND,
}


@pytest.mark.parametrize("source", ["trades", "(SELECT * FROM trades) AS d"])
@pytest.mark.parametrize("expression", NANOSECONDS)
def test_time_words_give_nanoseconds(pipeline: Pipeline, times: list[int], expression: str, source: str) -> None:
    assert _of_each(pipeline, expression, source) == [NANOSECONDS[expression](t) for t in times]


CONDITIONS = {
    "timestamp >= 0": lambda t: t >= 0,
    "timestamp > '1970-01-01'": lambda t: t > 0,
    "timestamp <= '1970-01-01T00:00:00.000000001Z'": lambda t: t <= 1,
    "timestamp = '1970-01-01 01:00+01:00'": lambda t: t == 0,
    "timestamp BETWEEN -5 AND '1970-01-02'": lambda t: -5 <= t <= DAY,
    "timestamp IN ('1970-01-01', 1, -1)": lambda t: t in (0, 1, -1),
    "timestamp <> TIMESTAMP '1970-01-01'": lambda t: t != 0,
    "timestamp < DATE '1970-01-02' - INTERVAL '1 day'": lambda t: t < 0,
    "'2023-06-01' < timestamp AND timestamp < now()": lambda t: t > 1_685_577_600 * SECOND,
    "timestamp > now() - INTERVAL '5 minutes'": lambda t: False,
    "timestamp - 10 > INTERVAL '3 hours'": lambda t: t - 10 > 10_800 * SECOND,
    "timestamp - INTERVAL '2d' > '1970-01-01'": lambda t: t - 2 * DAY > 0,
    "price LIKE '1%'": lambda t, price: str(price).startswith("1"),
    "price NOT LIKE '%7'": lambda t, price: not str(price).endswith("7"),
    "price LIKE '_'": lambda t, price: len(str(price)) == 1,
    "timestamp LIKE '-%'": lambda t: t < 0,
}


@pytest.mark.parametrize(
    "form",
    ["SELECT symbol FROM trades WHERE {c}", "WITH d AS (SELECT * FROM trades) SELECT symbol FROM d WHERE {c}"],
)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_times_meet_integers_intervals_and_texts(
    pipeline: Pipeline, times: list[int], condition: str, form: str
) -> None:
    test = CONDITIONS[condition]
    expected = [i for i, t in enumerate(times) if (test(t, i * 7) if test.__code__.co_argcount == 2 else test(t))]
    assert sorted(row[0] for row in answer(pipeline, form.replace("{c}", condition)).rows) == expected


def test_epoch_s_of_texts_and_of_duckdbs_own_timestamps(pipeline: Pipeline) -> None:
    row = answer(pipeline, "SELECT epoch_s('2024-01-01'), epoch_s(TIMESTAMP '1969-12-31 23:59:59.5')").rows[0]
    assert row == [1_704_067_200, -1]


# ---- percentile, median ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", ["0", "12.5", "50", "99.9", "100"])
def test_percentile_interpolates_between_neighbours(pipeline: Pipeline, times: list[int], percent: str) -> None:
    prices = np.arange(len(times)) * 7
    groups = np.arange(len(times)) % 5 + 1
    rows = answer(
        pipeline, f"SELECT volume, percentile(price, {percent}), median(price) FROM trades GROUP BY volume ORDER BY 1"
    ).rows
    for volume, percentile, median in rows:
        own = prices[groups == volume]
        assert percentile == pytest.approx(np.percentile(own, float(percent)), rel=1e-12)
        assert median == pytest.approx(np.median(own), rel=1e-12)


@pytest.mark.parametrize("percent", ["-1", "100.5", "price", "'a'"])
def test_percentile_wants_0_to_100(pipeline: Pipeline, percent: str) -> None:
    error = pipeline.execute(f"SELECT percentile(price, {percent}) FROM trades").error
    assert "percentile(x, percent) needs a number from 0 to 100" in error


# ---- geography ------------------------------------------------------------------------------------------------------


def _great_circle(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """By the spherical law of cosines in its form for all distances."""
    a, b, turn = math.radians(lat1), math.radians(lat2), math.radians(lon2 - lon1)
    y = math.hypot(math.cos(b) * math.sin(turn), math.cos(a) * math.sin(b) - math.sin(a) * math.cos(b) * math.cos(turn))
    return EARTH_RADIUS_METRES * math.atan2(y, math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(turn))


@pytest.mark.parametrize(
    "points", [(0, 0, 0, 1), (51.5, -0.1, 48.9, 2.35), (0, 0, 0, 180), (-33.9, 151.2, 40.7, -74), (10, 10, 10, 10)]
)
def test_distances_are_great_circles_in_metres(pipeline: Pipeline, points: tuple[float, ...]) -> None:
    arguments = ", ".join(str(p) for p in points)
    far = _great_circle(*points)
    row = answer(
        pipeline,
        f"SELECT haversine({arguments}), ST_DISTANCE({arguments}), st_within({arguments}, {far + 1}), "
        f"st_within({arguments}, {far - 1})",
    ).rows[0]
    assert row == [pytest.approx(far, abs=1e-3), pytest.approx(far, abs=1e-3), True, False]


def test_distances_of_columns_in_a_filter(pipeline: Pipeline) -> None:
    rows = answer(pipeline, "SELECT symbol FROM trades WHERE st_within(symbol, 0, 3, 0, 120000) ORDER BY 1").rows
    assert rows == [[2], [3], [4]]


# ---- windows without an order ---------------------------------------------------------------------------------------


def test_windows_without_order_see_rows_by_time_then_arrival() -> None:
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest_batch([1] * 5, [10, 20, 30, 40, 50], [1] * 5, [5, 3, 3, 9, 1])  # late and tied
    rows = answer(
        pipeline,
        "SELECT price, row_number() OVER w, lag(price) OVER w, lead(price) OVER w, first_value(price) OVER w, "
        "last_value(price) OVER w, sum(price) OVER (PARTITION BY symbol ROWS 1 PRECEDING), delta(price) OVER w "
        "FROM trades WINDOW w AS (PARTITION BY symbol) ORDER BY 2",
    ).rows
    order = [50, 20, 30, 10, 40]
    assert rows == [
        [
            price,
            i + 1,
            order[i - 1] if i else None,
            order[i + 1] if i < 4 else None,
            50,
            40,
            price + (order[i - 1] if i else 0),
            price - order[i - 1] if i else None,
        ]
        for i, price in enumerate(order)
    ]
