"""The CPU backend as a whole: many callers, forks, and the rules that kernels live by."""

from __future__ import annotations

import ast
import importlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import zeptodb
from tests.conformance.build import random_table
from zeptodb import jit
from zeptodb.backends.base import Aggregate, AggregateOp, AggregateScan, AsofJoin, Scan, SelectScan, TimeBucket
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.expression import Comparison, Constant, Kind


@pytest.fixture(scope="module")
def backend():
    made = CpuBackend(threads=3, row_threshold=1)
    made.warm_up()
    yield made
    made.close()


@pytest.fixture(scope="module")
def table():
    return random_table(3, (150_000, 20, 70_000), null_share=0.1, time_span=10**6)


def answers(backend: CpuBackend, table) -> list[list[object]]:
    price, size = table.column("f64"), table.column("i64")
    scan = Scan(table.snapshot, table.all_rows(), Comparison(">", price, Constant(100.0, Kind.FLOAT)))
    bars = backend.aggregate(
        AggregateScan(
            scan,
            (Aggregate(AggregateOp.VWAP, (price, size)), Aggregate(AggregateOp.LAST, (price,))),
            by_symbol=True,
            bucket=TimeBucket(1000),
        )
    )
    rows = backend.select(SelectScan(scan, (price, size)))
    joined = backend.asof_join(
        AsofJoin(scan, Scan(table.snapshot, table.all_rows()), np.arange(3), ">", True, (price,), (size,))
    )
    return [vector.values.tolist() for vector in (*bars.columns, *rows, *joined)]


def test_ten_threads_query_at_once(backend: CpuBackend, table) -> None:
    expected = answers(CpuBackend(threads=1), table)
    with ThreadPoolExecutor(10) as callers:
        for found in callers.map(lambda _: answers(backend, table), range(30)):
            assert found == expected


def test_forked_child_queries(backend: CpuBackend, table) -> None:
    expected = answers(backend, table)
    child = os.fork()
    if child == 0:
        os._exit(0 if answers(backend, table) == expected else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_closed_backend_still_answers(table) -> None:
    backend = CpuBackend(threads=2, row_threshold=1)
    expected = answers(backend, table)
    backend.close()
    assert answers(backend, table) == expected


def test_read_only_and_strided_descriptions_compile_nothing_new(backend: CpuBackend, table) -> None:
    ranges = table.all_rows()
    for array in (ranges.segments, ranges.starts, ranges.ends):
        array.flags.writeable = False
    scan = Scan(table.snapshot, ranges)
    backend.aggregate(AggregateScan(scan, (Aggregate(AggregateOp.COUNT_ROWS),)))
    every_other = np.arange(6)[::2] // 2
    backend.time_ranges(table.snapshot, every_other, from_ns=0)


def test_queries_use_each_kernel(backend: CpuBackend, table) -> None:
    answers(backend, table)
    ours = [k for k in jit.KERNELS if k.py_func.__module__.startswith("zeptodb.backends.cpu")]
    assert ours
    assert [k for k in ours if not k.is_ready] == []


def test_constants_of_kernels_stand_in_files_that_the_cache_key_covers() -> None:
    package = Path(zeptodb.__file__).parent
    for path in sorted((package / "backends").rglob("*.py")):
        source = path.read_text()
        if "zeptodb.jit" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("zeptodb"):
                continue
            origin = importlib.import_module(node.module)
            for name in node.names:
                if isinstance(getattr(origin, name.name, None), int | float):
                    assert origin.__file__ is not None
                    text = Path(origin.__file__).read_text()
                    assert "zeptodb.jit" in text, f"{path.name} takes {name.name} from {origin.__name__}"
