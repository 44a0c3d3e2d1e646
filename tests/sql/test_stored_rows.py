"""Answers over the tables' own memory: the same rows as copies, in no memory of their own, and never changing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest

from zeptodb import Pipeline

ROWS = 35_000
"""Of each of four symbols; fewer than 4,096 would be gathered."""


@contextmanager
def _made() -> Iterator[Pipeline]:
    with Pipeline(backend="cpu") as made:
        for table, symbols in (("trades", [3, 1, 2, 4]), ("names", ["c", "a", "b", "d"])):
            each = np.repeat(np.arange(4), ROWS)
            columns = {
                "symbol": np.array(symbols, dtype=object if table == "names" else np.int64)[each],
                "price": np.arange(4 * ROWS, dtype=np.int64),
                "volume": np.arange(4 * ROWS, dtype=np.int64) % 100,
                "timestamp": np.tile(np.arange(ROWS, dtype=np.int64) * 1000, 4),
            }
            if table == "names":
                columns["note"] = np.array(["x", None, "z"], dtype=object)[np.arange(4 * ROWS) % 3]
                columns["is_odd"] = np.arange(4 * ROWS) % 2 == 1
                kinds = (
                    "symbol STRING, price BIGINT, volume BIGINT, timestamp TIMESTAMP_NS, note STRING, is_odd BOOLEAN"
                )
                made.execute(f"CREATE TABLE names ({kinds})").raise_for_error()
            made.append(table, pa.table(columns))
        yield made


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    with _made() as made:
        yield made


@pytest.fixture(scope="module")
def unchanged() -> Iterator[Pipeline]:
    with _made() as made:
        yield made


RUNS = (
    "SELECT * FROM {t}",
    "SELECT timestamp, price AS p, price FROM {t}",
    "SELECT symbol FROM {t}",
    "SELECT price, symbol FROM {t} WHERE symbol IN ({two})",
    "SELECT * FROM {t} WHERE symbol > {least}",
    "SELECT * FROM {t} WHERE timestamp >= 1000000 AND timestamp < 29000000",
    "SELECT * FROM {t} ORDER BY symbol, timestamp",
    "SELECT * FROM {t} LIMIT 70000",
    "SELECT * FROM {t} ORDER BY symbol, timestamp LIMIT 70000 OFFSET 41000",
)
OTHERS = (
    "SELECT price + 1 FROM {t}",
    "SELECT price FROM {t} WHERE price >= 0",
    "SELECT * FROM {t} ORDER BY price",
    "SELECT * FROM {t} LIMIT 1000",
    "SELECT count(*) FROM {t}",
    "SELECT DISTINCT symbol FROM {t}",
)


def _statement(text: str, table: str) -> str:
    two, least = ("1, 3", "1") if table == "trades" else ("'a', 'c'", "'a'")
    return text.format(t=table, two=two, least=least)


@pytest.mark.parametrize("timestamps", ["ns", "datetime"])
@pytest.mark.parametrize("table", ["trades", "names"])
@pytest.mark.parametrize("text", RUNS + OTHERS)
def test_the_rows_are_those_of_a_copy(unchanged: Pipeline, text: str, table: str, timestamps: str) -> None:
    sql = _statement(text, table)
    shared = unchanged.execute(sql, timestamps=timestamps, shares_memory=True)
    copied = unchanged.execute(sql, timestamps=timestamps)
    assert shared.to_arrow().equals(copied.to_arrow())
    assert shared.rows_scanned == copied.rows_scanned
    assert (len(shared), shared.column_names, shared.plan) == (len(copied), copied.column_names, copied.plan)
    is_run = text in RUNS
    assert (shared.to_encoded_arrow().column(0).num_chunks > 1) == is_run
    assert shared.to_pandas().equals(copied.to_pandas())


def test_numbers_lie_where_the_table_has_them(unchanged: Pipeline) -> None:
    table = unchanged.execute("SELECT price FROM trades ORDER BY symbol, timestamp", shares_memory=True)
    for symbol, chunk in zip((1, 2, 3, 4), table.to_encoded_arrow().column(0).chunks, strict=True):
        assert chunk.buffers()[1].address == unchanged.get_column(symbol, "price").ctypes.data


def test_an_answer_stays_as_it_is_whatever_is_written(pipeline: Pipeline) -> None:
    sql = "SELECT symbol, price, timestamp FROM trades"
    answer = pipeline.execute(sql, shares_memory=True).to_encoded_arrow()
    before = pipeline.execute(sql).to_arrow()
    late = {"symbol": [1] * 100, "price": [-1] * 100, "volume": [1] * 100, "timestamp": list(range(100))}
    pipeline.append("trades", pa.table(late))
    pipeline.execute("UPDATE trades SET price = 0 WHERE symbol = 2").raise_for_error()
    pipeline.execute("DELETE FROM trades WHERE symbol = 3").raise_for_error()
    for _ in range(20):
        pipeline.append("trades", pa.table(late))
    pipeline.execute("DROP TABLE trades").raise_for_error()
    assert pa.table([c.cast(pa.int64()) for c in answer.columns], names=answer.column_names).equals(before)


def test_memory_is_given_back_when_the_answer_goes(pipeline: Pipeline) -> None:
    answer = pipeline.execute("SELECT * FROM trades", shares_memory=True).to_encoded_arrow()
    reclaimer = pipeline.catalog.get("trades").contents.reclaimer
    assert not reclaimer.has_pins  # single blocks are kept, not all that is replaced meanwhile
    pipeline.append("trades", pa.table({name: [9, 8] for name in ("symbol", "price", "volume", "timestamp")}))
    assert len(reclaimer._owners) > 0
    del answer
    pipeline.execute("DELETE FROM trades").raise_for_error()
    assert len(pipeline.catalog.get("trades").contents.reclaimer._owners) == 0


def test_short_symbols_are_gathered(pipeline: Pipeline) -> None:
    rows = 70_000
    columns = {name: np.arange(rows) // 7 for name in ("symbol", "price", "volume", "timestamp")}
    pipeline.append("trades", pa.table(columns))
    answer = pipeline.execute("SELECT * FROM trades WHERE symbol > 4", shares_memory=True)
    assert answer.to_encoded_arrow().column(0).num_chunks == 1


def test_a_materialized_view_is_computed_anew(pipeline: Pipeline) -> None:
    pipeline.execute("CREATE MATERIALIZED VIEW copied AS SELECT symbol, price FROM trades").raise_for_error()
    pipeline.append("trades", pa.table({name: [1] for name in ("symbol", "price", "volume", "timestamp")}))
    assert len(pipeline.execute("SELECT * FROM copied", shares_memory=True)) == 4 * ROWS + 1
