"""Bulk loads of unsorted symbols until every row is visible, in order and with late rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

import zepto_py
import zeptodb
from bench.data import DAY_START_NS, Trades
from bench.harness import Benchmark
from zeptodb.demo.comparison import Contender
from zeptodb.demo.contenders import DUCKDB, ZEPTODB

COLUMNS = ("symbol", "price", "volume", "timestamp")
CHECK = "SELECT count(*) AS ticks, sum(volume) AS volume, sum(price) AS price FROM trades"
BATCHES = 100
DICTS = 500_000
LATE_SHARE = 0.01
LATEST_NS = 5_000_000_000


class Stored:
    """What an ingest left behind, as an answer that is asked for only when answers are compared."""

    def __init__(self, ask: Callable[[], pa.Table]) -> None:
        self._ask = ask

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Counts and sums of the rows that can be seen."""
        return self._ask().__arrow_c_stream__(requested_schema)


class Loading:
    """ZeptoDB's side: a new Pipeline before each call, the load itself in the call."""

    def __init__(
        self, load: Callable[[zeptodb.Pipeline], object], config: zeptodb.PipelineConfig | None = None
    ) -> None:
        self._load = load
        self._config = config
        self._pipeline: zeptodb.Pipeline | None = None

    @property
    def pipeline(self) -> zeptodb.Pipeline:
        """The last one."""
        assert self._pipeline is not None
        return self._pipeline

    def prepare(self) -> None:
        """Free the last Pipeline and make an empty one."""
        self._pipeline = None
        self._pipeline = zeptodb.Pipeline(self._config)

    def call(self) -> Stored:
        """Load."""
        pipeline = self.pipeline
        self._load(pipeline)
        return Stored(lambda: pipeline.execute(CHECK).raise_for_error().to_arrow())

    def contender(self) -> Contender:
        """As the harness takes it."""
        return Contender(ZEPTODB, self.call, self.prepare)


def benchmarks(trades: Trades) -> Iterator[Benchmark]:
    """Frames, with DuckDB's CREATE TABLE AS beside; sessions; rows in no order and late ones."""
    table = trades.arrow
    pandas, polars = pd.DataFrame({name: table[name].to_numpy() for name in COLUMNS}), pl.DataFrame(table)
    arrays = [table[name].to_numpy() for name in COLUMNS]
    loads: dict[str, Callable[[zeptodb.Pipeline], object]] = {
        "from_arrow": lambda pipeline: zepto_py.from_arrow(table, pipeline),
        "from_pandas": lambda pipeline: zepto_py.from_pandas(pandas, pipeline),
        "from_polars": lambda pipeline: zepto_py.from_polars(polars, pipeline),
        "ingest_batch": lambda pipeline: pipeline.ingest_batch(*arrays),
    }
    for name, load in loads.items():
        yield Benchmark(
            f"{name}, unsorted symbols, until visible (DuckDB: CREATE TABLE AS)",
            (Loading(load).contender(), create_table_as(table)),
            rows=trades.rows,
            beside=True,
        )
    yield Benchmark(
        "StreamingSession.ingest_pandas, unsorted symbols",
        (Loading(lambda pipeline: zepto_py.StreamingSession(pipeline).ingest_pandas(pandas)).contender(),),
        rows=trades.rows,
    )
    yield streamed_dicts(arrays)
    newest_first = [column[::-1].copy() for column in arrays]
    yield Benchmark(
        "ingest_batch, unsorted symbols, newest row first",
        (Loading(lambda pipeline: pipeline.ingest_batch(*newest_first)).contender(),),
        rows=trades.rows,
    )
    yield from late_rows(trades.rows)


def streamed_dicts(arrays: list[np.ndarray]) -> Benchmark:
    """A generator of dicts, the making of which counts, too."""
    columns = [column[:DICTS].tolist() for column in arrays[:3]]

    def feed() -> Iterator[dict[str, int]]:
        for symbol, price, volume in zip(*columns, strict=True):
            yield {"symbol": symbol, "price": price, "volume": volume}

    def load(pipeline: zeptodb.Pipeline) -> None:
        zepto_py.StreamingSession(pipeline).ingest_iter(feed())

    rows = len(columns[0])
    return Benchmark(
        f"StreamingSession.ingest_iter, {rows:,} dicts of a generator", (Loading(load).contender(),), rows=rows
    )


def late_rows(rows: int) -> Iterator[Benchmark]:
    """One symbol in batches: in order, and with 1 % of the rows late by up to five seconds."""
    random = np.random.default_rng(4)
    in_order = DAY_START_NS + np.arange(rows) * 2_000_000
    late = in_order.copy()
    chosen = random.random(rows) < LATE_SHARE
    late[chosen] -= random.integers(1, LATEST_NS, rows)[chosen]
    symbols, prices = np.ones(rows, dtype=np.int64), random.integers(10_000, 15_000, rows)
    for name, stamps in (("in order", in_order), ("1 % late by up to 5 s", late)):
        batches = [np.array_split(column, BATCHES) for column in (symbols, prices, prices, stamps)]

        def load(pipeline: zeptodb.Pipeline, batches: list[list[np.ndarray]] = batches) -> None:
            for batch in zip(*batches, strict=True):
                pipeline.ingest_batch(*batch)
            pipeline.count(symbol=1)  # late rows may wait for the first reader

        yield Benchmark(
            f"ingest_batch, one symbol in {BATCHES} batches, {name}", (Loading(load).contender(),), rows=rows
        )


def create_table_as(table: pa.Table) -> Contender:
    """DuckDB copying the Arrow table into a table of its own, in order of arrival."""
    connection = duckdb.connect()
    connection.register("arrow_trades", table)

    def create() -> Stored:
        connection.execute("CREATE TABLE trades AS FROM arrow_trades")
        return Stored(lambda: connection.sql(CHECK).to_arrow_table())

    return Contender(DUCKDB, create, lambda: connection.execute("DROP TABLE IF EXISTS trades"))
