"""What a new process takes to import ZeptoDB, and to its first answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from bench.data import Trades
from bench.harness import Benchmark
from zeptodb.demo.comparison import Answer, Contender
from zeptodb.demo.contenders import DUCKDB, POLARS, ZEPTODB

PACKAGES = ("numpy", "llvmlite", "sqlglot")
"""What the first answer imports besides ZeptoDB itself when kernels are in the cache."""

IS_COLD_START_MEASURED = True
"""Whether kernels are compiled from an empty cache, too, which takes a quarter of a minute each time."""

_IMPORT_PACKAGES = "import numpy, llvmlite.binding, llvmlite.ir, sqlglot, sqlglot.dialects.duckdb"
_ZEPTODB = """
import json, zeptodb
pipeline = zeptodb.Pipeline()
pipeline.ingest_batch([1, 2, 1], [15000, 15010, 15020], [10, 20, 30], [1, 2, 3])
statement = "SELECT symbol, vwap(price, volume) AS vwap FROM trades GROUP BY symbol ORDER BY symbol"
print(json.dumps(pipeline.execute(statement).raise_for_error().rows))
"""
_DUCKDB = """
import json, duckdb
connection = duckdb.connect()
connection.execute("CREATE TABLE trades (symbol BIGINT, price BIGINT, volume BIGINT, timestamp BIGINT)")
connection.execute("INSERT INTO trades VALUES (1, 15000, 10, 1), (2, 15010, 20, 2), (1, 15020, 30, 3)")
vwap = "sum(price * volume) / sum(volume) AS vwap"
answer = connection.execute(f"SELECT symbol, {vwap} FROM trades GROUP BY symbol ORDER BY symbol")
print(json.dumps(answer.fetchall()))
"""
_POLARS = """
import json, polars as pl
trades = pl.DataFrame({"symbol": [1, 2, 1], "price": [15000, 15010, 15020], "volume": [10, 20, 30]})
vwap = (pl.col("price") * pl.col("volume")).sum() / pl.col("volume").sum()
answer = trades.lazy().group_by("symbol").agg(vwap=vwap).sort("symbol").collect()
print(json.dumps(answer.rows()))
"""


def benchmarks(trades: Trades) -> Iterator[Benchmark]:  # noqa: ARG001
    """Importing, beside numpy; the first answer of each engine; and what it takes when kernels must be compiled."""
    with TemporaryDirectory() as folder:
        # Modules are compiled to bytecode by the untimed runs, as an installed package's are.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        ours = Contender(ZEPTODB, new_process("import zeptodb", environment))
        numpy = Contender("import numpy", new_process("import numpy", environment))
        yield Benchmark("import zeptodb", (ours,), yardstick=numpy)
        first = ((ZEPTODB, _ZEPTODB), (DUCKDB, _DUCKDB), (POLARS, _POLARS))
        yield Benchmark(
            "first answer of a new process, kernels in the cache",
            tuple(Contender(name, new_process(code, environment)) for name, code in first),
            ran_on="native:cpu",
            yardstick=Contender(
                f"importing what it needs, {', '.join(PACKAGES)}", new_process(_IMPORT_PACKAGES, environment)
            ),
        )
        if IS_COLD_START_MEASURED:
            name = "first answer of a new process, its kernels compiled"
            yield Benchmark(name, (Contender(ZEPTODB, cold_start(environment)),), ran_on="native:cpu", most_runs=1)


def new_process(code: str, environment: Mapping[str, str]) -> Callable[[], Answer]:
    """Run Python code in a process of its own; the rows (symbol, vwap) that it prints, if it prints any."""

    def run() -> Answer:
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
        rows = json.loads(done.stdout or "[]")
        return pa.table({"symbol": [symbol for symbol, _ in rows], "vwap": [vwap for _, vwap in rows]})

    return run


def cold_start(environment: Mapping[str, str]) -> Callable[[], Answer]:
    """The first answer with an empty cache of kernels each time."""

    def run() -> Answer:
        with TemporaryDirectory() as folder:
            return new_process(_ZEPTODB, {**environment, "ZEPTODB_CACHE_DIR": str(Path(folder, "cache"))})()

    return run
