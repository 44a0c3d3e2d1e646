"""What the fallback holds, for how long, and in which thread or process."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from typing import Any

import pytest

from tests.sql.fallback_host import Host, execute, host_with_trades
from zeptodb.errors import QueryError, UnknownColumnError
from zeptodb.sql.result import QueryResult


def test_snapshots_are_closed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    host = host_with_trades(100)
    table = host.catalog.get("trades")
    opened, closed = [], []
    take = table.snapshot

    def counted() -> Any:
        from dataclasses import replace

        snapshot = take()
        opened.append(1)

        def release() -> None:
            closed.append(1)
            snapshot.close()

        return replace(snapshot, release=release)

    monkeypatch.setattr(table, "snapshot", counted)
    kept = host.run("SELECT * FROM trades WHERE symbol = 1")
    with pytest.raises(UnknownColumnError):
        host.run("SELECT nosuch FROM trades")
    with pytest.raises(QueryError):
        host.run("SELECT xbar(timestamp, 0) FROM trades a, trades b")
    assert len(opened) == len(closed) == 3
    assert kept.table.num_rows > 0


def test_answers_outlive_the_rows_they_came_from() -> None:
    host = host_with_trades(20_000, symbols=1)
    before = host.rows("SELECT * FROM trades")
    answer = host.run("SELECT * FROM trades").table
    execute(host, "DELETE FROM trades")
    host.append(
        "trades", {"symbol": [1] * 20_000, "price": [0] * 20_000, "volume": [0] * 20_000, "timestamp": [0] * 20_000}
    )
    assert QueryResult.from_arrow(answer).rows == before


def test_ten_threads_query_at_once() -> None:
    host = host_with_trades(5_000)
    expected = host.rows("SELECT symbol, vwap(price, volume), last(price) FROM trades GROUP BY symbol ORDER BY symbol")
    answers: list[Any] = []

    text = "SELECT symbol, vwap(price, volume), last(price) FROM trades GROUP BY symbol ORDER BY symbol"

    def query() -> None:
        answers.extend(host.rows(text) for _ in range(5))

    threads = [threading.Thread(target=query) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 50


def test_the_memory_limit_of_the_configuration_holds() -> None:
    host = Host(memory_limit=64 * 1024 * 1024)
    assert host.rows("SELECT current_setting('memory_limit')") == [["64.0 MiB"]]


def test_a_forked_child_queries_with_a_duckdb_of_its_own() -> None:
    host = host_with_trades(5_000)
    text = "SELECT symbol, median(price) FROM trades GROUP BY symbol ORDER BY symbol"
    expected = host.rows(text)
    gc.collect()  # DuckDBs of tests before this one that are garbage must not be closed in the child
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
        child = os.fork()
    if child == 0:
        os._exit(0 if host.rows(text) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert host.rows(text) == expected
