"""Compiles or loads every kernel of the backend before it is needed.

numba compiles one kernel at a time in a process. On a machine's first run a second process therefore goes through the
operators from the other end. What one of the two is compiling the other waits for and loads (see `zeptodb.jit`), so
both are done at about the same time. Run as a module it is that second process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from threading import Thread

import numpy as np

from zeptodb.backends import reused
from zeptodb.backends.base import (
    Aggregate,
    AggregateOp,
    AggregateScan,
    AsofJoin,
    Backend,
    Scan,
    SelectScan,
    TimeBucket,
    WindowFunction,
    WindowOp,
    WindowScan,
)
from zeptodb.backends.expression import ColumnRef, Comparison, Constant, Kind
from zeptodb.backends.pieces import PIECE_ROWS, cut
from zeptodb.jit import cache_directory, compiled_kernels
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType, Field, Schema

_COLUMN = ColumnRef(0, ColumnType.TIMESTAMP_NS)


def start_second_process() -> None:
    """Let a second process compile, too, if no kernel is in the cache, and there is one, and a second core."""
    folder = cache_directory()
    if folder is None or compiled_kernels(folder) or (os.cpu_count() or 1) < 2 or not sys.executable:
        return
    import subprocess  # takes longer to import than kernels to load

    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,
    )
    # Only this thread waits for it to end.
    Thread(target=process.wait, name="zeptodb-second-process", daemon=True).start()


def warm_up(backend: Backend) -> None:
    """Run every operator over four rows."""
    _warm_up(backend, _OPERATORS)
    cut(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.array([PIECE_ROWS + 1], dtype=np.int64))
    places = np.zeros(reused.MANY_PLACES, dtype=np.int64)
    reused.take([places], places, backend.workers)


def _warm_up(backend: Backend, operators: tuple[Callable[[Backend, Scan], object], ...]) -> None:
    times = np.arange(4, dtype=np.int64)
    snapshot = Snapshot(
        name="warm_up",
        schema=Schema((Field("timestamp", ColumnType.TIMESTAMP_NS),), timestamp="timestamp"),
        symbols=np.zeros(1, dtype=np.int64),
        lengths=np.array([4], dtype=np.int64),
        addresses=np.array([[times.ctypes.data]], dtype=np.int64),
        validity=np.zeros((1, 1), dtype=np.int64),
        dictionaries=(None,),
        version=0,
    )
    ranges = backend.time_ranges(snapshot, np.zeros(1, dtype=np.int64), from_ns=0, to_ns=4)
    scan = Scan(snapshot, ranges, Comparison(">", _COLUMN, Constant(0, Kind.INT)))
    for run in operators:
        run(backend, scan)


def _aggregate(backend: Backend, scan: Scan) -> object:
    first, total = (Aggregate(op, (_COLUMN,)) for op in (AggregateOp.FIRST, AggregateOp.SUM))
    mean = Aggregate(AggregateOp.VWAP, (_COLUMN, _COLUMN))
    return backend.aggregate(AggregateScan(scan, (first, total, mean), bucket=TimeBucket(2)))


def _group(backend: Backend, scan: Scan) -> object:
    return backend.aggregate(AggregateScan(scan, (Aggregate(AggregateOp.COUNT_ROWS),), keys=(_COLUMN,)))


def _select(backend: Backend, scan: Scan) -> object:
    return backend.select(SelectScan(scan, (_COLUMN,)))


def _asof_join(backend: Backend, scan: Scan) -> object:
    right = Scan(scan.snapshot, scan.ranges)
    return backend.asof_join(AsofJoin(scan, right, np.zeros(1, dtype=np.int64), ">=", True, (), (_COLUMN,)))


def _window(backend: Backend, scan: Scan) -> object:
    functions = WindowFunction(WindowOp.EMA, _COLUMN, alpha=0.5), WindowFunction(WindowOp.SUM, _COLUMN, 2)
    return backend.window(WindowScan(scan, functions))


_OPERATORS: tuple[Callable[[Backend, Scan], object], ...] = (_aggregate, _group, _select, _window, _asof_join)

if __name__ == "__main__":
    import gc

    from zeptodb.backends.cpu.backend import CpuBackend

    gc.disable()  # a tenth of the time, and this process ends soon
    _warm_up(CpuBackend(threads=1), _OPERATORS[::-1])
