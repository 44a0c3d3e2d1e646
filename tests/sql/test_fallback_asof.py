"""ASOF JOIN through DuckDB against a plain Python merge: ties on the right, both directions, pruning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sql.fallback_host import QUOTES, Host
from zeptodb.types import TRADES


def _host(
    seed: int, trades: int = 300, quotes: int = 600
) -> tuple[Host, list[tuple[int, int, int]], list[tuple[int, int, float, float]]]:
    """Few distinct times, so that ties are everywhere."""
    rng = np.random.default_rng(seed)
    left = {
        "symbol": rng.integers(1, 5, trades),
        "price": np.arange(trades),
        "volume": np.ones(trades, np.int64),
        "timestamp": rng.integers(-20, 60, trades),
    }
    right = {
        "symbol": rng.integers(1, 4, quotes),
        "timestamp": rng.integers(-10, 50, quotes),
        "bid": np.arange(quotes, dtype=np.float64),
        "ask": rng.integers(0, 3, quotes).astype(np.float64),
    }
    host = Host()
    host.create("trades", TRADES, left)
    host.create("quotes", QUOTES, right)
    ticks = list(zip(left["symbol"].tolist(), left["timestamp"].tolist(), left["price"].tolist(), strict=True))
    books = list(zip(*(right[c].tolist() for c in ("symbol", "timestamp", "bid", "ask")), strict=True))
    return host, ticks, books


def _match(books: list[tuple[int, int, float, float]], symbol: int, time: int, op: str) -> float | None:
    """The bid of the row in force; quotes stand in the order of arrival."""
    accept = {">=": time.__ge__, ">": time.__gt__, "<=": time.__le__, "<": time.__lt__}[op]
    fitting = [(t, i, bid) for i, (s, t, bid, _) in enumerate(books) if s == symbol and accept(t)]
    if not fitting:
        return None
    return max(fitting)[2] if op in (">=", ">") else min(fitting, key=lambda x: (x[0], -x[1]))[2]


@pytest.mark.parametrize("op", [">=", ">", "<=", "<"])
@pytest.mark.parametrize("left_join", [True, False])
def test_asof_join_takes_the_nearest_row_and_of_ties_the_last_arrived(op: str, left_join: bool) -> None:
    host, ticks, books = _host(1)
    expected = sorted((price, _match(books, symbol, time, op)) for symbol, time, price in ticks)
    if not left_join:
        expected = [row for row in expected if row[1] is not None]
    word = "LEFT " if left_join else ""
    rows = host.rows(
        f"SELECT t.price, q.bid FROM trades t ASOF {word}JOIN quotes q "
        f"ON t.symbol = q.symbol AND t.timestamp {op} q.timestamp ORDER BY t.price"
    )
    assert rows == [list(row) for row in expected]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT t.price, q.bid FROM trades t ASOF LEFT JOIN quotes q USING (symbol, timestamp) ORDER BY t.price",
        (
            "SELECT price, bid FROM trades ASOF LEFT JOIN quotes ON quotes.timestamp <= trades.timestamp "
            "AND quotes.symbol = trades.symbol ORDER BY price"
        ),
        (
            "WITH t AS (SELECT * FROM trades) SELECT price, bid FROM t ASOF LEFT JOIN quotes q ON "
            "t.symbol = q.symbol AND t.timestamp >= q.timestamp ORDER BY price"
        ),
    ],
)
def test_asof_join_in_its_other_spellings(text: str) -> None:
    host, ticks, books = _host(2)
    assert host.rows(text) == [list(row) for row in sorted((p, _match(books, s, t, ">=")) for s, t, p in ticks)]


@pytest.mark.parametrize("limits", [(0, 30), (None, 10), (15, None)])
def test_pruning_of_both_sides_keeps_every_match(limits: tuple[int | None, int | None]) -> None:
    host, ticks, books = _host(3)
    low, high = limits
    where = ["t.symbol IN (1, 3)"]
    where += [f"t.timestamp >= {low}"] if low is not None else []
    where += [f"t.timestamp < {high}"] if high is not None else []
    for op in (">=", "<"):
        answer = host.run(
            "SELECT t.price, q.bid FROM trades t ASOF LEFT JOIN quotes q "
            f"ON t.symbol = q.symbol AND t.timestamp {op} q.timestamp WHERE {' AND '.join(where)} ORDER BY t.price"
        )
        expected = sorted(
            (p, _match(books, s, t, op))
            for s, t, p in ticks
            if s in (1, 3) and (low is None or t >= low) and (high is None or t < high)
        )
        assert [list(r.values()) for r in answer.table.to_pylist()] == [list(row) for row in expected]
        assert answer.rows_scanned < len(ticks) + len(books) - sum(1 for b in books if b[0] == 2)


def test_a_condition_on_the_right_side_is_applied_after_the_match() -> None:
    host, ticks, books = _host(4)
    rows = host.rows(
        "SELECT t.price, q.bid FROM trades t ASOF JOIN quotes q ON t.symbol = q.symbol AND t.timestamp >= q.timestamp "
        "WHERE q.timestamp < 20 AND q.symbol = 2 ORDER BY t.price"
    )
    times = {bid: time for _, time, bid, _ in books}
    matched = sorted((p, _match(books, s, t, ">=")) for s, t, p in ticks if s == 2)
    assert rows == [[p, bid] for p, bid in matched if bid is not None and times[bid] < 20]


def test_other_keys_than_symbol_and_time_also_take_the_last_arrived() -> None:
    host, ticks, books = _host(5)
    rows = host.rows(
        "SELECT t.price, q.bid FROM trades t ASOF LEFT JOIN quotes q ON t.symbol = q.ask AND "
        "t.timestamp >= q.timestamp "
        "ORDER BY t.price"
    )

    def match(symbol: int, time: int) -> Any:
        # Across symbols arrival within a segment counts: segments stand in the order in which symbols first arrived.
        order = {s: i for i, s in enumerate(dict.fromkeys(b[0] for b in books))}
        fitting = [(t, order[s], i, bid) for i, (s, t, bid, ask) in enumerate(books) if ask == symbol and t <= time]
        return max(fitting)[3] if fitting else None

    assert rows == [list(row) for row in sorted((p, match(s, t)) for s, t, p in ticks)]


def test_first_and_default_order_work_beside_a_join() -> None:
    host, ticks, _ = _host(6)
    rows = host.rows(
        "SELECT t.symbol, first(t.price), last(t.price) FROM trades t ASOF LEFT JOIN quotes q "
        "ON t.symbol = q.symbol AND t.timestamp >= q.timestamp GROUP BY t.symbol ORDER BY t.symbol"
    )
    for symbol, first, last in rows:
        own = [(t, p) for s, t, p in ticks if s == symbol]
        assert (first, last) == (min(own)[1], max(own)[1])
